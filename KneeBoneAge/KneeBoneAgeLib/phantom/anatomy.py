"""The knee as solids: femur, tibia, fibula and patella with epiphyses and physes, and the soft tissue around them.

The maturity of a knee comes from `maturation.Indicators`; everything that is a person's own and says nothing about
age (how bones flare, how thick cortex and soft tissue are, how the knee lies) comes from `Build` and `Placing`.

Proportions are in units of the distal femoral metaphysis. They were read off the anatomy in the field's literature
(joint space, notch and eminence, physeal levels); cortical thickness, trabecular density and the size of soft tissue
are not published for the child's knee and were chosen to look plausible.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .solids import TABLE_STEP_MM, Canvas, Patch, Pose, Seen, Stack, of_distance, see, stack, step

if TYPE_CHECKING:
    from .maturation import Indicators

FEMUR, TIBIA, FIBULA, PATELLA = 1, 2, 3, 4
_NAMES = {FEMUR: "femur", TIBIA: "tibia", FIBULA: "fibula"}
LABELS = {"background": 0, "femur": FEMUR, "tibia": TIBIA, "fibula": FIBULA, "patella": PATELLA}

_BONE_POINTS = ("metaphysis_medial", "metaphysis_lateral", "physis_proximal", "physis_distal")
_EPIPHYSIS_POINTS = ("epiphysis_medial", "epiphysis_lateral", "end_medial", "end_middle", "end_lateral")
_PATELLA_POINTS = ("patella_superior", "patella_inferior", "patella_medial", "patella_lateral")
LANDMARKS: tuple[str, ...] = (
    *(
        f"{bone}_{point}"
        for bone in ("femur", "tibia", "fibula")
        for point in _BONE_POINTS + _EPIPHYSIS_POINTS
    ),
    *_PATELLA_POINTS,
)
"""Names of all points that a drawn knee may have; those of an epiphysis without a centre are left out."""

FEMORAL_PHYSIS_LEVEL = 0.43
"""Height of the femoral physis above the joint line in metaphyseal widths; nearly the same at every age because the
cartilage of the epiphysis fills what is not ossified yet."""

TIBIAL_PHYSIS_LEVEL = 0.30
"""The same for the tibia, in tibial metaphyseal widths, while its epiphysis is mostly cartilage."""

FEMORAL_HEIGHT_SHARE, TIBIAL_HEIGHT_SHARE = 0.95, 0.80
"""Central height of the drawn epiphysis over the indicator's ratio, which is that of its highest part."""

CARTILAGE = 0.03
"""What unossified cartilage adds to half of the joint space, in metaphyseal widths, until the epiphysis is formed."""


@dataclass(frozen=True)
class Build:
    """A person's own shape, independent of age: factors around 1 and offsets around 0.

    ``joint_space`` (half of it, where cartilage is mature) and ``notch_depth`` are in metaphyseal widths.
    """

    femoral_flare: float = 1.0
    tibial_flare: float = 1.0
    physis_level: float = 1.0
    condyle_tilt: float = 0.0
    condyle_round: float = 1.0
    notch_width: float = 1.0
    depth: float = 1.0
    cortex: float = 1.0
    trabecular: float = 0.2
    density: float = 1.0
    fibula_offset: float = 1.0
    fibula_head: float = 1.0
    patella_height: float = 0.0
    patella_shift: float = 0.0
    patella_density: float = 0.7
    joint_space: float = 0.022
    notch_depth: float = 0.1
    notch_fill: float = 0.15
    girth: float = 1.0
    fat: float = 0.1
    valgus_deg: float = 5.0
    texture: float = 0.07
    sclerosis: float = 0.1
    femoral_length: float = 5.8
    tibial_length: float = 4.7

    @staticmethod
    def draw(rng: np.random.Generator, chronological_age_months: float | None = None) -> Build:
        """A random person; only the valgus depends on age (peak near 3 y, PMID 26156714)."""
        years = 10.0 if chronological_age_months is None else chronological_age_months / 12
        valgus = 4.5 + 7.5 * np.exp(-(((years - 3.0) / 1.6) ** 2)) - 12.0 * np.exp(-((years / 0.8) ** 2))
        normal, uniform = rng.normal, rng.uniform
        return Build(
            femoral_flare=float(np.clip(normal(1, 0.13), 0.65, 1.4)),
            tibial_flare=float(np.clip(normal(1, 0.15), 0.6, 1.5)),
            physis_level=normal(1, 0.06),
            condyle_tilt=normal(0, 0.015),
            condyle_round=float(np.clip(normal(1, 0.25), 0.4, 1.8)),
            notch_width=float(np.clip(normal(1, 0.18), 0.5, 1.6)),
            depth=normal(1, 0.06),
            cortex=float(np.clip(normal(1.1, 0.3), 0.5, 2.0)),
            trabecular=uniform(0.13, 0.3),
            density=uniform(0.75, 1.25),
            fibula_offset=normal(1, 0.07),
            fibula_head=float(np.clip(normal(1, 0.15), 0.6, 1.5)),
            patella_height=normal(0, 0.07),
            patella_shift=normal(0, 0.04),
            patella_density=uniform(0.35, 1.0),
            joint_space=uniform(0.010, 0.032),
            notch_depth=uniform(0.06, 0.13),
            notch_fill=uniform(0.05, 0.5),
            girth=float(np.clip(normal(1.02, 0.14), 0.75, 1.5)),
            fat=uniform(0.03, 0.2),
            valgus_deg=normal(valgus, 2.5),
            texture=uniform(0.02, 0.1),
            sclerosis=uniform(0.0, 0.3),
            femoral_length=normal(5.8, 0.3),
            tibial_length=normal(4.7, 0.25),
        )


@dataclass(frozen=True)
class Placing:
    """Where a knee lies: joint centre on the film (mm), lean of the limb, view, flexion, magnification, side."""

    x_mm: float
    y_mm: float
    lean_deg: float = 0.0
    view_deg: float = 0.0
    femur_tilt_deg: float = 0.0
    tibia_tilt_deg: float = 0.0
    bend_deg: float = 0.0
    scale: float = 1.08
    lateral_right: bool = True

    def pose(self, turn_deg: float = 0.0, tilt_deg: float = 0.0) -> Pose:
        lean = self.lean_deg if self.lateral_right else -self.lean_deg
        return Pose(
            self.x_mm, self.y_mm, lean + turn_deg, self.view_deg, tilt_deg, self.scale, self.lateral_right
        )


@dataclass(frozen=True)
class KneeTruth:
    """Where a drawn knee is, in pixels of its canvas (x, y; pixel 0 covers [0, 1)).

    ``width_px`` is the wider of metaphysis and ossified condyles; ``angle_deg`` the lean of the limb axis (positive to
    the viewer's right); ``fibula_on_left`` tells the fibula's place in the picture.
    """

    centre_px: tuple[float, float]
    width_px: float
    angle_deg: float
    fibula_on_left: bool
    side: str
    landmarks_px: tuple[tuple[str, float, float], ...] = ()

    def scaled(self, factor: float) -> KneeTruth:
        """The same knee in a picture with ``factor`` times as many pixels."""
        return replace(
            self,
            centre_px=(self.centre_px[0] * factor, self.centre_px[1] * factor),
            width_px=self.width_px * factor,
            landmarks_px=tuple((n, x * factor, y * factor) for n, x, y in self.landmarks_px),
        )

    @property
    def box_px(self) -> tuple[float, float, float, float]:
        """Square of side 2.0 × width around the joint centre: x0, y0, x1, y1."""
        (x, y), w = self.centre_px, self.width_px
        return x - w, y - w, x + w, y + w


def draw_knee(
    canvas: Canvas,
    indicators: Indicators,
    placing: Placing,
    build: Build,
    rng: np.random.Generator,
    soft: bool = True,
) -> KneeTruth:
    """Add one leg around the knee to the canvas and return where the knee is.

    Parameters
    ----------
    canvas : Canvas
        Receives beam paths and labels.
    indicators : Indicators
        Size in mm and maturity of each part.
    soft : bool
        Also add the leg's soft tissue.
    """
    knee = _Knee(canvas, indicators, placing, build, rng)
    if soft:
        knee.soft_tissue()
    knee.femur()
    knee.tibia()
    knee.fibula()
    knee.patella()
    return knee.truth()


class _Knee:
    """Draws the parts of one knee; lengths are in mm of the bone, ``unit`` is the femoral metaphysis."""

    def __init__(self, canvas: Canvas, indicators, placing: Placing, build: Build, rng) -> None:
        self.canvas, self.ind, self.placing, self.build, self.rng = canvas, indicators, placing, build, rng
        self.unit = indicators.femur_metaphysis_mm
        self.tib = indicators.tibia_metaphysis_mm
        half = build.valgus_deg / 2
        bend = placing.bend_deg
        self.femur_pose = placing.pose(half + bend / 2, placing.femur_tilt_deg)
        self.tibia_pose = placing.pose(-half - bend / 2, placing.tibia_tilt_deg)
        self.joint_space = build.joint_space + CARTILAGE * (
            1 - _smooth(indicators.femur_width_ratio, 0.6, 1.05)
        )
        self.frontal = float(np.cos(np.radians(placing.view_deg)) ** 2)
        self.irregular = rng.normal(size=(4, 6)).astype(np.float32)
        self.landmarks: list[tuple[str, float, float]] = []
        self.blur = max(0.45, canvas.spacing_mm / placing.scale)

    def femur(self) -> None:
        ind, build, unit = self.ind, self.build, self.unit
        height = FEMORAL_HEIGHT_SHARE * ind.femur_height_ratio * unit
        level = max(
            FEMORAL_PHYSIS_LEVEL * build.physis_level * unit,
            self.joint_space * unit + height + ind.femur_physis_mm,
        )
        shaft = ind.femur_shaft_mm / 2
        flare = build.femoral_flare
        d = np.array([-0.15, 0.0, 0.06, 0.14, 0.26, 0.42, 0.62, 1.0, 1.7]) * unit
        straight = np.array([0.5, 0.5, 0.487, 0.45, 0.385, 0.325, 0.283, 0.24, 0.0])
        trumpet = np.array([0.5, 0.5, 0.482, 0.427, 0.35, 0.292, 0.258, 0.228, 0.0])
        half = (straight + (trumpet - straight) * _smooth(ind.femur_width_ratio, 0.7, 1.08)) * unit
        half[2:8] = shaft + (half[2:8] - shaft) * flare ** np.array([0.3, 0.6, 1, 1, 1, 1])
        half[8] = shaft
        grown = (ind.femur_width_ratio * unit / 2 - half[1]) * ind.femur_bridging
        half[:5] += grown * np.array([0.98, 0.98, 0.92, 0.75, 0.2])
        length = build.femoral_length * unit
        levels = np.append(level + d, level + max(length, 1.8 * unit))
        half = np.append(np.maximum(half, shaft * 0.98), shaft * 1.05)
        bow = np.append(0.02 * unit * np.exp(-((d / (0.4 * unit)) ** 2)), 0.0) * (1 - ind.femur_bridging)
        depth = np.append(half[:-1] * (0.72 + 0.25 * np.clip(d / unit, 0, 1)), shaft) * build.depth
        centre_depth = np.append(0.08 * unit * np.exp(-np.abs(d) / (0.4 * unit)), 0.0)
        metaphysis = stack(levels, half, depth, -bow, centre_depth)
        wall = self._wall(metaphysis, level, ind.femur_shaft_mm, +1)

        ratio = ind.femur_width_ratio
        top = level - max(ind.femur_physis_mm, 0.13 * unit * max(0.0, 1 - ratio / 0.6))
        bottom = max(top - height, self.joint_space * unit)
        formed = _smooth(ratio, 0.4, 0.95)
        f = np.array([0.0, 0.1, 0.3, 0.5, 0.7, 0.88, 1.0])
        nodule = np.array([0.5, 0.74, 0.94, 1.0, 0.97, 0.84, 0.66])
        condyles = np.array([0.82, 0.865, 0.915, 0.95, 0.98, 1.0, 0.99])
        outline = nodule + (condyles - nodule) * formed
        half_e = outline * ratio * unit / 2
        epiphysis = None
        if ratio > 0.02:
            spread = (top - bottom) * f + bottom
            spread[0] -= 0.5
            spread[-1] = level + 0.05 * unit
            epiphysis = stack(
                spread,
                half_e,
                half_e * (0.72 + 0.1 * formed) * build.depth,
                0.0,
                (0.05 + 0.1 * formed) * unit * ratio,
            )

        def end(s: np.ndarray) -> np.ndarray:
            """Lower contour of the epiphysis above its bottom, at s = u / half width."""
            round_nodule = (1 - np.sqrt(np.clip(1 - s * s, 0, 1))) * 0.45 * (top - bottom)
            notch = (
                build.notch_depth
                * unit
                * np.exp(-((np.abs(s) / (0.25 * build.notch_width)) ** 2.6))
                * self.frontal
            )
            lobe = 0.10 * unit * build.condyle_round * np.clip((np.abs(s) - 0.5) / 0.5, 0, None) ** 2
            lobe = lobe + build.condyle_tilt * unit * s
            return round_nodule * (1 - formed) + (notch + lobe) * formed * min(1.0, ratio)

        self._long_bone(
            FEMUR, self.femur_pose, metaphysis, wall, epiphysis, level, +1, ind.femur_physis_mm,
            level - top, bottom, end, ind.femur_undulation * unit, ind.femur_bridging, ind.femur_scar,
        )  # fmt: skip
        if epiphysis is not None and formed > 0.5:
            self._notch(epiphysis, bottom, formed * ratio)

    def _notch(self, epiphysis: Stack, bottom: float, share: float) -> None:
        """The backs of the condyles, seen through the intercondylar notch: it is never as dark as the joint space."""
        unit, build = self.unit, self.build
        reach = 0.16 * unit * build.notch_width
        seen = see(epiphysis, self.femur_pose)
        patch = self.canvas.patch(self.femur_pose, (-reach, reach), (bottom, bottom + 0.16 * unit))
        if patch is None:
            return
        centre, _ = seen.width_at(patch)
        s = np.abs(patch.u - centre) / (0.5 * self.ind.femur_width_ratio * unit)
        roof = bottom + build.notch_depth * unit * np.exp(-((s / (0.25 * build.notch_width)) ** 2.6))
        inside = step(roof - patch.w, self.blur) * np.clip((patch.w - bottom) / (0.05 * unit), 0, 1)
        fill = build.notch_fill * self.frontal * share * inside
        self.canvas.bone_mm[patch.rows, patch.columns] += (
            build.density * build.trabecular * fill * seen.path(patch)
        )

    def tibia(self) -> None:
        ind, build, unit = self.ind, self.build, self.tib
        height = TIBIAL_HEIGHT_SHARE * ind.tibia_height_ratio * unit
        level = self.tibial_level = -max(
            (TIBIAL_PHYSIS_LEVEL - 0.06 * _smooth(ind.tibia_width_ratio, 0.4, 0.95))
            * build.physis_level
            * unit,
            self.joint_space * self.unit + height + ind.tibia_physis_mm,
        )
        shaft = ind.tibia_shaft_mm / 2
        d = np.array([-0.15, 0.0, 0.07, 0.16, 0.3, 0.46, 0.66, 1.0, 1.5]) * unit
        half = np.array([0.5, 0.5, 0.492, 0.46, 0.385, 0.305, 0.245, 0.205, 0.0]) * unit
        half[2:8] = shaft + (half[2:8] - shaft) * build.tibial_flare ** np.array([0.3, 0.6, 1, 1, 1, 1])
        half[8] = shaft
        grown = (ind.tibia_width_ratio * unit / 2 - half[1]) * ind.tibia_bridging
        half[:4] += grown * np.array([0.97, 0.97, 0.85, 0.4])
        half = np.maximum(half, shaft * 0.95)
        length = max(build.tibial_length * unit, 1.7 * unit)
        levels = level - np.append(d, length)[::-1]
        half = np.append(half, shaft * 0.95)[::-1]
        near = np.append(d, length)[::-1]
        depth = half * (0.74 + 0.35 * np.clip(near / unit, 0, 1)) * build.depth
        lean = 0.03 * unit * np.exp(-((near / (0.6 * unit)) ** 2))
        metaphysis = stack(levels, half, depth, lean, 0.06 * unit * np.exp(-near / unit))
        wall = self._wall(metaphysis, level, ind.tibia_shaft_mm, -1)

        ratio = ind.tibia_width_ratio * (1.03 + 0.03 * ind.tibia_bridging)
        bottom = level + max(ind.tibia_physis_mm, 0.09 * unit * max(0.0, 1 - ratio / 0.6))
        top = min(bottom + height, -self.joint_space * self.unit)
        formed = _smooth(ratio, 0.4, 0.95)
        f = np.array([0.0, 0.12, 0.35, 0.6, 0.8, 0.93, 1.0])
        nodule = np.array([0.7, 0.86, 1.0, 0.97, 0.82, 0.62, 0.4])
        plateau = np.array([0.955, 0.965, 0.98, 0.995, 1.0, 0.985, 0.955])
        half_e = (nodule + (plateau - nodule) * formed) * ratio * unit / 2
        eminence = ind.eminence_ratio * unit * self.frontal
        epiphysis = None
        if ratio > 0.02:
            spread = (top - bottom) * f + bottom
            spread[0] = level - 0.05 * unit
            spread = np.append(spread, top + max(eminence, 0.5) + 1.0)
            half_e = np.append(half_e, half_e[-1])
            epiphysis = stack(spread, half_e, half_e * 0.72 * build.depth, 0.02 * unit, 0.05 * unit * ratio)

        def end(s: np.ndarray) -> np.ndarray:
            round_nodule = (1 - np.sqrt(np.clip(1 - s * s, 0, 1))) * 0.6 * (top - bottom)
            dish = 0.018 * unit * np.cos(np.pi * np.clip((np.abs(s) - 0.55) / 0.4, -1, 1))
            spines = 0.5 * np.exp(-(((s + 0.11) / 0.09) ** 2)) + 0.4 * np.exp(-(((s - 0.13) / 0.09) ** 2))
            spines = spines + 0.5 * np.exp(-((s / 0.24) ** 2))
            edge = 0.03 * unit * np.clip((np.abs(s) - 0.88) / 0.12, 0, 1) ** 2
            return round_nodule * (1 - formed) + (dish + edge - spines * eminence) * formed

        self._long_bone(
            TIBIA, self.tibia_pose, metaphysis, wall, epiphysis, level, -1, ind.tibia_physis_mm,
            bottom - level, top, end, 0.6 * ind.tibia_undulation * unit, ind.tibia_bridging, ind.tibia_scar,
        )  # fmt: skip
        self._tuberosity(level)

    def fibula(self) -> None:
        ind, build, unit = self.ind, self.build, self.unit
        level = self.tibial_level - 7.5 * min(1.0, unit / 50) - 1.0
        offset = 0.5 * unit * build.fibula_offset
        d = np.array([-0.1, 0.0, 0.08, 0.2, 0.35, 0.6, 1.0])
        half = np.array([0.1, 0.098, 0.09, 0.066, 0.053, 0.051, 0.056]) * unit
        head = build.fibula_head * (1 + 0.2 * _smooth(ind.fibula_ratio, 0.5, 1.0))
        half[:4] *= head ** np.array([1.0, 1.0, 0.9, 0.4])
        shift = np.array([0.0, 0.0, 0.0, -0.02, -0.045, -0.07, -0.085])
        length = max((build.tibial_length - 0.1) * self.tib, 1.2 * unit)
        levels = (level - np.append(d * unit, length))[::-1]
        half = np.append(half, 0.065 * unit)[::-1]
        centre = (offset + np.append(shift, -0.06) * unit)[::-1]
        back = 0.2 * unit
        bone = stack(levels, half, half, centre, back)
        wall = self._wall(bone, level, 0.12 * unit, -1)
        height = 0.14 * unit * ind.fibula_ratio
        bottom = level + max(ind.fibula_physis_mm, 0.03 * unit * (1 - ind.fibula_ratio))
        top = bottom + height
        epiphysis = None
        if ind.fibula_ratio > 0.05:
            f = np.array([0.0, 0.2, 0.5, 0.8, 1.0])
            half_e = (
                np.array([0.85, 1.0, 0.95, 0.7, 0.3]) * 0.1 * unit * head * (0.35 + 0.65 * ind.fibula_ratio)
            )
            spread = (top - bottom) * f + bottom
            spread[0] = level - 0.02 * unit
            epiphysis = stack(np.append(spread, top + 1), np.append(half_e, half_e[-1]), None, offset, back)

        def end(s: np.ndarray) -> np.ndarray:
            return 0.5 * (top - bottom) * np.clip(s + 0.3, -1, 1.3) ** 2 * 0.5

        self._long_bone(
            FIBULA, self.tibia_pose, bone, wall, epiphysis, level, -1, ind.fibula_physis_mm,
            bottom - level, top, end, 0.0, ind.fibula_bridging, ind.fibula_scar,
        )  # fmt: skip

    def patella(self) -> None:
        ratio = self.ind.patella_ratio
        if ratio < 0.04:
            return
        unit, build = self.unit, self.build
        centre = (0.47 + build.patella_height) * unit
        reach = 0.275 * unit * (0.15 + 0.85 * ratio)
        f = np.array([-1.0, -0.85, -0.5, 0.0, 0.4, 0.75, 1.0])
        half = np.array([0.12, 0.5, 0.86, 1.0, 0.97, 0.74, 0.2]) * reach * 1.05
        bone = stack(
            centre + f * reach, half, half * 0.42, build.patella_shift * unit + 0.02 * unit, -0.42 * unit
        )
        seen = see(bone, self.femur_pose)
        widest = int(np.argmax(seen.half))
        middle, across, level = float(seen.centre[widest]), float(seen.half[widest]), _height(seen, widest)
        ends = ((middle, _height(seen, -1)), (middle, seen.w0))
        sides = ((middle - across, level), (middle + across, level))
        self._mark(self.femur_pose, dict(zip(_PATELLA_POINTS, ends + sides, strict=True)))
        patch = self._patch(self.femur_pose, seen)
        if patch is None:
            return
        outer, inner = seen.path(patch), seen.path(patch, 0.6 * build.cortex)
        bone = build.patella_density * ((outer - inner) + 1.2 * build.trabecular * inner)
        self._add(patch, bone, outer > 1.0, PATELLA)

    def soft_tissue(self) -> None:
        build, unit = self.build, max(self.unit, 30.0)
        rng = self.rng
        ankle = (build.tibial_length + 0.3) * self.tib
        below = -ankle * np.array([1.0, 0.82, 0.6, 0.36, 0.2])
        z = np.concatenate([below, np.array([-0.3, 0.3, 1.2, 2.6, 4.5, 7.0]) * unit])
        shape = np.array([0.45, 0.44, 0.56, 0.86, 0.8, 0.73, 0.76, 0.9, 1.12, 1.35, 1.5])
        half = shape * unit * build.girth * np.exp(rng.normal(0, 0.03, z.size))
        centre = np.array([0, 0, 0, -0.04, -0.02, 0, -0.02, -0.03, -0.05, -0.08, -0.1]) * unit
        # The shank follows the tibia outwards; the thigh's muscles make up for most of the femur's slant.
        centre += np.abs(z) * np.tan(np.radians(build.valgus_deg / 2)) * np.where(z < 0, 1.0, 0.5)
        skin = stack(z, half, half * rng.uniform(0.9, 1.1), centre, 0.1 * unit)
        pose = self.placing.pose()
        seen, muscle = see(skin, pose), see(self._muscle(skin, unit), pose)
        patch = self._patch(pose, seen)
        if patch is not None:
            area = self.canvas.soft_mm[patch.rows, patch.columns]
            np.maximum(area, 0.9 * seen.path(patch) + 0.13 * muscle.path(patch), out=area)

    def _muscle(self, skin: Stack, unit: float) -> Stack:
        inset = self.build.fat * unit * 0.6
        return Stack(
            skin.w0,
            skin.centre_u,
            skin.centre_depth,
            np.maximum(skin.half_u - inset, 1.0),
            np.maximum(skin.half_depth - inset, 1.0),
        )

    def truth(self) -> KneeTruth:
        placing, spacing = self.placing, self.canvas.spacing_mm
        view = np.radians(placing.view_deg)
        width = max(1.0, self.ind.femur_width_ratio) * self.unit
        seen = width * np.sqrt(np.cos(view) ** 2 + (0.75 * np.sin(view)) ** 2) * placing.scale
        lean = placing.lean_deg
        return KneeTruth(
            centre_px=(placing.x_mm / spacing, placing.y_mm / spacing),
            width_px=float(seen / spacing),
            angle_deg=float(lean),
            fibula_on_left=not placing.lateral_right,
            side="L" if placing.lateral_right else "R",
            landmarks_px=tuple((n, x / spacing, y / spacing) for n, x, y in self.landmarks),
        )

    def _wall(self, solid: Stack, level: float, shaft_mm: float, proximal: int) -> np.ndarray:
        """Cortical thickness in mm along a bone: thick in the shaft, a shell near the physis."""
        w = solid.w0 + 0.2 * np.arange(len(solid.half_u))
        away = np.clip(proximal * (w - level) / (1.1 * self.unit), 0, 1)
        thick = 0.21 * shaft_mm * self.build.cortex
        return (0.6 * self.build.cortex + (thick - 0.6) * away**1.7).astype(np.float32)

    def _mark(self, pose: Pose, points: dict[str, tuple[float, float]]) -> None:
        """Keep landmarks, given as (u, w) of the projected bone in mm."""
        for name, (u, w) in points.items():
            x, y = pose.to_film(u, w)
            self.landmarks.append((name, float(x), float(y)))

    def _patch(self, pose: Pose, seen: Seen) -> Patch | None:
        reach = float(np.max(np.abs(seen.centre) + seen.half)) + 1.0
        film = 1.5 * np.hypot(*self.canvas.shape) * self.canvas.spacing_mm / pose.scale
        low = max(seen.w0, -film)
        high = min(seen.w0 + 0.2 * len(seen.half), film)
        if high <= low:
            return None
        return self.canvas.patch(pose, (-reach, reach), (low, high))

    def _long_bone(
        self, label, pose, metaphysis, wall, epiphysis, level, proximal, physis_mm, gap_mm, end_level, end, wave,
        bridging, scar,
    ) -> None:  # fmt: skip
        """Shaft and metaphysis, physis, epiphysis. ``proximal`` is +1 where the shaft lies above the physis."""
        build, unit = self.build, self.unit
        tilt = np.radians(pose.tilt_deg)
        seen = see(metaphysis, pose)
        if len(seen.half) != len(wall):
            wall = np.interp(np.linspace(0, 1, len(seen.half)), np.linspace(0, 1, len(wall)), wall).astype(
                np.float32
            )
        seen_e = see(epiphysis, pose) if epiphysis is not None else None
        margin = 2.0 + 0.12 * unit
        ranges = (
            (level - margin, seen.w0 + 0.2 * len(seen.half)) if proximal > 0 else (seen.w0, level + margin)
        )
        half_depth = float(np.max(metaphysis.half_depth[-5:] if proximal < 0 else metaphysis.half_depth[:5]))
        blur = max(self.blur, 1.6 * half_depth * abs(np.sin(tilt)))
        shift = float(metaphysis.centre_depth[-1 if proximal < 0 else 0]) * np.sin(tilt)
        plane = level * np.cos(tilt) + shift
        reach = float(np.max(np.abs(seen.centre) + seen.half)) + 1.0
        film = 1.5 * float(np.hypot(*self.canvas.shape)) * self.canvas.spacing_mm / pose.scale
        patch = self.canvas.patch(pose, (-reach, reach), (max(ranges[0], -film), min(ranges[1], film)))
        bone_name = _NAMES[label]
        edge = int(seen.index(np.array(plane + 0.04 * proximal * unit)))
        middle, side = float(seen.centre[edge]), float(seen.half[edge])
        crest = plane + float(self._wave(np.zeros(1), wave, unit, proximal)[0])
        sides = (crest, crest - proximal * gap_mm)
        points = (
            *((middle + sign * side, plane + 0.04 * proximal * unit) for sign in (-1, 1)),
            *((middle, w) for w in (max(sides), min(sides))),
        )
        self._mark(pose, dict(zip((f"{bone_name}_{p}" for p in _BONE_POINTS), points, strict=True)))
        if patch is not None:
            centre, _ = seen.width_at(patch)
            physis = plane + of_distance(lambda u: self._wave(u, wave, unit, proximal), patch.u - centre)
            beyond = (patch.w - physis) * proximal
            outer = seen.path(patch)
            inner = seen.path(patch, wall)
            away = np.clip(beyond / (0.9 * unit), 0, 1)
            marrow = build.trabecular * (1 - away) ** 1.5 + 0.03
            mask = step(beyond, blur)
            calcified = np.exp(-(((beyond - 0.9) / max(0.8, 0.4 * blur)) ** 2))
            open_ = 1 - bridging
            bone = (outer - inner) + marrow * inner
            bone = bone * mask + 0.075 * (open_ * 0.8 + scar * 0.55) * calcified * outer * min(
                1.0, 2.0 / blur + 0.3
            )
            self._add(patch, bone, (outer > 1.0) & (mask > 0.5), label)
        if seen_e is None:
            return
        width = float(np.max(seen_e.half))
        widest = int(np.argmax(seen_e.half))
        middle, level_e = float(seen_e.centre[widest]), _height(seen_e, widest)
        bottoms = proximal * end(np.array([-0.55, 0.0, 0.55])) + end_level * np.cos(tilt) + shift
        points = (
            (middle - width, level_e),
            (middle + width, level_e),
            *((middle + s * width, float(w)) for s, w in zip((-0.55, 0.0, 0.55), bottoms, strict=True)),
        )
        self._mark(pose, dict(zip((f"{bone_name}_{p}" for p in _EPIPHYSIS_POINTS), points, strict=True)))
        patch = self._patch(pose, seen_e)
        if patch is None:
            return
        centre, _ = seen_e.width_at(patch)
        across = patch.u - centre
        physis = plane + of_distance(lambda u: self._wave(u, wave, unit, proximal), across)
        top = (physis - patch.w) * proximal
        contour = of_distance(lambda u: proximal * end(np.clip(u / width, -1.2, 1.2)), across)
        contour += end_level * np.cos(tilt) + shift
        below = (patch.w - contour) * proximal
        round_mm = max(0.2 * gap_mm + 0.45 * abs(end_level - level) * 0.6, 1.5)
        rise = np.clip(below / round_mm, 0, 1)
        rise = np.sqrt(rise * (2 - rise))
        shell = max(0.55 * build.cortex, 0.6 * self.canvas.spacing_mm)
        rise_in = np.clip((below - 1.5 * shell) / round_mm, 0, 1)
        rise_in = np.sqrt(rise_in * (2 - rise_in))
        outer = seen_e.path(patch) * rise
        inner = np.minimum(seen_e.path(patch, shell) * rise_in, outer)
        bridge = (
            of_distance(lambda u: self._bridge(u / max(width, 1.0), bridging), across)
            if 0 < bridging < 1
            else bridging
        )
        in_bone = step(top - gap_mm, blur)
        in_gap = np.clip(step(top, blur) - in_bone, 0, 1)
        presence = in_bone + in_gap * bridge
        plate = np.exp(-(((top - gap_mm - 0.6) / max(0.7, 0.4 * blur)) ** 2)) * (1 - bridging)
        # The bone under the cartilage is denser, in some more than in others.
        dense = build.sclerosis * np.exp(-(((below - 2 * shell) / (0.05 * unit)).clip(0, None) ** 2)) * inner
        bone = ((outer - inner) + build.trabecular * 1.1 * inner + 0.6 * dense) * presence
        bone += 0.05 * plate * outer * in_bone
        self._add(patch, bone, (outer > 1.0) & (presence > 0.5), label)

    def _wave(self, u: np.ndarray, amplitude: float, unit: float, proximal: int) -> np.ndarray:
        """Undulation of the physis: central peak, a lobe on each side, and a person's own irregularity."""
        s = u / unit
        k = self.irregular[0 if proximal > 0 else 1]
        own = 0.15 * (k[0] * np.sin(9 * s + k[1]) + k[2] * np.sin(15 * s + k[3]))
        arch = np.cos(2 * np.pi * s / 0.56)
        return np.asarray(proximal * amplitude * (arch + own * min(1.0, amplitude / 1.0)), np.float32)

    def _bridge(self, s: np.ndarray, bridging: float) -> np.ndarray:
        """Where the physis is bridged: from the middle outwards, in patches. 0 open, 1 bone."""
        k = self.irregular[2]
        patchy = 0.1 * (k[0] * np.sin(7 * s + k[1]) + k[2] * np.sin(13 * s + k[3]))
        return step(bridging * 1.15 - 0.05 - np.abs(s) - patchy, 0.25)

    def _tuberosity(self, level: float) -> None:
        """The tibial tuberosity from the front: a faint shield over the metaphysis with a lucent rim until it fuses."""
        ind, unit = self.ind, self.tib
        if ind.tuberosity < 0.05:
            return
        reach = 0.14 * unit * ind.tuberosity
        centre = level - 0.28 * unit
        f = np.array([-1.0, -0.6, 0.0, 0.6, 1.0])
        half = np.array([0.25, 0.75, 1.0, 0.85, 0.4]) * 0.1 * unit * (0.4 + 0.6 * ind.tuberosity)
        shield = stack(centre + f * reach, half, half * 0.5, 0.03 * unit, -0.36 * unit)
        seen = see(shield, self.tibia_pose)
        patch = self._patch(self.tibia_pose, seen)
        if patch is None:
            return
        path = seen.path(patch)
        rim = np.clip(path / 2.0, 0, 1) * np.clip(1.5 - path / 3.0, 0, 1)
        self.canvas.bone_mm[patch.rows, patch.columns] += (
            self.build.density * (0.16 * path - 0.5 * (1 - ind.tuberosity_fusion) * rim)
        ).clip(-0.6, None)

    def _add(self, patch: Patch, bone, mask, label: int) -> None:
        self.canvas.bone_mm[patch.rows, patch.columns] += self.build.density * bone
        self.canvas.labels[patch.rows, patch.columns][mask] = label


def _height(seen: Seen, index: int) -> float:
    """Height (mm) of an entry of a projected stack."""
    return seen.w0 + TABLE_STEP_MM * (index % len(seen.half))


def _smooth(value: float, low: float, high: float) -> float:
    t = float(np.clip((value - low) / (high - low), 0, 1))
    return t * t * (3 - 2 * t)


_TILE: list[np.ndarray] = []


def add_texture(canvas: Canvas, amount: float, rng: np.random.Generator) -> None:
    """Trabecular structure: bone is multiplied by 1 ± ``amount`` with strands along the limb (upright on the film).

    The pattern is made once at 0.3 mm and averaged down for coarser grids, so its contrast falls as it would.
    """
    if not _TILE:
        from scipy.ndimage import gaussian_filter

        noise = np.random.default_rng(20).normal(size=(1024, 1024))
        strands = gaussian_filter(noise, (2.6, 0.7), mode="wrap")
        patches = gaussian_filter(noise[::-1], (12.0, 9.0), mode="wrap")
        tile = strands / strands.std() + 0.7 * patches / patches.std()
        tile = tile / tile.std()
        while len(tile) >= 64:
            _TILE.append(tile.astype(np.float32))
            n = len(tile) // 2
            tile = tile.reshape(n, 2, n, 2).mean((1, 3))
    tile = _TILE[int(np.clip(round(np.log2(max(canvas.spacing_mm, 0.3) / 0.3)), 0, len(_TILE) - 1))]
    rows, columns = canvas.shape
    r = (np.arange(rows) + rng.integers(len(tile))) % len(tile)
    c = (np.arange(columns) + rng.integers(len(tile))) % len(tile)
    canvas.bone_mm *= 1 + amount * tile[np.ix_(r, c)]
    np.maximum(canvas.bone_mm, 0, out=canvas.bone_mm)
