"""Videos: every frame enlarged, and what cannot be written is refused."""

import cv2
import numpy as np
import pytest
from PIL import Image

from dreamer_core.report.video import save_video
from tests.core.report.images import moving_square


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
