"""Solids made of stacked ellipses and their beam paths.

A bone is a stack of elliptical cross-sections along its own axis. An ellipse seen under any angle has a chord in
closed form, so the path of the beam through a bone is exact for parallel rays and costs a table look-up a pixel.
The cone beam enters to first order: each bone is drawn with the angle and the magnification at its own place.

Coordinates. Bone frame, in mm: ``u`` across (lateral positive), depth (posterior positive), ``w`` along the axis
(proximal positive). Film frame, in mm at the detector: ``x`` to the right, ``y`` down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

TABLE_STEP_MM = 0.2
"""Step of the tables along a bone's axis; finer than any pixel that is drawn."""

STRIP_PIXELS, STRIP_ROWS = 20_000, 64
"""About so many pixels, and at most so many rows, are drawn at a time: their arrays stay in the processor's cache."""


@dataclass(frozen=True)
class Stack:
    """Cross-sections along a bone: centre and half axes (mm) at evenly spaced levels ``w``."""

    w0: float
    centre_u: np.ndarray
    centre_depth: np.ndarray
    half_u: np.ndarray
    half_depth: np.ndarray

    @property
    def w1(self) -> float:
        return self.w0 + TABLE_STEP_MM * (len(self.half_u) - 1)


def stack(levels, half_u, half_depth=None, centre_u=0.0, centre_depth=0.0) -> Stack:
    """A smooth stack through control sections.

    Parameters
    ----------
    levels : sequence of float
        Heights ``w`` of the control sections in mm, strictly increasing.
    half_u, half_depth, centre_u, centre_depth : float or sequence
        Values in mm at the levels; ``half_depth`` defaults to ``half_u`` (round sections).
    """
    levels = np.asarray(levels, float)
    w = np.arange(levels[0], levels[-1] + TABLE_STEP_MM, TABLE_STEP_MM)
    w = np.minimum(w, levels[-1])

    half_depth = half_u if half_depth is None else half_depth
    columns = [
        np.broadcast_to(np.asarray(v, float), levels.shape)
        for v in (centre_u, centre_depth, half_u, half_depth)
    ]
    tables = PchipInterpolator(levels, np.stack(columns, axis=1))(w).astype(np.float32)
    return Stack(float(levels[0]), *(np.ascontiguousarray(t) for t in tables.T))


@dataclass(frozen=True)
class Pose:
    """How a bone lies on the film.

    Attributes
    ----------
    x_mm, y_mm : float
        Film position of the bone's origin.
    turn_deg : float
        Rotation in the film plane; positive turns the proximal end to lateral.
    view_deg : float
        Rotation about the bone's axis: 0 is frontal, 90 lateral.
    tilt_deg : float
        Inclination of the axis out of the film plane (flexion seen from the front).
    scale : float
        Magnification.
    lateral_right : bool
        Whether the lateral side lies towards the right of the film.
    """

    x_mm: float
    y_mm: float
    turn_deg: float = 0.0
    view_deg: float = 0.0
    tilt_deg: float = 0.0
    scale: float = 1.0
    lateral_right: bool = True

    def to_film(self, u: float, w: float) -> tuple[float, float]:
        """Film position (x, y) in mm of a point of the bone frame at depth 0."""
        sign = 1.0 if self.lateral_right else -1.0
        angle = np.radians(self.turn_deg)
        across = u * np.cos(angle) + w * np.sin(angle)
        up = -u * np.sin(angle) + w * np.cos(angle)
        return self.x_mm + sign * across * self.scale, self.y_mm - up * self.scale


@dataclass
class Patch:
    """A rectangle of the canvas with the bone coordinates of its pixels (mm)."""

    rows: slice
    columns: slice
    u: np.ndarray
    w: np.ndarray


@dataclass(frozen=True)
class Window:
    """A rectangle of the canvas in a pose: pixel centres ``x`` (lateral) and ``y`` (up) from its origin, in mm."""

    first_row: int
    first_column: int
    x: np.ndarray
    y: np.ndarray
    cos: float
    sin: float

    def patch(self, rows: slice = slice(None), columns: slice = slice(None)) -> Patch:
        """All of the window, or some of its rows and columns (slices with both ends, counted in the window)."""
        rows, columns = slice(*rows.indices(len(self.y))), slice(*columns.indices(len(self.x)))
        x, y = self.x[columns], self.y[rows]
        shape = len(y), len(x)
        return Patch(
            slice(self.first_row + rows.start, self.first_row + rows.stop),
            slice(self.first_column + columns.start, self.first_column + columns.stop),
            np.subtract((x * self.cos)[None, :], (y * self.sin)[:, None], np.empty(shape, np.float32)),
            np.add((x * self.sin)[None, :], (y * self.cos)[:, None], np.empty(shape, np.float32)),
        )

    def edges(self) -> Patch:
        """The outermost pixels in one line, (n,); their place on the canvas is not told."""
        last = slice(-1, None)
        lines = [self.patch(slice(0, 1)), self.patch(last), self.patch(columns=slice(0, 1))]
        lines.append(self.patch(columns=last))
        u, w = (np.concatenate([getattr(line, name).ravel() for line in lines]) for name in "uw")
        return Patch(slice(0), slice(0), u, w)

    def strips(self, seen: Seen) -> Iterator[Patch]:
        """The window from top to bottom in patches that stay in the processor's cache.

        They leave out what lies beside or beyond the solid: there its path is zero.
        """
        pixel = float(abs(self.y[1] - self.y[0])) if len(self.y) > 1 else TABLE_STEP_MM
        left, right = seen.centre - seen.half, seen.centre + seen.half
        reach = float(max(-left.min(), right.max())) + 1.0
        upright = self.cos > 0.3
        across = min(len(self.x), 2 * reach / (self.cos * pixel)) if upright else len(self.x)
        height = int(min(max(STRIP_PIXELS / across, 4), STRIP_ROWS))
        backwards = self.x[-1] < self.x[0]
        ascending = self.x[::-1] if backwards else self.x
        for first in range(0, len(self.y), height):
            rows = slice(first, min(first + height, len(self.y)))
            columns = slice(0, len(self.x))
            if upright:
                ends = self.y[[rows.start, rows.stop - 1]]
                slope = reach * abs(self.sin / self.cos)
                low, high = float(ends.min()) / self.cos - slope, float(ends.max()) / self.cos + slope
                one = max(int((low - seen.w0) / TABLE_STEP_MM) - 2, 0)
                other = int((high - seen.w0) / TABLE_STEP_MM) + 4
                if one >= len(left) or other <= 0:
                    continue
                lean = ends * self.sin
                low = (float(left[one:other].min()) + float(lean.min())) / self.cos - 2 * pixel
                high = (float(right[one:other].max()) + float(lean.max())) / self.cos + 2 * pixel
                one, other = (int(i) for i in np.searchsorted(ascending, (low, high)))
                columns = slice(len(self.x) - other, len(self.x) - one) if backwards else slice(one, other)
            if columns.stop > columns.start:
                yield self.patch(rows, columns)


class Canvas:
    """Beam paths on a regular grid: soft tissue, mineral and metal in mm, and the labels of ossified bone.

    Parameters
    ----------
    rows, columns : int
        Size in pixels; on a canvas without any, what is drawn is told but not seen.
    spacing_mm : float
        Pixel size at the detector.
    """

    def __init__(self, rows: int, columns: int, spacing_mm: float) -> None:
        self.spacing_mm = float(spacing_mm)
        self.shape = (int(rows), int(columns))
        self.soft_mm = np.zeros(self.shape, np.float32)
        self.bone_mm = np.zeros(self.shape, np.float32)
        self.metal_mm = np.zeros(self.shape, np.float32)
        self.labels = np.zeros(self.shape, np.uint8)

    def window(self, pose: Pose, u_range: tuple[float, float], w_range: tuple[float, float]) -> Window | None:
        """The pixels that may see a solid within these ranges of the bone frame; None when all are off the film."""
        corners = np.array([pose.to_film(u, w) for u in u_range for w in w_range]) / self.spacing_mm
        (c0, r0), (c1, r1) = np.floor(corners.min(0)).astype(int) - 1, np.ceil(corners.max(0)).astype(int) + 2
        r0, r1 = max(r0, 0), min(r1, self.shape[0])
        c0, c1 = max(c0, 0), min(c1, self.shape[1])
        if r1 <= r0 or c1 <= c0:
            return None
        x = ((np.arange(c0, c1) + 0.5) * self.spacing_mm - pose.x_mm) / pose.scale
        y = ((np.arange(r0, r1) + 0.5) * self.spacing_mm - pose.y_mm) / -pose.scale
        if not pose.lateral_right:
            x = -x
        angle = np.radians(pose.turn_deg)
        return Window(int(r0), int(c0), x, y, float(np.cos(angle)), float(np.sin(angle)))

    def patch(self, pose: Pose, u_range: tuple[float, float], w_range: tuple[float, float]) -> Patch | None:
        """`window` as one patch."""
        window = self.window(pose, u_range, w_range)
        return None if window is None else window.patch()


@dataclass(frozen=True)
class Chords:
    """Of a stack under a viewing angle: 1 / half width and longest beam path of its sections, in mm."""

    inverse: np.ndarray
    depth: np.ndarray


@dataclass(frozen=True)
class Seen:
    """A stack under a viewing angle: tables over projected height, ready to be looked up."""

    w0: float
    centre: np.ndarray
    half: np.ndarray
    depth: np.ndarray

    def index(self, w: np.ndarray) -> np.ndarray:
        level = (w - self.w0) * (1.0 / TABLE_STEP_MM) + 0.5
        return np.clip(level, 0, len(self.half) - 1).astype(np.intp)

    def chords(self, inset: np.ndarray | float = 0.0) -> Chords:
        """The sections with their wall moved inwards by ``inset`` mm."""
        half = self.half - inset
        alive = half > 1e-3
        inverse = np.where(alive, 1.0 / np.maximum(half, 1e-3), 0.0).astype(np.float32)
        depth = np.where(alive, np.maximum(self.depth - 2 * inset, 0.0), 0.0).astype(np.float32)
        return Chords(inverse, depth)

    def path(self, patch: Patch, inset: np.ndarray | float = 0.0) -> np.ndarray:
        """Beam path in mm through the solid, with its wall moved inwards by ``inset`` mm.

        Outside of the levels of the stack the path is zero.
        """
        return Section(self, patch).path(self.chords(inset))


class Section:
    """A solid at the pixels of a patch.

    Attributes
    ----------
    off : float (rows, columns)
        Distance (mm) from the middle of the section that a pixel sees, lateral positive.
    """

    def __init__(self, seen: Seen, patch: Patch) -> None:
        self._index = seen.index(patch.w)
        self.off = patch.u - seen.centre.take(self._index, mode="clip")
        last = seen.w0 + TABLE_STEP_MM * (len(seen.half) - 1)
        everywhere = patch.w.size and patch.w.min() >= seen.w0 and patch.w.max() <= last
        self._within = None if everywhere else (patch.w >= seen.w0) & (patch.w <= last)

    def path(self, chords: Chords) -> np.ndarray:
        """Beam path in mm through the solid; zero beyond its levels."""
        t = self.off * chords.inverse.take(self._index, mode="clip")
        np.multiply(t, t, out=t)
        np.subtract(1.0, t, out=t)
        np.maximum(t, 0.0, out=t)
        np.sqrt(t, out=t)
        t *= chords.depth.take(self._index, mode="clip")
        if self._within is not None:
            t *= self._within
        return t


def see(solid: Stack, pose: Pose) -> Seen:
    """Project a stack: an ellipse with half axes (a, b) turned by φ has half width √(a²cos²φ + b²sin²φ) = A and
    its longest chord is 2ab/A; its centre moves with depth, sideways by the view and along the axis by the tilt."""
    view, tilt = np.radians(pose.view_deg), np.radians(pose.tilt_deg)
    a, b = solid.half_u, solid.half_depth
    half = np.sqrt((a * np.cos(view)) ** 2 + (b * np.sin(view)) ** 2)
    depth = 2 * a * b / np.maximum(half, 1e-3)
    centre = solid.centre_u * np.cos(view) + solid.centre_depth * np.sin(view)
    if abs(pose.tilt_deg) < 1e-6:
        return Seen(solid.w0, centre, half, depth)
    away = solid.centre_depth * np.cos(view) - solid.centre_u * np.sin(view)
    w = solid.w0 + TABLE_STEP_MM * np.arange(len(half))
    seen_w = np.maximum.accumulate(w * np.cos(tilt) + away * np.sin(tilt)) + 1e-6 * np.arange(len(w))
    grid = np.arange(seen_w[0], seen_w[-1] + TABLE_STEP_MM, TABLE_STEP_MM)

    def again(table: np.ndarray) -> np.ndarray:
        return np.interp(grid, seen_w, table).astype(np.float32)

    return Seen(float(seen_w[0]), again(centre), again(half), again(depth / np.cos(tilt)))


def step(distance_mm: np.ndarray, blur_mm: float) -> np.ndarray:
    """A soft edge: 0 well below zero, 1 well above, linear over ``blur_mm`` around it."""
    return np.clip(distance_mm * (1.0 / max(blur_mm, 1e-3)) + 0.5, 0.0, 1.0)


@dataclass(frozen=True)
class OfDistance:
    """A function of a distance in mm as a table at `TABLE_STEP_MM`, of which the nearest entry is taken."""

    low_mm: float
    values: np.ndarray

    @staticmethod
    def over(function: Callable[[np.ndarray], np.ndarray], distance_mm: np.ndarray) -> OfDistance:
        """Tabulate ``function`` over the range of these distances."""
        low = float(distance_mm.min())
        count = int((float(distance_mm.max()) - low) / TABLE_STEP_MM) + 2
        return OfDistance(low, np.asarray(function(low + TABLE_STEP_MM * np.arange(count)), np.float32))

    def __call__(self, distance_mm: np.ndarray) -> np.ndarray:
        """The function at distances of any shape; beyond its range the outermost entry."""
        level = (distance_mm - self.low_mm) * (1 / TABLE_STEP_MM) + 0.5
        return self.values.take(level.astype(np.intp), mode="clip")
