"""Hip with the pelvis, the lumbar vertebrae, and the thigh without its knee.

Frame of the pelvis: zero between the hips, ``x`` to the right of the film, ``y`` to the feet. Frame of a
side: zero at the middle of the femoral head, ``x`` lateral. Lengths are common adult means in mm, ages of
the centres the usual tables in years.
"""

from __future__ import annotations

import numpy as np

from KneeBoneAgeLib.phantom.others.rods import Profile
from KneeBoneAgeLib.phantom.others.skeleton import Part, Plate, turn

FEMUR_PROXIMAL: Profile = (
    (0, 11, 12),
    (0.05, 16, 14),
    (0.14, 20, 15),
    (0.24, 18, 15),
    (0.36, 16, 14.5),
    (0.6, 14.5, 14.5),
    (1, 14, 14.5),
)


MIRROR = np.diag([-1.0, 1.0, 1.0])


def draw_femur_end(side: Part, *, shaft_mm: float, shaft_half: float = 14.0, flesh_mm: float = 600.0) -> None:
    """The proximal femur with ``shaft_mm`` of its shaft and ``flesh_mm`` of thigh.

    ``side`` has its zero at the middle of the head. A short thigh is rounded off, to lie within another's.
    """
    neck_x, neck_y = 40.0, 32.0
    if flesh_mm:
        at = np.linspace(-60, flesh_mm, 6)
        width = np.interp(at, (-60, 60, 200, 340, 480), (74, 84, 80, 70, 64))
        cap = 0.02 if flesh_mm >= 600 else 1.0
        side.flesh((14, -60, 0), (24, flesh_mm, 0), *((w, 1.08 * w) for w in width), caps=(0.9, cap))
    total = shaft_mm + 20
    share = min(230 / total, 1.0)
    profile = (*((t * share, w, d) for t, w, d in FEMUR_PROXIMAL if t < 1), (1.0, shaft_half, shaft_half))
    side.bone(
        (neck_x + 3, neck_y - 36, -4),
        (neck_x - 2, neck_y + shaft_mm, 0),
        profile,
        start=Plate(24, 3.5, 11, 15.5),
        caps=(0.8, 0.02),
        cortex_mm=6.0,
        marrow=0.03,
        trabecular=0.13,
    )
    side.bone(
        (-14, -11, 0),
        (neck_x + 3, neck_y + 2, 0),
        ((0, 22, 19), (0.4, 21.5, 18), (0.62, 16.5, 12), (1, 18, 13)),
        caps=(1.0, 0.9),
        start=Plate(22, 0.4, 5.5, 16.0),
        cortex_mm=2.0,
        marrow=0.14,
        trabecular=0.2,
    )
    if side.age_years > 15:
        side.lump((0, 0, 0), (23.5, 23.5, 22), along=(0.8, 0.6, 0), caps=(1, 1), trabecular=0.1)
    side.lump((neck_x - 17, neck_y + 26, -8), (6, 13, 8), along=(0.25, 0.95, 0), appears=4, full=12)


def draw_hemipelvis(side: Part) -> None:
    """Half of the pelvis: ``side`` has its zero at the middle of the femoral head, ``x`` lateral."""
    open_y = side.age_years < 13.5
    gap = 4.0 if open_y else 0.0
    # Wing: a thin plate with a thick crest, narrowing to the roof of the socket.
    side.body(
        (4, -148, -10),
        (-16, -20 - gap, 0),
        ((0, 34, 4), (0.12, 56, 5), (0.35, 63, 6), (0.6, 50, 9), (0.8, 33, 15), (1, 27, 19)),
        caps=(0.8, 0.3),
        trabecular=0.3,
        end_cortex_mm=1.2,
    )
    side.arc((-6, -88, 0), (62, 60), (205, 335), 2.6, 1.1)
    side.body((-46, -92, -30), (-26, -14, -10), ((0, 14, 9), (0.5, 13, 10), (1, 17, 13)), trabecular=0.16)
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
    side.body(
        (-30 - gap, -4 + gap, 0), (-52, 12, 8), ((0, 15, 14), (1, 9, 9)), caps=(0.3, 0.9), trabecular=0.2
    )
    side.body(
        (-20, 12 + gap, -14),
        (-34, 78, -16),
        ((0, 16, 15), (0.4, 13, 13), (1, 15, 13)),
        caps=(0.3, 0.9),
        trabecular=0.2,
    )
    side.body((-78, 20, 12), (-78, 62, 10), ((0, 9, 9), (1, 7, 8)), trabecular=0.22)


def draw_sacrum(pelvis: Part) -> None:
    """Sacrum, coccyx and the lowest lumbar vertebrae between the hips."""
    pelvis.body(
        (0, -112, -30),
        (0, 2, -45),
        ((0, 52, 16), (0.25, 50, 18), (0.6, 30, 15), (1, 12, 7)),
        caps=(0.3, 0.7),
        trabecular=0.16,
    )
    for k, y in enumerate((-92, -70, -50, -33)):
        for sign in (-1, 1):
            x = sign * (22 - 3 * k)
            pelvis.body(
                (x, y - 5, -30),
                (x, y + 5, -30),
                ((0, 5, 6), (1, 5, 6)),
                amount=-0.35,
                cortex_mm=None,
                trabecular=0.9,
                end_cortex_mm=0.1,
            )
    draw_vertebrae(pelvis, bottom_mm=-118, count=3)


def draw_vertebrae(
    part: Part,
    *,
    bottom_mm: float,
    count: int,
    height_mm: float = 36.0,
    half_mm: float = 24.0,
    shrink: float = 0.97,
) -> None:
    """Vertebral bodies with discs, pedicles, transverse and spinous processes, upwards from ``bottom_mm``."""
    y, h, w = bottom_mm, height_mm, half_mm
    disc = 0.3 if part.age_years > 6 else 0.36
    for _ in range(count):
        part.body(
            (0, y - h * (1 - disc), 0),
            (0, y, 0),
            ((0, w, 16), (0.2, 0.95 * w, 15), (0.5, 0.88 * w, 14.5), (0.8, 0.95 * w, 15), (1, w, 16)),
            caps=(0.18, 0.18),
            trabecular=0.16,
            end_cortex_mm=1.1,
        )
        middle = y - h * (1 - disc) * 0.6
        part.body(
            (-1.75 * w, middle, -12),
            (1.75 * w, middle, -12),
            ((0, 3, 3), (0.25, 5, 4), (0.5, 7, 6), (0.75, 5, 4), (1, 3, 3)),
            trabecular=0.3,
        )
        for x in (-0.62 * w, 0.62 * w):
            part.lump((x, middle, -15), (4.5, 7, 9), trabecular=0.25)
        part.body((0, middle + 2, -35), (0, middle + 0.75 * h, -40), ((0, 3, 10), (1, 4, 8)), trabecular=0.25)
        y, h, w = y - h, h * shrink, w * shrink


def draw_pelvis_flesh(pelvis: Part) -> None:
    """Trunk and buttocks with the gas of the bowel."""
    rng = pelvis.rng
    pelvis.flesh(
        (0, -330, 0), (0, 105, 0), (135, 95), (138, 100), (165, 110), (180, 110), (150, 95), caps=(0.02, 0.7)
    )
    for _ in range(rng.integers(2, 9)):
        at = np.array([rng.uniform(-90, 90), rng.uniform(-190, 0), 0])
        pelvis.flesh(
            at,
            at + np.array([rng.normal(0, 14), 14.0, 0]),
            (rng.uniform(8, 20), 16),
            (rng.uniform(8, 20), 16),
            caps=(1, 1),
            amount=-rng.uniform(0.5, 1),
        )


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
