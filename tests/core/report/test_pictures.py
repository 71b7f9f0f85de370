"""Pictures: that they are written, hold what they claim, and refuse what they cannot draw."""

import cv2
import numpy as np
import pytest
from PIL import Image

from dreamer_core.report.curves import plot_learning_curve, running_mean
from dreamer_core.report.log import RunLog
from dreamer_core.report.open_loop import save_open_loop
from dreamer_core.report.video import save_video
from dreamer_core.types import EpisodeSummary, Report


def moving_square(steps, channels=1):
    frames = np.zeros((steps, 64, 64, channels), np.uint8)
    for t in range(steps):
        frames[t, 20:30, (3 * t) % 54 : (3 * t) % 54 + 10] = 255
    return frames


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def write_run(run_dir, *, episodes=0, reports=20, evaluations=0):
    random = np.random.default_rng(0)
    with RunLog(run_dir, action_repeat=4) as log:
        for i in range(1, reports + 1):
            step = 1000 * i
            values = {
                "dreamer_kl_nats": 2 + 10 / i,
                "dreamer_image_mean_squared_error": 0.05 / i**1.5,
            }
            log.write(
                Report(service="learner", values=values), policy_step=step, gradient_step=250 * i
            )
            for _ in range(episodes // reports):
                end = step - int(random.integers(1000))
                score = -21 + 2 * i + random.normal(0, 3)
                episode = EpisodeSummary(policy_step=end, episode_return=score, length=200)
                log.write(
                    Report(service="collector", episodes=(episode,)),
                    policy_step=step,
                    gradient_step=250 * i,
                )
            if evaluations and i % (reports // evaluations) == 0:
                report = Report(
                    service="evaluator",
                    values={"dreamer_evaluation_return": -20.0 + 2 * i},
                    labels={"mode": "greedy", "weights": "latest"},
                )
                log.write(report, policy_step=step, gradient_step=250 * i)
    return run_dir


def test_the_running_mean_looks_back_only():
    assert running_mean([1.0, 3.0, 5.0, 7.0], window=2) == [1.0, 2.0, 4.0, 6.0]


@pytest.mark.parametrize(
    "run",
    [
        {"episodes": 100, "evaluations": 5},
        {"episodes": 0},
        {"episodes": 0, "evaluations": 1},
        {"reports": 1, "episodes": 1},
        {"reports": 0},
    ],
)
def test_a_learning_curve_is_drawn_at_every_stage_of_a_run(tmp_path, run):
    path = plot_learning_curve(write_run(tmp_path, **run))
    assert path == tmp_path / "learning_curve.png"
    assert pixels(path).shape == (780, 1080, 3)


def test_a_learning_curve_needs_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"needs .*metrics\.jsonl"):
        plot_learning_curve(tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("steps", [1, 15, 50])
def test_an_open_loop_picture_is_drawn_for_any_length(tmp_path, steps, channels):
    truth = moving_square(steps, channels)
    save_open_loop(tmp_path / "a.png", truth, truth, context=min(5, steps))
    assert pixels(tmp_path / "a.png").ndim == 3


def test_a_pixel_becomes_a_square_of_its_own_shade(tmp_path):
    truth = np.full((2, 64, 64, 3), (200, 10, 40), np.uint8)
    save_open_loop(tmp_path / "a.png", truth, np.zeros_like(truth), context=1)
    image = pixels(tmp_path / "a.png")
    assert (image == (200, 10, 40)).all(-1).sum() == 2 * 128 * 128


def test_error_is_grey_where_the_two_agree(tmp_path):
    truth = moving_square(8).astype(np.float32) / 255
    save_open_loop(tmp_path / "same.png", truth, truth, context=5)
    save_open_loop(tmp_path / "other.png", truth, 1 - truth, context=5)

    def is_grey(name):
        image = pixels(tmp_path / name).astype(int)
        return (abs(image - 127) <= 1).all(-1).sum()

    assert is_grey("same.png") > 8 * 128 * 128 * 0.99
    assert is_grey("other.png") < 8 * 128 * 128 * 0.01


def test_bytes_and_floats_give_the_same_picture(tmp_path):
    truth, model = moving_square(6), moving_square(6)[::-1]
    save_open_loop(tmp_path / "bytes.png", truth, model, context=3)
    save_open_loop(tmp_path / "floats.png", truth / 255, model / 255, context=3)
    assert np.array_equal(pixels(tmp_path / "bytes.png"), pixels(tmp_path / "floats.png"))


def test_pictures_of_different_shapes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must share one shape"):
        save_open_loop(tmp_path / "a.png", moving_square(6), moving_square(5), context=2)


def test_a_context_beyond_the_frames_is_refused(tmp_path):
    with pytest.raises(ValueError, match="context=7 must lie between 0 and the 6"):
        save_open_loop(tmp_path / "a.png", moving_square(6), moving_square(6), context=7)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_gif_plays_every_frame_enlarged(tmp_path, channels):
    save_video(tmp_path / "a.gif", moving_square(7, channels), fps=20)
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.size, gif.info["duration"]) == (7, (256, 256), 50)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_mp4_plays_every_frame_enlarged(tmp_path, channels):
    frames = np.zeros((7, 64, 64, channels), np.uint8)
    frames[..., 0] = 200  # red, where there are colours
    save_video(tmp_path / "a.mp4", frames, fps=15)
    video = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == 15
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 7
    _, bgr = video.read()
    assert bgr.shape == (256, 256, 3)
    expected = (200, 200, 200) if channels == 1 else (0, 0, 200)
    assert np.allclose(bgr.mean((0, 1)), expected, atol=6)


def test_another_kind_of_video_is_refused_with_the_kinds_there_are(tmp_path):
    with pytest.raises(ValueError, match=r"\.gif or \.mp4, got 'a\.avi'"):
        save_video(tmp_path / "a.avi", moving_square(2), fps=15)


@pytest.mark.parametrize("frames", [np.zeros((2, 64, 64), np.uint8), np.zeros((2, 64, 64, 3))])
def test_frames_that_are_no_images_are_refused(tmp_path, frames):
    with pytest.raises(ValueError, match="frames must be uint8"):
        save_video(tmp_path / "a.gif", frames, fps=15)


@pytest.mark.parametrize(("steps", "fps"), [(0, 15), (2, 0)])
def test_a_video_without_frames_or_speed_is_refused(tmp_path, steps, fps):
    with pytest.raises(ValueError, match="needs a frame and a speed"):
        save_video(tmp_path / "a.gif", np.zeros((steps, 64, 64, 1), np.uint8), fps=fps)


@pytest.mark.parametrize("name", ["a.gif", "a.mp4"])
def test_a_place_that_cannot_be_written_is_refused(tmp_path, name):
    with pytest.raises(OSError, match=r"a\.(gif|mp4)"):
        save_video(tmp_path / "missing" / name, moving_square(2), fps=15)
