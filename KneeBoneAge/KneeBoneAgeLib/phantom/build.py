"""Who a person is, how its knee lies, and the truth about a drawn knee.

`Build` and `Placing` are a person's own and a film's own and say nothing about age; what does is
`maturation.Indicators`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .solids import Pose

FEMUR, TIBIA, FIBULA, PATELLA = 1, 2, 3, 4
LABELS = {"background": 0, "femur": FEMUR, "tibia": TIBIA, "fibula": FIBULA, "patella": PATELLA}

BONE_POINTS = ("metaphysis_medial", "metaphysis_lateral", "physis_proximal", "physis_distal")
EPIPHYSIS_POINTS = ("epiphysis_medial", "epiphysis_lateral", "end_medial", "end_middle", "end_lateral")
PATELLA_POINTS = ("patella_superior", "patella_inferior", "patella_medial", "patella_lateral")
LANDMARKS: tuple[str, ...] = (
    *(f"{bone}_{point}" for bone in ("femur", "tibia", "fibula") for point in BONE_POINTS + EPIPHYSIS_POINTS),
    *PATELLA_POINTS,
)
"""Names of all points that a drawn knee may have; those of an epiphysis without a centre are left out."""


@dataclass(frozen=True)
class Build:
    """A person's own shape, independent of age: factors around 1 and offsets around 0.

    ``joint_space`` (half of it, where cartilage is mature), ``notch_depth`` and ``fibula_drop`` are in metaphyseal
    widths. ``inner_seed`` decides what the insides of the bones show (`inner`); None leaves them even.
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
    fibula_drop: float = 0.05
    patella_rim: float = 0.0
    inner_seed: int | None = None

    @staticmethod
    def draw(rng: np.random.Generator, chronological_age_months: float | None = None) -> Build:
        """A random person; only the valgus depends on age (peak near 3 y, PMID 26156714)."""
        years = 10.0 if chronological_age_months is None else chronological_age_months / 12
        valgus = 4.5 + 7.5 * np.exp(-(((years - 3.0) / 1.6) ** 2)) - 12.0 * np.exp(-((years / 0.8) ** 2))
        normal, uniform = rng.normal, rng.uniform
        own = rng.spawn(1)[0]  # Leaves the numbers that the film is drawn with as they are.
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
            fibula_offset=float(np.clip(normal(1, 0.1), 0.78, 1.22)),
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
            fibula_drop=own.normal(0.05, 0.035),
            patella_rim=own.uniform(0.0, 0.3),
            inner_seed=int(own.integers(2**32)),
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
