"""How a virtual hand matures: when each centre of ossification appears, widens, caps its shaft and fuses.

Ages are bone ages in years here and months in what is returned. Where they come from:

- appearance: medians of Garn, Rohmann and Silverman (Med Radiogr Photogr 1967;43:45), as textbooks repeat them;
- order of widening, capping and fusion, and the years they fall in: Greulich and Pyle (1959), Gilsanz and Ratib
  (Hand Bone Age, 2005): distal phalanges fuse first, then proximal and middle ones and metacarpals, ulna and
  radius last, at 17 y in girls and 18 to 19 y in boys;
- stages (centre, disc as wide as the metaphysis, capping, fusion begun, fused): Tanner and Whitehouse (TW2, 1975).

The exact ages of widening, capping and fusion, the course between the milestones and all spreads are chosen.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.interpolate import PchipInterpolator

from ..children import Child
from ..maturation import spread

FINGERS = (1, 2, 3, 4, 5)
TUBULAR = (
    *(f"metacarpal_{i}" for i in FINGERS),
    *(f"proximal_{i}" for i in FINGERS),
    *(f"middle_{i}" for i in FINGERS[1:]),
    *(f"distal_{i}" for i in FINGERS),
)
PLATED = ("radius", "ulna", *TUBULAR)
"""Bones with one epiphysis each."""
CARPALS = ("capitate", "hamate", "triquetrum", "lunate", "scaphoid", "trapezium", "trapezoid", "pisiform")
CENTRES = (*PLATED, *CARPALS, "sesamoid")
"""All that ossifies after birth: an epiphysis goes by the name of its bone."""

GROUP_SD_MONTHS = {"forearm": 3.0, "carpal": 5.0, "metacarpal": 3.0, "phalanx": 3.0}
"""Spread of a group of bones against the hand as a whole, full spread (chosen)."""
OWN_SD_MONTHS = {"forearm": 6.0, "carpal": 8.0, "metacarpal": 5.0, "phalanx": 5.0}
"""Spread of one centre against its group, full spread (chosen)."""

# Median ages of appearance (y): girls, boys.
_APPEARS = {
    "capitate": (0.17, 0.25), "hamate": (0.2, 0.33), "radius": (0.83, 1.1), "triquetrum": (1.75, 2.4),
    "lunate": (2.6, 4.1), "scaphoid": (4.15, 5.7), "trapezium": (4.1, 5.9), "trapezoid": (4.2, 6.25),
    "ulna": (5.35, 7.1), "pisiform": (8.6, 10.8), "sesamoid": (10.1, 12.75),
    "metacarpal_1": (1.6, 2.6), "metacarpal_2": (1.1, 1.6), "metacarpal_3": (1.15, 1.75),
    "metacarpal_4": (1.25, 2.0), "metacarpal_5": (1.35, 2.15),
    "proximal_1": (1.7, 2.9), "proximal_2": (0.9, 1.4), "proximal_3": (0.85, 1.35), "proximal_4": (0.92, 1.5),
    "proximal_5": (1.2, 1.8),
    "middle_2": (1.35, 2.2), "middle_3": (1.25, 2.0), "middle_4": (1.25, 2.1), "middle_5": (1.95, 3.4),
    "distal_1": (1.0, 1.5), "distal_2": (2.1, 3.2), "distal_3": (1.5, 2.4), "distal_4": (1.5, 2.45),
    "distal_5": (2.0, 3.25),
}  # fmt: skip

# Covers its metaphysis, caps it fully, begins to fuse, is fused (y): girls, boys.
_LATER = {
    "radius": ((8.6, 12.4, 15.2, 17.2), (10.5, 14.4, 16.9, 18.6)),
    "ulna": ((10.8, 12.8, 14.7, 16.4), (12.8, 14.8, 16.4, 17.9)),
    "metacarpal_1": ((8.2, 11.6, 13.0, 14.1), (10.4, 13.6, 15.1, 16.1)),
    "metacarpal": ((8.8, 12.0, 13.7, 15.1), (11.0, 14.0, 15.7, 16.9)),
    "proximal": ((7.8, 11.3, 13.3, 14.6), (10.0, 13.4, 15.4, 16.5)),
    "middle": ((8.7, 11.7, 13.5, 14.8), (10.9, 13.8, 15.6, 16.7)),
    "distal": ((8.0, 11.0, 12.7, 13.8), (10.0, 13.1, 14.8, 15.8)),
}
_FULL = {
    "capitate": (11.0, 13.0), "hamate": (11.3, 13.3), "triquetrum": (11.6, 13.6), "lunate": (11.8, 13.8),
    "scaphoid": (12.3, 14.3), "trapezium": (12.2, 14.2), "trapezoid": (12.0, 14.0), "pisiform": (12.3, 14.2),
    "sesamoid": (12.4, 14.6),
}  # fmt: skip

SCAR_YEARS = {"radius": 2.0, "ulna": 1.2}
"""For so long the line of the plate stays after fusion; 0.7 y in the small bones (chosen)."""


@dataclass(frozen=True)
class Milestones:
    """Maturities in months at which a plate's epiphysis appears, covers, caps, begins to fuse and is fused."""

    appears: float
    covers: float
    caps: float
    fusing: float
    fused: float


@dataclass(frozen=True)
class Epiphysis:
    """What is drawn of one growth plate.

    Attributes
    ----------
    width : float
        Ossified width / metaphyseal width; 0 = no centre, 1 = as wide, beyond it caps.
    height : float
        Ossified height / full height of the epiphysis.
    cap : float
        How far its edges reach round the shaft, 0 to 1.
    gap : float
        Thickness of the plate as a fraction of the open one.
    bridged : float
        Share of the plate that is bone; 1 = fused.
    scar : float
        Contrast of the line that is left, 0 to 1.
    """

    width: float
    height: float
    cap: float
    gap: float
    bridged: float
    scar: float


def group_of(centre: str) -> str:
    """The group whose deviation a centre shares: forearm, carpal, metacarpal or phalanx."""
    if centre in ("radius", "ulna"):
        return "forearm"
    if centre in CARPALS:
        return "carpal"
    return "metacarpal" if centre.startswith(("metacarpal", "sesamoid")) else "phalanx"


def milestones(bone: str, sex: str) -> Milestones:
    """Milestones of one of `PLATED`, "F" or "M"."""
    of = 0 if sex == "F" else 1
    later = _LATER.get(bone) or _LATER[bone.split("_")[0]]
    return Milestones(12 * _APPEARS[bone][of], *(12 * year for year in later[of]))


@dataclass(frozen=True)
class HandMaturity:
    """How far each centre of a hand is: `months` by name of `CENTRES`, at one date."""

    sex: str
    months: dict[str, float]

    @staticmethod
    def of(child: Child) -> HandMaturity:
        """The hand of a child: its clock, and deviations from a stream of its own (same for all its films)."""
        rng = own_stream(child, "maturity")
        groups = {name: sd * rng.standard_normal() for name, sd in GROUP_SD_MONTHS.items()}
        clock = child.latent_age_months
        share = float(spread(clock))
        own = {name: OWN_SD_MONTHS[group_of(name)] * rng.standard_normal() for name in CENTRES}
        return HandMaturity(
            child.sex, {name: clock + share * (groups[group_of(name)] + own[name]) for name in CENTRES}
        )

    @staticmethod
    def even(sex: str, months: float) -> HandMaturity:
        """A hand all of whose centres are equally mature, as in an atlas."""
        return HandMaturity(sex, dict.fromkeys(CENTRES, months))

    def epiphysis(self, bone: str) -> Epiphysis:
        """What is drawn of the epiphysis of one of `PLATED`."""
        m, at = self.months[bone], milestones(bone, self.sex)
        if m < at.appears:
            return Epiphysis(0.0, 0.0, 0.0, 1.0, 0.0, 0.0)
        half = at.appears + 0.42 * (at.covers - at.appears)
        cap_width = 1.06 if bone.startswith("metacarpal") or bone == "ulna" else 1.12
        width = _course(m, (at.appears, half, at.covers, at.caps), (0.18, 0.68, 1.0, cap_width))
        height = _course(m, (at.appears, half, at.covers, at.caps), (0.22, 0.55, 0.78, 1.0))
        bridged = float(np.clip((m - at.fusing) / (at.fused - at.fusing), 0, 1))
        scar_months = 12 * SCAR_YEARS.get(bone, 0.7)
        return Epiphysis(
            width,
            height,
            cap=_course(m, (at.covers, at.caps), (0.0, 1.0)),
            gap=_course(m, (at.covers, at.caps, at.fusing), (1.0, 0.7, 0.45)),
            bridged=bridged,
            scar=float(np.clip(1 - (m - at.fused) / scar_months, 0, 1)) if bridged >= 1 else 0.0,
        )

    def grown(self, centre: str) -> float:
        """Linear size of a carpal or the sesamoid / its final size; 0 before it appears."""
        of = 0 if self.sex == "F" else 1
        appears, full = 12 * _APPEARS[centre][of], 12 * _FULL[centre][of]
        m = self.months[centre]
        if m < appears:
            return 0.0
        third = appears + (full - appears) / 3
        return _course(m, (appears, third, full), (0.2, 0.62, 1.0))


def own_stream(child: Child, what: str) -> np.random.Generator:
    """A stream of random numbers of the child's own hand, apart from those of its knee."""
    digest = hashlib.sha256(f"hand/{what}/{child.patient_id}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest[:16], np.uint32))


def _course(m: float, knots: tuple[float, ...], values: tuple[float, ...]) -> float:
    """Monotone course through milestones, constant outside."""
    if len(knots) == 2:
        return float(np.interp(m, knots, values))
    return float(_curve(knots, values)(np.clip(m, knots[0], knots[-1])))


@lru_cache(maxsize=512)
def _curve(knots: tuple[float, ...], values: tuple[float, ...]) -> PchipInterpolator:
    return PchipInterpolator(knots, values)
