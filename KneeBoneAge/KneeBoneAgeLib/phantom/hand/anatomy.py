"""A child's left hand, seen from its back (PA), on a canvas: how it is built, how it lies, and what is drawn.

`Build` is a person's own and says nothing about maturity; `Posture` belongs to one film. Sizes follow growth charts
of stature; proportions of soft tissue are chosen to look plausible.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import uniform_filter

from ..children import Child
from ..grids import CoarseGrid
from ..others.arm import RAYS
from ..solids import TABLE_STEP_MM, Canvas, Pose, Stack, see
from . import shapes
from .bones import ANGLES, Outline, Shape, Stuff, short_bone, tubular
from .maturation import CARPALS, FINGERS, HandMaturity, own_stream

_SIZE_YEARS = (0, 0.5, 1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 18)
_SIZES = {
    "F": (0.335, 0.425, 0.48, 0.55, 0.605, 0.65, 0.725, 0.795, 0.865, 0.935, 0.985, 1.0, 1.0),
    "M": (0.335, 0.42, 0.47, 0.535, 0.585, 0.63, 0.70, 0.765, 0.825, 0.885, 0.945, 0.985, 1.0),
}
ADULT_SIZE = {"F": 0.95, "M": 1.05}
_CARPUS_TOP = 36.0
"""Height of the metacarpals' bases above the wrist joint, adult mm."""

KEY_POINTS: tuple[str, ...] = (
    "radius",
    "ulna",
    *("capitate", "hamate", "lunate", "scaphoid", "trapezium", "triquetrum"),
    *(f"metacarpal_{i}_base" for i in FINGERS),
    *(f"metacarpal_{i}_head" for i in FINGERS),
    *(f"proximal_{i}_base" for i in FINGERS),
    *(f"middle_{i}_base" for i in FINGERS[1:]),
    *(f"distal_{i}_base" for i in FINGERS),
    *(f"distal_{i}_tip" for i in FINGERS),
)
"""Names of the 37 points of a hand: middles of distal joint surfaces of radius and ulna, middles of carpals (where
they are or will be), ends of metacarpals and phalanges. All of them exist at every age."""


@dataclass(frozen=True)
class Build:
    """A person's own hand: sizes in units of the mean adult's, factors around 1."""

    size: float
    girth: float
    flesh: float
    stuff: Stuff
    lengths: np.ndarray  # (5, 4) of each bone of each ray
    angles_deg: np.ndarray  # (5,)
    wobble: np.ndarray  # (8, 361) of the carpal outlines
    texture: float
    ulnar_variance_mm: float
    carpus: float  # height of the wrist / an adult's in proportion, while it is mostly cartilage

    def at(self, point: tuple[float, float]) -> np.ndarray:
        """A point of the adult hand's frame (mm) in this hand, its wrist in proportion."""
        x, y = point
        return (
            np.array([x, _CARPUS_TOP - (_CARPUS_TOP - y) * (self.carpus if y < _CARPUS_TOP else 1.0)])
            * self.size
        )

    @staticmethod
    def of(child: Child) -> Build:
        """The build of a child; the same for all films of one date."""
        rng = own_stream(child, "build")
        years = child.true_bone_age_months / 12
        size = float(np.interp(years, _SIZE_YEARS, _SIZES[child.sex])) * ADULT_SIZE[child.sex]
        size *= child.stature_factor**0.8 * np.exp(rng.normal(0, 0.025))
        age = child.chronological_age_months / 12
        chubby = float(np.interp(age, (0, 1, 3, 8, 14), (1.32, 1.3, 1.15, 1.0, 0.97)))
        waves = rng.normal(0, 1, (8, 2, 3))
        k = np.arange(2, 5)[:, None] * ANGLES
        wobble = (waves[:, 0] @ np.cos(k) + waves[:, 1] @ np.sin(k)) * 0.018
        return Build(
            size=float(size),
            girth=float(size * np.interp(years, (0, 3, 10), (1.18, 1.08, 1.0)) * np.exp(rng.normal(0, 0.05))),
            flesh=float(size * chubby * rng.uniform(0.92, 1.18)),
            stuff=Stuff(
                float(np.clip(rng.normal(1, 0.15), 0.6, 1.4)),
                float(rng.uniform(0.14, 0.28)),
                float(rng.uniform(0.8, 1.2)),
            ),
            lengths=np.exp(rng.normal(0, 0.03, (5, 4))),
            angles_deg=rng.normal(0, 1.5, 5),
            wobble=wobble,
            texture=float(rng.uniform(0.03, 0.09)),
            ulnar_variance_mm=float(rng.normal(0, 1.2)),
            carpus=float(np.interp(years, (0, 2, 9), (0.78, 0.86, 1.0))),
        )


@dataclass(frozen=True)
class Posture:
    """How a hand lies on one film; angles in degrees."""

    turn: float
    wrist: float
    spread: float
    thumb: float
    rays: np.ndarray  # (5,) further turn of each ray
    bend: np.ndarray  # (5, 4) inclination of each bone out of the film
    aside: np.ndarray  # (5, 4) turn of each bone against the one before
    scale: float

    @staticmethod
    def draw(rng: np.random.Generator, age_years: float) -> Posture:
        """Mostly flat with fingers a little spread; small children hold still less well."""
        restless = float(np.interp(age_years, (0, 2, 5), (1.0, 0.5, 0.0)))
        turned = rng.random() < 0.85
        bend = np.abs(rng.normal(0, 4 + 9 * restless, (5, 4))) + np.array([0, 0, 3, 3]) * rng.random()
        if rng.random() < 0.06 + 0.25 * restless:
            bend[1:, 1:] += rng.uniform(5, 25)
        bend[:, 0] *= 0.4
        return Posture(
            turn=float(rng.normal(0, 5) if turned else rng.normal(0, 18)),
            wrist=float(rng.normal(-2, 5)),
            spread=float(rng.uniform(0.7, 1.9)),
            thumb=float(rng.normal(2, 9)),
            rays=rng.normal(0, 2.0, 5),
            bend=np.clip(bend, 0, 50),
            aside=rng.normal(0, 1.8, (5, 4)) * (1 + restless),
            scale=float(rng.uniform(1.01, 1.06)),
        )


@dataclass(frozen=True)
class Limb:
    """One tubular bone in the hand's frame (mm, true size): its proximal end, direction, inclination, length."""

    name: str
    ray: int
    order: int
    base: np.ndarray
    degrees: float
    bend: float
    length_mm: float

    @property
    def tip(self) -> np.ndarray:
        """The distal end (x, y) in mm as it is seen."""
        a = np.radians(self.degrees)
        return self.base + np.array([np.sin(a), np.cos(a)]) * self.length_mm * np.cos(np.radians(self.bend))


_PARTS = ("metacarpal", "proximal", "middle", "distal")


def limbs(build: Build, posture: Posture) -> list[Limb]:
    """Metacarpals and phalanges of the five rays, from the thumb on, each from its base."""
    found = []
    for ray, (base, degrees, lengths, _) in enumerate(RAYS):
        thumb = ray == 0
        angle = degrees + build.angles_deg[ray] * 0.5 + (posture.thumb if thumb else 0.0)
        point = build.at((base[0], base[1] + 0.4))
        parts = ("metacarpal", "proximal", "distal") if thumb else _PARTS
        for order, (part, adult) in enumerate(zip(parts, lengths, strict=True)):
            if order == 1:
                angle = (
                    degrees * (1.0 if thumb else posture.spread) + posture.rays[ray] + build.angles_deg[ray]
                )
                angle += (posture.thumb - 8.0) if thumb else 0.0
            if order > 0:
                angle += posture.aside[ray, order]
            length = adult * build.size * build.lengths[ray, order]
            limb = Limb(f"{part}_{ray + 1}", ray, order, point, angle, posture.bend[ray, order], length)
            found.append(limb)
            a = np.radians(angle)
            point = limb.tip + np.array([np.sin(a), np.cos(a)]) * 1.5 * build.size
    return found


def hand_points(build: Build, posture: Posture) -> dict[str, np.ndarray]:
    """`KEY_POINTS` in mm of the hand's frame."""
    points = dict(zip(("radius", "ulna"), _forearm_joints(build, posture), strict=True))
    points |= {name: build.at(shapes.CARPAL_OUTLINES[name].centre) for name in CARPALS}
    for limb in limbs(build, posture):
        points[f"{limb.name}_base"] = limb.base
        points[f"{limb.name}_{'tip' if limb.name.startswith('distal') else 'head'}"] = limb.tip
    return {name: points[name] for name in KEY_POINTS}


def _forearm_joints(build: Build, posture: Posture) -> tuple[np.ndarray, np.ndarray]:
    """Middles of the joint surfaces of radius and ulna."""
    ulna = build.at(shapes.ULNA_AT) + [0, build.ulnar_variance_mm * build.size]
    return _turned(build.at(shapes.RADIUS_AT), posture.wrist), _turned(ulna, posture.wrist)


def draw_bones(canvas: Canvas, place: Pose, maturity: HandMaturity, build: Build, posture: Posture) -> None:
    """All bones of hand, wrist and distal forearm; ``place`` is the pose of the hand's frame."""
    years = maturity.months["radius"] / 12
    unripe = float(np.interp(years, (0, 2, 8, 14), (1.0, 0.75, 0.3, 0.0)))
    density = build.stuff.density * float(np.interp(years, (0, 4, 15), (0.8, 0.85, 1)))
    stuff = replace(build.stuff, density=density)

    def pose(point: np.ndarray, degrees: float = 0.0, bend: float = 0.0) -> Pose:
        x, y = place.to_film(*point)
        return Pose(x, y, place.turn_deg + degrees, 0.0, bend, place.scale)

    def long_bone(name: str, shape: Shape, length_mm: float, at: Pose, proximal: bool) -> None:
        tubular(canvas, at, shape, length_mm, build.girth, maturity.epiphysis(name), stuff,
                unripe=unripe, mirror=-1.0 if proximal else 1.0)  # fmt: skip

    radius, ulna = (pose(joint, 180.0 + posture.wrist) for joint in _forearm_joints(build, posture))
    long_bone("ulna", shapes.ULNA, shapes.ULNA_MM * build.size, ulna, True)
    long_bone("radius", shapes.RADIUS, shapes.RADIUS_MM * build.size, radius, True)
    for limb in limbs(build, posture):
        # The plate of a metacarpal lies at its head, all others at the base.
        head = limb.order == 0 and limb.ray > 0
        at = pose(limb.tip if head else limb.base, limb.degrees + (180.0 if head else 0.0), limb.bend)
        long_bone(limb.name, _shape(limb), limb.length_mm, at, head)
        if limb.name == "metacarpal_1":
            beside = limb.tip + _unit(limb.degrees - 90) * 6.0 * build.size - _unit(limb.degrees) * build.size
            short_bone(canvas, pose(beside), _SESAMOID, build.girth, maturity.grown("sesamoid"), stuff)
    girth = 1.1 * (build.size * build.girth) ** 0.5
    for i, name in enumerate(CARPALS):
        outline = shapes.CARPAL_OUTLINES[name]
        weight = 0.55 if name == "pisiform" else 1.0
        grown = maturity.grown(name)
        at = pose(build.at(outline.centre))
        short_bone(canvas, at, outline, girth, grown, stuff, wobble=build.wobble[i], weight=weight)
    hook = float(np.clip(maturity.grown("hamate") * 5 - 4, 0, 1))
    short_bone(canvas, pose(build.at(shapes.HOOK_AT)), _HOOK, girth, np.ceil(hook), stuff, weight=0.8 * hook)


_SESAMOID = Outline((0.0, 0.0), np.full(ANGLES.shape, 2.5), 2.2)
_HOOK = Outline(
    (0.0, 0.0), np.hypot(*(np.array(shapes.HOOK_HALF)[:, None] * [np.cos(ANGLES), np.sin(ANGLES)])), 1.6
)


def draw_flesh(canvas: Canvas, place: Pose, build: Build, posture: Posture) -> None:
    """Soft tissue of fingers, palm and forearm: the larger path where they overlap, smoothed at the webs.

    It is worked out on cells of about half a millimetre and interpolated.
    """
    size, flesh = build.size, build.flesh
    mixed = 0.3 * size + 0.7 * flesh
    grid = CoarseGrid(canvas.shape, max(1, int(0.7 * size / canvas.spacing_mm)))
    cells = np.zeros(grid.cells, np.float32)
    coarse = Canvas(0, 0, canvas.spacing_mm * grid.factor)
    coarse.shape, coarse.soft_mm = grid.cells, cells

    def tube(base, degrees, length, halves, caps, depth):
        x, y = place.to_film(*base)
        pose = Pose(x, y, place.turn_deg + degrees, scale=place.scale)
        _flesh(coarse, pose, length, np.array(halves), caps, np.broadcast_to(depth, len(halves)))

    for limb in limbs(build, posture):
        part = limb.name.split("_")[0]
        seen = limb.length_mm * np.cos(np.radians(limb.bend))
        way = _unit(limb.degrees)
        k = (1.2, 1.0, 1.04, 0.98, 0.86)[limb.ray] * flesh
        if limb.order == 0 and limb.ray > 0:
            start, reach = limb.base + 0.35 * seen * way, 0.95 * seen
            tube(
                start,
                limb.degrees,
                reach,
                np.array([10, 13, 13, 10.5]) * mixed,
                (1, 1),
                (0.9, 0.9, 0.85, 0.9),
            )
            continue
        first, middle, last = _FINGER_HALVES[part]
        beyond = 4.2 * flesh if part == "distal" else 0.16 * seen
        caps = (0.6, 0.95 if part == "distal" else 0.5)
        tube(limb.base - 0.14 * seen * way, limb.degrees, 1.14 * seen + beyond,
             np.array([first, middle, last]) * k, caps, 0.9)  # fmt: skip
    bottom = build.at((-4.0, -22.0))
    tube(bottom, -2.0, build.at((-2.0, 98.0))[1] - bottom[1], np.array([27, 27, 28, 32, 36, 39, 37]) * mixed,
         (0.2, 0.5), (0.62, 0.62, 0.6, 0.48, 0.38, 0.31, 0.27))  # fmt: skip
    wrist = _turned(build.at((-5.5, 16.0)), posture.wrist)
    tube(wrist, 180 + posture.wrist, 195 * size, np.array([22, 27, 27, 29, 34, 41]) * mixed, (0.5, 0.05),
         (0.4, 0.62, 0.68, 0.74, 0.78, 0.8))  # fmt: skip
    blur = max(1, round(2.6 * size * place.scale / coarse.spacing_mm))
    smooth = uniform_filter(uniform_filter(cells, blur, mode="nearest"), blur, mode="nearest")
    canvas.soft_mm[:] = grid.rows_of(np.maximum(smooth, 0)).block(0, canvas.shape[0])


_FINGER_HALVES = {
    "metacarpal": (14, 13, 10.5),
    "proximal": (10.6, 9.7, 9.4),
    "middle": (9.3, 8.6, 8.4),
    "distal": (8.3, 8.1, 7.0),
}
"""Half widths of soft tissue at base, middle and end of a bone, adult mm; the metacarpal is the thumb's."""


def _flesh(canvas: Canvas, pose: Pose, length: float, halves: np.ndarray, caps, depth: np.ndarray) -> None:
    """A tube of soft tissue with rounded ends, joined with what is there by the larger path."""
    w = np.arange(0, length + TABLE_STEP_MM, TABLE_STEP_MM, dtype=np.float32)
    knots = np.linspace(0, length, len(halves))
    half = np.interp(w, knots, halves)
    for off, cap in ((w, caps[0] * halves[0]), (length - w, caps[1] * halves[-1])):
        rounded = np.clip(off / max(cap, 0.3), 0, 1)
        half = half * np.sqrt(np.maximum(rounded * (2 - rounded), 0.004))
    deep = half * np.interp(w, knots, depth)
    zero = np.zeros(w.shape, np.float32)
    seen = see(Stack(0.0, zero, zero, half.astype(np.float32), deep.astype(np.float32)), pose)
    reach = float(half.max()) + 1
    patch = canvas.patch(pose, (-reach, reach), (0, length))
    if patch is not None:
        area = canvas.soft_mm[patch.rows, patch.columns]
        np.maximum(area, seen.path(patch), out=area)


def _shape(limb: Limb) -> Shape:
    tables = {
        "metacarpal": shapes.METACARPALS,
        "proximal": shapes.PROXIMAL,
        "middle": shapes.MIDDLE,
        "distal": shapes.DISTAL,
    }
    return tables[limb.name.split("_")[0]][limb.ray]


def _unit(degrees: float) -> np.ndarray:
    a = np.radians(degrees)
    return np.array([np.sin(a), np.cos(a)])


def _turned(point: np.ndarray, degrees: float) -> np.ndarray:
    a = np.radians(degrees)
    x, y = point
    return np.array([x * np.cos(a) + y * np.sin(a), -x * np.sin(a) + y * np.cos(a)])
