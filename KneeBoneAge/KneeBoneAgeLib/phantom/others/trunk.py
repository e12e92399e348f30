"""Shoulder, chest and lumbar spine, simply drawn.

Frames have ``x`` across the film, ``y`` to the feet. The shoulder's zero is the middle of the humeral head
with ``x`` lateral; the chest's the middle of the thorax; the spine's the middle of the lumbar column.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from KneeBoneAgeLib.phantom.others.hip import MIRROR, draw_hemipelvis, draw_sacrum, draw_vertebrae
from KneeBoneAgeLib.phantom.others.rods import Profile
from KneeBoneAgeLib.phantom.others.skeleton import Part, Plate, turn

HUMERUS_PROXIMAL: Profile = (
    (0, 20, 20),
    (0.05, 24, 22),
    (0.09, 22, 20),
    (0.14, 15, 15),
    (0.23, 12, 12),
    (1, 11, 11),
)


def draw_ribs(chest: Part, sides: tuple[int, ...] = (-1, 1)) -> None:
    """Ten ribs a side, each a back arc and most a front arc, and the lung's air."""
    for sign in sides:
        chest.flesh(
            (sign * 62, -118, 0),
            (sign * 68, 95, 0),
            (18, 45),
            (52, 70),
            (62, 78),
            (62, 75),
            (45, 40),
            caps=(1.0, 0.3),
            amount=-0.75,
        )
        for k in range(10):
            y = -118 + 25 * k
            rx = 60 + 75 * np.sin(np.pi * min(k + 1, 7) / 14)
            chest.arc((sign * 10, y + 30, 0), (rx, 42), (205, 355) if sign > 0 else (185, 335), 5.0, 1.3)
            if 1 < k < 8:
                chest.arc(
                    (sign * 42, y + 18, 0), (rx - 32, 55), (10, 75) if sign > 0 else (105, 170), 5.5, 1.0
                )


def draw_scapula_and_clavicle(side: Part) -> None:
    """Scapula and clavicle: ``side`` has its zero at the humeral head, ``x`` lateral."""
    look: dict[str, Any] = {"cortex_mm": 1.6, "marrow": 0.15, "trabecular": 0.22}
    side.body((-32, -22, 0), (-33, 22, 0), ((0, 8, 10), (0.5, 7, 13), (1, 8, 10)), **look)
    side.body((-36, 14, 0), (-78, 118, -10), ((0, 8, 7), (0.5, 5, 6), (1, 6, 5)), **look)
    side.body((-112, -50, -10), (-80, 116, -10), ((0, 4, 4), (1, 5, 5)), bow_mm=6, **look)
    side.body(
        (-70, -48, -10),
        (-74, 108, -10),
        ((0, 40, 3), (0.4, 34, 2.5), (1, 8, 2)),
        trabecular=0.5,
        caps=(0.5, 0.5),
    )
    side.body((-106, -34, -14), (14, -44, -5), ((0, 4, 4), (0.6, 6, 5), (1, 11, 8)), **look)
    side.body((-42, -26, 6), (-18, -30, 25), ((0, 8, 8), (1, 6, 6)), **look)
    side.body(
        (8, -50, 0),
        (-142, -42, 20),
        ((0, 9, 6), (0.3, 6, 5.5), (0.7, 6.5, 6), (1, 11, 10)),
        bow_mm=-6,
        cortex_mm=2.2,
        marrow=0.1,
    )


def draw_upper_arm(side: Part) -> None:
    """Humeral head and a shaft that runs off the film."""
    side.flesh((0, -32, 0), (4, 620, 0), (48, 48), (50, 50), (46, 46), (44, 44), caps=(0.9, 0.02))
    side.bone(
        (0, -25, 0),
        (4, 600, 0),
        HUMERUS_PROXIMAL,
        start=Plate(34, 0.2, 6.0, 17.5),
        caps=(1.0, 0.02),
        cortex_mm=4.0,
        marrow=0.04,
        trabecular=0.13,
    )


def draw_shoulder(part: Part) -> None:
    """Shoulder from the front with the upper ribs."""
    rng = part.rng
    part.flesh((-170, -40, 0), (-150, 260, 0), (120, 90), (125, 105), (125, 110), caps=(0.8, 0.02))
    part.flesh((-175, -190, 0), (-175, 20, 0), (50, 55), (55, 55), (100, 60), (150, 70), caps=(0.02, 0.3))
    part.flesh((-110, -45, 0), (10, 10, 0), (56, 45), (58, 50), (57, 48), caps=(0.9, 1.0))
    draw_ribs(part.joint((-175, 95, 0)), sides=(1,))
    draw_scapula_and_clavicle(part)
    turned = turn("z", -abs(rng.normal(8, 14))) @ turn("y", rng.normal(0, 20))
    draw_upper_arm(part.joint((0, 0, 0), turned))


def draw_chest(part: Part) -> None:
    """Chest from the front: lungs, heart, ribs, spine and shoulders."""
    rng = part.rng
    part.flesh(
        (0, -280, 0),
        (0, 400, 0),
        (52, 55),
        (56, 55),
        (150, 85),
        (158, 105),
        (152, 105),
        (146, 100),
        (142, 95),
        caps=(0.02, 0.02),
    )
    draw_ribs(part)
    part.flesh((-5, -90, 0), (18, 75, 0), (26, 60), (38, 90), (62, 110), caps=(0.5, 0.8))
    draw_vertebrae(part, bottom_mm=220, count=17, height_mm=30, half_mm=20, shrink=0.975)
    for sign in (-1, 1):
        side = part.joint((sign * 165.0, -95, 0), MIRROR if sign < 0 else None)
        side.flesh((-125, -42, 0), (5, 8, 0), (42, 45), (50, 50), (50, 48), caps=(1.0, 1.0))
        draw_scapula_and_clavicle(side)
        draw_upper_arm(side.joint((0, 0, 0), turn("z", rng.normal(-8, 8))))


def draw_spine(part: Part) -> None:
    """Lumbar spine from the front with the top of the pelvis and the lowest ribs."""
    rng = part.rng
    part.flesh((0, -330, 0), (0, 400, 0), (140, 95), (135, 100), (150, 105), (160, 110), caps=(0.02, 0.02))
    draw_vertebrae(part, bottom_mm=90, count=9, shrink=0.965)
    for k, reach in enumerate((70, 105, 120, 125)):
        for sign in (-1, 1):
            part.arc(
                (sign * 8, -80 - 32 * k + 40, 0),
                (reach, 48),
                (215, 330) if sign > 0 else (210, 325),
                4.5,
                1.2,
            )
    pelvis = part.joint((0, 208, 0))
    draw_sacrum(pelvis)
    for sign in (-1, 1):
        draw_hemipelvis(pelvis.joint((sign * 90.0, 0, 0), MIRROR if sign < 0 else None))
    for _ in range(rng.integers(2, 8)):
        at = np.array([rng.uniform(-110, 110), rng.uniform(-120, 160), 0])
        part.flesh(
            at,
            at + np.array([rng.normal(0, 16), 15.0, 0]),
            (rng.uniform(8, 22), 16),
            (rng.uniform(8, 22), 16),
            caps=(1, 1),
            amount=-rng.uniform(0.5, 1),
        )
