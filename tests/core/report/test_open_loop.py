"""Open-loop pictures: they hold what they claim, and what cannot be drawn is refused."""

import numpy as np
import pytest

from dreamer_core.report.open_loop import save_open_loop
from tests.core.report.images import moving_square, pixels


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
