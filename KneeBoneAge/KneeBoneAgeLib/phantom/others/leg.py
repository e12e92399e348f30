"""Foot, ankle and the lower leg without its knee.

Frame of the leg: zero at the ankle joint, ``x`` lateral, ``y`` to the sole, ``z`` to the front. Frame of
the foot: ``x`` lateral, ``y`` to the toes, ``z`` to the back of the foot. Lengths are common adult means in
mm, ages of the centres the usual tables in years.
"""

from __future__ import annotations

import numpy as np

from KneeBoneAgeLib.phantom.others.rods import Profile, tube
from KneeBoneAgeLib.phantom.others.skeleton import Part, Plate, turn

Triple = tuple[float, float, float]

# Tarsal: from, to (foot frame), profile of half sizes (width, depth), ages appears and full.
TARSALS: tuple[tuple[Triple, Triple, Profile, float, float], ...] = (
    (
        (2, -24, -16),
        (-5, 36, -24),
        ((0, 12, 9), (0.3, 18, 15), (0.55, 18, 17), (0.78, 12, 12), (1, 14, 13)),
        -1,
        7,
    ),
    (
        (2, -54, -60),
        (9, 37, -38),
        ((0, 14, 18), (0.2, 15, 19), (0.5, 15, 16), (0.68, 15, 18), (1, 12, 11)),
        -1,
        7,
    ),
    ((-9, 37, -25), (-10, 49, -28), ((0, 15, 11), (0.5, 18, 12), (1, 16, 11)), 2.6, 10),
    ((13, 36, -39), (15, 66, -43), ((0, 11, 10), (0.5, 12, 10), (1, 11, 9)), 0.1, 9),
    ((-17, 49, -34), (-19, 72, -38), ((0, 8, 11), (1, 8.5, 14)), 1.8, 10),
    ((-7, 49, -29), (-8, 66, -31), ((0, 6.5, 9), (1, 7.5, 10)), 2.4, 10),
    ((3, 49, -32), (3, 69, -34), ((0, 6.5, 9), (1, 7, 10)), 0.5, 10),
)

# Ray of the foot: base and head of the metatarsal, half widths (base, shaft, head), lengths of the phalanges.
TOES: tuple[tuple[Triple, Triple, Triple, tuple[float, ...]], ...] = (
    ((-19, 74, -40), (-25, 134, -62), (10.5, 7.2, 11.0), (31, 23)),
    ((-8, 68, -33), (-8, 141, -61), (7.0, 4.0, 5.8), (27, 13, 10)),
    ((3, 71, -36), (6, 138, -62), (6.5, 3.6, 5.4), (25, 11, 9)),
    ((13, 68, -41), (18, 131, -63), (6.5, 3.5, 5.2), (23, 9, 9)),
    ((23, 62, -48), (29, 121, -65), (7.0, 3.7, 5.2), (21, 8, 8)),
)

TIBIA_DISTAL: Profile = (
    (0, 13, 13),
    (0.6, 12, 12),
    (0.8, 15, 13.5),
    (0.92, 21, 18.5),
    (0.97, 23.5, 20),
    (1, 23, 19.5),
)
FIBULA_DISTAL: Profile = (
    (0, 6.5, 6.5),
    (0.6, 6, 6.5),
    (0.8, 6.5, 7),
    (0.91, 9.5, 10),
    (0.96, 10, 11),
    (1, 6.5, 8),
)
TIBIA_PLATE, FIBULA_PLATE = Plate(11, 0.5, 5.5, 16.5), Plate(25, 1.0, 7.0, 16.5)


def draw_foot_bones(foot: Part, *, curl_deg: float = 10.0) -> None:
    """Tarsals, metatarsals and toes in the frame of the foot."""
    rng = foot.rng
    foot.flesh(
        (3, -66, -50),
        (-2, 150, -62),
        (24, 26),
        (32, 34),
        (34, 38),
        (35, 37),
        (38, 31),
        (42, 24),
        (46, 17),
        (46, 13),
        (38, 10),
        caps=(0.9, 0.6),
    )
    foot.flesh((1, 0, 20), (0, 46, -46), (27, 26), (31, 30), (31, 24), caps=(1.0, 1.0))
    foot.flesh((1, -9, 30), (2, -40, -54), (27, 27), (28, 27), (28, 28), (27, 26), caps=(1.0, 1.0))
    for a, b, profile, appears, full in TARSALS:
        grown = foot.grown(appears, full)
        if grown == 0:
            continue
        middle, reach = np.add(a, b) / 2, np.subtract(b, a) / 2 * grown
        foot.body(
            middle - reach,
            middle + reach,
            profile,
            widen=grown,
            caps=(0.6, 0.6),
            trabecular=0.14,
            end_cortex_mm=0.9,
        )
    heel = foot.grown(7.5, 11)
    if heel and foot.age_years < 15.5:
        foot.body((2, -63, -62), (2, -58, -61), ((0, 12, 18), (1, 13, 19)), widen=heel, caps=(0.5, 0.15))
    for i, (near, far, widths, lengths) in enumerate(TOES):
        big = i == 0
        base, head = np.array(near), np.array(far)
        way = (head - base) / np.linalg.norm(head - base)
        plate = Plate(9.0 if not big else 8.0, 3.0, 10.0, 15.5)
        foot.bone(
            base,
            head,
            tube(*widths, depth=1.1),
            start=plate if big else None,
            end=None if big else plate,
            caps=(0.3, 0.95),
            cortex_mm=2.0 if not big else 2.3,
            marrow=0.1,
            trabecular=0.2,
        )
        if big and foot.age_years > 10:
            for x in (-6, 7):
                foot.lump(head + np.array([x, -5, -10]), (4, 6, 4), appears=10, full=13)
        point, pitch = head + way * 2.0, np.degrees(np.arcsin(way[2])) * 0.3 + 12
        slant = np.degrees(np.arctan2(way[0], way[1])) * 0.6 + (8 if big else 0) + rng.normal(0, 3)
        curl = max(curl_deg + rng.normal(0, 6), 0) * (0.35 if big else 1.0)
        for j, length in enumerate(lengths):
            a, p = np.radians(slant), np.radians(pitch)
            way = np.array([np.sin(a) * np.cos(p), np.cos(a) * np.cos(p), np.sin(p)])
            tip = point + way * length
            k = 1.5 if big else 1.0
            last = j == len(lengths) - 1
            profile = tube((5.6 - 0.7 * j) * k, (2.9 if not j else 2.8) * k, (4.0 - 0.5 * j) * k)
            foot.bone(
                point,
                tip,
                profile,
                start=Plate(min(4.5, 0.3 * length), 1.6 + j, 9.0, 15.0),
                caps=(0.4, 0.8),
                cortex_mm=1.4,
                marrow=0.15,
            )
            r = (9.0 - 0.6 * j) * (1.45 if big else 1.0)
            foot.flesh(
                point - way * (16 if j == 0 else 5),
                tip + way * (6 if last else 3),
                (r, r),
                (r, 0.9 * r),
                (0.9 * r, 0.85 * r),
                caps=(0.8, 1.0),
            )
            point, pitch = tip + way * 1.3, pitch - curl * (1.6 if j else 0.8)


def draw_ankle_bones(
    leg: Part,
    *,
    shaft_mm: float,
    tibia_half: float = 12.0,
    fibula_half: float = 6.3,
    fibula_x: float = 27.0,
    flesh_mm: float | None = None,
) -> None:
    """The distal ends of tibia and fibula with ``shaft_mm`` (adult mm) of their shafts above the joint.

    ``tibia_half``, ``fibula_half`` and ``fibula_x`` are half widths of the shafts and how far apart they lie.
    ``flesh_mm`` of soft tissue lie above the joint, as long as the shafts if None.
    """

    def ended(profile: Profile, half: float, ring_mm: float) -> Profile:
        """The distal ``ring_mm`` of a profile keep their shape however long the shaft is."""
        share = min(ring_mm / shaft_mm, 0.97) / 0.4
        flare = tuple((1 - (1 - t) * share, w, d) for t, w, d in profile if t > 0.6)
        return ((0.0, half, half), (1 - 0.4 * share, half, half), *flare)

    leg.bone(
        (0, -shaft_mm, 0),
        (-1, -3.5, 0),
        ended(TIBIA_DISTAL, tibia_half, 75),
        end=TIBIA_PLATE,
        caps=(0.03, 0.22),
        cortex_mm=4.6,
        marrow=0.03,
        trabecular=0.16,
    )
    leg.bone(
        (fibula_x, -shaft_mm, -9),
        (26, 24, -7),
        ended(FIBULA_DISTAL, fibula_half, 85),
        end=FIBULA_PLATE,
        caps=(0.03, 0.8),
        cortex_mm=2.6,
        marrow=0.06,
        trabecular=0.18,
    )
    malleolus = leg.grown(2.5, 9.5)
    if malleolus:
        leg.body(
            (-19, -12, 1),
            (-21.5, -12 + 25 * malleolus, 2),
            ((0, 6, 12), (0.5, 5.5, 11), (1, 4, 8)),
            caps=(0.9, 0.9),
            widen=0.5 + 0.5 * malleolus,
        )
    calf = max(shaft_mm, 60) if flesh_mm is None else flesh_mm
    t = np.clip(np.linspace(calf, 0, 7) / 300, 0, 1)
    width = np.interp(t, (0, 0.15, 0.3, 0.6, 0.85, 1), (39, 35, 38, 54, 60, 58))
    leg.flesh(
        (4, -calf, -8),
        (1, 30, -3),
        *((w, w * 1.02) for w in width),
        (34, 34),
        (30, 30),
        caps=(0.05 if flesh_mm is None else 1.0, 1.0),
    )


def foot_frame(leg: Part, plantar_deg: float, in_deg: float = 0.0) -> Part:
    """The frame of the foot at the ankle, pointing ``plantar_deg`` downwards from a right angle."""
    p = np.radians(plantar_deg)
    toes = np.array([0, np.sin(p), np.cos(p)])
    up = np.array([0, -np.cos(p), np.sin(p)])
    return leg.joint((0, 0, 0), turn("y", in_deg) @ np.stack([[1.0, 0, 0], toes, up], axis=1))


def draw_foot(part: Part) -> None:
    """Foot from above or from the side, by the view of its pose."""
    rng = part.rng
    if abs(part.matrix[2, 0]) > 0.6 * part.size:
        draw_ankle_bones(part.joint((0, -40, -20)), shaft_mm=400)
        draw_foot_bones(foot_frame(part.joint((0, -40, -20)), rng.normal(5, 8)), curl_deg=rng.uniform(0, 20))
        return
    leg = part.joint((0, -70, 0), turn("x", rng.uniform(0, 70)))
    draw_ankle_bones(leg, shaft_mm=500)
    draw_foot_bones(part.joint((0, -70, 0), turn("x", rng.normal(-6, 6))), curl_deg=rng.uniform(0, 20))


def draw_ankle(part: Part) -> None:
    """Ankle: the mortise from the front or the side, the shafts running off the film."""
    rng = part.rng
    draw_ankle_bones(part, shaft_mm=600)
    lateral = abs(part.matrix[2, 0]) > 0.6 * part.size
    plantar = rng.normal(5, 12) if lateral else abs(rng.normal(0, 30))
    draw_foot_bones(foot_frame(part, plantar, rng.normal(0, 8)), curl_deg=rng.uniform(0, 25))


def draw_lower_leg(part: Part) -> None:
    """Both shafts from the ankle up and off the film; there is no knee."""
    rng = part.rng
    leg = part.joint((0, 120 + rng.normal(0, 30), 0))
    draw_ankle_bones(leg, shaft_mm=700)
    draw_foot_bones(foot_frame(leg, abs(rng.normal(20, 25)), rng.normal(0, 10)))
