"""Vary kept pictures as films differ: place and pose, brightness, contrast, polarity, resolution, blur, noise.

What is drawn for a film follows from one generator for the whole batch, in a fixed order, so that it is the same on
however many devices the batch is shared out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from KneeBoneAgeLib.crop import normalise

from ..looks import (
    UNEXPOSED,
    Floats,
    Picture,
    add_grain,
    blurred,
    coarsened,
    grade,
    grey,
    leave_black,
    quantiles,
    sampled,
    sampling_grid,
)
from ..recipes.schema import Augmentation
from .pictures import HandPicture, kept_size

COARSEST = 3.0
"""Largest factor by which a film is coarsened."""


@dataclass(frozen=True)
class Variation:
    """What was drawn for N films; one row a film. `noise_place` says which noise a film gets."""

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
    noise_place: NDArray[np.int64]

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
        noise_place=rng.integers(0, 2**62, count),
    )


def varied(
    pictures: Sequence[HandPicture], image_size: tuple[int, int], variation: Variation
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Kept pictures → normalised ones (B, 1, H, W), masks (B, H, W), uint8, and key points of each (K, 2)."""
    matrix = _matrices(variation, image_size)
    images = np.empty((len(pictures), 1, *image_size), np.float32)
    masks = np.empty((len(pictures), *image_size), np.uint8)
    for i, picture in enumerate(pictures):
        grid = sampling_grid(matrix[i], image_size)
        film = sampled(grey(picture.grey), grid)
        unexposed = film <= UNEXPOSED
        film = another_look(film, variation, i)
        leave_black(film, unexposed)
        images[i, 0] = normalise(film)
        masks[i] = sampled(picture.mask.astype(np.float32), grid, mode="nearest")
    points = [_moved(p.key_points, m) for p, m in zip(pictures, matrix, strict=True)]
    return torch.from_numpy(images), torch.from_numpy(masks), points


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


def another_look(film: Picture, variation: Variation, row: int) -> Picture:
    """A film of 0 to 1 as another machine or another exposure would show it; it may be changed in place."""
    grade(film, float(variation.gamma[row]), *variation.slope[row].tolist())
    if variation.inverted[row]:
        np.subtract(1, film, out=film)
    if variation.coarseness[row] > 1.05:
        film = coarsened(film, float(variation.coarseness[row]))
    film = blurred(film, float(variation.blur_px[row]))
    low, high = quantiles(film, (0.05, 0.95))
    add_grain(film, (high - low) * float(variation.noise[row]), int(variation.noise_place[row]))
    return film
