"""Whole films of virtual children: which legs lie where on which format, and what else is in the field.

A scene is geometry only (`Canvas`: beam paths and labels) with the truth about its knees; `look.expose` makes a film of
it. Kinds of film: one knee, one knee with the other leg at the edge, both knees standing, long films, laterals, other
parts of the body, and empty ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .anatomy import draw_knee
from .build import Build, KneeTruth, Placing
from .others import draw_foot_and_ankle, draw_hip, draw_holder_hand, draw_other, film_extent_mm
from .solids import Canvas, Section, see, stack
from .texture import add_texture

if TYPE_CHECKING:
    from .maturation import Indicators

FRONTAL_KINDS = ("single", "edge", "bilateral", "long", "leg")
NEGATIVE_KINDS = ("lateral", "other", "empty")
OTHER_WEIGHTS = {
    "hand": 4, "forearm": 2, "elbow": 3, "foot": 3, "ankle": 3, "lower_leg": 1, "hip": 2, "thigh": 1, "shoulder": 1,
    "chest": 0.5, "spine": 0.5,
}  # fmt: skip
"""How often other parts are drawn: most often those that look like a child's knee."""

FORMATS_MM = ((180, 240), (240, 180), (240, 300), (300, 240), (350, 350), (350, 430), (430, 350))
LONG_FORMATS_MM = ((350, 860), (430, 1060), (430, 1290))


@dataclass(frozen=True)
class Scene:
    """A film before exposure.

    Attributes
    ----------
    canvas : Canvas
        Beam paths and labels.
    knees : tuple of KneeTruth
        Frontal knees whose joint lies well inside the field, from the viewer's left to right.
    kind : str
        One of `FRONTAL_KINDS` or `NEGATIVE_KINDS`.
    legs : tuple of Placing
        Where legs lie, for casts and implants.
    """

    canvas: Canvas
    knees: tuple[KneeTruth, ...]
    kind: str
    legs: tuple[Placing, ...] = ()
    unit_mm: float = 60.0


def knee_view(indicators: Indicators, sex_age_months: float, rng: np.random.Generator, pixels: int, right: bool,
              extent: float = 2.9) -> Scene:  # fmt: skip
    """Just the surroundings of one knee, ``extent`` widths wide on ``pixels`` × ``pixels``."""
    build = Build.draw(rng, sex_age_months)
    placing = _knee_placing(rng, 0, 0, not right)
    width = max(1.0, indicators.femur_width_ratio) * indicators.femur_metaphysis_mm * placing.scale
    field = extent * width
    centre = field / 2 + rng.normal(0, 0.03, 2) * width
    canvas = Canvas(pixels, pixels, field / pixels)
    placing = replace(placing, x_mm=float(centre[0]), y_mm=float(centre[1]))
    truth = draw_knee(canvas, indicators, placing, build, rng)
    add_texture(canvas, build.texture, rng)
    return Scene(canvas, (truth,), "single", (placing,), indicators.femur_metaphysis_mm)


def frontal_film(
    indicators: Indicators,
    chronological_age_months: float,
    rng: np.random.Generator,
    kind: str,
    right: bool = True,
    spacing_mm: float | None = None,
    pixels: int | None = None,
    most: float | None = None,
) -> Scene:
    """A frontal film of a child's knee or knees.

    Parameters
    ----------
    kind : {"single", "edge", "bilateral", "long", "leg"}
    right : bool
        Whether the knee is a right one (ignored where both are shown).
    spacing_mm, pixels : float, int
        Pixel size, or the number of pixels of the film's longer side; exactly one of them.
    most : float or None
        A film of more pixels than this is thrown as any other, but its canvas is empty: nothing is drawn.

    Raises
    ------
    ValueError
        When neither or both of ``spacing_mm`` and ``pixels`` are given.
    """
    build = Build.draw(rng, chronological_age_months)
    placing = _knee_placing(rng, 0, 0, not right)
    unit = indicators.femur_metaphysis_mm
    width = max(1.0, indicators.femur_width_ratio) * unit * placing.scale
    field_w, field_h = _field(kind, width, rng)
    canvas = _canvas(field_w, field_h, spacing_mm, pixels, most)
    x, y = _joint_position(kind, width, field_w, field_h, rng)
    legs: list[tuple[Placing, Build]] = [(replace(placing, x_mm=x, y_mm=y), build)]
    if kind in ("bilateral", "long"):
        apart = rng.uniform(1.45, 2.5) * width if kind == "bilateral" else rng.uniform(1.5, 3.0) * width
        apart = min(apart, field_w - 1.25 * width)
        middle = field_w / 2 + rng.normal(0, 0.05) * width
        legs = [_mirror_leg(placing, build, middle, y, apart, width, rng, left) for left in (True, False)]
    elif kind == "edge" or (kind == "single" and rng.random() < 0.15):
        towards = 1 if not right else -1
        gap = rng.uniform(1.5, 2.4) * width
        other = replace(
            _knee_placing(rng, x - towards * gap, y + rng.normal(0, 0.15) * width, right), scale=placing.scale
        )
        outside = -0.15 * width if towards > 0 else field_w + 0.15 * width
        if (other.x_mm - outside) * towards > 0:
            other = replace(other, x_mm=outside - towards * rng.uniform(0, 0.6) * width)
        legs.append((other, _other_leg(build, rng)))
    truths = []
    for leg, body in legs:
        truth = draw_knee(canvas, indicators, leg, body, rng)
        if (
            0.3 * width < leg.x_mm < field_w - 0.3 * width
            and 0.25 * width < leg.y_mm < field_h - 0.25 * width
        ):
            truths.append(truth)
        _far_ends(canvas, leg, body, unit, indicators, field_h, chronological_age_months, rng)
    if rng.random() < (0.35 if chronological_age_months < 48 else 0.03):
        edge = (rng.choice([0.0, field_w]), rng.uniform(0, field_h))
        draw_holder_hand(canvas, rng, near=edge)
    add_texture(canvas, build.texture, rng)
    truths.sort(key=lambda t: t.centre_px[0])
    return Scene(canvas, tuple(truths), kind, tuple(leg for leg, _ in legs), unit)


def lateral_film(indicators: Indicators, chronological_age_months: float, rng: np.random.Generator,
                 pixels: int | None = None, spacing_mm: float | None = None,
                 most: float | None = None) -> Scene:  # fmt: skip
    """A lateral knee, bent by 0 to 100 degrees; nothing on it is to be cropped. Sizes as for `frontal_film`."""
    build = Build.draw(rng, chronological_age_months)
    unit = indicators.femur_metaphysis_mm
    width = max(1.0, indicators.femur_width_ratio) * unit * 1.08
    field_w, field_h = _field("single", width, rng)
    canvas = _canvas(field_w, field_h, spacing_mm, pixels, most)
    placing = Placing(
        rng.uniform(0.3, 0.7) * field_w,
        rng.uniform(0.3, 0.7) * field_h,
        lean_deg=rng.normal(0, 25),
        view_deg=90 + rng.normal(0, 8),
        bend_deg=rng.uniform(5, 100),
        scale=1.08,
        lateral_right=bool(rng.random() < 0.5),
    )
    draw_knee(canvas, indicators, placing, replace(build, valgus_deg=0.0), rng, soft=False)
    for half in (0, 1):
        straight = replace(
            placing,
            bend_deg=0.0,
            lean_deg=placing.lean_deg + (0.5 - half) * placing.bend_deg * _sign(placing),
        )
        _leg_half(canvas, straight, build, unit, upper=half == 0, rng=rng)
    canvas.labels[:] = 0
    add_texture(canvas, build.texture, rng)
    return Scene(canvas, (), "lateral", (placing,), unit)


def other_film(rng: np.random.Generator, age_years: float, pixels: int, kind: str | None = None) -> Scene:
    """Another part of the body, or nothing at all (``kind`` "empty")."""
    aspect = rng.uniform(0.7, 1.4)
    if kind is None:
        kind = str(
            rng.choice(
                list(OTHER_WEIGHTS), p=np.array(list(OTHER_WEIGHTS.values())) / sum(OTHER_WEIGHTS.values())
            )
        )
    extent = 300.0 if kind == "empty" else film_extent_mm(kind, age_years) * rng.uniform(0.65, 1.4)
    rows, columns = (
        (pixels, max(8, round(pixels * aspect))) if aspect < 1 else (max(8, round(pixels / aspect)), pixels)
    )
    canvas = Canvas(rows, columns, extent / pixels)
    if kind == "empty":
        return Scene(canvas, (), "empty")
    draw_other(kind, canvas, rng, age_years)
    canvas.labels[:] = 0
    add_texture(canvas, rng.uniform(0.02, 0.06), rng)
    return Scene(canvas, (), "other")


def _canvas(
    field_w: float, field_h: float, spacing_mm: float | None, pixels: int | None, most: float | None
) -> Canvas:
    """A canvas of this size in mm, by its pixel size or by the pixels of its longer side; empty above ``most``."""
    if spacing_mm is None and pixels is not None:
        spacing_mm = max(field_w, field_h) / pixels
    elif spacing_mm is None or pixels is not None:
        raise ValueError("give either spacing_mm or pixels")
    rows, columns = max(8, round(field_h / spacing_mm)), max(8, round(field_w / spacing_mm))
    return Canvas(0, 0, spacing_mm) if most and rows * columns > most else Canvas(rows, columns, spacing_mm)


def _sign(placing: Placing) -> float:
    return 1.0 if placing.lateral_right else -1.0


def _knee_placing(rng: np.random.Generator, x: float, y: float, lateral_right: bool) -> Placing:
    flexion = rng.normal(0, 3.5)
    return Placing(
        x,
        y,
        lean_deg=float(rng.normal(0, 5) if rng.random() < 0.9 else rng.normal(0, 16)),
        view_deg=float(np.clip(rng.normal(0, 6), -18, 18)),
        femur_tilt_deg=float(np.clip(rng.normal(0, 3) + flexion, -12, 12)),
        tibia_tilt_deg=float(np.clip(rng.normal(2, 3) - flexion, -12, 12)),
        scale=float(rng.uniform(1.03, 1.18)),
        lateral_right=lateral_right,
    )


def _field(kind: str, width: float, rng: np.random.Generator) -> tuple[float, float]:
    """Width and height of the exposed field in mm."""
    if kind == "long":
        field = LONG_FORMATS_MM[rng.integers(len(LONG_FORMATS_MM))]
        shrink = np.clip(width / 70, 0.55, 1.0)
        return field[0] * shrink, field[1] * shrink
    if kind == "leg":
        return width * rng.uniform(3.5, 7.0), width * rng.uniform(7.0, 11.0)
    need = {"single": 1.5, "edge": 2.4, "bilateral": 3.4}[kind] * width
    fits = [f for f in FORMATS_MM if f[0] >= need and f[1] >= 2.2 * width and f[0] <= 6.5 * width]
    field_w, field_h = fits[rng.integers(len(fits))] if fits else (max(need, 180), max(2.4 * width, 240))
    if kind == "single" and rng.random() < 0.4:
        field_w = max(1.5 * width, field_w * rng.uniform(0.5, 1.0))
        field_h = max(2.1 * width, field_h * rng.uniform(0.6, 1.0))
    return float(field_w), float(field_h)


def _joint_position(kind: str, width: float, field_w: float, field_h: float, rng) -> tuple[float, float]:
    if kind in ("long", "leg"):
        x = field_w * (0.5 if kind == "long" else rng.uniform(0.3, 0.7))
        return x, field_h * (rng.uniform(0.38, 0.55) if kind == "long" else rng.uniform(0.12, 0.5))
    spread = 0.09 if rng.random() < 0.75 else 0.22
    x = np.clip(field_w * (0.5 + rng.normal(0, spread)), 0.55 * width, field_w - 0.55 * width)
    y = np.clip(field_h * (0.5 + rng.normal(0, spread)), 0.45 * width, field_h - 0.45 * width)
    return float(x), float(y)


def _mirror_leg(placing, build, middle, y, apart, width, rng, left: bool) -> tuple[Placing, Build]:
    """One of two legs that stand beside each other; the viewer's left is the child's right leg."""
    other = _knee_placing(rng, 0, 0, not left)
    x = middle + (-0.5 if left else 0.5) * apart
    leg = replace(
        other,
        x_mm=float(x),
        y_mm=float(y + rng.normal(0, 0.06) * width),
        lean_deg=float(np.clip(other.lean_deg, -9, 9)),
        scale=placing.scale,
    )
    return leg, _other_leg(build, rng)


def _other_leg(build: Build, rng: np.random.Generator) -> Build:
    """The other leg of the same person: nearly the same build."""
    return replace(
        build,
        condyle_tilt=build.condyle_tilt + rng.normal(0, 0.004),
        valgus_deg=build.valgus_deg + rng.normal(0, 0.8),
        patella_shift=build.patella_shift + rng.normal(0, 0.015),
    )


def _far_ends(canvas, leg: Placing, build: Build, unit, indicators, field_h, age_months, rng) -> None:
    """Hip and ankle where the film is long enough to show them."""
    turn = build.valgus_deg / 2
    tibia = indicators.tibia_metaphysis_mm
    thigh, shank = build.femoral_length * unit, build.tibial_length * tibia
    femur, lower = leg.pose(turn), leg.pose(-turn)
    hip, ankle = femur.to_film(0.0, thigh), lower.to_film(0.0, -shank - 0.3 * tibia)
    years = age_months / 12
    if hip[1] > -0.3 * thigh:
        pose = replace(femur, x_mm=hip[0], y_mm=hip[1])
        draw_hip(canvas, rng, pose, years, shaft_half_mm=indicators.femur_shaft_mm / 2)
    if ankle[1] < field_h + 0.2 * shank:
        pose = replace(lower, x_mm=ankle[0], y_mm=ankle[1])
        draw_foot_and_ankle(
            canvas, rng, pose, years, stub_mm=8.0, tibia_half_mm=indicators.tibia_shaft_mm / 2
        )


def _leg_half(canvas: Canvas, placing: Placing, build: Build, unit: float, upper: bool, rng) -> None:
    """Soft tissue of the thigh or of the shank alone, for a bent knee."""
    z = np.array([-0.55, 0.0, 1.0, 2.5, 4.5, 7.0]) * unit
    shape = (
        np.array([0.5, 0.78, 0.9, 1.15, 1.35, 1.5]) if upper else np.array([0.45, 0.7, 0.82, 0.8, 0.5, 0.45])
    )
    half = shape * unit * build.girth
    if not upper:
        z, half = -z[::-1], half[::-1]
    solid = stack(z, half, half)
    pose = placing.pose()
    seen = see(solid, pose)
    reach, chords = float(half.max()) + 1, seen.chords()
    window = canvas.window(pose, (-reach, reach), (float(z[0]), float(z[-1])))
    for patch in window.strips(seen) if window else ():
        area = canvas.soft_mm[patch.rows, patch.columns]
        np.maximum(area, Section(seen, patch).path(chords), out=area)
