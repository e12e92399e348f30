"""The knee as solids: femur, tibia, fibula and patella with epiphyses and physes, and the soft tissue around them.

The maturity of a knee comes from `maturation.Indicators`; everything that is a person's own and says nothing about
age (how bones flare, how thick cortex and soft tissue are, how the knee lies) comes from `Build` and `Placing`.

Proportions are in units of the distal femoral metaphysis. They were read off the anatomy in the field's literature
(joint space, notch and eminence, physeal levels); cortical thickness, trabecular density and the size of soft tissue
are not published for the child's knee and were chosen to look plausible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .build import FEMUR, FIBULA, PATELLA, PATELLA_POINTS, TIBIA, Build, KneeTruth, Placing
from .inner import End, femoral, tibial
from .long_bone import LongBone, draw_long_bone, height_of
from .pen import Pen
from .solids import Canvas, Section, Stack, see, stack, step

if TYPE_CHECKING:
    from .maturation import Indicators

FEMORAL_PHYSIS_LEVEL = 0.43
"""Height of the femoral physis above the joint line in metaphyseal widths; nearly the same at every age because the
cartilage of the epiphysis fills what is not ossified yet."""

TIBIAL_PHYSIS_LEVEL = 0.30
"""The same for the tibia, in tibial metaphyseal widths, while its epiphysis is mostly cartilage."""

FEMORAL_HEIGHT_SHARE, TIBIAL_HEIGHT_SHARE = 0.95, 0.80
"""Central height of the drawn epiphysis over the indicator's ratio, which is that of its highest part."""

CARTILAGE = 0.03
"""What unossified cartilage adds to half of the joint space, in metaphyseal widths, until the epiphysis is formed."""


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
        irregular = rng.normal(size=(4, 6)).astype(np.float32)
        self.pen = Pen(canvas, build, self.unit, placing.scale, irregular)

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
        half[2:8] = shaft + (half[2:8] - shaft) * flare ** np.array([0, 0.6, 1, 1, 1, 1])
        half[8] = shaft
        grown = (ind.femur_width_ratio * unit / 2 - half[1]) * ind.femur_bridging**3
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

        bone = LongBone(
            "femur", FEMUR, +1, metaphysis, wall, epiphysis, level, level - top, bottom, end,
            ind.femur_undulation * unit, ind.femur_bridging, ind.femur_scar,
        )  # fmt: skip
        draw_long_bone(self.pen, bone, self.femur_pose)
        inside = self._inside(FEMUR)
        if inside is not None:
            shape = self._end(self.femur_pose, unit, +1, bottom, level, ratio, formed)
            femoral(shape, inside, build.notch_depth).multiply(self.canvas, self.femur_pose)
        if epiphysis is not None and formed > 0.5:
            self._notch(epiphysis, bottom, formed * ratio)

    def _inside(self, label: int) -> np.random.Generator | None:
        """Random numbers for the inside of a bone, a person's own; None where it is even."""
        seed = self.build.inner_seed
        return None if seed is None else np.random.default_rng((seed, label))

    def _end(self, pose, unit: float, proximal: int, joint: float, physis: float, ratio: float,
             formed: float) -> End:  # fmt: skip
        slant = float(np.sin(np.radians(pose.view_deg))), float(np.sin(np.radians(pose.tilt_deg)))
        cos, shift = float(np.cos(np.radians(pose.tilt_deg))), 0.07 * unit * slant[1]
        half = max(ratio, 0.5) * unit / 2
        ends = joint * cos + shift, physis * cos + shift
        return End(unit, proximal, *ends, half, formed, self.frontal, slant)

    def _notch(self, epiphysis: Stack, bottom: float, share: float) -> None:
        """The backs of the condyles, seen through the intercondylar notch: it is never as dark as the joint space."""
        unit, build = self.unit, self.build
        reach = 0.16 * unit * build.notch_width
        seen = see(epiphysis, self.femur_pose)
        patch = self.canvas.patch(self.femur_pose, (-reach, reach), (bottom, bottom + 0.16 * unit))
        if patch is None:
            return
        section = Section(seen, patch)
        s = np.abs(section.off) / (0.5 * self.ind.femur_width_ratio * unit)
        roof = bottom + build.notch_depth * unit * np.exp(-((s / (0.25 * build.notch_width)) ** 2.6))
        inside = step(roof - patch.w, self.pen.blur_mm) * np.clip((patch.w - bottom) / (0.05 * unit), 0, 1)
        fill = build.notch_fill * self.frontal * share * inside
        self.canvas.bone_mm[patch.rows, patch.columns] += (
            build.density * build.trabecular * fill * section.path(seen.chords())
        )

    def tibia(self) -> None:
        ind, build, unit = self.ind, self.build, self.tib
        # A dome at first, whose middle is its highest part; then a plateau with an eminence.
        formed = _smooth(ind.tibia_width_ratio, 0.5, 1.0)
        height = (1 - (1 - TIBIAL_HEIGHT_SHARE) * formed) * ind.tibia_height_ratio * unit
        level = self.tibial_level = -max(
            (TIBIAL_PHYSIS_LEVEL - 0.06 * _smooth(ind.tibia_width_ratio, 0.4, 0.95))
            * build.physis_level
            * unit,
            self.joint_space * self.unit + height + ind.tibia_physis_mm,
        )
        shaft = ind.tibia_shaft_mm / 2
        d = np.array([-0.15, 0.0, 0.07, 0.16, 0.3, 0.46, 0.66, 1.0, 1.5]) * unit
        half = np.array([0.5, 0.5, 0.492, 0.46, 0.385, 0.305, 0.245, 0.205, 0.0]) * unit
        half[2:8] = shaft + (half[2:8] - shaft) * build.tibial_flare ** np.array([0, 0.6, 1, 1, 1, 1])
        half[8] = shaft
        grown = (ind.tibia_width_ratio * unit / 2 - half[1]) * ind.tibia_bridging**3
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

        bone = LongBone(
            "tibia", TIBIA, -1, metaphysis, wall, epiphysis, level, bottom - level, top, end,
            0.6 * ind.tibia_undulation * unit, ind.tibia_bridging, ind.tibia_scar,
        )  # fmt: skip
        draw_long_bone(self.pen, bone, self.tibia_pose)
        inside = self._inside(TIBIA)
        if inside is not None:
            shape = self._end(self.tibia_pose, unit, -1, top, level, ratio, formed)
            tibial(shape, inside).multiply(self.canvas, self.tibia_pose)
        self._tuberosity(level)

    def fibula(self) -> None:
        ind, build, unit = self.ind, self.build, self.unit
        # The grown head lies lower than the growing one.
        drop = build.fibula_drop + 0.045 * ind.fibula_bridging
        level = self.tibial_level - 6.0 * min(1.0, unit / 50) - 1.0 - drop * unit
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
        shaft = stack(levels, half, half, centre, back)
        wall = self._wall(shaft, level, 0.12 * unit, -1)
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

        bone = LongBone(
            "fibula", FIBULA, -1, shaft, wall, epiphysis, level, bottom - level, top, end,
            0.0, ind.fibula_bridging, ind.fibula_scar,
        )  # fmt: skip
        draw_long_bone(self.pen, bone, self.tibia_pose)

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
        middle, across, level = float(seen.centre[widest]), float(seen.half[widest]), height_of(seen, widest)
        ends = ((middle, height_of(seen, -1)), (middle, seen.w0))
        sides = ((middle - across, level), (middle + across, level))
        self.pen.mark(self.femur_pose, dict(zip(PATELLA_POINTS, ends + sides, strict=True)))
        whole, marrow = seen.chords(), seen.chords(0.6 * build.cortex)
        core = seen.chords(0.6 * build.cortex + 0.035 * unit)
        for patch in self.pen.strips(self.femur_pose, seen):
            section = Section(seen, patch)
            outer, inner = section.path(whole), section.path(marrow)
            rim = build.patella_rim * (inner - section.path(core))
            mineral = build.patella_density * ((outer - inner) + 1.2 * build.trabecular * inner + rim)
            self.pen.add(patch, mineral, outer > 1.0, PATELLA)

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
        # Skin and muscle have the same middle, so that their sections lie at the same pixels.
        seen, muscle = see(skin, pose), see(self._muscle(skin, unit), pose)
        around, within = seen.chords(), muscle.chords()
        for patch in self.pen.strips(pose, seen):
            section = Section(seen, patch)
            path = section.path(around)
            path *= 0.9
            path += 0.13 * section.path(within)
            area = self.canvas.soft_mm[patch.rows, patch.columns]
            np.maximum(area, path, out=area)

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
            landmarks_px=tuple((n, x / spacing, y / spacing) for n, x, y in self.pen.landmarks),
        )

    def _wall(self, solid: Stack, level: float, shaft_mm: float, proximal: int) -> np.ndarray:
        """Cortical thickness in mm along a bone: thick in the shaft, a shell near the physis."""
        w = solid.w0 + 0.2 * np.arange(len(solid.half_u))
        away = np.clip(proximal * (w - level) / (1.1 * self.unit), 0, 1)
        thick = 0.21 * shaft_mm * self.build.cortex
        return (0.6 * self.build.cortex + (thick - 0.6) * away**1.7).astype(np.float32)

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
        chords = seen.chords()
        for patch in self.pen.strips(self.tibia_pose, seen):
            path = Section(seen, patch).path(chords)
            rim = np.clip(path / 2.0, 0, 1) * np.clip(1.5 - path / 3.0, 0, 1)
            self.canvas.bone_mm[patch.rows, patch.columns] += (
                self.build.density * (0.16 * path - 0.5 * (1 - ind.tuberosity_fusion) * rim)
            ).clip(-0.6, None)


def _smooth(value: float, low: float, high: float) -> float:
    t = float(np.clip((value - low) / (high - low), 0, 1))
    return t * t * (3 - 2 * t)
