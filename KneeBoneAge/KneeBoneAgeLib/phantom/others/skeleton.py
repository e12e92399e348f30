"""The drawing kit of the other body parts: bones between two points of a part, seen on the film.

A part is written as tables of an adult's bones in mm and scaled to a child. Part frame, in adult mm: ``x``
across, ``y`` along the limb (down the film when nothing is turned), ``z`` towards the viewer. A bone is a
straight or bowed body between two points; its section is an ellipse whose half axes follow a profile, and
its mineral is the outer body less the marrow. Foreshortened bones keep their mineral.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.ndimage import uniform_filter

from KneeBoneAgeLib.phantom.others.rods import UNIT, Line, Profile, block, curves, look_up, padded
from KneeBoneAgeLib.phantom.solids import Canvas, Pose

Point = tuple[float, float, float] | np.ndarray
"""A point or a direction of the part frame, in adult mm."""
Pair = tuple[float, float]


def size_at(age_years: float) -> float:
    """Length of a limb as a fraction of the adult's, after the usual growth charts of stature."""
    ages = (0, 1, 2, 4, 6, 8, 10, 12, 14, 16, 18)
    return float(
        np.interp(age_years, ages, (0.30, 0.43, 0.50, 0.60, 0.68, 0.75, 0.81, 0.88, 0.95, 0.99, 1.0))
    )


@dataclass(frozen=True)
class Plate:
    """A growth plate and its epiphysis.

    Attributes
    ----------
    height_mm : float
        Height of the adult epiphysis, from the end of the bone to the physis.
    appears, covers, closes : float
        Ages in years at which the centre is first seen, is as wide as the metaphysis, and is fused.
    """

    height_mm: float
    appears: float
    covers: float
    closes: float


def turn(axis: str, degrees: float) -> np.ndarray:
    """Rotation matrix (3, 3) about an axis of the part frame."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array(
        {
            "x": [[1, 0, 0], [0, c, -s], [0, s, c]],
            "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
            "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
        }[axis]
    )


@dataclass
class Part:
    """A body part on its way to a canvas: its layers, its place and its maturity.

    ``matrix`` (3, 3) turns part mm into film mm (x right, y down, z to the viewer), with size and mirroring;
    ``origin`` (3,) is where the part's zero lies. ``girth`` scales widths and ``flesh_girth`` soft tissue.
    ``age_years`` is that of the bones, a little off the child's.
    """

    canvas: Canvas
    rng: np.random.Generator
    age_years: float
    origin: np.ndarray
    matrix: np.ndarray
    size: float
    girth: float
    flesh_girth: float
    density: float
    soft: np.ndarray
    mineral: np.ndarray

    @classmethod
    def placed(cls, canvas: Canvas, rng: np.random.Generator, age_years: float, pose: Pose) -> Part:
        """A part of a child of this age, with its zero at the pose's place."""
        age = float(age_years)
        size = size_at(age) * pose.scale * rng.normal(1, 0.04)
        rotation = turn("z", pose.turn_deg) @ turn("x", pose.tilt_deg) @ turn("y", pose.view_deg)
        if not pose.lateral_right:
            rotation = np.diag([-1.0, 1.0, 1.0]) @ rotation
        chubby = np.interp(age, (0, 1, 4, 9), (1.35, 1.35, 1.12, 1.0)) * rng.uniform(0.9, 1.25)
        return cls(
            canvas,
            rng,
            age + rng.normal(0, 0.05 * min(age, 16) + 0.1),
            np.array([pose.x_mm, pose.y_mm, 0.0]),
            rotation * size,
            size,
            size * np.interp(age, (0, 4, 12), (1.08, 1.02, 1.0)) * rng.normal(1, 0.05),
            size * chubby,
            float(np.interp(age, (0, 6, 18), (0.7, 0.85, 1.0)) * rng.uniform(0.8, 1.15)),
            np.zeros(canvas.shape, np.float32),
            np.zeros(canvas.shape, np.float32),
        )

    def joint(self, at: Point, rotation: np.ndarray | None = None) -> Part:
        """The same part beyond a joint: a frame with its zero ``at`` and turned by ``rotation``."""
        matrix = self.matrix if rotation is None else self.matrix @ rotation
        return replace(self, origin=self.origin + self.matrix @ np.asarray(at, float), matrix=matrix)

    def finish(self, join: bool = False) -> None:
        """Adds the part's layers to the canvas; ``join`` takes the larger path, for parts of one body."""
        blur = max(1, round(4.0 * self.size / self.canvas.spacing_mm))
        soft = uniform_filter(self.soft, blur, mode="nearest")
        combine = np.maximum if join else np.add
        for layer, own in ((self.canvas.soft_mm, soft), (self.canvas.bone_mm, self.mineral)):
            combine(layer, np.maximum(own, 0), out=layer)

    def grown(self, appears: float, full: float) -> float:
        """Size of an ossification centre as a fraction of its final size; 0 before it appears."""
        if self.age_years <= appears:
            return 0.0
        return float(0.25 + 0.75 * min(1.0, (self.age_years - appears) / max(full - appears, 0.1)) ** 0.7)

    def body(
        self,
        a: Point,
        b: Point,
        profile: Profile,
        *,
        caps: Pair = (0.9, 0.9),
        span: Pair = (0.0, 1.0),
        widen: float = 1.0,
        cortex_mm: float | None = None,
        end_cortex_mm: float = 0.7,
        marrow: float = 0.04,
        trabecular: float = 0.2,
        bow_mm: float = 0.0,
        wide: Point = (1.0, 0.0, 0.0),
        flesh: bool = False,
        amount: float = 1.0,
    ) -> None:
        """Draws one body between part points ``a`` and ``b``.

        Parameters
        ----------
        caps : (float, float)
            Length of the rounding of either end as a fraction of the half width there; 1 is round.
        span : (float, float)
            The stretch of the profile that is drawn.
        widen : float
            Factor on the widths.
        cortex_mm : float or None
            Wall of the shaft; None for a short bone with a thin shell all round.
        end_cortex_mm, marrow, trabecular : float
            Wall of the ends, and the share of mineral within the shaft and within the ends.
        bow_mm : float
            Height of a sideways bow.
        wide : 3-vector
            Direction of the section's width in the part frame.
        flesh : bool
            Draws soft tissue: joined with what is there by the larger path, not the sum.
        amount : float
            Share of the path that is added; negative removes (gas).
        """
        start, stop = self.matrix @ np.asarray(a, float), self.matrix @ np.asarray(b, float)
        way = (stop - start).tolist()
        whole = math.hypot(*way)
        length = whole * (span[1] - span[0])
        if length < 0.3:
            return
        ax, ay, az = (v / whole for v in way)
        flat = math.hypot(ax, ay)
        dx, dy = (ax / flat, ay / flat) if flat > 0.05 else (0.0, 1.0)
        # Share of the section's width that lies across the film: the rest is seen as depth.
        wx, wy, wz = (self.matrix @ np.asarray(wide, float)).tolist()
        along = wx * ax + wy * ay + wz * az
        wx, wy, wz = wx - along * ax, wy - along * ay, wz - along * az
        across = (wy * dx - wx * dy) ** 2 / max(wx * wx + wy * wy + wz * wz, 1e-9)

        girth = (self.flesh_girth if flesh else self.girth) * widen
        spacing = self.canvas.spacing_mm
        count = int(min(max(2 * length / spacing, 24), 1200))
        t = span[0] + np.arange(count) * ((span[1] - span[0]) / (count - 1))
        wide_mm, deep_mm = (np.interp(t, UNIT, curve) * girth for curve in curves(profile))
        half = np.sqrt(across * wide_mm**2 + (1 - across) * deep_mm**2) + 1e-3
        depth = 2 * wide_mm * deep_mm / half
        # A foreshortened body is drawn longer than its axis by its own depth, and keeps its volume.
        seen = max(length * flat + float(depth.sum()) / count * (1 - flat), 0.5)
        depth *= length / seen * amount
        bow = bow_mm * self.girth
        middle = 0.5 * (span[0] + span[1])
        x0 = self.origin[0] + start[0] + way[0] * middle - dx * seen / 2
        y0 = self.origin[1] + start[1] + way[1] * middle - dy * seen / 2
        line = Line(float(x0), float(y0), dx, dy, seen, (count - 1) / seen, float(half.max()) + abs(bow))
        if not line.on(self.canvas):
            return

        s = np.arange(count) * (seen / (count - 1))
        rounding = 1 / max(caps[0] * half[0], 0.1), 1 / max(caps[1] * half[-1], 0.1)

        def tables(inset: Any, end_inset: float, share: Any) -> tuple[np.ndarray, np.ndarray]:
            """Squared half width, and path per half width, with the wall and the ends moved inwards."""
            first = np.minimum(np.maximum((s - end_inset) * rounding[0], 0), 1)
            last = np.minimum(np.maximum((s[::-1] - end_inset) * rounding[1], 0), 1)
            h = np.maximum(half - inset, 0)
            return padded(h * h * (first * (2 - first) * last * (2 - last))), padded(depth / half * share)

        outer, inner, bend = tables(0.0, 0.0, 1.0 if flesh else self.density), None, None
        if not flesh:
            shell = end_cortex_mm * self.girth
            wall, share = shell, trabecular
            if cortex_mm is not None:
                in_shaft = np.minimum(np.maximum((np.minimum(t, 1 - t) - 0.08) * 4.5, 0), 1)
                wall = shell + (cortex_mm * self.girth - shell) * in_shaft
                share = trabecular + (marrow - trabecular) * in_shaft
            inner = tables(wall, 0.6 * shell, (1 - share) * self.density)
        if bow:
            bend = padded(bow * 4 * t * (1 - t))
        layer = self.soft if flesh else self.mineral
        for rows, columns, u, index in line.blocks(self.canvas):
            if bend is not None:
                u -= bend.take(index, mode="clip")
            np.multiply(u, u, out=u)
            path = look_up(outer, u, index)
            if inner is not None:
                path -= look_up(inner, u, index)
            area = layer[rows, columns]
            if flesh and amount > 0:
                np.maximum(area, path, out=area)
            else:
                area += path

    def bone(
        self,
        a: Point,
        b: Point,
        profile: Profile,
        *,
        start: Plate | None = None,
        end: Plate | None = None,
        caps: Pair = (0.7, 0.7),
        **look: Any,
    ) -> None:
        """A long bone; its ends as the age has them: cartilage, a centre, an open plate, or fused."""
        length = self.size * float(np.linalg.norm(np.subtract(b, a)))
        cut, blunt = [0.0, 1.0], list(caps)
        for i, plate in enumerate((start, end)):
            if plate is None or self.age_years >= plate.closes:
                continue
            share = plate.height_mm / float(np.linalg.norm(np.subtract(b, a)))
            grown = self.grown(plate.appears, plate.covers)
            gap_mm = np.interp(self.age_years, (0, 6, 13, 17), (2.2, 1.8, 1.4, 1.0))
            gap = float(gap_mm) * min(1.0, 0.08 * plate.height_mm + 0.4) / length
            share = max(share, gap * 1.6)
            # An end whose centre is small is mostly cartilage, so the shaft stops a little further back.
            cut[i] = share if i == 0 else 1 - share
            blunt[i] = 0.16
            if grown == 0:
                continue
            thick = max((share - gap) * (0.35 + 0.65 * grown), 0.4 / length)
            near = (share - gap) - max(share - gap - thick, 0) * (0.5 if grown < 0.6 else 0.2)
            low, high = max(near - thick, 0.0), near
            round_end = (max(caps[i], 1.0 - 0.5 * grown), max(0.2, 0.9 - 0.75 * grown))
            widen = 0.16 + 0.86 * grown
            if i == 1:
                low, high, round_end = 1 - high, 1 - low, round_end[::-1]
            centre = look | {"caps": round_end, "span": (low, high), "widen": widen, "cortex_mm": None}
            self.body(a, b, profile, **centre)
        self.body(a, b, profile, caps=(blunt[0], blunt[1]), span=(cut[0], cut[1]), **look)

    def lump(
        self,
        centre: Point,
        half: tuple[float, float, float],
        *,
        along: Point = (0.0, 1.0, 0.0),
        appears: float = -1.0,
        full: float = 0.0,
        **look: Any,
    ) -> None:
        """A short bone of half sizes (width, length, depth) in mm, ossifying from ``appears`` to ``full``."""
        grown = self.grown(appears, full)
        if grown == 0:
            return
        reach = np.asarray(along, float) * half[1] * grown
        at = np.asarray(centre, float)
        ratio = 0.95 * half[1] / max(min(half[0], half[1] * 2), 0.1)
        self.body(
            at - reach,
            at + reach,
            block(half[0], half[2]),
            widen=grown,
            **({"caps": (min(0.9, ratio), min(0.9, ratio))} | look),
        )

    def flesh(self, a: Point, b: Point, *halves: Pair, caps: Pair = (0.8, 0.8), **look: Any) -> None:
        """Soft tissue through evenly spaced half sizes (width, depth) in mm."""
        t = np.linspace(0, 1, len(halves))
        profile = tuple((float(x), float(w), float(d)) for x, (w, d) in zip(t, halves, strict=True))
        self.body(a, b, profile, caps=caps, flesh=True, **look)

    def arc(self, centre: Point, half: Pair, degrees: Pair, half_width: float, wall_mm: float) -> None:
        """A curved rod along an ellipse around ``centre`` with half axes (x, y), drawn flat, like ribs.

        ``degrees`` (from, to) is the arc, 0 to the right and 90 down the part.
        """
        middle = self.origin + self.matrix @ np.asarray(centre, float)
        basis = self.matrix[:2, :2]
        rx, ry = half
        angles = np.radians(np.linspace(degrees[0], degrees[1], 25))
        points = middle[:2, None] + basis @ np.stack([rx * np.cos(angles), ry * np.sin(angles)])
        hw = half_width * self.size
        spacing = self.canvas.spacing_mm
        c0, r0 = np.maximum(np.floor((points.min(1) - hw) / spacing), 0).astype(int)
        c1, r1 = np.ceil((points.max(1) + hw) / spacing).astype(int) + 1
        r1, c1 = min(r1, self.canvas.shape[0]), min(c1, self.canvas.shape[1])
        if r1 <= r0 or c1 <= c0:
            return
        dx = ((np.arange(c0, c1) + 0.5) * spacing - middle[0]).astype(np.float32)[None, :]
        dy = ((np.arange(r0, r1) + 0.5) * spacing - middle[1]).astype(np.float32)[:, None]
        if abs(np.linalg.det(basis)) < 1e-6:
            return
        inverse = np.linalg.inv(basis).astype(np.float32)
        x, y = inverse[0, 0] * dx + inverse[0, 1] * dy, inverse[1, 0] * dx + inverse[1, 1] * dy
        r = np.sqrt((x / rx) ** 2 + (y / ry) ** 2) + 1e-6
        slope = np.sqrt((x / rx**2) ** 2 + (y / ry**2) ** 2) / r
        off = (r - 1) / slope / half_width
        near = np.flatnonzero(np.abs(off) < 1)
        off = off.ravel()[near]
        turned = np.degrees(np.arctan2((y / ry).ravel()[near], (x / rx).ravel()[near])) - degrees[0]
        turned -= 360 * np.floor(turned / 360)
        ends = np.clip(np.minimum(turned, degrees[1] - degrees[0] - turned) / 3, 0, 1)
        inner = 1 - wall_mm / half_width
        path = np.sqrt(1 - off**2) - 0.85 * inner * np.sqrt(np.maximum(1 - (off / inner) ** 2, 0))
        full = np.zeros((r1 - r0, c1 - c0), np.float32)
        full.ravel()[near] = path * ends * (2 * hw * self.density)
        self.mineral[r0:r1, c0:c1] += full
