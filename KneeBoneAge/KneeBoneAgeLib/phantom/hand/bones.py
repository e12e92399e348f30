"""The bones of the hand as bodies: tubular bones with one growth plate, and carpals as outlines that grow.

A tubular bone has its own frame: ``w`` in mm from the joint of its plate to its other end, ``u`` across. Sections
are ellipses (`solids.Stack`); the ends are contours over ``u``. Shapes are an adult's in mm, read off anatomy texts
and chosen to look plausible.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from scipy.interpolate import PchipInterpolator

from ..solids import TABLE_STEP_MM, Canvas, Patch, Pose, Seen, Stack, see
from .maturation import Epiphysis

SHAFT, EPIPHYSIS, CARPAL = 1, 2, 3
"""Labels on the canvas."""
UNIT = np.linspace(0, 1, 257)
"""Fractions of a bone's length at which profiles are tabulated."""

Contour = Callable[[np.ndarray], np.ndarray]
"""Height in mm over the relative place across, -1 to 1."""


@dataclass(frozen=True)
class Shape:
    """A tubular bone of an adult.

    Attributes
    ----------
    levels, halves : tuple of float
        Fractions of the length from the plate's joint, and half widths there in units of `half_mm`.
    half_mm : float
        Half width at the metaphysis.
    plate : float
        Height of the epiphysis as a fraction of the length.
    joint, end : Contour
        The articular surface at the plate and the other end, in units of `half_mm`, positive into the bone.
    depth : float
        Depth of sections / their width.
    cortex : float
        Thickness of the shaft's wall / half width there.
    centres : tuple of float
        Offset of the axis at `levels`, in units of `half_mm`.
    """

    levels: tuple[float, ...]
    halves: tuple[float, ...]
    half_mm: float
    plate: float
    joint: Contour
    end: Contour
    depth: float = 0.85
    cortex: float = 0.45
    centres: tuple[float, ...] | float = 0.0


@dataclass(frozen=True)
class Stuff:
    """What a person's bones are made of: factors around 1, `trabecular` the share of mineral in spongy bone."""

    cortex: float = 1.0
    trabecular: float = 0.2
    density: float = 1.0


def tubular(
    canvas: Canvas,
    pose: Pose,
    shape: Shape,
    length_mm: float,
    girth: float,
    epiphysis: Epiphysis,
    stuff: Stuff,
    *,
    unripe: float = 0.0,
    mirror: float = 1.0,
) -> None:
    """Draw a tubular bone.

    Parameters
    ----------
    pose : Pose
        Its zero at the joint of the plate, proximal "up" meaning towards the bone's other end.
    length_mm, girth : float
        Length from joint to joint, and the factor on an adult's widths.
    unripe : float
        How much of both ends is still cartilage, 1 at birth to 0.
    mirror : float
        -1 swaps the two sides.
    """
    half = shape.half_mm * girth
    w = np.arange(-0.5 * half - 0.5, length_mm + 1.0, TABLE_STEP_MM)
    t = np.clip(w / length_mm, 0, 1)
    profile, centres = (np.interp(t, UNIT, table) for table in _profile(shape))
    # A small child's bones are less waisted.
    halves = (profile * (1 - 0.45 * unripe) + 0.45 * unripe * (0.84 - 0.22 * t)) * half
    seen = _seen(w, halves, shape.depth, mirror * half * centres, pose)
    everything = _near(canvas, pose, seen)
    if everything is None:
        return
    level = shape.plate * length_mm * (1 + 0.08 * unripe)
    gap = (0.35 + 0.1 * shape.half_mm) * epiphysis.gap * min(1.0, girth + 0.15)
    bone = _Tubular(shape, epiphysis, stuff, pose, seen, half, length_mm, level, gap, girth, unripe, mirror)
    bump = np.clip(np.minimum((t - 0.1) / 0.22, (0.97 - t) / 0.22), 0, 1)
    bump = bump * bump * (3 - 2 * bump)
    wall = bone.shell + (shape.cortex * stuff.cortex * float(halves.min()) - bone.shell) * bump
    bone.wall, bone.share = _along(wall, seen), _along(stuff.trabecular * (1 - 0.75 * bump), seen)
    # Only the end with the plate is worked out in all its states.
    border = bone.squeeze * (level + 0.6 * half + 1.0)
    for part, plated in ((everything.w <= border, True), (everything.w > border, False)):
        pixels = everything.some(part)
        if pixels.u.size:
            outer, mineral = bone.plated_end(pixels, canvas) if plated else bone.shaft(pixels, -1e3, 1.0)
            flat = canvas.bone_mm.reshape(-1)
            flat[pixels.index] += stuff.density * mineral
            labels = canvas.labels.reshape(-1)
            labels[pixels.index[(outer > 0.5) & (labels[pixels.index] != EPIPHYSIS)]] = SHAFT


@dataclass
class Pixels:
    """Some pixels of a canvas: flat index and coordinates (mm) in a bone's frame, all (n,)."""

    index: np.ndarray
    u: np.ndarray
    w: np.ndarray

    def some(self, which: np.ndarray) -> Pixels:
        return Pixels(self.index[which], self.u[which], self.w[which])


def _near(canvas: Canvas, pose: Pose, seen: Seen) -> Pixels | None:
    """The pixels that see a bone."""
    reach = float(np.max(np.abs(seen.centre) + seen.half)) + 0.5
    w1 = seen.w0 + TABLE_STEP_MM * len(seen.half)
    patch = canvas.patch(pose, (-reach, reach), (seen.w0, w1))
    if patch is None:
        return None
    rows, columns = np.nonzero((np.abs(patch.u) < reach) & (patch.w > seen.w0) & (patch.w < w1))
    index = (rows + patch.rows.start) * canvas.shape[1] + columns + patch.columns.start
    return Pixels(index, patch.u[rows, columns], patch.w[rows, columns])


@dataclass
class _Tubular:
    """One tubular bone under way; lengths in mm, true size."""

    shape: Shape
    epiphysis: Epiphysis
    stuff: Stuff
    pose: Pose
    seen: Seen
    half: float
    length: float
    level: float
    gap: float
    girth: float
    unripe: float
    mirror: float
    wall: np.ndarray = field(default_factory=lambda: np.zeros(0))
    share: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def squeeze(self) -> float:
        """Foreshortening."""
        return float(np.cos(np.radians(self.pose.tilt_deg)))

    @property
    def shell(self) -> float:
        return 0.55 * self.stuff.cortex * (0.6 + 0.4 * self.girth)

    def across(self, pixels: Pixels) -> np.ndarray:
        """Place across the bone relative to its half width there, radial positive."""
        index = self.seen.index(pixels.w)
        wide = np.maximum(self.seen.half, 0.3)
        return self.mirror * (pixels.u - self.seen.centre[index]) / wide[index]

    def shaft(
        self, pixels: Pixels, low: np.ndarray | float, low_round: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Outer path and mineral of the bone beyond a contour."""
        cartilage = self.unripe * (0.35 + 0.02 * self.length)
        end = self.length - cartilage - self.half * _over(self.shape.end, self.across(pixels))
        corner = (low_round, 0.3 * self.half)
        ends = (1.0, 1.0 if self.unripe < 0.5 else 0.6)
        outer, inner = _between(
            self.seen, pixels, low, self.squeeze * end, corner, self.wall, self.shell, ends
        )
        return outer, outer - inner + self.share[self.seen.index(pixels.w)] * inner

    def plated_end(self, pixels: Pixels, canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
        """Outer path and mineral of the end with the plate: open, closing or fused."""
        epiphysis, half, squeeze = self.epiphysis, self.half, self.squeeze
        across = self.across(pixels)
        mineral = np.zeros(pixels.u.shape, np.float32)
        bridge: np.ndarray | float = epiphysis.bridged
        if 0 < epiphysis.bridged < 1:
            bridge = np.clip((1.3 * epiphysis.bridged - 0.15 - np.abs(across)) / 0.3 + 0.5, 0, 1)
        if epiphysis.bridged > 0:
            outer, fused = self.shaft(pixels, squeeze * half * _over(self.shape.joint, across), 0.25 * half)
            line = np.exp(-(((pixels.w - squeeze * (self.level - 0.5 * self.gap)) / 0.55) ** 2))
            left = epiphysis.scar if epiphysis.bridged >= 1 else 1.0
            mineral += bridge * (fused + 0.1 * left * line * outer)
        if epiphysis.bridged < 1:
            curve = 0.06 * half * (1 - epiphysis.cap) + 0.16 * half * epiphysis.cap
            low = squeeze * (self.level + curve * np.clip(across, -1.2, 1.2) ** 4)
            outer, open_ = self.shaft(pixels, low, 0.12 * half)
            open_ += 0.05 * np.exp(-(((pixels.w - low - 0.5) / 0.6) ** 2)) * outer
            if epiphysis.width > 0:
                disc, body = self.disc(pixels)
                open_ = np.maximum(body, open_)
                canvas.labels.reshape(-1)[pixels.index[disc > 0.5]] = EPIPHYSIS
            mineral += (1 - bridge) * open_
        return outer, mineral

    def disc(self, pixels: Pixels) -> tuple[np.ndarray, np.ndarray]:
        """Outer path and mineral of the ossified epiphysis: from a nodule to a disc with the joint's contour."""
        epiphysis, half, shape = self.epiphysis, self.half, self.shape
        at = int(self.seen.index(np.array(self.squeeze * self.level)))
        middle, wide = float(self.seen.centre[at]), epiphysis.width * float(self.seen.half[at])
        ripe = _smooth(epiphysis.width, 0.3, 0.95)
        top = self.level - self.gap
        thick = top * epiphysis.height
        high = top - 0.4 * (top - thick)
        low = high - thick
        reach = 0.4 * half * ripe + 0.1
        w = np.arange(low - reach, high + reach + TABLE_STEP_MM, TABLE_STEP_MM)
        off = np.abs(2 * np.clip((w - low) / thick, 0, 1) - 1)
        halves = wide * ((1 - ripe) * np.sqrt(np.clip(1 - off**2, 0.02, None)) + ripe * (1 - 0.22 * off**5))
        seen = _seen(w, halves, min(1.0, shape.depth + 0.05), middle, self.pose)
        across = self.mirror * (pixels.u - middle) / max(wide, 0.3)
        flat = float(shape.joint(np.zeros(1))[0]) * (1 - ripe)
        joint = self.squeeze * (
            low + ripe * min(1.0, wide / half) * half * (_over(shape.joint, across) - flat)
        )
        curl = 0.16 * half * epiphysis.cap + 0.04 * half * ripe
        top_edge = self.squeeze * (high + curl * np.abs(np.clip(across, -1.2, 1.2)) ** 3)
        corner = (0.22 * half * ripe + 0.15, 0.1 * half * ripe + 0.15)
        outer, inner = _between(seen, pixels, joint, top_edge, corner, self.shell, self.shell, (0.8, 0.8))
        return outer, outer - inner + 1.15 * self.stuff.trabecular * inner


@lru_cache(maxsize=64)
def _profile(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Half widths and offsets of an adult's bone at `UNIT`, in units of its metaphyseal half width."""
    centres = np.broadcast_to(np.array(shape.centres, float), len(shape.levels))
    halves, centres = PchipInterpolator(shape.levels, np.stack([shape.halves, centres], axis=1))(UNIT).T
    return halves, centres


def _seen(w: np.ndarray, halves: np.ndarray, depth: float, centre: np.ndarray | float, pose: Pose) -> Seen:
    """A body of elliptic sections at evenly spaced ``w``, under the angle of its pose; tables in float32."""
    zero = np.zeros(w.shape)
    seen = see(Stack(float(w[0]), zero + centre, zero, halves, halves * depth), pose)
    return Seen(seen.w0, *(table.astype(np.float32) for table in (seen.centre, seen.half, seen.depth)))


def _over(contour: Contour, across: np.ndarray) -> np.ndarray:
    """A contour at each place across, through a table; beyond the edges it goes on as at 1.3 half widths."""
    table = np.asarray(contour(np.linspace(-1.3, 1.3, 521)), np.float32)
    return table[np.clip((across + 1.3) * 200 + 0.5, 0, 520).astype(np.int32)]


def _between(
    seen: Seen, patch: Pixels, low, high, corner, wall, shell, ends
) -> tuple[np.ndarray, np.ndarray]:
    """Paths of the beam through a body between two contours, and through its inside."""
    outer, inner = _path(seen, patch), _path(seen, patch, wall)
    below, above = patch.w - low, high - patch.w
    outer = outer * _rise(below, corner[0]) * _rise(above, corner[1])
    inner = inner * _rise(below - ends[0] * shell, corner[0]) * _rise(above - ends[1] * shell, corner[1])
    return outer, np.minimum(inner, outer)


def _rise(distance: np.ndarray, corner_mm: float) -> np.ndarray:
    t = np.clip(distance * (1 / max(corner_mm, 0.1)), 0, 1)
    return np.sqrt(t * (2 - t))


def _along(table: np.ndarray, seen: Seen) -> np.ndarray:
    """A table over a bone's length, on the levels at which it is seen."""
    n = len(seen.half)
    if len(table) == n:
        return table.astype(np.float32)
    return np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(table)), table).astype(np.float32)


def _path(seen: Seen, pixels: Pixels, inset: np.ndarray | float = 0.0) -> np.ndarray:
    """`Seen.path` at some pixels."""
    return seen.path(Patch(slice(0), slice(0), pixels.u, pixels.w), inset)


def _smooth(value: float, low: float, high: float) -> float:
    t = float(np.clip((value - low) / (high - low), 0, 1))
    return t * t * (3 - 2 * t)


@dataclass(frozen=True)
class Outline:
    """A short bone: radii in mm around its centre over `ANGLES`, and its half depth in mm."""

    centre: tuple[float, float]
    radii: np.ndarray
    half_depth: float


ANGLES = np.linspace(-np.pi, np.pi, 361)


def outline(points: tuple[tuple[float, float], ...], half_depth: float) -> Outline:
    """A smooth outline through points (x, y) in mm, in order round a centre that sees them all."""
    xy = np.array(points)
    nxt = np.roll(xy, -1, axis=0)
    area = xy[:, 0] * nxt[:, 1] - nxt[:, 0] * xy[:, 1]
    centre = ((xy + nxt) * area[:, None]).sum(0) / (3 * area.sum())
    dense = np.concatenate(
        [a + (b - a) * np.linspace(0, 1, 20, endpoint=False)[:, None] for a, b in zip(xy, nxt, strict=True)]
    )
    off = dense - centre
    angle, radius = np.arctan2(off[:, 1], off[:, 0]), np.hypot(off[:, 0], off[:, 1])
    order = np.argsort(angle)
    radii = np.interp(ANGLES, angle[order], radius[order], period=2 * np.pi)
    kernel = np.hanning(31)
    padded = np.concatenate([radii[-31:-1], radii, radii[1:31]])
    radii = np.convolve(padded, kernel / kernel.sum(), "same")[30:-30]
    return Outline((float(centre[0]), float(centre[1])), radii, half_depth)


def short_bone(
    canvas: Canvas,
    pose: Pose,
    shape: Outline,
    girth: float,
    grown: float,
    stuff: Stuff,
    wobble: np.ndarray | float = 0.0,
    weight: float = 1.0,
) -> None:
    """Draw a short bone around the pose's zero.

    Parameters
    ----------
    grown : float
        Linear size / final size: small ones are round nodules, the outline comes with growth.
    wobble : float array like `ANGLES`
        A person's own deviation of the radii, fraction.
    """
    if grown <= 0:
        return
    formed = _smooth(grown, 0.35, 0.92)
    radii = (1 - formed) * 0.93 * shape.radii.mean() + formed * shape.radii * (1 + wobble)
    radii = radii * grown * girth
    reach = float(radii.max()) + 0.5
    patch = canvas.patch(pose, (-reach, reach), (-reach, reach))
    if patch is None:
        return
    index = (np.arctan2(patch.w, patch.u) * (360 / (2 * np.pi)) + 180.5).astype(np.int32)
    edge = radii.astype(np.float32)[np.clip(index, 0, 360)]
    distance = np.hypot(patch.u, patch.w)
    depth = 2 * shape.half_depth * girth * grown
    shell = 0.5 * stuff.cortex * (0.6 + 0.4 * girth)
    outer = depth * _dome(distance / edge)
    inner = max(depth - 2 * shell, 0.0) * _dome(distance / np.maximum(edge - 1.3 * shell, 0.05))
    bone = outer - inner + 1.1 * stuff.trabecular * inner
    canvas.bone_mm[patch.rows, patch.columns] += weight * stuff.density * bone
    canvas.labels[patch.rows, patch.columns][outer > 0.5] = CARPAL


def _dome(s: np.ndarray) -> np.ndarray:
    return np.sqrt(np.clip(1 - s * s * s, 0, 1))
