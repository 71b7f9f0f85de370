"""Frames of an animation of truth, model and error."""

import numpy as np
import pytest
from PIL import ImageColor

from dreamer_core.report.dream_frames import dream_frames
from dreamer_core.report.open_loop import IMAGINED_COLOR, SEEN_COLOR


@pytest.mark.parametrize("channels", [1, 3])
def test_panels_are_truth_model_and_half_their_difference(channels):
    truth = np.full((4, 64, 64, channels), 200, np.uint8)
    model = np.full_like(truth, 100)
    frames = dream_frames(truth, model, context=2)
    assert frames.dtype == np.uint8 and frames.shape[1] % 2 == frames.shape[2] % 2 == 0
    middle = frames[0, 28 + 128]  # a line of pixels through all panels
    panels = [middle[12 + i * 268 : 12 + i * 268 + 256] for i in range(3)]
    assert [np.unique(panel).tolist() for panel in panels] == [[200], [100], [(255 - 100) // 2]]


def test_the_model_is_framed_by_what_it_sees_and_the_last_frame_stays():
    images = np.zeros((3, 64, 64, 1), np.uint8)
    frames = dream_frames(images, images, context=2)
    colors = [tuple(frame[28 + 128, 278]) for frame in frames]
    seen, imagined = (ImageColor.getrgb(color) for color in (SEEN_COLOR, IMAGINED_COLOR))
    assert colors == [seen, seen] + [imagined] * 9
    assert (frames[2:] == frames[2]).all()


def test_every_row_up_to_the_present_one_is_marked_below():
    images = np.zeros((40, 64, 64, 1), np.uint8)
    bar = dream_frames(images, images, context=5)[:40, 28 + 256 + 14 + 2]
    marked = [(SEEN_COLOR, 3, 4), (SEEN_COLOR, 30, 5), (IMAGINED_COLOR, 30, 26)]
    for color, present, cells in marked:
        is_color = (bar[present] == ImageColor.getrgb(color)).all(-1)
        assert np.diff(is_color.astype(int)).clip(0).sum() == cells
