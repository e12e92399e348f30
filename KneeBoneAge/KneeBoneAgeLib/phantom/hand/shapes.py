"""The adult shapes of the hand's bones: profiles, articular contours, carpal outlines.

Hand frame in mm: zero between radius and carpus, ``x`` to the thumb, ``y`` to the fingertips. Read off anatomy texts
and chosen to look plausible; positions and lengths of the rays are those of `others.arm`.
"""

from __future__ import annotations

import numpy as np

from .bones import Outline, Shape, outline


def _hollow(depth: float):
    return lambda s: depth * (1 - np.clip(s, -1, 1) ** 2)


def _dome(depth: float):
    return lambda s: depth * (1 - np.sqrt(1 - 0.93 * np.clip(s, -1, 1) ** 2))


def _condyles(notch: float):
    def contour(s: np.ndarray) -> np.ndarray:
        s = np.clip(np.abs(s), 0, 1)
        return notch * np.cos(np.minimum(s / 0.55, 1) * np.pi / 2) ** 2 + 0.9 * np.maximum(s - 0.62, 0) ** 2

    return contour


def _ridge(height: float):
    def contour(s: np.ndarray) -> np.ndarray:
        s = np.clip(np.abs(s), 0, 1)
        return 0.05 + height * (np.sin(np.pi * np.minimum(s / 0.9, 1)) ** 2 - 0.6 * np.exp(-((s / 0.2) ** 2)))

    return contour


def _radial_joint(s: np.ndarray) -> np.ndarray:
    s = np.clip(s, -1, 1)
    return -0.27 * s + 0.10 * (1 - s**2) - 0.35 * np.maximum(s - 0.6, 0) + 0.05


def _ulnar_joint(s: np.ndarray) -> np.ndarray:
    return 0.06 * np.clip(s, -1, 1) ** 2 - 0.48 * np.exp(-(((s + 0.74) / 0.2) ** 2))


def _skewed(slope: float, notch: float = 0.0):
    return lambda s: slope * np.clip(s, -1, 1) + notch * np.cos(np.clip(s, -1, 1) * np.pi / 2) ** 2


_PROXIMAL = (
    (0, 0.06, 0.13, 0.24, 0.42, 0.6, 0.76, 0.86, 0.94, 1.0),
    (0.93, 1.0, 0.96, 0.78, 0.63, 0.58, 0.60, 0.70, 0.745, 0.66),
)
_MIDDLE = (
    (0, 0.08, 0.17, 0.3, 0.48, 0.64, 0.78, 0.87, 0.95, 1.0),
    (0.92, 1.0, 0.93, 0.72, 0.57, 0.53, 0.58, 0.69, 0.74, 0.66),
)
_DISTAL = (
    (0, 0.09, 0.2, 0.34, 0.5, 0.64, 0.76, 0.86, 0.94, 1.0),
    (0.88, 1.0, 0.86, 0.58, 0.43, 0.40, 0.49, 0.64, 0.66, 0.5),
)
_METACARPAL = (
    (0, 0.05, 0.1, 0.16, 0.24, 0.36, 0.5, 0.64, 0.8, 0.9, 0.97, 1.0),
    (0.92, 1.0, 1.0, 0.93, 0.76, 0.6, 0.53, 0.53, 0.64, 0.8, 0.88, 0.82),
)
_THUMB_METACARPAL = (
    (0, 0.07, 0.15, 0.28, 0.46, 0.62, 0.76, 0.88, 0.96, 1.0),
    (0.92, 1.0, 0.93, 0.72, 0.58, 0.58, 0.68, 0.84, 0.88, 0.78),
)

METACARPALS: tuple[Shape, ...] = (
    Shape(*_THUMB_METACARPAL, 8.0, 0.13, _hollow(0.10), _dome(0.5), 0.85, 0.42),
    Shape(*_METACARPAL, 8.0, 0.145, _dome(0.62), _skewed(0.05, 0.2), 0.95, 0.5),
    Shape(*_METACARPAL, 7.8, 0.145, _dome(0.62), _skewed(-0.15), 0.95, 0.5),
    Shape(*_METACARPAL, 6.9, 0.15, _dome(0.62), _skewed(0.05), 0.95, 0.5),
    Shape(*_METACARPAL, 6.7, 0.155, _dome(0.62), _skewed(0.12), 0.95, 0.5),
)
"""Rays 1 (thumb) to 5; the plate of the thumb's lies at its base, that of the others at the head."""

PROXIMAL: tuple[Shape, ...] = tuple(
    Shape(*_PROXIMAL, half, 0.125, _hollow(0.13), _condyles(0.1), 0.8, 0.42)
    for half in (8.2, 8.3, 8.4, 7.9, 7.0)
)
MIDDLE: tuple[Shape, ...] = tuple(
    Shape(*_MIDDLE, half, 0.165, _ridge(0.08), _condyles(0.1), 0.75, 0.45)
    for half in (7.1, 7.1, 7.4, 7.0, 6.0)
)
"""The first is never drawn: a thumb has no middle phalanx."""
DISTAL: tuple[Shape, ...] = tuple(
    Shape(*_DISTAL, half, 0.19, _ridge(0.07), _dome(0.35), 0.7, 0.5) for half in (8.0, 6.1, 6.4, 6.3, 5.5)
)

RADIUS_MM, ULNA_MM = 170.0, 168.0
"""Lengths drawn; a film of the hand shows less."""


def _shares(length_mm: float, *levels_mm: float) -> tuple[float, ...]:
    return tuple(level / length_mm for level in (*levels_mm, length_mm))


RADIUS = Shape(
    _shares(RADIUS_MM, 0, 5, 10.5, 15, 22, 31, 42, 57, 85),
    (0.98, 1.02, 1.0, 0.95, 0.8, 0.62, 0.5, 0.46, 0.46, 0.46),
    15.3,
    10.8 / RADIUS_MM,
    _radial_joint,
    _hollow(0),
    0.66,
    0.34,
    (0.0, 0.0, 0.0, 0.02, 0.06, 0.1, 0.12, 0.1, 0.02, -0.3),
)
ULNA = Shape(
    _shares(ULNA_MM, 0, 3, 6.5, 10.5, 16, 24, 38, 65),
    (0.98, 1.03, 1.0, 0.93, 0.8, 0.7, 0.66, 0.7, 0.8),
    8.0,
    6.7 / ULNA_MM,
    _ulnar_joint,
    _hollow(0),
    0.9,
    0.36,
)
RADIUS_AT, ULNA_AT = (5.2, 0.4), (-20.3, -2.4)
"""Middles of their joint surfaces."""

CARPAL_OUTLINES: dict[str, Outline] = {
    "capitate": outline(
        ((-2.5, 11.3), (1, 10.2), (4.5, 11.8), (6.2, 15.2), (5.3, 19.5), (6.2, 24), (7.8, 30), (7.2, 34.2), (1, 35.2),
         (-4.3, 34.2), (-5.3, 29), (-4.8, 24), (-5.2, 18), (-4.7, 14)), 8.5),
    "hamate": outline(
        ((-5.9, 14.2), (-7.5, 12.9), (-9.5, 15), (-13, 18.8), (-17, 23.5), (-19.4, 28), (-18.6, 31), (-13, 33),
         (-6.4, 34), (-6.3, 28), (-6.3, 20)), 8.0),
    "triquetrum": outline(
        ((-11.6, 9.8), (-14.5, 7.4), (-19, 7.6), (-22.3, 10.5), (-22.8, 14.5), (-21.5, 19), (-19.5, 22), (-16.8, 21),
         (-13.8, 16.6), (-11.3, 13.3)), 6.5),
    "lunate": outline(
        ((-10.3, 5), (-8, 1.6), (-3.5, 0.6), (1, 1.2), (3.0, 4), (2.7, 8.6), (1, 10.0), (-1.5, 9.0), (-4, 9.7),
         (-6.6, 11.6), (-9.6, 11.9), (-10.6, 8.5)), 7.5),
    "scaphoid": outline(
        ((4.6, 8), (4.2, 4.2), (7, 1.9), (11.5, 1.9), (16, 4.2), (18.3, 8.5), (19.8, 13.5), (19.6, 17.6), (16.6, 19.7),
         (13, 19.6), (10.5, 17), (8, 14.5), (6.2, 12)), 6.0),
    "trapezium": outline(
        ((15, 22.8), (17.5, 21.4), (22, 20.0), (26, 22.3), (28.2, 27), (26.7, 30.6), (23, 30.6), (19, 33), (16.4, 30.6),
         (15.6, 27)), 7.5),
    "trapezoid": outline(
        ((8.3, 24.5), (10.6, 21.4), (14, 21.3), (16, 24), (16.4, 29), (15.6, 33), (11.5, 34.8), (9.3, 33.2),
         (8.6, 29)), 7.0),
    "pisiform": outline(
        ((-22.8, 14), (-21, 10.6), (-18, 10.2), (-15.6, 13), (-15.4, 16.5), (-17.5, 19.2), (-20.5, 18.6)), 5.0),
}  # fmt: skip
HOOK_AT, HOOK_HALF = (-11.5, 26.0), (3.2, 4.2)
"""The hook of the hamate, seen end on as a ring."""
