"""What the tests of pictures share."""

import numpy as np
from PIL import Image


def moving_square(steps, channels=1):
    frames = np.zeros((steps, 64, 64, channels), np.uint8)
    for t in range(steps):
        frames[t, 20:30, (3 * t) % 54 : (3 * t) % 54 + 10] = 255
    return frames


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))
