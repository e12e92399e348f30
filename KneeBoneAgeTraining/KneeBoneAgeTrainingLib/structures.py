"""What bone shows beside its shape: streaks of trabeculae, clouds of other density, stray lines and edges.

Some hundred of each are drawn once, from a seed of their own, as they would be for a picture. A picture takes parts of
them, of either sign and turned over: hundreds of thousands of cuts of each kind, for a fraction of what drawing anew
costs. The kept ones are the same for every recipe; its seed decides which parts are taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .looks import Floats, Picture

KINDS, SEED = 160, 20262
"""So many of each are kept, drawn from this seed."""

ROOM_PX = 32
"""Kept fields are larger than pictures by so much."""

MOST_LINES = 8


@dataclass(frozen=True)
class Part:
    """Where a kept field is cut: number `kind`, its left upper pixel, turned over or not, times `strength`."""

    kind: int
    top: int
    left: int
    turned: bool
    strength: float

    @classmethod
    def draw(cls, rng: np.random.Generator, strengths: Floats) -> list[Part]:
        """One for each of the strengths, of either sign."""
        count = len(strengths)
        kinds, first = rng.integers(KINDS, size=count), rng.integers(ROOM_PX + 1, size=(2, count))
        turned, signs = rng.random(count) < 0.5, rng.choice((-1.0, 1.0), count)
        columns = (kinds, *first, turned, signs * strengths)
        return [cls(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]

    def cut(self, kept: Picture, size: int) -> Picture:
        """The field (size, size)."""
        part = kept[self.kind, self.top : self.top + size, self.left : self.left + size]
        return (part[::-1] if self.turned else part) * np.float32(self.strength)


@dataclass(frozen=True)
class Line:
    """Where a kept line is put: number `kind`, one of 8 `turn`s, its middle of -1 to 1."""

    kind: int
    turn: int
    down: float
    across: float
    strength: float

    @classmethod
    def draw(cls, rng: np.random.Generator, counts: Sequence[int]) -> list[list[Line]]:
        """So many for each picture, anywhere, of the strengths that patellae, fabellae, vessels and folds have."""
        every = sum(counts)
        columns = (
            rng.integers(KINDS, size=every),
            rng.integers(8, size=every),
            rng.uniform(-0.7, 0.7, every),
            rng.uniform(-0.6, 0.6, every),
            rng.normal(0, 0.12, every),
        )
        drawn = (cls(*values) for values in zip(*(column.tolist() for column in columns), strict=True))
        return [list(islice(drawn, count)) for count in counts]

    def add_to(self, field: Picture) -> None:
        """Add it to a field (S, S), in place; what lies outside is lost."""
        line = lines(len(field))[self.kind]
        line = line.T if self.turn & 4 else line
        line = line[:: -1 if self.turn & 2 else 1, :: -1 if self.turn & 1 else 1]
        (rows, own_rows), (cols, own_cols) = (
            _overlap(place, len(line), len(field)) for place in (self.down, self.across)
        )
        field[rows, cols] += line[own_rows, own_cols] * np.float32(self.strength)


def _overlap(middle: float, own: int, size: int) -> tuple[slice, slice]:
    """Where something of `own` pixels with its middle at this place of -1 to 1 lies in a side, and that part of it."""
    first = round((middle + 1) / 2 * size - own / 2)
    start, end = max(first, 0), min(first + own, size)
    return slice(start, end), slice(start - first, end - first)


@lru_cache(maxsize=4)
def streaks(size: int) -> Picture:
    """(`KINDS`, size + room, size + room) trabeculae as real bone shows them: fine streaks, mostly along the limb,
    of unit spread."""
    rng = np.random.default_rng((SEED, 0, size))
    side = size + ROOM_PX
    across, along = _frequencies(side)
    kept = torch.empty(KINDS, side, side)
    for field in kept:
        lean, stretch, peak = rng.uniform(-0.5, 0.5), rng.uniform(1, 5), rng.uniform(0.08, 0.3)
        radius = (across**2 + (stretch * (along + lean * across)) ** 2).sqrt()
        field.copy_(_random_field(side, rng, torch.exp(-0.5 * ((radius - peak) / 0.08) ** 2)))
    return kept.numpy()


@lru_cache(maxsize=4)
def clouds(size: int) -> Picture:
    """(`KINDS`, size + room, size + room) areas of other density as real bone shows them, of unit spread, 2 to 12 % of
    the knee's width across: patella, fossae, condyles behind each other, sclerosis."""
    rng, side = np.random.default_rng((SEED, 1, size)), size + ROOM_PX
    half = side // 2  # half the pixels show them as well
    across, along = _frequencies(half)
    kept = torch.empty(KINDS, half, half)
    for field in kept:
        stretch = math.exp(rng.uniform(-0.7, 0.9))
        length = size / 4 * math.exp(rng.uniform(math.log(0.02), math.log(0.12)))
        radius = length * ((across * stretch) ** 2 + (along / stretch) ** 2).sqrt()
        field.copy_(_random_field(half, rng, torch.exp(-0.5 * (2 * math.pi * radius) ** 2 / 2)))
    return functional.interpolate(kept[:, None], (side, side), mode="bilinear", align_corners=False)[
        :, 0
    ].numpy()


def _frequencies(size: int) -> tuple[Tensor, Tensor]:
    """Cycles a pixel of a real Fourier transform: across (1, F) and along (S, 1)."""
    frequency = torch.fft.fftfreq(size)
    return frequency[None, : size // 2 + 1].abs(), frequency[:, None]


def _random_field(size: int, rng: np.random.Generator, weight: Tensor) -> Tensor:
    """Noise (S, S) of unit spread, the same at both ends, with the amplitudes `weight` (S, F) over frequency."""
    parts = torch.from_numpy(rng.standard_normal((*weight.shape, 2), dtype=np.float32))
    field = torch.fft.irfft2(torch.view_as_complex(parts) * weight, s=(size, size))
    return field / field.std().clamp(min=1e-6)


@lru_cache(maxsize=4)
def lines(size: int) -> list[Picture]:
    """`KINDS` short arcs and edges of brightness of unit strength in squares of their own, for pictures (size, size):
    notch roof, patella, fabella, vessels, folds."""
    rng = np.random.default_rng((SEED, 2, size))
    return [_line(size, rng) for _ in range(KINDS)]


def _line(size: int, rng: np.random.Generator) -> Picture:
    angle, half, thick = rng.uniform(0, np.pi), rng.uniform(0.06, 0.35), rng.uniform(0.008, 0.03)
    bend, edge = rng.normal(0, 1.2), rng.random() < 0.35
    reach = math.ceil((1.5 * half + 0.05) * size / 2)
    place = np.arange(-reach, reach + 1, dtype=np.float32) * np.float32(2 / size)
    x, y = place[None, :], place[:, None]
    along = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    off = y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle)) - np.float32(bend) * along**2
    if edge:  # brighter on one side, fading away from it
        fading = np.exp(-np.maximum(off, 0) / np.float32(6 * thick))
        profile = fading / (1 + np.exp(-np.clip(off / np.float32(0.4 * thick), -30, 30)))
    else:
        profile = np.exp(-0.5 * (off / np.float32(thick)) ** 2)
    return (np.exp(-((along / np.float32(half)) ** 4)) * profile).astype(np.float32)
