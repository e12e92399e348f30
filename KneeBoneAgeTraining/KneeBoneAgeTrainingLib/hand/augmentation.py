"""Vary kept pictures as films differ: place and pose, brightness, contrast, polarity, resolution, blur, noise.

What is drawn for a film follows from one generator for the whole batch, in a fixed order, so that it is the same on
however many devices the batch is shared out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from KneeBoneAgeLib.crop import normalise

from ..recipes.schema import Augmentation
from .pictures import HandPicture, kept_size

Floats = NDArray[np.floating[Any]]
COARSEST = 3.0
"""Largest factor by which a film is coarsened."""


@dataclass(frozen=True)
class Variation:
    """What was drawn for N films; one row a film. `noise_seed` starts the generator of a film's noise."""

    angle_rad: Floats
    scale: Floats
    shift: Floats  # (N, 2) shares of the picture's width and height
    mirrored: NDArray[np.bool_]
    gamma: Floats
    slope: Floats  # (N, 2) brightness across and down
    inverted: NDArray[np.bool_]
    coarseness: Floats  # 1: as it is
    blur_px: Floats
    noise: Floats
    noise_seed: NDArray[np.int64]

    def take(self, rows: slice) -> Variation:
        return Variation(**{name: values[rows] for name, values in vars(self).items()})


def draw_variation(count: int, rng: np.random.Generator, settings: Augmentation) -> Variation:
    """Draw how `count` films are varied."""
    coarse = rng.random(count) < settings.resolution
    blurred = rng.random(count) < 0.6
    return Variation(
        angle_rad=np.deg2rad(rng.uniform(-1, 1, count) * settings.rotation_deg),
        scale=np.exp(rng.uniform(-1, 1, count) * settings.scale),
        shift=rng.uniform(-1, 1, (count, 2)) * settings.shift,
        mirrored=rng.random(count) < settings.mirror,
        gamma=np.exp(rng.normal(0, 1, count) * settings.contrast),
        slope=rng.normal(0, 1, (count, 2)) * settings.brightness,
        inverted=rng.random(count) < settings.inversion,
        coarseness=np.where(coarse, rng.uniform(1, COARSEST, count), 1.0),
        blur_px=rng.uniform(0, 1, count) * settings.blur_px * blurred,
        noise=rng.uniform(0, 1, count) * settings.noise,
        noise_seed=rng.integers(0, 2**62, count),
    )


def varied(
    pictures: Sequence[HandPicture], image_size: tuple[int, int], variation: Variation
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Kept pictures → normalised ones (B, 1, H, W), masks (B, H, W) and key points of each (K, 2)."""
    rows, cols = image_size
    matrix = _matrices(variation, image_size)
    grid = functional.affine_grid(
        torch.from_numpy(matrix).float(), [len(pictures), 1, rows, cols], align_corners=False
    )
    grey = torch.from_numpy(np.stack([picture.grey for picture in pictures])).float().div_(255)[:, None]
    mask = torch.from_numpy(np.stack([picture.mask for picture in pictures])).float()[:, None]
    film = functional.grid_sample(grey, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    mask = functional.grid_sample(mask, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    exposed = film > 0.5 / 255
    film = torch.where(exposed, another_look(film, variation).clamp(min=1e-3), 0.0)
    image = torch.from_numpy(normalise(film[:, 0].numpy()))[:, None]
    points = [_moved(p.key_points, m) for p, m in zip(pictures, matrix, strict=True)]
    return image, mask[:, 0], points


def _matrices(variation: Variation, image_size: tuple[int, int]) -> Floats:
    """(B, 2, 3) affine from the network's picture to the kept one, both -1 to 1 from edge to edge."""
    rows, cols = image_size
    height, width = kept_size(image_size)
    cos, sin = (part(variation.angle_rad) * variation.scale for part in (np.cos, np.sin))
    flip = np.where(variation.mirrored, -1.0, 1.0)
    across = np.stack([flip * cos * cols, -sin * rows, 2 * variation.shift[:, 0] * cols], -1) / width
    down = np.stack([flip * sin * cols, cos * rows, 2 * variation.shift[:, 1] * rows], -1) / height
    return np.stack([across, down], 1)


def _moved(key_points: NDArray[np.float32], matrix: Floats) -> Tensor:
    """Key points (K, 2) of the kept picture in the network's, both in shares of width and height."""
    kept = 2 * key_points - 1
    seen = (kept - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    return torch.from_numpy(((seen + 1) / 2).astype(np.float32))


def another_look(film: Tensor, variation: Variation) -> Tensor:
    """Films (B, 1, H, W) of 0 to 1 as another machine or another exposure would show them."""
    rows, cols = film.shape[-2:]

    def each(values: Floats | NDArray[np.bool_]) -> Tensor:
        return torch.from_numpy(np.asarray(values, np.float32)).view(-1, 1, 1, 1)

    film = film.clamp(0, 1) ** each(variation.gamma)
    across = torch.linspace(-1, 1, cols)[None, None, None, :]
    down = torch.linspace(-1, 1, rows)[None, None, :, None]
    film = film * (1 + each(variation.slope[:, 0]) * across + each(variation.slope[:, 1]) * down)
    film = torch.where(each(variation.inverted) > 0, 1 - film, film)
    film = _coarsened(film, variation.coarseness)
    film = _blurred(film, variation.blur_px)
    return film + _grain(film, variation)


def _coarsened(film: Tensor, factor: Floats) -> Tensor:
    rows, cols = film.shape[-2:]
    found = []
    for one, times in zip(film[:, None], factor, strict=True):
        if times > 1.05:
            small = functional.interpolate(
                one, (max(8, round(rows / times)), max(8, round(cols / times))), mode="area"
            )
            one = functional.interpolate(small, (rows, cols), mode="bilinear", align_corners=False)
        found.append(one)
    return torch.cat(found)


def _blurred(film: Tensor, sigma_px: Floats) -> Tensor:
    """Gaussian blur, each film with its own standard deviation."""
    count, _, rows, cols = film.shape
    reach = max(1, int(np.ceil(2 * sigma_px.max(initial=0))))
    sigma = torch.from_numpy(np.asarray(sigma_px, np.float32)).clamp(min=0.05).view(count, 1, 1, 1)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1).view(1, 1, 1, -1) / sigma) ** 2)
    taps = taps / taps.sum(-1, keepdim=True)
    stacked = functional.pad(film.view(1, count, rows, cols), (reach,) * 4, mode="replicate")
    stacked = functional.conv2d(stacked, taps, groups=count)
    return functional.conv2d(stacked, taps.transpose(2, 3), groups=count).view(count, 1, rows, cols)


def _grain(film: Tensor, variation: Variation) -> Tensor:
    some = film[..., ::4, ::4].flatten(1)
    contrast = (some.quantile(0.95, dim=1) - some.quantile(0.05, dim=1)).clamp(min=0)
    found = torch.empty_like(film)
    generator = torch.Generator()
    for i, (strength, seed) in enumerate(zip(variation.noise, variation.noise_seed, strict=True)):
        generator.manual_seed(int(seed))
        found[i] = torch.randn(film.shape[1:], generator=generator) * (contrast[i] * float(strength))
    return found
