"""What a workstation does to a raw exposure, and what happens to pictures on their way to a data set.

A band decomposition (after Burt and Adelson) of the log signal is flattened in its low bands and lifted in
its high ones, as multi-scale contrast amplification does; then the anatomy is windowed and put through a
characteristic curve. The full resolution carries only one linear band, so that the rest is done on cells of
about 0.7 mm.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter

from .grids import CoarseGrid, row_blocks

BAND_MM = 0.7
_LEVELS = 16384


@dataclass(frozen=True)
class Processing:
    """Settings of one workstation."""

    residual: float = 0.8  # contrast kept of structures wider than `residual_mm`
    residual_mm: float = 40.0
    middle: float = 1.2  # gain of bands between BAND_MM and residual_mm
    fine: float = 1.4  # gain below BAND_MM
    power: float = 0.85  # < 1 lifts weak and holds strong middle contrasts
    curve: str = "sigmoid"  # "sigmoid" | "linear" | "toe"
    steepness: float = 3.0
    black: float = 0.05  # how far below the thinnest anatomy black lies, in fractions of the anatomy's range
    white: float = 0.2  # how far above the densest anatomy white lies
    gamma: float = 1.0
    background: float = 0.04  # grey of direct exposure


@dataclass(frozen=True)
class Damage:
    """What happens to the finished picture; the defaults do nothing."""

    inverted: bool = False
    gamma: float = 1.0
    gain: float = 1.0
    offset: float = 0.0
    blur_px: float = 0.0
    coarsening: int = 1  # averaged over so many pixels and enlarged again
    noise: float = 0.0
    equalisation: float = 0.0  # share of locally normalised contrast
    shading: float = 0.0  # strength of a smooth brightness drift
    jpeg_quality: int = 0  # 0 = none


def present(
    log_signal: np.ndarray,
    pooled: np.ndarray,
    bands: CoarseGrid,
    anatomy: np.ndarray,
    spacing_mm: float,
    settings: Processing,
) -> np.ndarray:
    """Turn the log signal into the picture "for presentation".

    Parameters
    ----------
    log_signal : float32 (rows, cols), logarithm of the signal
    pooled : float32 (bands.cells), its cell means
    anatomy : bool (bands.cells), where exposed anatomy lies
    spacing_mm : mm per film pixel

    Returns
    -------
    float32 (rows, cols) in [0, 1]; `log_signal` is used up.
    """
    pooled = -pooled
    processed = enhance(pooled, spacing_mm * bands.factor, settings)
    seen = processed[anatomy] if np.count_nonzero(anatomy) > 50 else processed.ravel()
    low, high = np.percentile(seen[:: max(1, seen.size // 20000)], [2.0, 99.5])
    reach = max(high - low, 0.15)
    black, white = low - settings.black * reach, high + settings.white * reach
    table = characteristic_curve(settings)
    scale, shift = np.float32((_LEVELS - 1) / (white - black)), np.float32(black)
    detail = np.float32(settings.fine) if bands.factor > 1 else np.float32(0)
    rest = processed - detail * pooled if bands.factor > 1 else processed
    rows = bands.rows_of((rest - shift) * scale)
    detail *= -scale
    for first, last in row_blocks(log_signal.shape):
        film = log_signal[first:last]
        if bands.factor > 1:
            film *= detail
            film += rows.block(first, last)
        else:
            film[...] = rows.block(first, last)
        np.clip(film, 0, _LEVELS - 1, out=film)
        table.take(film.astype(np.uint16), out=film, mode="clip")
    return log_signal


def enhance(pooled: np.ndarray, cell_mm: float, settings: Processing) -> np.ndarray:
    """Return `pooled` (bone bright, cells of `cell_mm`) with its bands amplified, its residual flattened."""
    levels: list[np.ndarray] = []
    current = pooled
    while cell_mm * 2 ** len(levels) < settings.residual_mm and min(current.shape) >= 8:
        smaller = _halve(current)
        levels.append(current - _double(smaller, current.shape))
        current = smaller
    result = current * np.float32(settings.residual)
    result += np.float32((1 - settings.residual) * np.median(current))
    for band in reversed(levels):
        if settings.power != 1:
            # |d|^power, unit gain at a contrast of 0.1 in log exposure, bounded slope for the faintest
            size = np.abs(band)
            size += np.float32(0.015)
            size *= np.float32(1 / 0.115)
            np.power(size, np.float32(settings.power - 1), out=size)
            band *= size
        band *= np.float32(settings.middle)
        band += _double(result, band.shape)
        result = band
    return result


def characteristic_curve(settings: Processing) -> np.ndarray:
    """Grey in [0, 1] (float32, _LEVELS) of the window from black to white."""
    u = np.linspace(0, 1, _LEVELS)
    if settings.curve == "sigmoid":
        raw = 1 / (1 + np.exp(-2 * settings.steepness * (u - 0.5)))
        y = (raw - raw[0]) / (raw[-1] - raw[0])
    elif settings.curve == "toe":
        y = u**2 * (1 + settings.steepness * 0.1) / (u + settings.steepness * 0.1)
        y /= y[-1]
    else:
        y = u
    return (settings.background + (1 - settings.background) * y**settings.gamma).astype(np.float32)


def damage(film: np.ndarray, settings: Damage, rng: np.random.Generator) -> np.ndarray:
    """Return the film (float32 (rows, cols), [0, 1]) after `settings`; may reuse its memory."""
    if settings == Damage():
        return film
    grid = CoarseGrid(film.shape, max(1, max(film.shape) // 48))
    if settings.equalisation > 0 or settings.shading > 0:
        mean = np.empty(grid.cells, np.float32)
        square = np.empty(grid.cells, np.float32)
        grid.pool(film, mean, 0)
        grid.pool(film * film, square, 0)
        film = film.copy()
        if settings.equalisation > 0:
            local, spread = _blur(mean, 3.0), _blur(square, 3.0)
            spread = np.sqrt(np.maximum(spread - local**2, 0)) + np.float32(0.06)
            share = np.float32(settings.equalisation)
            gain = (1 - share) + share * 0.22 / spread
            film *= grid.rows_of(gain).block(0, film.shape[0])
            level = (1 - share) * local + share * np.float32(0.4) - gain * local
            film += grid.rows_of(level).block(0, film.shape[0])
        if settings.shading > 0:
            drift = _blur(rng.standard_normal(grid.cells).astype(np.float32), max(grid.cells) / 4)
            drift *= np.float32(settings.shading / max(float(np.abs(drift).max()), 1e-6))
            film += grid.rows_of(drift).block(0, film.shape[0])
    if settings.coarsening > 1:
        coarse = CoarseGrid(film.shape, settings.coarsening)
        small = np.empty(coarse.cells, np.float32)
        coarse.pool(film, small, 0)
        film = _jpeg(small, settings.jpeg_quality) if settings.jpeg_quality else small
        film = coarse.rows_of(film).block(0, coarse.shape[0])
    if settings.blur_px > 0:
        film = _blur(film, settings.blur_px)
    if (settings.gamma, settings.gain, settings.offset) != (1.0, 1.0, 0.0):
        film = film * np.float32(settings.gain) + np.float32(settings.offset)
        film = np.clip(film, 0, 1)
        if settings.gamma != 1:
            np.power(film, np.float32(settings.gamma), out=film)
    if settings.noise > 0:
        film = film + rng.standard_normal(film.shape, dtype=np.float32) * np.float32(settings.noise)
    if settings.jpeg_quality and settings.coarsening <= 1:
        film = _jpeg(film, settings.jpeg_quality)
    film = np.clip(film, 0, 1)
    return np.subtract(1, film, out=film) if settings.inverted else film


def _jpeg(film: np.ndarray, quality: int) -> np.ndarray:
    """The film after baseline JPEG in 8 bits, float32."""
    stream = io.BytesIO()
    stored = (np.clip(film, 0, 1) * 255 + 0.5).astype(np.uint8)
    Image.fromarray(stored).save(stream, "JPEG", quality=int(quality))
    return np.asarray(Image.open(stream), np.float32) * np.float32(1 / 255)


def _blur(film: np.ndarray, sigma_px: float) -> np.ndarray:
    """Gaussian blur by repeated box means when wide, directly when narrow."""
    if sigma_px < 2.5:
        return gaussian_filter(film, sigma_px, truncate=2.5)
    for _ in range(3):
        film = uniform_filter(film, max(2, round(sigma_px * 2)))
    return film


def _halve(level: np.ndarray) -> np.ndarray:
    """Half the size by the kernel (1, 3, 3, 1) / 8; cell i covers cells 2i and 2i + 1."""
    return _halve_rows(_halve_rows(level).T).T


def _halve_rows(level: np.ndarray) -> np.ndarray:
    odd = len(level) % 2
    padded = np.concatenate([level[:1], level, level[-1:], *([level[-1:]] if odd else [])])
    out = padded[1:-1:2] + padded[2::2]
    out *= np.float32(3)
    out += padded[0:-2:2]
    out += padded[3::2]
    out *= np.float32(0.125)
    return out


def _double(level: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Twice the size by linear interpolation, cut to `shape`."""
    return _double_rows(_double_rows(level).T).T[: shape[0], : shape[1]]


def _double_rows(level: np.ndarray) -> np.ndarray:
    out = np.empty((2 * len(level), level.shape[1]), np.float32)
    near = level * np.float32(0.75)
    far = level * np.float32(0.25)
    out[0::2] = near
    out[1::2] = near
    out[2::2] += far[:-1]
    out[0] += far[0]
    out[1:-1:2] += far[1:]
    out[-1] += far[-1]
    return out
