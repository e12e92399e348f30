"""Coarse grids over a film and reusable random fields: what makes drawing a film fast.

Scatter, heel effect, casts and the lower frequency bands of the processing vary slowly, so they are computed
on a grid of millimetres and interpolated row by row while the film is exposed in blocks that stay in the
processor's cache. Noise is cut from a field made once per process at random origins, because drawing five
million normal deviates would cost more than everything else together.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

BLOCK_PIXELS = 1 << 15
TILE = 1024


class CoarseGrid:
    """Cells of `factor` × `factor` pixels over a film of `shape` (rows, cols), from pixel (0, 0) on."""

    def __init__(self, shape: tuple[int, int], factor: int) -> None:
        self.shape = shape
        self.factor = max(1, int(factor))
        self.cells = (-(-shape[0] // self.factor), -(-shape[1] // self.factor))

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
        cells = -(-block.shape[0] // k)
        target = out[cell : cell + cells]
        if k == 1:
            target[...] = block
            return
        columns = _product(_mean_weights(block.shape[0], k), block)
        full = block.shape[1] // k
        np.add(columns[:, 0 : full * k : k], columns[:, 1 : full * k : k], out=target[:, :full])
        for column in range(2, k):
            target[:, :full] += columns[:, column : full * k : k]
        target[:, :full] *= np.float32(1 / k)
        if full < self.cells[1]:
            target[:, full] = columns[:, full * k :].mean(axis=1)

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
            wide = np.take(coarse, low, axis=1, mode="clip")
            slope = np.take(coarse, high, axis=1, mode="clip")
            slope -= wide
            slope *= part
            wide += slope
            self._wide = wide
        else:
            self._wide = coarse
        self._rows = grid.shape[0]

    def block(self, first: int, last: int) -> np.ndarray:
        """Return film rows [first, last) as float32 (rows, cols); not to be written to."""
        if self._factor == 1:
            return self._wide[first:last]
        weights, low = _row_weights(self._rows, self._factor, len(self._wide), first, last)
        return _product(weights, self._wide[low : low + weights.shape[1]])


def _product(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Matrix product in pieces below the size at which OpenBLAS starts threads (they would fight for cores).

    Products this narrow are still the fastest way to average or interpolate rows.
    """
    rows, inner = weights.shape
    width = max(16, (1 << 18) // max(1, rows * inner))
    if values.shape[1] <= width:
        return weights @ values
    out = np.empty((rows, values.shape[1]), np.float32)
    for start in range(0, values.shape[1], width):
        np.matmul(weights, values[:, start : start + width], out=out[:, start : start + width])
    return out


@lru_cache(maxsize=64)
def _linear(length: int, factor: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower cell and fraction (float32) of each pixel centre."""
    position = np.clip((np.arange(length) + 0.5) / factor - 0.5, 0, cells - 1)
    low = position.astype(np.intp)
    return low, (position - low).astype(np.float32)


@lru_cache(maxsize=1024)
def _row_weights(length: int, factor: int, cells: int, first: int, last: int) -> tuple[np.ndarray, int]:
    """Matrix (rows, cells used) that interpolates rows [first, last), and the first cell it uses."""
    low, part = (a[first:last] for a in _linear(length, factor, cells))
    start, end = int(low[0]), min(int(low[-1]) + 1, cells - 1)
    weights = np.zeros((last - first, end - start + 1), np.float32)
    flat = weights.reshape(-1)
    # The last cell has no neighbour beyond it and no part of one.
    place = low + np.arange(-start, (last - first - 1) * weights.shape[1] - start + 1, weights.shape[1])
    flat[place] = 1 - part
    flat[np.minimum(place + 1, flat.size - 1)] += part
    return weights, start


@lru_cache(maxsize=64)
def _mean_weights(rows: int, factor: int) -> np.ndarray:
    """Matrix (cells, rows) of means over `factor` rows; the last cell takes what is left."""
    cell = np.arange(rows) // factor
    weights = (cell[None, :] == np.arange(cell[-1] + 1)[:, None]).astype(np.float32)
    return weights / weights.sum(axis=1, keepdims=True)


def row_blocks(shape: tuple[int, int], multiple: int = 1) -> Iterator[tuple[int, int]]:
    """Yield (first, last) row ranges of about BLOCK_PIXELS pixels, each a multiple of `multiple` rows."""
    step = max(1, BLOCK_PIXELS // max(shape[1], 1) // multiple) * multiple
    for first in range(0, shape[0], step):
        yield first, min(first + step, shape[0])


@lru_cache(maxsize=4)
def noise_tile(correlation_tenths: int) -> np.ndarray:
    """Periodic unit normal deviates (TILE, TILE), correlated over `correlation_tenths` / 10 pixels."""
    tile = np.random.default_rng(20240607).standard_normal((TILE, TILE), dtype=np.float32)
    if correlation_tenths:
        tile = gaussian_filter(tile, correlation_tenths / 10, mode="wrap", truncate=3.0)
        tile /= tile.std()
    return tile


class RandomStrip:
    """A tile laid over the width of a film at a random place, perhaps mirrored; rows wrap around."""

    def __init__(self, tile: np.ndarray, cols: int, rng: np.random.Generator, flip: bool = True) -> None:
        start, mirrored = int(rng.integers(tile.shape[1])), flip and bool(rng.integers(2))
        length = tile.shape[1]
        parts = [tile[:, start : start + cols]]
        parts += [tile[:, : cols - done] for done in range(length - start, cols, length)]
        strip = np.concatenate(parts, axis=1)
        self._strip = np.ascontiguousarray(strip[:, ::-1]) if mirrored else strip
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
