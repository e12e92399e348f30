"""Hand, wrist, forearm and elbow of a child of any age.

Frame of the hand: zero at the middle of the wrist joint, ``x`` to the thumb, ``y`` to the fingertips. Frame
of the arm: zero at the elbow, ``x`` lateral (the thumb's side), ``y`` to the hand, ``z`` to the front.
Lengths are common adult means in mm; ages of the centres follow the usual tables (mean of both sexes), in
years.
"""

from __future__ import annotations

import numpy as np

from KneeBoneAgeLib.phantom.others.rods import Profile, tube
from KneeBoneAgeLib.phantom.others.skeleton import Part, Plate, turn

# Ray: base of the metacarpal (x, y), direction in degrees to the thumb, lengths metacarpal to tip,
# half widths of the metacarpal (base, shaft, head).
RAYS = (
    ((22, 30), 36.0, (45, 31, 22), (7.5, 5.2, 7.5)),
    ((13, 36), 7.0, (67, 40, 23, 17), (8.5, 4.3, 7.8)),
    ((1, 37), 0.0, (64, 44, 27, 18), (7.5, 4.3, 7.6)),
    ((-9, 36), -8.0, (57, 41, 26, 18), (6.5, 3.8, 6.8)),
    ((-18, 33), -16.0, (53, 33, 18, 16), (6.5, 3.8, 6.4)),
)

# Carpal: centre (x, y), half sizes (width, length, depth), inclination, ages appears and full.
CARPALS = (
    ((1, 21), (6.8, 12.0, 8), -3, 0.25, 11),
    ((-10, 22), (7.5, 9.5, 7), 12, 0.3, 11),
    ((-17, 12), (6.5, 7.5, 6), 25, 2.3, 12),
    ((-5, 6.5), (8.0, 6.5, 7), 0, 3.8, 12),
    ((10, 10), (6.5, 12.0, 6), 35, 5.3, 12.5),
    ((21, 22), (7.5, 7.5, 7), 30, 5.4, 12.5),
    ((12, 26), (5.5, 6.5, 7), 5, 5.8, 12.5),
    ((-18, 16), (4.8, 5.5, 5), 10, 9.5, 13.5),
)

RADIUS: Profile = (
    (0, 11.5, 11),
    (0.03, 11, 10.5),
    (0.07, 7.3, 7),
    (0.17, 8.2, 7),
    (0.5, 7.0, 6),
    (0.78, 8.0, 6.5),
    (0.91, 13.5, 9.5),
    (0.97, 16, 10.5),
    (1, 15.5, 10),
)
ULNA: Profile = (
    (0, 10, 10),
    (0.05, 11.5, 12),
    (0.13, 10.5, 11),
    (0.22, 8, 8),
    (0.5, 6.8, 6.8),
    (0.85, 5, 5.2),
    (0.96, 7.6, 7),
    (1, 7, 6.5),
)
HUMERUS_DISTAL: Profile = (
    (0, 11, 11),
    (0.45, 10.5, 10.5),
    (0.7, 14, 9),
    (0.86, 24, 7.5),
    (0.95, 29, 6.5),
    (1, 27, 6.5),
)
RADIUS_MM, ULNA_MM = 238.0, 245.0


def finger_plate(phalanx: int, height: float) -> Plate:
    """The plate of a phalanx (0 proximal to 2 distal) or, with -1, of a metacarpal."""
    return Plate(
        height,
        (1.6, 1.1, 1.9, 2.0)[phalanx + 1],
        (9.5, 8.5, 9.5, 9.0)[phalanx + 1],
        (16.0, 16.0, 16.0, 15.5)[phalanx + 1],
    )


def draw_hand_bones(hand: Part, *, bend: float, spread: float) -> None:
    """Carpals, metacarpals and phalanges.

    Parameters
    ----------
    hand : Part
        With its zero at the wrist.
    bend : float
        How far the fingers are bent: 0 flat on the film, 1 a fist.
    spread : float
        1 is the natural spread of the fingers.
    """
    rng = hand.rng
    for centre, half, inclination, appears, full in CARPALS:
        a = np.radians(inclination)
        hand.lump(
            (*centre, 0),
            half,
            along=(np.sin(a), np.cos(a), 0),
            appears=appears + rng.normal(0, 0.3),
            full=full,
        )
    hand.flesh(
        (0, -40, 0),
        (-2, 97, 0),
        (20, 13),
        (27, 18),
        (30, 19),
        (36, 18),
        (41, 15),
        (40, 11),
        (36, 9),
        caps=(1.0, 0.5),
    )
    for i, (base, degrees, lengths, widths) in enumerate(RAYS):
        thumb = i == 0
        degrees = degrees * spread + rng.normal(0, 2.5) + (rng.uniform(-14, 10) if thumb else 0)
        pitch = rng.normal(0, 4) + (20 if thumb else 0) * bend
        point = np.array([*base, 6.0 if thumb else 0.0])
        curl = np.clip(bend + rng.normal(0, 0.08 + 0.15 * bend), 0, 1.1) * (35 if thumb else 80)
        width = np.array(widths)
        for j, length in enumerate(lengths):
            a, p = np.radians(degrees), np.radians(pitch)
            way = np.array([np.sin(a) * np.cos(p), np.cos(a) * np.cos(p), np.sin(p)])
            tip = point + way * length
            start = end = None
            if j == 0:
                plate = finger_plate(-1, 8.0 if not thumb else 5.0)
                start, end = (plate, None) if thumb else (None, plate)
                profile = tube(*width)
                caps = (0.35, 0.95)
            else:
                last = j == len(lengths) - 1
                start = finger_plate(2 if last else j - 1, 4.6 - 0.5 * j)
                k = (0.98, 0.86, 0.74)[j - 1 + (1 if thumb else 0)] * widths[2] / 7.6
                profile = tube(8.0 * k, (4.8 if not last else 2.9) * k, (6.0 if not last else 4.4) * k, 0.72)
                caps = (0.4, 0.7 if not last else 0.9)
            wide = np.cross(way, (0, 0, 1)) if abs(way[2]) < 0.95 else (1, 0, 0)
            hand.bone(
                point,
                tip,
                profile,
                start=start,
                end=end,
                caps=caps,
                cortex_mm=1.7,
                marrow=0.12,
                trabecular=0.2,
                end_cortex_mm=0.6,
                wide=wide,
            )
            gap = way * 1.8
            if j > 0 or thumb:
                r = (10.5, 9.2, 8.2)[min(j, 2)] * (1.25 if thumb else 1.0) * widths[2] / 7.6
                back, on = (12 if j == 1 else 7), (7 if j == len(lengths) - 1 else 4)
                hand.flesh(
                    point - way * back,
                    tip + way * on,
                    (r * 1.08, r),
                    (r, r * 0.92),
                    (r * 0.86, r * 0.8),
                    caps=(0.9, 1.1),
                    wide=wide,
                )
            if thumb and j == 0 and rng.random() < 0.7 and hand.age_years > 12:
                hand.lump(tip + way * 1 + np.array([-7, 0, 5]), (2, 2.6, 2), appears=12, full=14)
            point = tip + gap
            pitch += curl * (0.75, 1.1, 0.7)[min(j, 2)]
            degrees *= 0.95


def draw_forearm_bones(arm: Part, *, cross: float = 0.0) -> None:
    """Radius and ulna from the elbow (zero) to the wrist; ``cross`` 1: pronated, the radius over the ulna."""
    radius_plate_near, radius_plate = Plate(6, 4.8, 9.5, 15.5), Plate(9, 0.9, 8.5, 17.0)
    olecranon, ulna_plate = Plate(7, 9.2, 12.5, 15.0), Plate(7, 6.2, 11.5, 17.0)
    wrist_x, ulna_x = 4.0 * (1 - 0.4 * cross), -17.0 + 4 * cross
    near_radius = np.array([12.0, 5.0, 2.0])
    arm.bone(
        near_radius,
        (wrist_x, RADIUS_MM + 5, 2),
        RADIUS,
        start=radius_plate_near,
        end=radius_plate,
        caps=(0.25, 0.4),
        cortex_mm=3.0,
        marrow=0.05,
        bow_mm=4.5,
        trabecular=0.2,
    )
    arm.bone(
        (-8, -22, -14),
        (ulna_x, ULNA_MM - 3, -4),
        ULNA,
        start=olecranon,
        end=ulna_plate,
        caps=(0.8, 0.7),
        cortex_mm=2.8,
        marrow=0.05,
        bow_mm=-3.5,
        trabecular=0.2,
    )
    if arm.age_years > 8:
        arm.body((wrist_x + 12, RADIUS_MM - 2, 2), (wrist_x + 16, RADIUS_MM + 14, 2), tube(4.5, 4, 2.5))
        arm.body((ulna_x - 5, ULNA_MM - 12, -4), (ulna_x - 7, ULNA_MM + 1, -4), tube(3, 2, 1.5))
    arm.flesh(
        (0, -42, -4),
        (-3, 268, 0),
        (38, 36),
        (43, 40),
        (45, 40),
        (42, 36),
        (35, 29),
        (29, 22),
        (26, 18),
        (25, 17),
        caps=(1.0, 0.5),
    )


def draw_humerus(arm: Part, *, flexed_deg: float, length_mm: float = 400.0) -> None:
    """The distal humerus, the forearm being straight along ``y`` and the elbow flexed by an angle."""
    upper = arm.joint((0, 0, 0), turn("x", -flexed_deg))
    share = 170.0 / max(length_mm, 171.0)
    profile = ((0.0, 11.0, 11.0), *((1 - (1 - t) * share, w, d) for t, w, d in HUMERUS_DISTAL))
    upper.bone(
        (0, -length_mm, 2), (1, -9, 2), profile, caps=(0.05, 0.5), cortex_mm=4.0, marrow=0.03, trabecular=0.14
    )
    # Fused centres merge into the shaft: they move in and lose their outline.
    fused = upper.age_years > 14
    shell, inwards = (0.25, 3.0) if fused else (0.7, 0.0)
    upper.lump((-9, -2 - inwards, 3), (13, 8.5, 11), appears=9, full=13, trabecular=0.14, end_cortex_mm=shell)
    upper.lump(
        (12, -2 - inwards, 6), (10.5, 9.5, 11), appears=0.8, full=12, trabecular=0.16, end_cortex_mm=shell
    )
    for side, half, height, appears in ((-1, 5.5, 9, 5.0), (1, 3.5, 7, 10.5)):
        at = (side * (27 - 2 * inwards), -15, -1)
        upper.lump(
            at,
            (half, height, 6),
            along=(-0.25 * side, 0.97, 0),
            appears=appears,
            full=12.5,
            end_cortex_mm=shell,
        )
    upper.flesh(
        (0, -length_mm - 20, 0),
        (0, 34, -2),
        (48, 52),
        (45, 48),
        (43, 43),
        (43, 40),
        (40, 37),
        caps=(0.1, 1.0),
    )


def draw_hand(part: Part) -> None:
    """PA hand with the wrist and the distal forearm."""
    rng = part.rng
    bend = rng.choice([0.02, rng.uniform(0, 0.3), rng.uniform(0.3, 1.0)], p=[0.6, 0.25, 0.15])
    draw_hand_bones(part, bend=bend, spread=rng.uniform(0.6, 1.5))
    wrist = part.joint((0, -2, 0), turn("z", rng.normal(0, 7)))
    draw_forearm_bones(wrist.joint((0, -RADIUS_MM - 4, 0)), cross=rng.uniform(0, 0.6))


def draw_elbow(part: Part) -> None:
    """Elbow: straight from the front, or bent when seen from the side."""
    rng = part.rng
    lateral = abs(part.matrix[2, 0]) > 0.6 * part.size
    flexed = rng.normal(85, 15) if lateral else rng.uniform(0, 25)
    draw_humerus(part, flexed_deg=flexed)
    draw_forearm_bones(part)


def draw_forearm(part: Part) -> None:
    """Forearm with the wrist, mostly the elbow, and some of the hand."""
    rng = part.rng
    middle = part.joint((0, -RADIUS_MM * 0.5, 0))
    draw_forearm_bones(middle, cross=rng.uniform(0, 1))
    draw_humerus(middle, flexed_deg=rng.uniform(0, 60))
    hand = middle.joint((0, RADIUS_MM + 4, 0), turn("z", rng.normal(0, 8)) @ turn("y", rng.normal(0, 15)))
    draw_hand_bones(hand, bend=rng.uniform(0, 0.4), spread=rng.uniform(0.5, 1.2))
