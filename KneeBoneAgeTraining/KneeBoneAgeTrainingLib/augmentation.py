"""Cut the network's crop out of a cached picture, jittered as crops and films differ, and normalise it.

The normalisation is the estimator's own (`KneeBoneAgeLib.crop.normalise`), so there is one of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from KneeBoneAgeLib.crop import normalise

from .crop_cache import MARGIN

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Jitter:
    """How far crops and films differ; `scale` and `shift` are fractions of the crop's side."""

    scale: float = 0.08
    shift: float = 0.04
    rotation_deg: float = 6.0
    gamma: float = 0.3
    blur_px: float = 1.0
    noise: float = 0.04  # standard deviation as a share of the picture's contrast
    shading: float = 0.15
    occlusion: float = 0.1
    texture: float = 0.0  # trabecular streaks, standard deviation as a share of the bone's brightness
    lines: float = 0.0  # mean number of stray lines and edges on the bone, which are no physis
    clouds: float = (
        0.0  # lighter and darker areas of the bone, largest standard deviation as a share of its brightness
    )


def places(count: int, rng: np.random.Generator | None = None, jitter: Jitter | None = None) -> Floats:
    """(B, 2, 3) affine matrices from a crop to its cached picture, both -1 to 1 from edge to edge; with `rng`
    jittered, else the crop as it was cut."""
    jitter = jitter or Jitter()
    if rng is None:
        angle = shift_x = shift_y = np.zeros(count)
        scale = np.full(count, 1 / MARGIN)
    else:
        angle = np.deg2rad(rng.uniform(-jitter.rotation_deg, jitter.rotation_deg, count))
        scale = np.exp(rng.uniform(-jitter.scale, jitter.scale, count)) / MARGIN
        shift_x, shift_y = rng.uniform(-jitter.shift, jitter.shift, (2, count)) * 2 / MARGIN
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return np.stack([np.stack([cos, -sin, shift_x], -1), np.stack([sin, cos, shift_y], -1)], 1)


def moved(landmarks: Floats, matrix: Floats) -> Floats:
    """Landmarks (B, P, 2) of the crop as it was cut, in the crops that `matrix` (B, 2, 3) cuts instead."""
    linear, shift = matrix[:, :, :2], matrix[:, None, :, 2]
    return np.einsum("bij,bpj->bpi", np.linalg.inv(linear), landmarks / MARGIN - shift)


def cut_out(
    images: NDArray[np.uint8],
    size: int,
    rng: np.random.Generator | None = None,
    jitter: Jitter | None = None,
    matrix: Floats | None = None,
) -> Tensor:
    """Cached pictures (B, S, S) → normalised crops (B, 1, size, size), float32; with `rng` jittered.

    `matrix` are the crops' own `places`, where the caller has drawn them.
    """
    picture = torch.from_numpy(images).float().div_(255)[:, None]
    count = len(images)
    jitter = jitter or Jitter()
    if matrix is None:
        matrix = places(count, rng, jitter)
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
    if jitter.texture or jitter.lines or jitter.clouds:
        kinds = {_streaks: jitter.texture, _stray_lines: jitter.lines, _clouds: jitter.clouds}
        structure = sum((draw(crop, rng, jitter) for draw, much in kinds.items() if much), torch.zeros(()))
        crop = crop + _on_bone(crop) * structure
    sigma = each(rng.uniform(0, jitter.blur_px, count) * (rng.random(count) < 0.6)).clamp(min=0.05)
    taps = torch.exp(-0.5 * (torch.arange(-2, 3).view(1, 1, 1, 5) / sigma) ** 2)
    taps = (taps / taps.sum(-1, keepdim=True)).view(count, 1, 1, 5)
    rows = functional.conv2d(crop.view(1, count, size, size), taps, padding=(0, 2), groups=count)
    crop = functional.conv2d(rows, taps.transpose(2, 3), padding=(2, 0), groups=count).view(
        count, 1, size, size
    )
    grain = torch.from_numpy(rng.standard_normal(crop.shape, dtype=np.float32))
    some = crop[..., ::4, ::4].flatten(1)
    contrast = (some.quantile(0.95, dim=1) - some.quantile(0.05, dim=1)).view(-1, 1, 1, 1)
    crop = crop + grain * contrast * each(rng.uniform(0, jitter.noise, count))
    for i in np.flatnonzero(rng.random(count) < jitter.occlusion):
        width, height = rng.integers(size // 16, size // 4, 2)
        x, y = rng.integers(0, size - width), rng.integers(0, size - height)
        crop[i, 0, y : y + height, x : x + width] = float(rng.random())
    return crop


def _on_bone(crop: Tensor) -> Tensor:
    """(B, 1, S, S) weights: 0 in the darker half of a picture, its own brightness in the brightest parts."""
    some = crop[..., ::4, ::4].flatten(1)
    middle, high = (some.quantile(q, dim=1).view(-1, 1, 1, 1) for q in (0.5, 0.95))
    return ((crop - middle) / (high - middle).clamp(min=1e-3)).clamp(0, 1) * high


def _streaks(crop: Tensor, rng: np.random.Generator, jitter: Jitter) -> Tensor:
    """Trabeculae as real bone shows them: fine streaks, mostly along the limb, of unit spread times a strength."""
    lean, stretch = _each(rng, crop, -0.5, 0.5), _each(rng, crop, 1.0, 5.0)
    across, along = _frequencies(crop.shape[-1])
    radius = (across**2 + (stretch * (along + lean * across)) ** 2).sqrt()
    peak = _each(rng, crop, 0.08, 0.3)
    field = _random_field(crop.shape[-1], rng, torch.exp(-0.5 * ((radius - peak) / 0.08) ** 2))
    return field * _each(rng, crop, 0, 1) ** 2 * jitter.texture


def _clouds(crop: Tensor, rng: np.random.Generator, jitter: Jitter) -> Tensor:
    """Areas of other density as real bone shows them, 2 to 12 % of the knee's width across: patella, fossae, condyles
    behind each other, sclerosis."""
    half = crop.shape[-1] // 2  # half the pixels show them as well
    stretch = torch.exp(_each(rng, crop, -0.7, 0.9))
    length = half / 2 * torch.exp(_each(rng, crop, math.log(0.02), math.log(0.12)))
    across, along = _frequencies(half)
    radius = length * ((across * stretch) ** 2 + (along / stretch) ** 2).sqrt()
    field = _random_field(half, rng, torch.exp(-0.5 * (2 * math.pi * radius) ** 2 / 2))
    field = functional.interpolate(field, crop.shape[-2:], mode="bilinear", align_corners=False)
    return field * _each(rng, crop, 0, 1) * jitter.clouds


def _each(rng: np.random.Generator, crop: Tensor, low: float, high: float) -> Tensor:
    """A number for each picture, (B, 1, 1, 1)."""
    return torch.from_numpy(rng.uniform(low, high, len(crop)).astype(np.float32)).view(-1, 1, 1, 1)


def _frequencies(size: int) -> tuple[Tensor, Tensor]:
    """Cycles a pixel of a real Fourier transform: across (1, 1, 1, F) and along (1, 1, S, 1)."""
    frequency = torch.fft.fftfreq(size)
    return frequency[None, None, None, : size // 2 + 1].abs(), frequency[None, None, :, None]


def _random_field(size: int, rng: np.random.Generator, weight: Tensor) -> Tensor:
    """Noise (B, 1, S, S) of unit spread with the amplitudes `weight` (B, 1, S, F) over frequency."""
    parts = torch.from_numpy(rng.standard_normal((*weight.shape, 2), dtype=np.float32))
    field = torch.fft.irfft2(torch.view_as_complex(parts) * weight, s=(size, size))
    return field / field.std(dim=(2, 3), keepdim=True).clamp(min=1e-6)


def _stray_lines(crop: Tensor, rng: np.random.Generator, jitter: Jitter) -> Tensor:
    """Short bright or dark arcs and edges of brightness anywhere: notch roof, patella, fabella, vessels, folds."""
    count, size = len(crop), crop.shape[-1]
    field = np.zeros((count, size, size), np.float32)
    places = np.linspace(-1, 1, size, dtype=np.float32)
    for i, lines in enumerate(rng.poisson(jitter.lines, count)):
        for _ in range(min(int(lines), 8)):
            angle, cx, cy = rng.uniform(0, np.pi), rng.uniform(-0.6, 0.6), rng.uniform(-0.7, 0.7)
            half, thick, bend = rng.uniform(0.06, 0.35), rng.uniform(0.008, 0.03), rng.normal(0, 1.2)
            strength, edge = rng.normal(0, 0.12), rng.random() < 0.35
            rows, cols = (
                slice(*np.searchsorted(places, (c - 1.5 * half - 0.05, c + 1.5 * half + 0.05)))
                for c in (cy, cx)
            )
            x, y = places[None, cols] - cx, places[rows, None] - cy
            along = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
            off = y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle)) - bend * along**2
            if edge:  # brighter on one side, fading away from it
                profile = np.exp(-np.maximum(off, 0) / (6 * thick)) / (
                    1 + np.exp(-np.clip(off / (0.4 * thick), -30, 30))
                )
            else:
                profile = np.exp(-0.5 * (off / thick) ** 2)
            field[i, rows, cols] += strength * np.exp(-((along / half) ** 4)) * profile
    return torch.from_numpy(field)[:, None]
