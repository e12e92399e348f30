"""Foot, ankle, lower leg without its knee, hip with the pelvis, and thigh without its knee.

Frame of the leg: zero at the ankle joint, ``x`` lateral, ``y`` to the sole, ``z`` to the front. Frame of the foot:
``x`` lateral, ``y`` to the toes, ``z`` to the back of the foot. Frame of the pelvis: zero between the hips, ``x`` to
the right of the film, ``y`` to the feet. Lengths are common adult means, ages of the centres the usual tables.
"""

from __future__ import annotations

import numpy as np

from KneeBoneAgeLib.phantom.others.skeleton import Part, Plate, Profile, tube, turn

# Tarsal: from, to (foot frame), profile of half sizes (width, depth), ages appears and full.
TARSALS = (
    ((2, -24, -16), (-5, 36, -24), ((0, 12, 9), (0.3, 18, 15), (0.55, 18, 17), (0.78, 12, 12), (1, 14, 13)), -1, 7),
    ((2, -54, -60), (9, 37, -38), ((0, 14, 18), (0.2, 15, 19), (0.5, 15, 16), (0.68, 15, 18), (1, 12, 11)), -1, 7),
    ((-9, 37, -25), (-10, 49, -28), ((0, 15, 11), (0.5, 18, 12), (1, 16, 11)), 2.6, 10),
    ((13, 36, -39), (15, 66, -43), ((0, 11, 10), (0.5, 12, 10), (1, 11, 9)), 0.1, 9),
    ((-17, 49, -34), (-19, 72, -38), ((0, 8, 11), (1, 8.5, 14)), 1.8, 10),
    ((-7, 49, -29), (-8, 66, -31), ((0, 6.5, 9), (1, 7.5, 10)), 2.4, 10),
    ((3, 49, -32), (3, 69, -34), ((0, 6.5, 9), (1, 7, 10)), 0.5, 10),
)

# Ray of the foot: base and head of the metatarsal, half widths (base, shaft, head), lengths of the phalanges.
TOES = (
    ((-19, 74, -40), (-25, 134, -62), (10.5, 7.2, 11.0), (31, 23)),
    ((-8, 68, -33), (-8, 141, -61), (7.0, 4.0, 5.8), (27, 13, 10)),
    ((3, 71, -36), (6, 138, -62), (6.5, 3.6, 5.4), (25, 11, 9)),
    ((13, 68, -41), (18, 131, -63), (6.5, 3.5, 5.2), (23, 9, 9)),
    ((23, 62, -48), (29, 121, -65), (7.0, 3.7, 5.2), (21, 8, 8)),
)

TIBIA_DISTAL: Profile = ((0, 13, 13), (0.6, 12, 12), (0.8, 15, 13.5), (0.92, 21, 18.5), (0.97, 23.5, 20),
                         (1, 23, 19.5))
FIBULA_DISTAL: Profile = ((0, 6.5, 6.5), (0.6, 6, 6.5), (0.8, 6.5, 7), (0.91, 9.5, 10), (0.96, 10, 11), (1, 6.5, 8))
TIBIA_PLATE, FIBULA_PLATE = Plate(11, 0.5, 5.5, 16.5), Plate(25, 1.0, 7.0, 16.5)

FEMUR_PROXIMAL: Profile = ((0, 11, 12), (0.05, 16, 14), (0.14, 20, 15), (0.24, 18, 15), (0.36, 16, 14.5),
                           (0.6, 14.5, 14.5), (1, 14, 14.5))


MIRROR = np.diag([-1.0, 1.0, 1.0])


def draw_foot_bones(foot: Part, *, curl_deg: float = 10.0, flesh: bool = True) -> None:
    """Tarsals, metatarsals and toes in the frame of the foot."""
    rng = foot.rng
    if flesh:
        foot.flesh((3, -66, -50), (-2, 150, -62), (24, 26), (32, 34), (34, 38), (35, 37), (38, 31), (42, 24),
                   (46, 17), (46, 13), (38, 10), caps=(0.9, 0.6))
        foot.flesh((1, 0, 20), (0, 46, -46), (27, 26), (31, 30), (31, 24), caps=(1.0, 1.0))
        foot.flesh((1, -9, 30), (2, -40, -54), (27, 27), (28, 27), (28, 28), (27, 26), caps=(1.0, 1.0))
    for a, b, profile, appears, full in TARSALS:
        grown = foot.grown(appears, full)
        if grown == 0:
            continue
        middle, reach = np.add(a, b) / 2, np.subtract(b, a) / 2 * grown
        foot.body(middle - reach, middle + reach, profile, widen=grown, caps=(0.6, 0.6), trabecular=0.14,
                  end_cortex_mm=0.9)
    heel = foot.grown(7.5, 11)
    if heel and foot.age_years < 15.5:
        foot.body((2, -63, -62), (2, -58, -61), ((0, 12, 18), (1, 13, 19)), widen=heel, caps=(0.5, 0.15))
    for i, (base, head, widths, lengths) in enumerate(TOES):
        big = i == 0
        base, head = np.array(base, float), np.array(head, float)
        way = (head - base) / np.linalg.norm(head - base)
        plate = Plate(9.0 if not big else 8.0, 3.0, 10.0, 15.5)
        foot.bone(base, head, tube(*widths, depth=1.1), start=plate if big else None, end=None if big else plate,
                  caps=(0.3, 0.95), cortex_mm=2.0 if not big else 2.3, marrow=0.1, trabecular=0.2)
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
            foot.bone(point, tip, profile, start=Plate(min(4.5, 0.3 * length), 1.6 + j, 9.0, 15.0), caps=(0.4, 0.8),
                      cortex_mm=1.4, marrow=0.15)
            if flesh:
                r = (9.0 - 0.6 * j) * (1.45 if big else 1.0)
                foot.flesh(point - way * (16 if j == 0 else 5), tip + way * (6 if last else 3), (r, r), (r, 0.9 * r),
                           (0.9 * r, 0.85 * r), caps=(0.8, 1.0))
            point, pitch = tip + way * 1.3, pitch - curl * (1.6 if j else 0.8)


def draw_ankle_bones(leg: Part, *, shaft_mm: float, tibia_half=12.0, fibula_half=6.3, fibula_x=27.0,
                     flesh: bool = True) -> None:
    """The distal ends of tibia and fibula with ``shaft_mm`` (adult mm) of their shafts above the joint."""

    def ended(profile: Profile, half: float, ring_mm: float) -> Profile:
        """The distal ``ring_mm`` of a profile keep their shape however long the shaft is."""
        share = min(ring_mm / shaft_mm, 0.97)
        return tuple((0.0 if t == 0 else 1 - (1 - t) * share / 0.4, half, half) if t <= 0.6 else
                     (1 - (1 - t) * share / 0.4, w, d) for t, w, d in profile)

    leg.bone((0, -shaft_mm, 0), (-1, -3.5, 0), ended(TIBIA_DISTAL, tibia_half, 75), end=TIBIA_PLATE,
             caps=(0.03, 0.22), cortex_mm=4.6, marrow=0.03, trabecular=0.16)
    leg.bone((fibula_x, -shaft_mm, -9), (26, 24, -7), ended(FIBULA_DISTAL, fibula_half, 85), end=FIBULA_PLATE,
             caps=(0.03, 0.8), cortex_mm=2.6, marrow=0.06, trabecular=0.18)
    malleolus = leg.grown(2.5, 9.5)
    if malleolus:
        leg.body((-19, -12, 1), (-21.5, -12 + 25 * malleolus, 2), ((0, 6, 12), (0.5, 5.5, 11), (1, 4, 8)),
                 caps=(0.9, 0.9), widen=0.5 + 0.5 * malleolus)
    if flesh:
        calf = max(shaft_mm, 60)
        t = np.clip(np.linspace(calf, 0, 7) / 300, 0, 1)
        width = np.interp(t, (0, 0.15, 0.3, 0.6, 0.85, 1), (39, 35, 38, 54, 60, 58))
        leg.flesh((4, -calf, -8), (1, 30, -3), *((w, w * 1.02) for w in width), (34, 34), (30, 30), caps=(0.05, 1.0))


def foot_frame(leg: Part, plantar_deg: float, in_deg: float = 0.0) -> Part:
    """The frame of the foot at the ankle, the foot pointing ``plantar_deg`` downwards (0 is at right angles)."""
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


def draw_femur_end(side: Part, *, shaft_mm: float, shaft_half: float = 14.0, flesh: bool = True) -> None:
    """The proximal femur: ``side`` has its zero at the middle of the head, ``x`` lateral, ``shaft_mm`` of shaft."""
    neck_x, neck_y = 40.0, 32.0
    if flesh:
        side.flesh((14, -60, 0), (24, max(shaft_mm, 480) + neck_y, 0), (74, 80), (84, 92), (82, 86), (72, 74), (66, 66),
                   caps=(0.9, 0.02))
    total = shaft_mm + 20
    share = min(230 / total, 1.0)
    profile = (*((t * share, w, d) for t, w, d in FEMUR_PROXIMAL if t < 1), (1.0, shaft_half, shaft_half))
    side.bone((neck_x + 3, neck_y - 36, -4), (neck_x - 2, neck_y + shaft_mm, 0), profile,
              start=Plate(24, 3.5, 11, 15.5), caps=(0.8, 0.02), cortex_mm=6.0, marrow=0.03, trabecular=0.13)
    side.bone((-14, -11, 0), (neck_x + 3, neck_y + 2, 0),
              ((0, 22, 19), (0.4, 21.5, 18), (0.62, 16.5, 12), (1, 18, 13)), caps=(1.0, 0.9),
              start=Plate(22, 0.4, 5.5, 16.0), cortex_mm=2.0, marrow=0.14, trabecular=0.2)
    if side.age_years > 15:
        side.lump((0, 0, 0), (23.5, 23.5, 22), along=(0.8, 0.6, 0), caps=(1, 1), trabecular=0.1)
    side.lump((neck_x - 17, neck_y + 26, -8), (6, 13, 8), along=(0.25, 0.95, 0), appears=4, full=12)


def draw_hemipelvis(side: Part) -> None:
    """Half of the pelvis: ``side`` has its zero at the middle of the femoral head, ``x`` lateral."""
    open_y = side.age_years < 13.5
    gap = 4.0 if open_y else 0.0
    # Wing: a thin plate with a thick crest, narrowing to the roof of the socket.
    side.body((4, -148, -10), (-16, -20 - gap, 0), ((0, 34, 4), (0.12, 56, 5), (0.35, 63, 6), (0.6, 50, 9),
              (0.8, 33, 15), (1, 27, 19)), caps=(0.8, 0.3), trabecular=0.3, end_cortex_mm=1.2)
    side.arc((-6, -88, 0), (62, 60), (205, 335), 2.6, 1.1)
    side.body((-46, -92, -30), (-26, -14, -10), ((0, 14, 9), (0.5, 13, 10), (1, 17, 13)), trabecular=0.25)
    # Brim and roof: the lines that a reader follows.
    side.arc((-88, -28, 0), (60, 62), (-70, 68), 2.2, 1.2)
    side.arc((0, 0, 0), (28.5, 28.5), (185, 325), 2.4, 1.3)
    side.arc((3, 3, 0), (33, 33), (120, 172), 2.0, 1.2)
    # Pubis and ischium: a ring around the obturator foramen, cartilage between them in a child.
    ramus = 12.0 if side.age_years < 6.5 else 0.0
    first, last = (-42 + (9 if open_y else -8)), (-42 - (9 if open_y else -8)) % 360
    ring = {"half_width": 6.8, "wall_mm": 1.2}
    side.arc((-53, 40, 0), (24, 32), (last - 360 - 128, first - 18), **ring)
    side.arc((-53, 40, 0), (24, 32), (first + 6, 118 - ramus), **ring)
    side.arc((-53, 40, 0), (24, 32), (118 + ramus / 2, last - 128), **ring)
    side.body((-30 - gap, -4 + gap, 0), (-52, 12, 8), ((0, 15, 14), (1, 9, 9)), caps=(0.3, 0.9), trabecular=0.2)
    side.body((-20, 12 + gap, -14), (-34, 78, -16), ((0, 16, 15), (0.4, 13, 13), (1, 15, 13)), caps=(0.3, 0.9),
              trabecular=0.2)
    side.body((-78, 20, 12), (-78, 62, 10), ((0, 9, 9), (1, 7, 8)), trabecular=0.22)


def draw_sacrum(pelvis: Part) -> None:
    """Sacrum, coccyx and the lowest lumbar vertebrae between the hips."""
    pelvis.body((0, -112, -30), (0, 2, -45), ((0, 52, 16), (0.25, 50, 18), (0.6, 30, 15), (1, 12, 7)),
                caps=(0.3, 0.7), trabecular=0.16)
    for k, y in enumerate((-92, -70, -50, -33)):
        for sign in (-1, 1):
            x = sign * (22 - 3 * k)
            pelvis.body((x, y - 5, -30), (x, y + 5, -30), ((0, 5, 6), (1, 5, 6)), amount=-0.35, cortex_mm=None,
                        trabecular=0.9, end_cortex_mm=0.1)
    draw_vertebrae(pelvis, bottom_mm=-118, count=3)


def draw_vertebrae(part: Part, *, bottom_mm: float, count: int, height_mm=36.0, half_mm=24.0, shrink=0.97) -> None:
    """Vertebral bodies with discs, pedicles, transverse and spinous processes, upwards from ``bottom_mm``."""
    y, h, w = bottom_mm, height_mm, half_mm
    disc = 0.3 if part.age_years > 6 else 0.36
    for _ in range(count):
        part.body((0, y - h * (1 - disc), 0), (0, y, 0),
                  ((0, w, 16), (0.2, 0.95 * w, 15), (0.5, 0.88 * w, 14.5), (0.8, 0.95 * w, 15), (1, w, 16)),
                  caps=(0.18, 0.18), trabecular=0.16, end_cortex_mm=1.1)
        middle = y - h * (1 - disc) * 0.6
        part.body((-1.75 * w, middle, -12), (1.75 * w, middle, -12),
                  ((0, 3, 3), (0.25, 5, 4), (0.5, 7, 6), (0.75, 5, 4), (1, 3, 3)), trabecular=0.3)
        for x in (-0.62 * w, 0.62 * w):
            part.lump((x, middle, -15), (4.5, 7, 9), trabecular=0.25)
        part.body((0, middle + 2, -35), (0, middle + 0.75 * h, -40), ((0, 3, 10), (1, 4, 8)), trabecular=0.25)
        y, h, w = y - h, h * shrink, w * shrink


def draw_pelvis_flesh(pelvis: Part) -> None:
    """Trunk and buttocks with the gas of the bowel."""
    rng = pelvis.rng
    pelvis.flesh((0, -330, 0), (0, 105, 0), (135, 95), (138, 100), (165, 110), (180, 110), (150, 95),
                 caps=(0.02, 0.7))
    for _ in range(rng.integers(2, 9)):
        at = np.array([rng.uniform(-90, 90), rng.uniform(-190, 0), 0])
        pelvis.flesh(at, at + np.array([rng.normal(0, 14), 14.0, 0]), (rng.uniform(8, 20), 16),
                     (rng.uniform(8, 20), 16), caps=(1, 1), amount=-rng.uniform(0.5, 1))


def draw_hip_film(part: Part) -> None:
    """Pelvis with both hips, or one hip in the middle of the film."""
    rng = part.rng
    pelvis = part if rng.random() < 0.6 else part.joint((rng.choice([-1, 1]) * 95.0, 0, 0))
    draw_pelvis_flesh(pelvis)
    draw_sacrum(pelvis)
    for sign in (-1, 1):
        side = pelvis.joint((sign * 90.0, 0, 0), MIRROR if sign < 0 else None)
        draw_hemipelvis(side)
        leg = side.joint((0, 0, 0), turn("z", rng.normal(-3, 6)) @ turn("y", rng.normal(0, 12)))
        draw_femur_end(leg, shaft_mm=450)


def draw_thigh(part: Part) -> None:
    """A femoral shaft with its hip at one end, off the film at the other; there is no knee."""
    rng = part.rng
    hip = part.joint((-30, -140 + rng.normal(0, 40), 0))
    pelvis = hip.joint((-90, 0, 0))
    draw_pelvis_flesh(pelvis)
    draw_sacrum(pelvis)
    draw_hemipelvis(hip)
    draw_femur_end(hip.joint((0, 0, 0), turn("z", rng.normal(-4, 4))), shaft_mm=700)
    other = pelvis.joint((-90.0, 0, 0), MIRROR)
    draw_hemipelvis(other)
    draw_femur_end(other, shaft_mm=700)
