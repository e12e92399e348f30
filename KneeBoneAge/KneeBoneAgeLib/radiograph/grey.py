"""Grey scale: from stored samples to [0, 1] through one small table, so that the picture is touched once.

A stored sample is a *code*; a table of float64 `values` says what each code stands for (sign, unused bits,
modality LUT). Every decision (robust range, window) is taken on that table and a histogram of a subsample;
the picture itself is looked up once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAMPLE_COUNT = 300_000
"""Pixels that are looked at for statistics."""
TAIL = 5e-4
"""Share of pixels allowed to be clipped at each end of a robust range."""
FLAT_SHARE = 5e-3
"""An extreme value that more of the film shares than this is border, collimator or saturated air."""
DENSE_CLIP = 0.05
"""Largest share of the film that a window may make uniformly white (bone side)."""
AIR_CLIP = 0.60
"""Largest share of the film that a window may make uniformly black (air side): most of a film can be air."""
CACHED_PIXELS = 1 << 16
"""So many pixels are turned into grey at a time."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Coded:
    """A picture of codes and what they stand for.

    Attributes
    ----------
    codes : ndarray of uint8 or uint16, (rows, columns)
    values : ndarray of float64, (2**bits,)
        Value of every code.
    counts : ndarray of int64, (2**bits,)
        How often each code occurs in a regular subsample, padding left out.
    """

    codes: NDArray[np.unsignedinteger]
    values: Values
    counts: NDArray[np.int64]


def subsample(picture: NDArray) -> NDArray:
    """A regular subsample of about SAMPLE_COUNT pixels, (rows / k, columns / k)."""
    step = max(1, round((picture.shape[0] * picture.shape[1] / SAMPLE_COUNT) ** 0.5))
    return picture[::step, ::step]


def code(picture: NDArray) -> Coded:
    """Codes of an integer or real picture of any width, (rows, columns).

    Up to 16 bits nothing is lost. Wider samples are quantised to 16 bits over a range that holds all but the
    wildest outliers; not-a-number becomes the smallest value.
    """
    kind, width = picture.dtype.kind, picture.dtype.itemsize
    if picture.dtype == np.bool_:
        picture, kind = picture.view(np.uint8), "u"
    if kind in "ui" and width <= 2:
        unsigned = np.dtype(f"u{width}")
        codes = picture.astype(picture.dtype.newbyteorder("="), copy=False).view(unsigned)
        values = np.arange(2 ** (8 * width), dtype=unsigned).view(f"{kind}{width}").astype(np.float64)
    else:
        sample = subsample(picture).astype(np.float64).ravel()
        sample = sample[np.isfinite(sample)]
        low, high = np.percentile(sample, (0.01, 99.99)).tolist() if sample.size else (0.0, 1.0)
        margin = 0.05 * (high - low)
        low, high = (
            max(low - margin, float(sample.min(initial=low))),
            min(high + margin, float(sample.max(initial=high))),
        )
        scale = 65535.0 / (high - low) if high > low else 0.0
        scaled = np.nan_to_num(picture.astype(np.float32), nan=low, posinf=high, neginf=low)
        scaled = (scaled - np.float32(low)) * np.float32(scale)
        codes = (np.clip(scaled, 0, 65535, out=scaled) + np.float32(0.5)).astype(np.uint16)
        values = low + np.arange(65536) / (scale or np.inf)
    counts = np.bincount(subsample(codes).ravel(), minlength=values.size)
    return Coded(codes, values, counts)


def robust_range(values: Values, counts: NDArray[np.int64]) -> tuple[float, float]:
    """Range of the anatomy: all but TAIL at either end, once flat extremes (see FLAT_SHARE) are dropped."""
    present = np.flatnonzero(counts)
    if present.size == 0:
        return float(values.min()), float(values.max())
    order = present[np.argsort(values[present], kind="stable")]
    levels, weight = np.unique(values[order], return_inverse=True)
    shares = np.bincount(weight, weights=counts[order]) / counts.sum()
    if levels.size > 4:
        first = 1 if shares[0] > FLAT_SHARE else 0
        last = levels.size - 1 if shares[-1] > FLAT_SHARE else levels.size
        levels, shares = levels[first:last], shares[first:last]
    cumulated = np.cumsum(shares) / shares.sum()
    low = levels[np.searchsorted(cumulated, TAIL)]
    high = levels[min(int(np.searchsorted(cumulated, 1 - TAIL)), levels.size - 1)]
    return float(low), float(high)


def stretch(values: Values, counts: NDArray[np.int64], nominal: tuple[float, float] | None) -> Values:
    """Levels in [0, 1] without a window: over the nominal range if half is used, else the robust one."""
    low, high = robust_range(values, counts)
    if nominal is not None and high - low >= 0.5 * (nominal[1] - nominal[0]):
        low, high = nominal
    if high <= low:
        span = float(np.ptp(values)) or 1.0
        low, high = nominal if nominal is not None else (low, low + span)
    return np.clip((values - low) / (high - low), 0.0, 1.0)


def window(
    values: Values, counts: NDArray[np.int64], centre: float, width: float, inverted: bool, exact: bool
) -> tuple[Values, bool]:
    """Levels of a linear window that is not allowed to destroy the film, and whether it had to be widened.

    PS3.3 C.11.2.1.2.1 (LINEAR) and C.11.2.1.3.2 (LINEAR_EXACT). A window is somebody's choice of contrast,
    and what it clips cannot be had back: an end that would make more than DENSE_CLIP (bone side) or AIR_CLIP
    (air side) of the varied film uniform is moved out to the robust range of the film.

    Parameters
    ----------
    inverted : bool
        Whether large values are dark (air) in the end.
    exact : bool
        LINEAR_EXACT.
    """
    if exact:
        low, high = centre - width / 2, centre + width / 2
    else:
        low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    shares = _varied(values, counts)
    floor, ceiling = robust_range(values, counts)
    low_limit, high_limit = (DENSE_CLIP, AIR_CLIP) if inverted else (AIR_CLIP, DENSE_CLIP)
    widened = False
    if shares[values <= low].sum() > low_limit:
        low, widened = min(low, floor), True
    if shares[values >= high].sum() > high_limit:
        high, widened = max(high, ceiling), True
    if high <= low:
        low, high = floor, max(ceiling, floor + 1e-9)
    return np.clip((values - low) / (high - low), 0.0, 1.0), widened


def destroys(levels: Values, values: Values, counts: NDArray[np.int64], inverted: bool) -> bool:
    """Whether a curve (sigmoid, VOI table) makes more of the varied film uniform than a window may."""
    shares = _varied(values, counts)
    low_limit, high_limit = (DENSE_CLIP, AIR_CLIP) if inverted else (AIR_CLIP, DENSE_CLIP)
    return bool(shares[levels <= 0.002].sum() > low_limit or shares[levels >= 0.998].sum() > high_limit)


def _varied(values: Values, counts: NDArray[np.int64]) -> Values:
    """Share of each code in the film, without flat extremes; sums to 1 or is all zero."""
    shares = counts / max(int(counts.sum()), 1)
    present = np.flatnonzero(counts)
    if present.size > 4:
        for end in (values[present].min(), values[present].max()):
            same = values == end
            if shares[same].sum() > FLAT_SHARE:
                shares[same] = 0.0
    return shares / (shares.sum() or 1.0)


def look_up(codes: NDArray[np.unsignedinteger], levels: Values, inverted: bool) -> NDArray[np.float32]:
    """The picture in [0, 1], bone bright: (rows, columns) float32."""
    table = (1.0 - levels if inverted else levels).astype(np.float32)
    line = straight_line(table[: int(codes.max(initial=0)) + 1])
    if line is None:
        return table[codes]
    slope, start = line  # several times faster than a look-up, as long as the rows in work stay in the cache
    pixels = np.empty(codes.shape, np.float32)
    step = max(1, CACHED_PIXELS // max(1, codes.shape[1]))
    for top in range(0, len(codes), step):
        rows = pixels[top : top + step]
        np.multiply(codes[top : top + step], slope, dtype=np.float32, out=rows)
        rows += start
        np.clip(rows, 0.0, 1.0, out=rows)
    return pixels


def straight_line(table: NDArray[np.float32]) -> tuple[np.float32, np.float32] | None:
    """Slope a code and start of the line that this table, clipped to [0, 1], is; None where it is bent."""
    inner = np.flatnonzero((table > 0) & (table < 1))
    if inner.size < 2:
        return None
    first, last = int(inner[0]), int(inner[-1])
    slope = (float(table[last]) - float(table[first])) / (last - first)
    start = float(table[first]) - slope * first
    straight = np.clip(slope * np.arange(table.size) + start, 0.0, 1.0)
    return (np.float32(slope), np.float32(start)) if np.abs(straight - table).max() < 1e-6 else None
