"""Cut the network's crop out of a cached picture, jittered as crops and films differ, and normalise it.

The normalisation is the estimator's own (`KneeBoneAgeLib.crop.normalise`), so there is one of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from KneeBoneAgeLib.crop import normalise

from .crop_cache import MARGIN


@dataclass(frozen=True)
class Jitter:
    """How far crops and films differ; `scale` and `shift` are fractions of the crop's side."""

    scale: float = 0.08
    shift: float = 0.04
    rotation_deg: float = 6.0
    gamma: float = 0.3
    blur_px: float = 1.0
    noise: float = 0.03
    shading: float = 0.15
    occlusion: float = 0.1


def cut_out(
    images: NDArray[np.uint8], size: int, rng: np.random.Generator | None = None, jitter: Jitter | None = None
) -> Tensor:
    """Cached pictures (B, S, S) → normalised crops (B, 1, size, size), float32; with `rng` jittered."""
    picture = torch.from_numpy(images).float().div_(255)[:, None]
    count = len(images)
    jitter = jitter or Jitter()
    if rng is None:
        angle = shift_x = shift_y = np.zeros(count)
        scale = np.full(count, 1 / MARGIN)
    else:
        angle = np.deg2rad(rng.uniform(-jitter.rotation_deg, jitter.rotation_deg, count))
        scale = np.exp(rng.uniform(-jitter.scale, jitter.scale, count)) / MARGIN
        shift_x, shift_y = rng.uniform(-jitter.shift, jitter.shift, (2, count)) * 2 / MARGIN
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    matrix = np.stack([np.stack([cos, -sin, shift_x], -1), np.stack([sin, cos, shift_y], -1)], 1)
    grid = functional.affine_grid(
        torch.from_numpy(matrix).float(), [count, 1, size, size], align_corners=False
    )
    crop = functional.grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=False)
    if rng is not None:
        seen = (
            crop > 0.5 / 255
        )  # what is black because nothing was exposed stays black: normalise() leaves it out
        crop = torch.where(seen, _another_look(crop, rng, jitter).clamp(min=1e-3), 0.0)
    return torch.from_numpy(normalise(crop[:, 0].numpy()))[:, None]


def _another_look(crop: Tensor, rng: np.random.Generator, jitter: Jitter) -> Tensor:
    """Gamma, shading, blur, noise and now and then something in the way; (B, 1, S, S) of 0 to 1."""
    count, size = len(crop), crop.shape[-1]

    def each(values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).view(count, 1, 1, 1)

    crop = crop.clamp(0, 1) ** each(np.exp(rng.normal(0, jitter.gamma, count)))
    across = torch.linspace(-1, 1, size)
    slope_x, slope_y = (each(rng.normal(0, jitter.shading, count)) for _ in range(2))
    crop = crop * (1 + slope_x * across[None, None, None, :] + slope_y * across[None, None, :, None])
    sigma = each(rng.uniform(0, jitter.blur_px, count) * (rng.random(count) < 0.6)).clamp(min=0.05)
    taps = torch.exp(-0.5 * (torch.arange(-2, 3).view(1, 1, 1, 5) / sigma) ** 2)
    taps = (taps / taps.sum(-1, keepdim=True)).view(count, 1, 1, 5)
    rows = functional.conv2d(crop.view(1, count, size, size), taps, padding=(0, 2), groups=count)
    crop = functional.conv2d(rows, taps.transpose(2, 3), padding=(2, 0), groups=count).view(
        count, 1, size, size
    )
    grain = torch.from_numpy(rng.standard_normal(crop.shape, dtype=np.float32))
    crop = crop + grain * each(rng.uniform(0, jitter.noise, count))
    for i in np.flatnonzero(rng.random(count) < jitter.occlusion):
        width, height = rng.integers(size // 16, size // 4, 2)
        x, y = rng.integers(0, size - width), rng.integers(0, size - height)
        crop[i, 0, y : y + height, x : x + width] = float(rng.random())
    return crop
