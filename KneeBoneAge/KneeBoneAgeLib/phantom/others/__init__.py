"""Everything that is not a frontal knee: other body parts, and what else lies on films with knees.

>>> canvas = Canvas(300, 300, 1.0)
>>> draw_other("hand", canvas, np.random.default_rng(0), age_years=6.5)

Parts are added to ``canvas.soft_mm`` and ``canvas.bone_mm``; the labels stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from KneeBoneAgeLib.phantom.others import arm, hip, leg, trunk
from KneeBoneAgeLib.phantom.others.skeleton import Part, size_at
from KneeBoneAgeLib.phantom.solids import Canvas, Pose


@dataclass(frozen=True)
class Kind:
    """How a part is drawn and how it is placed when nobody says so.

    Attributes
    ----------
    draw : callable
        Takes the placed part.
    length_mm, centre_mm : float
        Extent of an adult's part on a usual film, and how far its middle lies along ``y`` from its zero.
    turns : tuple of float
        Spread of the turn in the film plane in degrees; 180 is any.
    lateral : float
        Share of lateral views.
    """

    draw: Callable[[Part], None]
    length_mm: float
    centre_mm: float = 0.0
    turns: float = 10.0
    lateral: float = 0.0


KINDS: dict[str, Kind] = {
    "hand": Kind(arm.draw_hand, 230, 55, 180),
    "forearm": Kind(arm.draw_forearm, 330, 0, 180),
    "elbow": Kind(arm.draw_elbow, 220, 0, 180, 0.5),
    "foot": Kind(leg.draw_foot, 270, 0, 30, 0.4),
    "ankle": Kind(leg.draw_ankle, 260, -20, 15, 0.4),
    "lower_leg": Kind(leg.draw_lower_leg, 380, 0, 15, 0.3),
    "hip": Kind(hip.draw_hip_film, 380, -20, 5),
    "thigh": Kind(hip.draw_thigh, 400, 0, 15),
    "shoulder": Kind(trunk.draw_shoulder, 280, 0, 12),
    "chest": Kind(trunk.draw_chest, 400, 0, 5),
    "spine": Kind(trunk.draw_spine, 380, 0, 5),
}


def film_extent_mm(kind: str, age_years: float) -> float:
    """Length in mm of film that usually holds the part at this age: a guide for the canvas."""
    return KINDS[kind].length_mm * size_at(age_years) * 1.2


def draw_other(
    kind: str, canvas: Canvas, rng: np.random.Generator, age_years: float, pose: Pose | None = None
) -> None:
    """Adds a part that is not a knee to a canvas.

    Parameters
    ----------
    kind : str
        One of ``KINDS``.
    canvas : Canvas
        The part has its true size on it; what reaches beyond the canvas is cut.
    age_years : float
        Age of the child (0 to adult): sets size and ossification.
    pose : Pose or None
        Place of the part's zero, view and magnification; ``w`` (proximal) is up at turn 0. None: at random.

    Raises
    ------
    KeyError
        For an unknown kind.
    """
    entry = KINDS[kind]
    if pose is None:
        lateral = rng.random() < entry.lateral
        turn_deg = rng.uniform(-180, 180) if entry.turns >= 180 else rng.normal(0, entry.turns)
        view = rng.normal(90 if lateral else 0, 6)
        height, width = (n * canvas.spacing_mm for n in canvas.shape)
        scale = rng.uniform(1.0, 1.12)
        reach = entry.centre_mm * size_at(age_years) * scale
        pose = Pose(
            width * rng.normal(0.5, 0.09),
            height * rng.normal(0.5, 0.09),
            turn_deg,
            view,
            rng.normal(0, 5),
            scale,
            bool(rng.random() < 0.5),
        )
        x, y = pose.to_film(0, -reach / scale)
        pose = Pose(
            2 * pose.x_mm - x, 2 * pose.y_mm - y, turn_deg, view, pose.tilt_deg, scale, pose.lateral_right
        )
    part = Part.placed(canvas, rng, age_years, pose)
    entry.draw(part)
    part.finish()


def draw_holder_hand(canvas: Canvas, rng: np.random.Generator, near: tuple[float, float]) -> None:
    """Adds the hand of an adult who holds a child.

    It comes in over the edge nearest to ``near`` (x, y in mm of film); its fingers reach at least there
    and some centimetres into the film.
    """
    height, width = (n * canvas.spacing_mm for n in canvas.shape)
    x, y = near
    ways = {(0, 1): y, (0, -1): height - y, (1, 0): x, (-1, 0): width - x}
    way = np.array(min(ways, key=lambda w: ways[w]), float)
    angle = np.degrees(np.arctan2(-way[0], way[1])) + rng.normal(0, 25)
    bend = rng.uniform(0, 0.8)
    reach = (150 - 55 * bend) * 1.05
    direction = np.array([-np.sin(np.radians(angle)), np.cos(np.radians(angle))])
    inside = max(min(rng.uniform(15, 95), 0.35 * min(height, width)) - min(ways.values()), 0)
    thumb_right = bool(rng.random() < 0.5)
    wrist = np.array(near) - direction * (reach - inside)
    pose = Pose(
        float(wrist[0]),
        float(wrist[1]),
        float(angle if thumb_right else -angle),
        rng.normal(0, 35),
        rng.normal(0, 15),
        1.05,
        thumb_right,
    )
    part = Part.placed(canvas, rng, 30.0, pose)
    arm.draw_hand_bones(part, bend=bend, spread=rng.uniform(0.3, 1.2))
    arm.draw_forearm_bones(part.joint((0, -arm.RADIUS_MM - 6, 0)))
    part.finish()


def draw_foot_and_ankle(
    canvas: Canvas,
    rng: np.random.Generator,
    pose: Pose,
    age_years: float,
    *,
    stub_mm: float = 60.0,
    tibia_half_mm: float | None = None,
    fibula_half_mm: float | None = None,
    fibula_x_mm: float | None = None,
    plantar_deg: float | None = None,
) -> None:
    """Adds ankle and foot below a lower leg drawn before; where both lie, the larger path counts.

    Parameters
    ----------
    pose : Pose
        Place of the ankle joint (below the tibial end), direction, view, magnification and side of the leg.
    stub_mm : float
        Least length of the shafts drawn above the joint; their flare is always drawn.
    tibia_half_mm, fibula_half_mm, fibula_x_mm : float or None
        Half widths of the shafts at that place and the fibula's distance from the tibia, to join smoothly.
    plantar_deg : float or None
        How far the foot points down; 0 towards the viewer, 90 in line with the leg.
    """
    part = Part.placed(canvas, rng, age_years, pose)
    part.flesh_girth *= 0.9
    girth, length = part.girth / pose.scale, part.size / pose.scale
    leg.draw_ankle_bones(
        part,
        shaft_mm=max(stub_mm / length, 60.0),
        flesh_mm=30.0,
        tibia_half=12.0 if tibia_half_mm is None else tibia_half_mm / girth,
        fibula_half=6.3 if fibula_half_mm is None else fibula_half_mm / girth,
        fibula_x=27.0 if fibula_x_mm is None else fibula_x_mm / length,
    )
    plantar = abs(rng.normal(25, 25)) if plantar_deg is None else plantar_deg
    leg.draw_foot_bones(leg.foot_frame(part, plantar, rng.normal(0, 10)), curl_deg=rng.uniform(0, 25))
    part.finish(join=True)


def draw_hip(
    canvas: Canvas,
    rng: np.random.Generator,
    pose: Pose,
    age_years: float,
    *,
    stub_mm: float = 60.0,
    shaft_half_mm: float | None = None,
    flesh: bool = True,
) -> None:
    """Adds hip and half pelvis above a femoral shaft drawn before; where both lie, the larger path counts.

    Parameters
    ----------
    pose : Pose
        Place of the proximal end of the other's shaft (its axis), direction, magnification and side.
    stub_mm : float
        Length of shaft drawn between that place and the lesser trochanter.
    shaft_half_mm : float or None
        Half width of the shaft there, to join smoothly.
    flesh : bool
        Adds trunk, buttock and the top of the thigh.
    """
    part = Part.placed(canvas, rng, age_years, pose)
    shaft = 40.0 + stub_mm / (part.size / pose.scale)
    head = part.joint((-38, -32 - shaft, 0))
    half = 14.0 if shaft_half_mm is None else shaft_half_mm / (part.girth / pose.scale)
    hip.draw_femur_end(head, shaft_mm=shaft, shaft_half=half, flesh_mm=shaft + 30 if flesh else 0.0)
    hip.draw_hemipelvis(head)
    if flesh:
        hip.draw_pelvis_flesh(head.joint((-90, 0, 0)))
    part.finish(join=True)
