"""Coarse grids over a film and reusable random fields: what makes drawing a film fast.

Scatter, heel effect, casts and the lower frequency bands of the processing vary slowly, so they are computed on a grid of
millimetres and interpolated row by row while the film is exposed in blocks that stay in the processor's cache. Noise and
trabecular texture are cut from fields made once per process at a random origin, because drawing five million normal
deviates would cost more than everything else together.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

BLOCK_PIXELS = 1 << 16
TILE = 1024


class CoarseGrid:
    """Cells of `factor` × `factor` pixels over a film of `shape` (rows, cols); cell (0, 0) begins at pixel (0, 0)."""

    def __init__(self, shape: tuple[int, int], factor: int) -> None:
        self.shape = shape
        self.factor = max(1, int(factor))
        self.cells = (-(-shape[0] // self.factor), -(-shape[1] // self.factor))

    @classmethod
    def of_spacing(cls, shape: tuple[int, int], spacing_mm: float, cell_mm: float) -> CoarseGrid:
        """Return the grid whose cells come nearest to `cell_mm`."""
        return cls(shape, round(cell_mm / spacing_mm))

    def centres(self, axis: int) -> np.ndarray:
        """Continuous pixel coordinate of the cell centres along `axis`, float32."""
        return ((np.arange(self.cells[axis]) + 0.5) * self.factor).astype(np.float32)

    def sample(self, film: np.ndarray) -> np.ndarray:
        """Film values at the cell centres (no averaging), float32 (cells)."""
        if self.factor == 1:
            return np.asarray(film, np.float32)
        rows = np.minimum(np.arange(self.cells[0]) * self.factor + self.factor // 2, self.shape[0] - 1)
        cols = np.minimum(np.arange(self.cells[1]) * self.factor + self.factor // 2, self.shape[1] - 1)
        return film[rows][:, cols].astype(np.float32)

    def pool(self, block: np.ndarray, out: np.ndarray, first_row: int) -> None:
        """Write the cell means of a block of film rows (beginning at a cell border) into `out` (cells)."""
        k, cell = self.factor, first_row // self.factor
        whole = block.shape[0] // k
        parts = [block[: whole * k].reshape(whole, k, -1).mean(axis=1)] if whole else []
        if block.shape[0] > whole * k:
            parts.append(block[whole * k :].mean(axis=0, keepdims=True))
        full = block.shape[1] // k
        for part in parts:
            target = out[cell : cell + len(part)]
            target[:, :full] = part[:, : full * k].reshape(len(part), full, k).mean(axis=2)
            if full < self.cells[1]:
                target[:, full] = part[:, full * k :].mean(axis=1)
            cell += len(part)

    def rows_of(self, coarse: np.ndarray) -> RowExpander:
        """Return what interpolates `coarse` (cells) linearly to the film, block of rows by block of rows."""
        return RowExpander(self, coarse)


class RowExpander:
    """Linear interpolation from a coarse grid to film rows; columns are expanded once, rows on demand."""

    def __init__(self, grid: CoarseGrid, coarse: np.ndarray) -> None:
        self._factor = grid.factor
        if grid.factor > 1:
            low, part = _linear(grid.shape[1], grid.factor, grid.cells[1])
            high = np.minimum(low + 1, grid.cells[1] - 1)
            wide = np.take(coarse, low, axis=1)
            slope = np.take(coarse, high, axis=1)
            slope -= wide
            slope *= part
            wide += slope
            self._wide = wide
            self._low, self._part = _linear(grid.shape[0], grid.factor, grid.cells[0])
        else:
            self._wide = coarse

    def block(self, first: int, last: int) -> np.ndarray:
        """Return film rows [first, last) as float32 (rows, cols); not to be written to."""
        if self._factor == 1:
            return self._wide[first:last]
        low, part = self._low[first:last], self._part[first:last, None]
        below = self._wide[low]
        above = self._wide[np.minimum(low + 1, len(self._wide) - 1)]
        above -= below
        above *= part
        below += above
        return below


@lru_cache(maxsize=64)
def _linear(length: int, factor: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower cell and fraction (float32) of each pixel centre."""
    position = np.clip((np.arange(length) + 0.5) / factor - 0.5, 0, cells - 1)
    low = position.astype(np.intp)
    return low, (position - low).astype(np.float32)


def row_blocks(shape: tuple[int, int], multiple: int = 1) -> Iterator[tuple[int, int]]:
    """Yield (first, last) row ranges of about BLOCK_PIXELS pixels, each a multiple of `multiple` rows."""
    step = max(1, BLOCK_PIXELS // max(shape[1], 1) // multiple) * multiple
    for first in range(0, shape[0], step):
        yield first, min(first + step, shape[0])


@lru_cache(maxsize=4)
def noise_tile(correlation_tenths: int) -> np.ndarray:
    """Normal deviates (TILE, TILE), unit variance, correlated over `correlation_tenths` / 10 pixels, periodic."""
    tile = np.random.default_rng(20240607).standard_normal((TILE, TILE), dtype=np.float32)
    if correlation_tenths:
        tile = gaussian_filter(tile, correlation_tenths / 10, mode="wrap", truncate=3.0)
        tile /= tile.std()
    return tile


@lru_cache(maxsize=16)
def _trabeculae_tile(spacing_step: int) -> np.ndarray:
    spacing_mm = 1.25**spacing_step
    tile = np.random.default_rng(20240608).standard_normal((TILE // 2, TILE), dtype=np.float32)
    along, across = 1.1 / spacing_mm, 0.28 / spacing_mm
    fine = gaussian_filter(tile, (along, across), mode="wrap", truncate=3.0)
    fine -= gaussian_filter(fine, (2.0 * across, 2.0 * across), mode="wrap", truncate=2.0)
    cross = gaussian_filter(tile[:, ::-1], (across, 1.6 * across), mode="wrap", truncate=3.0)
    cross -= gaussian_filter(cross, 2.5 * across, mode="wrap", truncate=2.0)
    texture = fine / max(fine.std(), 1e-6) + 0.6 * cross / max(cross.std(), 1e-6)
    # averaging over a pixel takes away what is finer than it
    return texture * np.float32(1 / texture.std() / (1 + (spacing_mm / 0.45) ** 2))


def trabeculae_tile(spacing_mm: float) -> np.ndarray:
    """Zero-mean field (TILE / 2, TILE) that looks like trabeculae running along the columns, unit deviation at fine spacing."""
    return _trabeculae_tile(round(np.log(max(spacing_mm, 0.05)) / np.log(1.25)))


class RandomStrip:
    """A tile laid over the width of a film at a random place and orientation; rows are read with wrap-around."""

    def __init__(self, tile: np.ndarray, cols: int, rng: np.random.Generator, flip: bool = True) -> None:
        start, mirrored = int(rng.integers(tile.shape[1])), flip and bool(rng.integers(2))
        columns = (np.arange(cols) + start) % tile.shape[1]
        self._strip = np.take(tile, columns[::-1] if mirrored else columns, axis=1)
        self._origin = int(rng.integers(tile.shape[0]))

    def block(self, first: int, last: int) -> np.ndarray:
        """Rows that continue from one block to the next, (rows, cols) float32; not to be written to."""
        height = len(self._strip)
        start = (first + self._origin) % height
        if start + last - first <= height:
            return self._strip[start : start + last - first]
        return np.take(self._strip, (np.arange(first, last) + self._origin) % height, axis=0)

    def jump(self, rng: np.random.Generator) -> None:
        """Go on from another random row, so that a long film does not repeat itself."""
        self._origin = int(rng.integers(len(self._strip)))
