"""Vectors as pictures."""

import numpy as np
import pytest

from dreamer_core.bars import bars, picture_of


@pytest.mark.parametrize(("number", "rows"), [(0.0, 0), (1.0, 16), (3.0, 24), (1e9, 32)])
def test_a_number_is_a_bar_from_the_middle_whose_height_saturates(number, rows):
    up, down = bars(np.array([number])), bars(np.array([-number]))
    assert (up == 255).sum() == (down == 255).sum() == 64 * rows
    assert (up[32:] != 255).all() and (down[:32] != 255).all()
    assert (up[:, :1] == up).all()


def test_several_numbers_stand_side_by_side_under_any_leading_axes():
    picture = bars(np.array([[1.0, -1.0], [-1.0, 1.0]]))
    assert picture.shape == (2, 64, 64, 1) and picture.dtype == np.uint8
    assert (picture[0, 20, :, 0] == [255] * 32 + [0] * 32).all()
    assert (picture[1] == picture[0, :, ::-1]).all()


def test_more_numbers_than_columns_are_drawn_in_part():
    assert bars(np.ones(1000)).shape == (64, 64, 1)


def test_an_image_is_its_own_picture():
    image = np.zeros((64, 64, 3), np.uint8)
    assert picture_of(image, np.zeros(2, np.float32)) is image
    assert picture_of(image[..., :0], np.zeros(2, np.float32)).shape == (64, 64, 1)
