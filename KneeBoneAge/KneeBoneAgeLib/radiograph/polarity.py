"""Is bone bright or dark? Decided from the pixels, for pictures that carry no header that says so."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

THUMBNAIL = 256
"""Pixels along the longer side of the picture that the decision looks at."""
MARGIN = 1 / 12
"""Share of each side left out: burned-in borders and the edge of the plate live there."""
PRIOR = 0.2
"""Inverted pictures are rare: the evidence for one must be this strong."""
EDGE_SHARE = 0.10
"""Strongest gradients that count as edges."""
EDGE_REACH = 7
"""Pixels of the thumbnail to either side of an edge where flat and busy are compared."""
RIDGE_SCALES = (2.0, 4.0)
"""Sizes (sigma, pixels of the thumbnail) of the ridges that count: cortices and shafts."""


def thumbnail(picture: NDArray) -> NDArray:
    """Every k-th pixel, so that the longer side has at most THUMBNAIL pixels."""
    step = -(-max(picture.shape) // THUMBNAIL)
    return picture[::step, ::step]


def bone_is_bright(picture: NDArray[np.floating]) -> bool:
    """Whether a thumbnail, (rows, columns), shows bone bright; yes where nobody could tell."""
    return brightness_of_bone(picture) > -PRIOR


def brightness_of_bone(picture: NDArray[np.floating]) -> float:
    """How surely bone is bright (positive) or dark (negative), in [-1, 1]; 0 for a blank picture.

    Antisymmetric: the inverted picture gives the negative number. Three things that projection itself makes,
    none of which needs to know where the air is or how bright a collimator's border came out:

    - *edges*: where rays leave bone or limb, the side with less matter is the smoother one;
    - *ridges*: cortices, shafts and condyles are narrow and dense, so bright structures stand out more than
    dark ones;
    - *flatness*: the flattest third of a film is rather air than anatomy.

    Parameters
    ----------
    picture : ndarray, (rows, columns)
        A thumbnail: a few hundred pixels a side.
    """
    from scipy import ndimage

    low, high = np.percentile(picture, (1, 99))
    if not high > low:
        return 0.0
    grey = np.clip((picture.astype(np.float32) - low) / (high - low), 0, 1)
    rows, columns = (max(1, round(length * MARGIN)) for length in grey.shape)
    inside = (slice(rows, grey.shape[0] - rows), slice(columns, grey.shape[1] - columns))
    if min(grey[inside].shape) < 4 * EDGE_REACH:
        return float(np.tanh(np.mean(grey[inside]) - np.median(grey[inside])))

    mean = ndimage.uniform_filter(grey, 5)
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(grey * grey, 5) - mean * mean, 0))
    votes = [
        _edges(grey, spread, inside) / 0.3,
        _flatness(grey[inside], spread[inside]) / 0.2,
        *(_ridges(grey, sigma, inside) / 0.5 for sigma in RIDGE_SCALES),
    ]
    weights = (2.0, 1.0, 1.0, 1.0)
    return float(np.average(np.tanh(votes), weights=weights))


def _edges(grey: NDArray, spread: NDArray, inside: tuple[slice, slice]) -> float:
    """Mean log ratio of busyness, bright side over dark side, across the strongest edges."""
    from scipy import ndimage

    down, right = ndimage.gaussian_filter(grey, 1.5, (1, 0)), ndimage.gaussian_filter(grey, 1.5, (0, 1))
    slope = np.hypot(down, right)[inside]
    y, x = np.nonzero(slope >= max(np.quantile(slope, 1 - EDGE_SHARE), 1e-6))
    if y.size == 0:
        return 0.0
    y_step, x_step = down[inside][y, x] / slope[y, x], right[inside][y, x] / slope[y, x]
    y, x = y + inside[0].start, x + inside[1].start

    def busyness(reach: int) -> NDArray:
        row = np.clip(np.rint(y + reach * y_step), 0, grey.shape[0] - 1).astype(np.intp)
        column = np.clip(np.rint(x + reach * x_step), 0, grey.shape[1] - 1).astype(np.intp)
        return np.log(spread[row, column] + 0.003)

    return float(np.mean(busyness(EDGE_REACH) - busyness(-EDGE_REACH)))


def _flatness(grey: NDArray, spread: NDArray) -> float:
    """Mean of the busy two thirds minus mean of the flattest third."""
    flat = spread <= np.quantile(spread, 1 / 3)
    return float(grey[~flat].mean() - grey[flat].mean()) if not flat.all() else 0.0


def _ridges(grey: NDArray, sigma: float, inside: tuple[slice, slice]) -> float:
    """Skewness of the ridge response (negative Laplacian of Gaussian), its outliers (text, metal) clipped."""
    from scipy import ndimage

    response = -ndimage.gaussian_laplace(grey, sigma)[inside]
    limit = np.quantile(np.abs(response), 0.995)
    response = np.clip(response, -limit, limit)
    variance = np.mean(response**2)
    return float(np.mean(response**3) / variance**1.5) if variance > 1e-12 else 0.0
