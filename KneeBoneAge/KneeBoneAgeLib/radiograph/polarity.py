"""Is bone bright or dark? Decided from the pixels, for pictures that carry no header that says so."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

THUMBNAIL = 256
"""Pixels along the longer side of the picture that the decision looks at."""


def thumbnail(picture: NDArray) -> NDArray:
    """Every k-th pixel, so that the longer side has THUMBNAIL pixels or a little more."""
    step = max(1, max(picture.shape) // THUMBNAIL)
    return picture[::step, ::step]


def brightness_of_bone(picture: NDArray[np.floating]) -> float:
    """Positive where bone is bright, negative where it is dark."""
    rows, columns = picture.shape
    i, j = max(1, rows // 10), max(1, columns // 10)
    border = np.concatenate([picture[i], picture[-i], picture[:, j], picture[:, -j]])
    middle = picture[rows // 4 : -rows // 4 or None, columns // 4 : -columns // 4 or None]
    return float(np.median(middle) - np.median(border))
