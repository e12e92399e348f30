"""Trabecular structure of drawn bone."""

from __future__ import annotations

import numpy as np

from .solids import Canvas

STRIP_ROWS = 16
"""Rows that are worked on at a time: their arrays stay in the processor's cache."""

_TILE: list[np.ndarray] = []


def add_texture(canvas: Canvas, amount: float, rng: np.random.Generator) -> None:
    """Trabecular structure: bone is multiplied by 1 ± ``amount`` with strands along the limb (upright on the film).

    The pattern is made once at 0.3 mm and averaged down for coarser grids, so its contrast falls as it would.
    """
    if not _TILE:
        from scipy.ndimage import gaussian_filter

        noise = np.random.default_rng(20).normal(size=(1024, 1024))
        strands = gaussian_filter(noise, (2.6, 0.7), mode="wrap")
        patches = gaussian_filter(noise[::-1], (12.0, 9.0), mode="wrap")
        tile = strands / strands.std() + 0.7 * patches / patches.std()
        tile = tile / tile.std()
        while len(tile) >= 64:
            _TILE.append(tile.astype(np.float32))
            n = len(tile) // 2
            tile = tile.reshape(n, 2, n, 2).mean((1, 3))
    tile = _TILE[int(np.clip(round(np.log2(max(canvas.spacing_mm, 0.3) / 0.3)), 0, len(_TILE) - 1))]
    rows, columns = canvas.shape
    r = (np.arange(rows) + rng.integers(len(tile))) % len(tile)
    c = (np.arange(columns) + rng.integers(len(tile))) % len(tile)
    wide = tile.take(c, axis=1)
    for first in range(0, rows, STRIP_ROWS):
        bone = canvas.bone_mm[first : first + STRIP_ROWS]
        if bone.any():
            bone *= 1 + amount * wide.take(r[first : first + STRIP_ROWS], axis=0)
            np.maximum(bone, 0, out=bone)
