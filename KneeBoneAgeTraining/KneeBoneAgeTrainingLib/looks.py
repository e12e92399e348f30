"""How one picture is moved, graded, blurred, coarsened and grained: what the augmentation of knees and hands shares.

Pictures are (rows, cols) float32 arrays of 0 to 1, worked on one by one: a single one stays in the processor's cache, a
whole batch does not. Nothing here splits a sum among threads, so what comes out is the same with any number of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Floats = NDArray[np.floating[Any]]
Picture = NDArray[np.float32]

UNEXPOSED = 0.5 / 255
"""Grey values up to this are those of pixels that nothing was exposed on."""

LOOKED_AT = 32
"""Quantiles are read from about so many pixels across and down."""

GRAINS, GRAIN_SEED = 1 << 21, 20261
"""Values of the white noise that is kept, and where it comes from."""

UNBLURRED_PX = 0.15
"""A blur with a smaller standard deviation than this shows in no pixel."""


def grey(picture: NDArray[np.uint8]) -> Picture:
    """A kept picture of 0 to 255 as one of 0 to 1."""
    return np.multiply(picture, np.float32(1 / 255), dtype=np.float32)


def sampling_grid(matrix: Floats, shape: tuple[int, int]) -> Tensor:
    """(1, rows, cols, 2) places in a picture of each pixel of a view, both -1 to 1 from edge to edge.

    `matrix` is the 2 x 3 affine from the view to the picture.
    """
    down, across = (_middles(side) for side in shape)
    grid = torch.empty((2, *shape))  # two planes are sampled faster than pairs
    for plane, (along_x, along_y, shift) in enumerate(matrix.tolist()):
        x, y = (torch.from_numpy(part) for part in (across * along_x, down * along_y + shift))
        torch.add(x[None, :], y[:, None], out=grid[plane])
    return grid.permute(1, 2, 0)[None]


@lru_cache(maxsize=16)
def _middles(side: int) -> Picture:
    """Middles of pixels, -1 to 1 from edge to edge."""
    return (np.arange(1 - side, side, 2) / side).astype(np.float32)


@lru_cache(maxsize=16)
def _slope(side: int) -> Picture:
    return np.linspace(-1, 1, side, dtype=np.float32)


def sampled(picture: Picture, grid: Tensor, *, mode: str = "bilinear", outside: str = "zeros") -> Picture:
    """What a `grid` shows of a picture, interpolated as `torch.nn.functional.grid_sample` does."""
    whole = torch.from_numpy(picture)[None, None]
    found = functional.grid_sample(whole, grid, mode=mode, padding_mode=outside, align_corners=False)
    return found.numpy()[0, 0]


def grade(picture: Picture, gamma: float, slope_x: float, slope_y: float) -> None:
    """Change a picture in place by a gamma and a gradient of brightness, which is 0 in the middle."""
    rows, cols = picture.shape
    torch.from_numpy(picture).log_().mul_(gamma).exp_()
    across = torch.from_numpy(_slope(cols) * slope_x)
    down = torch.from_numpy(_slope(rows) * slope_y + 1)
    picture *= torch.add(across[None, :], down[:, None]).numpy()


def quantiles(picture: Picture, shares: Sequence[float]) -> list[float]:
    """Quantiles of about `LOOKED_AT`² pixels spread over the picture; each is a pixel's own value."""
    rows, cols = (max(1, side // LOOKED_AT) for side in picture.shape)
    some = picture[::rows, ::cols].ravel()
    ranks = [round(share * (some.size - 1)) for share in shares]
    found: list[float] = np.partition(some, ranks)[ranks].tolist()
    return found


def blurred(picture: Picture, sigma_px: float) -> Picture:
    """Gaussian blur, out to two standard deviations; pixels at the edge are repeated outwards."""
    if sigma_px < UNBLURRED_PX:
        return picture
    taps = [math.exp(-0.5 * (far / sigma_px) ** 2) for far in range(math.ceil(2 * sigma_px) + 1)]
    shares = [tap / (2 * sum(taps) - taps[0]) for tap in taps]
    reach = len(taps) - 1
    wide = _with_edges(picture, reach)
    mixed = _mixed_neighbours(_mixed_neighbours(wide.ravel(), shares, wide.shape[1]), shares, 1)
    return np.ascontiguousarray(mixed.reshape(wide.shape)[reach:-reach, reach:-reach])


def _with_edges(picture: Picture, reach: int) -> Picture:
    """A picture whose outermost pixels are repeated outwards so many times; `np.pad` takes thrice as long."""
    rows, cols = picture.shape
    wide = np.empty((rows + 2 * reach, cols + 2 * reach), np.float32)
    wide[reach:-reach, reach:-reach] = picture
    wide[reach:-reach, :reach], wide[reach:-reach, -reach:] = picture[:, :1], picture[:, -1:]
    wide[:reach], wide[-reach:] = wide[reach], wide[-reach - 1]
    return wide


def _mixed_neighbours(values: Picture, shares: Sequence[float], step: int) -> Picture:
    """Each value (N,) mixed with those up to K steps before and after it; the outermost K steps are not right."""
    mixed = values * shares[0]
    reach, count = step * (len(shares) - 1), len(values)
    inner = mixed[reach : count - reach]
    for far, share in enumerate(shares[1:], start=1):
        away = far * step
        both = values[reach - away : count - reach - away] + values[reach + away : count - reach + away]
        both *= share
        inner += both
    return mixed


def coarsened(picture: Picture, factor: float) -> Picture:
    """As a detector with pixels `factor` times as large would show it: averaged over areas, interpolated back."""
    rows, cols = picture.shape
    fewer_rows, fewer_cols = (max(8, round(side / factor)) for side in (rows, cols))
    small = _mixed_rows(_mixed_rows(picture, *_areas(rows, fewer_rows)).T, *_areas(cols, fewer_cols))
    back = _mixed_rows(small, *_between(fewer_cols, cols))
    return _mixed_rows(back.T, *_between(fewer_rows, rows))


def _mixed_rows(picture: Picture, rows: NDArray[np.intp], weights: Floats) -> Picture:
    """Weighted sums of K rows each: `rows` and `weights` are (K, M), the picture (H, W) becomes (M, W)."""
    picture, shares = np.ascontiguousarray(picture), weights.astype(np.float32)[..., None]
    mixed = picture.take(rows[0], axis=0)
    mixed *= shares[0]
    for row, share in zip(rows[1:], shares[1:], strict=True):
        more = picture.take(row, axis=0)
        more *= share
        mixed += more
    return mixed


def _areas(many: int, few: int) -> tuple[NDArray[np.intp], Floats]:
    """Rows and weights that average `many` rows to `few`: all that an area touches count alike."""
    first = np.arange(few) * many // few
    length = -(-(np.arange(few) + 1) * many // few) - first
    step = np.arange(length.max())[:, None]
    return np.minimum(first + step, many - 1), (step < length) / length


def _between(few: int, many: int) -> tuple[NDArray[np.intp], Floats]:
    """Rows and weights that interpolate `few` rows to `many`, edge to edge."""
    place = np.clip((np.arange(many) + 0.5) * few / many - 0.5, 0, few - 1)
    first = place.astype(np.intp)
    share = place - first
    return np.stack([first, np.minimum(first + 1, few - 1)]), np.stack([1 - share, share])


def add_grain(picture: Picture, strength: float, place: int) -> None:
    """Add white noise of this standard deviation in place; `place`, any number from 0, says which."""
    grains = _grains(max(GRAINS, 2 * picture.size))
    first = place % (len(grains) - picture.size)
    picture += grains[first : first + picture.size].reshape(picture.shape) * np.float32(strength)


@lru_cache(maxsize=2)
def _grains(count: int) -> Picture:
    """White noise of unit spread, of which pictures take parts: drawing it anew would cost as much as all else."""
    return np.random.default_rng(GRAIN_SEED).standard_normal(count, dtype=np.float32)


def leave_black(picture: Picture, unexposed: NDArray[np.bool_]) -> None:
    """Make what was not exposed 0 and all else more than that, in place: normalising leaves out what is 0."""
    torch.from_numpy(picture).clamp_(min=1e-3)
    if unexposed.any():
        picture[unexposed] = 0
