"""One end of a long bone: shaft and metaphysis, physis, epiphysis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .build import BONE_POINTS, EPIPHYSIS_POINTS
from .pen import Pen
from .solids import TABLE_STEP_MM, OfDistance, Pose, Section, Seen, Stack, see, step

_BARELY = 27.5
"""exp(-x²) is zero in double precision from here on."""

_CALCIFIED, _PLATE = 0.06, 0.05
"""Mineral of the lines on both sides of an open physis, the metaphysis's and the epiphysis's, beside that of cortex. A
physis that has just closed leaves both, one on the other: a line that readers see (SVAD's stage 3)."""


@dataclass(frozen=True)
class LongBone:
    """One end of a long bone; levels are heights ``w`` in mm of its frame.

    Attributes
    ----------
    name, label :
        Of the bone, as in `build.LABELS`.
    proximal : int
        +1 where the shaft lies above the physis, -1 where it lies below.
    shaft : Stack
        Shaft and metaphysis.
    wall_mm : float32 (levels of ``shaft``)
        Thickness of the cortex.
    epiphysis : Stack or None
        Its sections; its end is cut to ``end``.
    level : float
        Of the physis, on the side of the shaft.
    gap_mm : float
        From there to the bone of the epiphysis.
    end_level : float
        Of the joint's end of the epiphysis.
    end : function
        Contour of that end: height in mm towards the physis at u / half width, for arrays of any shape.
    wave_mm : float
        Amplitude of the physis' undulation.
    bridging, scar : float
        Bridged share of the physis, and contrast of the line that remains of it.
    """

    name: str
    label: int
    proximal: int
    shaft: Stack
    wall_mm: np.ndarray
    epiphysis: Stack | None
    level: float
    gap_mm: float
    end_level: float
    end: Callable[[np.ndarray], np.ndarray]
    wave_mm: float
    bridging: float
    scar: float


def draw_long_bone(pen: Pen, bone: LongBone, pose: Pose) -> None:
    """Add the bone to the pen's canvas, and its landmarks to those of the pen."""
    end = _End(pen, bone, pose)
    end.shaft()
    if bone.epiphysis is not None:
        end.epiphysis(bone.epiphysis)


def height_of(seen: Seen, index: int) -> float:
    """Height (mm) of an entry of a projected stack."""
    return seen.w0 + TABLE_STEP_MM * (index % len(seen.half))


class _End:
    """A bone under the angle of its pose; ``plane`` is the level of its physis as the film sees it, in mm."""

    def __init__(self, pen: Pen, bone: LongBone, pose: Pose) -> None:
        self.pen, self.bone, self.pose = pen, bone, pose
        tilt, near = np.radians(pose.tilt_deg), slice(-5, None) if bone.proximal < 0 else slice(5)
        half_depth = float(np.max(bone.shaft.half_depth[near]))
        self.blur = max(pen.blur_mm, 1.6 * half_depth * abs(np.sin(tilt)))
        self.cos = np.cos(tilt)
        self.shift = float(bone.shaft.centre_depth[-1 if bone.proximal < 0 else 0]) * np.sin(tilt)
        self.plane = bone.level * self.cos + self.shift

    def shaft(self) -> None:
        """Shaft and metaphysis, with the calcified line at the physis."""
        pen, bone, blur = self.pen, self.bone, self.blur
        seen = see(bone.shaft, self.pose)
        self._mark_shaft(seen)
        margin = 2.0 + 0.12 * pen.unit
        top = seen.w0 + 0.2 * len(seen.half)
        levels = (bone.level - margin, top) if bone.proximal > 0 else (seen.w0, bone.level + margin)
        window = pen.window(self.pose, seen, levels)
        if window is None:
            return
        wave = OfDistance.over(self._wave, Section(seen, window.edges()).off)
        crest = float(np.abs(wave.values).max())
        whole, marrow = seen.chords(), seen.chords(self._wall(seen))
        plain = max(0.9 * pen.unit, 0.9 + _BARELY * max(0.8, 0.4 * blur)) + crest + 1.0
        line = _CALCIFIED * (1 - bone.bridging) + (_CALCIFIED + _PLATE) * bone.scar
        for patch in window.strips(seen):
            section = Section(seen, patch)
            outer, inner = section.path(whole), section.path(marrow)
            nearest = patch.w.min() if bone.proximal > 0 else patch.w.max()
            if (nearest - self.plane) * bone.proximal > plain:
                pen.add(patch, (outer - inner) + np.float64(0.03) * inner, outer > 1.0, bone.label)
                continue
            beyond = (patch.w - (self.plane + wave(section.off))) * bone.proximal
            away = np.clip(beyond / (0.9 * pen.unit), 0, 1)
            spongy = pen.build.trabecular * (1 - away) ** 1.5 + 0.03
            mask = step(beyond, blur)
            calcified = np.exp(-(((beyond - 0.9) / max(0.8, 0.4 * blur)) ** 2))
            mineral = ((outer - inner) + spongy * inner) * mask
            mineral += line * calcified * outer * min(1.0, 2.0 / blur + 0.3)
            pen.add(patch, mineral, (outer > 1.0) & (mask > 0.5), bone.label)

    def epiphysis(self, solid: Stack) -> None:
        """The epiphysis with its bony plate, and what bridges the physis."""
        pen, bone, build, blur = self.pen, self.bone, self.pen.build, self.blur
        seen = see(solid, self.pose)
        self._mark_epiphysis(seen)
        window = pen.window(self.pose, seen)
        if window is None:
            return
        proximal, width = bone.proximal, float(np.max(seen.half))
        edges = Section(seen, window.edges()).off
        wave = OfDistance.over(self._wave, edges)
        end = OfDistance.over(lambda u: proximal * bone.end(np.clip(u / width, -1.2, 1.2)), edges)
        bridged = OfDistance.over(lambda u: self._bridge(u / max(width, 1.0)), edges)
        round_mm = max(0.2 * bone.gap_mm + 0.45 * abs(bone.end_level - bone.level) * 0.6, 1.5)
        shell = max(0.55 * build.cortex, 0.6 * pen.canvas.spacing_mm)
        whole, marrow = seen.chords(), seen.chords(shell)
        for patch in window.strips(seen):
            section = Section(seen, patch)
            top = (self.plane + wave(section.off) - patch.w) * proximal
            contour = end(section.off)
            contour += bone.end_level * self.cos + self.shift
            below = (patch.w - contour) * proximal
            outer = section.path(whole) * _rounded(below / round_mm)
            inner = np.minimum(section.path(marrow) * _rounded((below - 1.5 * shell) / round_mm), outer)
            in_bone = step(top - bone.gap_mm, blur)
            in_gap = np.clip(step(top, blur) - in_bone, 0, 1)
            bridge = bridged(section.off) if 0 < bone.bridging < 1 else bone.bridging
            presence = in_bone + in_gap * bridge
            plate = np.exp(-(((top - bone.gap_mm - 0.6) / max(0.7, 0.4 * blur)) ** 2)) * (1 - bone.bridging)
            # The bone under the cartilage is denser, in some more than in others.
            under = np.exp(-(((below - 2 * shell) / (0.05 * pen.unit)).clip(0, None) ** 2))
            dense = build.sclerosis * under * inner
            mineral = ((outer - inner) + build.trabecular * 1.1 * inner + 0.6 * dense) * presence
            mineral += _PLATE * plate * outer * in_bone
            pen.add(patch, mineral, (outer > 1.0) & (presence > 0.5), bone.label)

    def _mark_shaft(self, seen: Seen) -> None:
        bone, edge = self.bone, self.plane + 0.04 * self.bone.proximal * self.pen.unit
        at = int(seen.index(np.array(edge)))
        middle, side = float(seen.centre[at]), float(seen.half[at])
        crest = self.plane + float(self._wave(np.zeros(1))[0])
        sides = (crest, crest - bone.proximal * bone.gap_mm)
        points = (
            *((middle + sign * side, edge) for sign in (-1, 1)),
            *((middle, w) for w in (max(sides), min(sides))),
        )
        self._mark(BONE_POINTS, points)

    def _mark_epiphysis(self, seen: Seen) -> None:
        width, widest = float(np.max(seen.half)), int(np.argmax(seen.half))
        middle, level = float(seen.centre[widest]), height_of(seen, widest)
        bottoms = self.bone.proximal * self.bone.end(np.array([-0.55, 0.0, 0.55]))
        bottoms = bottoms + self.bone.end_level * self.cos + self.shift
        points = (
            (middle - width, level),
            (middle + width, level),
            *((middle + s * width, float(w)) for s, w in zip((-0.55, 0.0, 0.55), bottoms, strict=True)),
        )
        self._mark(EPIPHYSIS_POINTS, points)

    def _mark(self, names: tuple[str, ...], points: tuple[tuple[float, float], ...]) -> None:
        named = zip((f"{self.bone.name}_{name}" for name in names), points, strict=True)
        self.pen.mark(self.pose, dict(named))

    def _wall(self, seen: Seen) -> np.ndarray:
        """Thickness of the cortex (mm) at the levels that are seen."""
        wall, count = self.bone.wall_mm, len(seen.half)
        if len(wall) == count:
            return wall
        return np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(wall)), wall).astype(np.float32)

    def _wave(self, u: np.ndarray) -> np.ndarray:
        """Undulation of the physis: central peak, a lobe on each side, and a person's own irregularity."""
        s, amplitude = u / self.pen.unit, self.bone.wave_mm
        k = self.pen.irregular[0 if self.bone.proximal > 0 else 1]
        own = 0.15 * (k[0] * np.sin(9 * s + k[1]) + k[2] * np.sin(15 * s + k[3]))
        arch = np.cos(2 * np.pi * s / 0.56)
        return np.asarray(self.bone.proximal * amplitude * (arch + own * min(1.0, amplitude)), np.float32)

    def _bridge(self, s: np.ndarray) -> np.ndarray:
        """Where the physis is bridged: from the middle outwards, in patches. 0 open, 1 bone."""
        k = self.pen.irregular[2]
        patchy = 0.1 * (k[0] * np.sin(7 * s + k[1]) + k[2] * np.sin(13 * s + k[3]))
        return step(self.bone.bridging * 1.15 - 0.05 - np.abs(s) - patchy, 0.25)


def _rounded(depth: np.ndarray) -> np.ndarray:
    """Share of the full path below a rounded edge, from 0 at depth 0 to 1 at depth 1."""
    rise = np.clip(depth, 0, 1)
    return np.sqrt(rise * (2 - rise))
