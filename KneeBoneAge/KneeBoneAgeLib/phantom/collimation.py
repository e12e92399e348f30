"""The rectangular field of the collimator: where it lets the beam through, and the grey over the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .grids import CoarseGrid


@dataclass(frozen=True)
class Collimation:
    """A rectangular field; `margins` are fractions of the film hidden at the left, top, right and bottom."""

    margins: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    angle_deg: float = 0.0
    edge_mm: float = 1.5
    leak: float = 0.004
    shutter: float | None = None  # grey painted over what lies outside; None shows it bright as it is


def fit_to_knees(collimation: Collimation, knees: tuple, shape: tuple[int, int]) -> Collimation:
    """Open the field as far as the knees need: 0.7 widths around each joint stay exposed."""
    left, top, right, bottom = collimation.margins
    slack = abs(np.tan(np.deg2rad(collimation.angle_deg)))
    for knee in knees:
        (x, y), reach = knee.centre_px, 0.7 * knee.width_px
        left = min(left, (x - reach) / shape[1] - slack / 2)
        right = min(right, (shape[1] - x - reach) / shape[1] - slack / 2)
        top = min(top, (y - reach) / shape[0] - slack / 2)
        bottom = min(bottom, (shape[0] - y - reach) / shape[0] - slack / 2)
    return replace(collimation, margins=(left, top, right, bottom))


def _sides(collimation: Collimation, shape: tuple[int, int]):
    """The middle of the field (x, y), its half sizes in pixels, and cosine and sine of its turn.

    A margin of zero is no edge, however the field is turned.
    """
    far = 4 * max(shape)
    left, top, right, bottom = collimation.margins
    edges = (
        left * shape[1] if left > 0 else -far,
        top * shape[0] if top > 0 else -far,
        (1 - right) * shape[1] if right > 0 else shape[1] + far,
        (1 - bottom) * shape[0] if bottom > 0 else shape[0] + far,
    )
    angle = np.deg2rad(collimation.angle_deg)
    return edges, (shape[1] / 2, shape[0] / 2), float(np.cos(angle)), float(np.sin(angle))


def _inside(x: np.ndarray, y: np.ndarray, collimation: Collimation, shape: tuple[int, int]) -> np.ndarray:
    """Distance in pixels from (x, y) to the nearest edge of the field, positive inside."""
    (left, top, right, bottom), (mx, my), cos, sin = _sides(collimation, shape)
    u = (x - mx) * cos + (y - my) * sin + mx
    v = (y - my) * cos - (x - mx) * sin + my
    return np.minimum(np.minimum(u - left, right - u), np.minimum(v - top, bottom - v))


def collimator(grid: CoarseGrid, spacing_mm: float, collimation: Collimation) -> np.ndarray:
    """Share of the beam that the collimator lets through, float32 (grid.cells)."""
    if max(collimation.margins) <= 0:
        return np.ones(grid.cells, np.float32)
    inside = _inside(grid.centres(1)[None, :], grid.centres(0)[:, None], collimation, grid.shape)
    t = np.clip(inside * (spacing_mm / max(collimation.edge_mm, 1e-3)) + 0.5, 0, 1)
    t = t * t * (3 - 2 * t)
    return (collimation.leak + (1 - collimation.leak) * t).astype(np.float32)


def close_shutter(film: np.ndarray, spacing_mm: float, collimation: Collimation) -> None:
    """Paint what lies outside the field (and its penumbra) in one grey, in place."""
    if max(collimation.margins) <= 0:
        return
    rows, cols = film.shape
    margin = collimation.edge_mm / spacing_mm
    coarse = CoarseGrid(film.shape, max(1, min(rows, cols) // 64))
    near = _inside(coarse.centres(1)[None, :], coarse.centres(0)[:, None], collimation, film.shape)
    reach = coarse.factor + 1.0
    x = np.arange(cols, dtype=np.float32)[None, :] + 0.5
    for cell, line in enumerate(near < margin + reach):
        if not line.any():
            continue
        first, last = cell * coarse.factor, min(rows, (cell + 1) * coarse.factor)
        y = np.arange(first, last, dtype=np.float32)[:, None] + 0.5
        film[first:last][_inside(x, y, collimation, film.shape) < margin] = collimation.shutter
