"""A scene on a grid twice as fine, linearly interpolated."""

from __future__ import annotations

import numpy as np

from .scenes import Scene
from .solids import Canvas

COARSER = 2
"""Size of the pixels on which anatomy is drawn, in pixels of the film."""

STRIP_ROWS = 32
"""Rows that are worked on at a time: their arrays stay in the processor's cache."""

FAINTEST_MM = np.float32(1e-9)
"""Shorter paths count as so long: no film shows the difference."""

_NEAR, _FAR = np.float32(0.75), np.float32(0.25)


def finer(scene: Scene) -> Scene:
    """The scene with pixels of half the size; its paths are interpolated, its labels repeated."""
    old = scene.canvas
    rows, columns = old.shape
    new = Canvas(0, 0, old.spacing_mm / COARSER)
    new.shape = (rows * COARSER, columns * COARSER)
    new.soft_mm, new.bone_mm = doubled(old.soft_mm), doubled(old.bone_mm)
    new.metal_mm = np.zeros(new.shape, np.float32)
    pairs = (old.labels * np.uint16(0x0101)).view(np.uint8)
    new.labels = np.repeat(pairs, COARSER, axis=0)
    knees = tuple(knee.scaled(COARSER) for knee in scene.knees)
    return Scene(new, knees, scene.kind, scene.legs, scene.unit_mm)


def doubled(path: np.ndarray) -> np.ndarray:
    """Path lengths (rows, columns) float32, interpolated to (2 rows, 2 columns).

    New pixels lie a quarter of an old one beside it. Sums with the line before are rounded in single precision, those
    with the line behind come from double precision: so torch's bilinear interpolation gives the same bits.
    """
    rows, columns = path.shape
    out = np.zeros((2 * rows, 2 * columns), np.float32)
    for first in range(0, rows, STRIP_ROWS):
        last = min(first + STRIP_ROWS, rows)
        above, below = max(first - 1, 0), min(last + 1, rows)
        filled = np.flatnonzero(path[above:below].any(axis=0))
        if not filled.size:
            continue
        left, right = max(int(filled[0]) - 1, 0), min(int(filled[-1]) + 2, columns)
        lines = path[above:below, left:right]
        # A faint tail decides how the sum with its neighbour is rounded only if it is not lost beside it.
        lines = np.maximum(lines, FAINTEST_MM * (lines > 0))
        _down(_across(lines), first - above, below - last, out[2 * first : 2 * last, 2 * left : 2 * right])
    return out


def _across(lines: np.ndarray) -> np.ndarray:
    """Lines (n, columns) with twice as many columns."""
    out = np.empty((len(lines), 2 * lines.shape[1]), np.float32)
    far = lines * _FAR
    out[:, 0] = lines[:, 0]
    near = lines[:, 1:] * _NEAR
    np.add(near, far[:, :-1], out=out[:, 2::2])
    exact = lines * np.float64(_NEAR)
    np.add(exact[:, :-1], far[:, 1:], out=out[:, 1:-1:2])
    np.add(exact[:, -1], far[:, -1], out=out[:, -1])
    return out


def _down(lines: np.ndarray, above: int, below: int, out: np.ndarray) -> None:
    """Write the lines with twice as many rows; ``above`` and ``below`` are 1 where a line of a neighbour leads."""
    far = lines * _FAR
    own = lines[above : len(lines) - below]
    upper, lower = out[0::2], out[1::2]
    np.multiply(own, _NEAR, out=upper)
    if above:
        upper += far[: len(own)]
    else:
        upper[1:] += far[: len(own) - 1]
        upper[0] = own[0]
    exact = own * np.float64(_NEAR)
    after = far[above + 1 :]
    np.add(exact[: len(after)], after, out=lower[: len(after)])
    if not below:
        np.add(exact[-1], far[-1], out=lower[-1])
