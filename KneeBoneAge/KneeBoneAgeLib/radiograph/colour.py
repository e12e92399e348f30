"""Grey films stored with three channels are films; colour photographs are not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import FilmError
from .grey import subsample

CHROMA_STEP = 20 / 255
"""Difference between channels that JPEG alone does not make."""
CHROMA_SHARE = 0.01
"""Share of the picture that may be coloured: a coloured marker or measurement, not a photograph."""
MEAN_CHROMA = 5 / 255
"""Mean difference between channels of a picture that is tinted all over."""


def chroma_is_negligible(sample: NDArray, luminance_first: bool = False) -> bool:
    """Whether a (rows, columns, 3) unsigned picture is grey but for artefacts and small coloured marks."""
    scaled = sample.astype(np.float32) / np.float32(np.iinfo(sample.dtype).max)
    if luminance_first:
        chroma = np.abs(scaled[..., 1:] - np.float32(0.5)).max(axis=-1) * 2
    else:
        chroma = scaled.max(axis=-1) - scaled.min(axis=-1)
    return bool((chroma > CHROMA_STEP).mean() <= CHROMA_SHARE and chroma.mean() <= MEAN_CHROMA)


def grey_of_colour(path: str, picture: NDArray, luminance_first: bool = False) -> NDArray:
    """The grey channel (rows, columns) of a (rows, columns, 3 or 4) picture without colour; alpha is ignored.

    Raises
    ------
    FilmError
        It has colour.
    """
    if picture.dtype.kind != "u" or picture.dtype.itemsize > 2:
        raise FilmError(path, f"has {picture.shape[-1]} channels of {picture.dtype}, which is no radiograph")
    if not chroma_is_negligible(subsample(picture)[..., :3], luminance_first):
        raise FilmError(path, "is a colour picture, not a radiograph")
    return np.ascontiguousarray(picture[..., 0 if luminance_first else 1])
