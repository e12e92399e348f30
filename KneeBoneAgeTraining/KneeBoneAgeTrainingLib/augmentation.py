"""Cut the network's crop out of a cached picture, jittered as crops and films differ, and normalise it.

The normalisation is the estimator's own (`KneeBoneAgeLib.crop.normalise`), so there is one of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from KneeBoneAgeLib.crop import normalise

from .crop_cache import MARGIN
from .looks import (
    UNEXPOSED,
    Floats,
    Picture,
    add_grain,
    blurred,
    grade,
    grey,
    leave_black,
    quantiles,
    sampled,
    sampling_grid,
)
from .structures import MOST_LINES, Line, Part, clouds, lines, streaks


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

    def with_structure(self, share: float) -> Jitter:
        """The same with this share (0 to 1) of what lies on the bone but is no bone, and so much less noise that with
        none of it half is left."""
        return replace(
            self,
            noise=self.noise * (1 + share) / 2,
            texture=self.texture * share,
            lines=self.lines * share,
            clouds=self.clouds * share,
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
    jitter = jitter or Jitter()
    if matrix is None:
        matrix = places(len(images), rng, jitter)
    looks = _Looks.draw(len(images), rng, jitter) if rng is not None else None
    found = np.empty((len(images), 1, size, size), np.float32)
    for i, (image, place) in enumerate(zip(images, matrix, strict=True)):
        crop = sampled(grey(image), sampling_grid(place, (size, size)), outside="border")
        if looks is not None:
            unexposed = crop <= UNEXPOSED
            crop = looks.of(i, crop)
            leave_black(crop, unexposed)
        found[i, 0] = normalise(crop)
    return torch.from_numpy(found)


def prepare(jitter: Jitter, size: int) -> None:
    """Draw what jittered crops of this side share, about a second's work and 70 MB, before helpers are forked that need
    it too; helpers that are spawned draw their own, the same."""
    for much, kept in ((jitter.texture, streaks), (jitter.clouds, clouds), (jitter.lines, lines)):
        if much:
            kept(size)


@dataclass(frozen=True)
class _Looks:
    """What was drawn for N crops besides their places; one row a crop."""

    gamma: Floats
    slope: Floats  # (N, 2) brightness across and down
    streaks: list[Part]  # none, or one a crop
    clouds: list[Part]
    lines: list[list[Line]]  # of each crop
    blur_px: Floats
    noise: Floats
    noise_place: NDArray[np.int64]
    hidden: NDArray[np.bool_]  # something is in the way
    hiding: Floats  # (N, 5) its width and height, its left and upper edge, its brightness: shares

    @classmethod
    def draw(cls, count: int, rng: np.random.Generator, jitter: Jitter) -> _Looks:
        """Draw how `count` crops look."""
        several = np.minimum(rng.poisson(jitter.lines, count), MOST_LINES)
        return cls(
            gamma=np.exp(rng.normal(0, jitter.gamma, count)),
            slope=rng.normal(0, jitter.shading, (count, 2)),
            streaks=Part.draw(rng, rng.random(count) ** 2 * jitter.texture) if jitter.texture else [],
            clouds=Part.draw(rng, rng.random(count) * jitter.clouds) if jitter.clouds else [],
            lines=Line.draw(rng, several.tolist()),
            blur_px=rng.uniform(0, jitter.blur_px, count) * (rng.random(count) < 0.6),
            noise=rng.uniform(0, jitter.noise, count),
            noise_place=rng.integers(0, 2**62, count),
            hidden=rng.random(count) < jitter.occlusion,
            hiding=rng.random((count, 5)),
        )

    def of(self, row: int, crop: Picture) -> Picture:
        """A crop of 0 to 1 with gamma, shading, structure, blur, noise and now and then something in the way; it may be
        changed in place."""
        grade(crop, float(self.gamma[row]), *self.slope[row].tolist())
        self._add_structure(row, crop)
        crop = blurred(crop, float(self.blur_px[row]))
        low, high = quantiles(crop, (0.05, 0.95))
        add_grain(crop, (high - low) * float(self.noise[row]), int(self.noise_place[row]))
        if self.hidden[row]:
            size, (width, height, left, top, brightness) = len(crop), self.hiding[row].tolist()
            cols, rows = (int(size // 16 + share * (size // 4 - size // 16)) for share in (width, height))
            first_col, first_row = int(left * (size - cols)), int(top * (size - rows))
            crop[first_row : first_row + rows, first_col : first_col + cols] = brightness
        return crop

    def _add_structure(self, row: int, crop: Picture) -> None:
        """Streaks, stray lines and clouds on the bone: nothing in the darker half of a picture, by its own brightness
        in the brightest parts."""
        size, kept = len(crop), ((self.streaks, streaks), (self.clouds, clouds))
        structures = [drawn[row].cut(made(size), size) for drawn, made in kept if drawn]
        if not structures and not self.lines[row]:
            return
        structure = structures[0] if structures else np.zeros_like(crop)
        for more in structures[1:]:
            structure += more
        for line in self.lines[row]:
            line.add_to(structure)
        middle, high = quantiles(crop, (0.5, 0.95))
        bone = crop - middle
        bone *= high / max(high - middle, 1e-3)
        structure *= np.clip(bone, 0, high, out=bone)
        crop += structure
