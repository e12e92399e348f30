"""Views of drawn films as the finder meets them: moved, turned, mirrored, zoomed, processed in many ways."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from KneeBoneAgeLib.finder_network import REFERENCE_WIDTH_PX, STRIDE

from .finder_cache import Knee


@dataclass(frozen=True)
class Views:
    """A batch: pictures (N, 1, S, S), labels (N, S/4, S/4) and knees in pixels of the pictures."""

    pictures: Tensor
    labels: Tensor
    knees: list[list[Knee]]


def plain_views(pictures: Tensor, labels: Tensor, knees: list[list[Knee]], size: int) -> Views:
    """The cached pictures as they are, at the network's size."""
    matrix = np.tile(
        np.diag([pictures.shape[-1] / size, pictures.shape[-1] / size, 1.0]), (len(pictures), 1, 1)
    )
    return _resample(pictures, labels, knees, size, matrix, np.zeros(len(pictures)))


def draw_views(
    pictures: Tensor, labels: Tensor, knees: list[list[Knee]], size: int, rng: np.random.Generator
) -> Views:
    """Random views, half of them of the whole picture and half as the second look sees it.

    Parameters
    ----------
    pictures, labels : (N, 1, S, S) in 0..1 and (N, 1, S/2, S/2).
    """
    cached = pictures.shape[-1]
    matrices, turns = [], []
    for several in knees:
        step = cached / size * math.exp(rng.uniform(-0.3, 0.25))
        x, y = cached / 2 + rng.uniform(-0.12, 0.12, 2) * cached
        if rng.random() < 0.4:
            if several and rng.random() < 0.85:
                x, y, width = several[rng.integers(len(several))][:3]
                step = max(width / (REFERENCE_WIDTH_PX * math.exp(rng.normal(0, 0.18))), 0.6)
                x, y = np.array((x, y)) + rng.normal(0, 0.15, 2) * width
            else:
                step *= math.exp(-rng.uniform(0, 0.6))
                x, y = cached / 2 + rng.uniform(-0.35, 0.35, 2) * cached
        turn = math.radians(rng.normal(0, 7))
        flip = -1.0 if rng.random() < 0.5 else 1.0
        stretch = math.exp(rng.normal(0, 0.02))
        linear = step * np.array(
            [
                [math.cos(turn) * flip * stretch, -math.sin(turn) / stretch],
                [math.sin(turn) * flip * stretch, math.cos(turn) / stretch],
            ]
        )
        matrix = np.eye(3)
        matrix[:2, :2] = linear
        matrix[:2, 2] = np.array((x, y)) - linear @ (size / 2, size / 2)
        matrices.append(matrix)
        turns.append(turn)
    views = _resample(pictures, labels, knees, size, np.stack(matrices), np.array(turns))
    return Views(process(views.pictures, views.knees, rng), views.labels, views.knees)


def _resample(
    pictures: Tensor,
    labels: Tensor,
    knees: list[list[Knee]],
    size: int,
    matrices: np.ndarray,
    turns: np.ndarray,
) -> Views:
    """Views under affine maps (N, 3, 3) from view to picture that turn by ``turns`` (radians)."""
    count, cached = len(pictures), pictures.shape[-1]
    theta = matrices[:, :2].copy()
    theta[:, :, 2] += theta[:, :, :2] @ (size / 2, size / 2) - cached / 2
    theta[:, :, :2] *= size / cached
    theta[:, :, 2] *= 2 / cached
    affine = torch.from_numpy(theta.astype(np.float32))
    grid = functional.affine_grid(affine, [count, 1, size, size], align_corners=False)
    seen = functional.grid_sample(pictures, grid, align_corners=False)
    cells = size // STRIDE
    grid = functional.affine_grid(affine, [count, 1, cells, cells], align_corners=False)
    bones = functional.grid_sample(labels, grid, mode="nearest", align_corners=False)
    moved = []
    for several, matrix, turn in zip(knees, matrices, turns, strict=True):
        inverse = np.linalg.inv(matrix)
        scale = math.sqrt(abs(np.linalg.det(inverse[:2, :2])))
        mirrored = np.linalg.det(inverse[:2, :2]) < 0
        here = []
        for x, y, width, angle, left in several:
            u, v, _ = inverse @ (x, y, 1.0)
            lean = angle - math.degrees(turn)
            here.append((u, v, width * scale, -lean if mirrored else lean, bool(left) != bool(mirrored)))
        moved.append(here)
    return Views(seen, bones[:, 0].long(), moved)


def process(pictures: Tensor, knees: list[list[Knee]], rng: np.random.Generator) -> Tensor:
    """Other detectors and vendors: same anatomy, other grey values; (N, 1, S, S) in 0..1."""
    count, _, size, _ = pictures.shape
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))

    def each(low: float, high: float, chance: float = 1.0, otherwise: float = 0.0) -> Tensor:
        values = np.where(rng.random(count) < chance, rng.uniform(low, high, count), otherwise)
        return torch.from_numpy(values.astype(np.float32)).view(count, 1, 1, 1)

    film = (pictures > 0).float()
    out = pictures.clamp(0, 1)
    out = out.clamp_min(1e-3) ** each(-0.6, 0.6).exp()
    shading = functional.interpolate(
        torch.randn((count, 1, 3, 3), generator=generator),
        size=(size, size),
        mode="bicubic",
        align_corners=True,
    )
    out = out * (1 + each(0.0, 0.25, 0.5) * shading).clamp(0.2, 2.0)
    soft = functional.avg_pool2d(out, 3, stride=1, padding=1, count_include_pad=False)
    wide = functional.avg_pool2d(out, 8)
    wide = functional.avg_pool2d(wide, 3, stride=1, padding=1, count_include_pad=False)
    wide = functional.interpolate(wide, size=(size, size), mode="bilinear", align_corners=False)
    # Vendors lift fine and middling detail against the background; films copied from screens are soft.
    detail, middling = out - soft, soft - wide
    out = (
        wide * each(0.3, 1.1, 0.5, 1.0) + middling * each(0.7, 2.2, 0.5, 1.0) + detail * each(-0.9, 2.5, 0.7)
    )
    low, high = each(-0.02, 0.25, 0.5), each(0.6, 1.02, 0.5, 1.0)
    out = ((out - low) / (high - low)).clamp(0, 1)
    negative = each(1.0, 1.0, 0.03)
    out = out * (1 - negative) + (1 - out) * negative
    out = out + torch.randn(out.shape, generator=generator) * each(0.0, 0.06, 0.6)
    for index in range(count):
        _disturb(out[index, 0], film[index, 0], knees[index], rng)
    # Outside of the film is black; where a picture is collimated, its grey may be anything.
    kept = torch.maximum(film, each(1.0, 1.0, 0.3))
    return (out.clamp(1e-3, 1) * kept).contiguous()


def _disturb(picture: Tensor, film: Tensor, knees: list[Knee], rng: np.random.Generator) -> None:
    """Lettering, metal and collimation, drawn into one picture (S, S) or its film area in place."""
    size = picture.shape[-1]
    if rng.random() < 0.2:
        for _ in range(int(rng.integers(1, 4))):
            pixel, letters = int(rng.integers(1, 3)), int(rng.integers(1, 8))
            glyphs = np.zeros((5, 4 * letters), bool)
            glyphs[:, np.arange(4 * letters) % 4 != 3] = rng.random((5, 3 * letters)) < 0.6
            stamp = torch.from_numpy(glyphs.repeat(pixel, 0).repeat(pixel, 1))
            if rng.random() < 0.3:
                stamp = stamp.T
            rows, cols = (min(size, length) for length in stamp.shape)
            row, col = int(rng.integers(size - rows + 1)), int(rng.integers(size - cols + 1))
            picture[row : row + rows, col : col + cols][stamp[:rows, :cols]] = float(rng.uniform(0.8, 1.0))
    down, across = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    if rng.random() < 0.12:
        for _ in range(int(rng.integers(1, 4))):
            turn, length, thick = rng.uniform(0, math.pi), rng.uniform(8, 70), rng.uniform(1, 7)
            x, y = across - float(rng.uniform(0, size)), down - float(rng.uniform(0, size))
            along = (x * math.cos(turn) + y * math.sin(turn)).abs()
            beside = (y * math.cos(turn) - x * math.sin(turn)).abs()
            picture[(along < length / 2) & (beside < thick / 2)] = float(rng.uniform(0.85, 1.0))
    if rng.random() < 0.25:
        turn = math.radians(rng.normal(0, 4))
        x = (across - size / 2) * math.cos(turn) + (down - size / 2) * math.sin(turn)
        y = (down - size / 2) * math.cos(turn) - (across - size / 2) * math.sin(turn)
        left, right, top, bottom = (size * (0.5 - rng.beta(1, 5) * 0.3) for _ in range(4))
        outside = (x < -left) | (x > right) | (y < -top) | (y > bottom)
        for u, v, width, *_ in knees:
            outside &= (across - u) ** 2 + (down - v) ** 2 > (0.55 * width) ** 2
        picture[outside] = float(rng.uniform(0, 0.15)) if rng.random() < 0.8 else float(rng.uniform(0.5, 1))
        if rng.random() < 0.5:
            film[outside] = 0
