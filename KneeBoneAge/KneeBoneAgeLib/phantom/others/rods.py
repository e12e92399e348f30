"""Profiles of bodies along their axis, and their beam paths on blocks of pixels.

A body is drawn from two tables over its seen length: the squared half width, and the path per half width.
The chord at a distance u from the axis is then √(half² − u²) times the second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.interpolate import PchipInterpolator

from KneeBoneAgeLib.phantom.solids import Canvas

Profile = tuple[tuple[float, float, float], ...]
"""Control sections (fraction of the length, half width mm, half depth mm) from 0 to 1."""

BLOCK_PIXELS = 12_000
"""Pixels drawn at a time: their arrays stay in cache."""
UNIT = np.linspace(0, 1, 97)
"""Fractions of the length at which profiles are sampled."""


@lru_cache(maxsize=512)
def curves(profile: Profile) -> tuple[np.ndarray, np.ndarray]:
    """Half widths and half depths (mm) of a profile at `UNIT`."""
    levels, wide, deep = np.array(profile, float).T
    return PchipInterpolator(levels, wide)(UNIT), PchipInterpolator(levels, deep)(UNIT)


def block(half_width: float, half_depth: float) -> Profile:
    """A short bone: one section, rounded off by its caps."""
    return ((0, half_width, half_depth), (1, half_width, half_depth))


def tube(start: float, shaft: float, end: float, depth: float = 0.85) -> Profile:
    """A tubular bone with flared ends; half widths in mm, ``depth`` the ratio of depth to width."""
    sections = (
        (0, start),
        (0.1, 0.97 * start),
        (0.3, 0.55 * shaft + 0.45 * (0.4 * start + 0.6 * shaft)),
        (0.5, shaft),
        (0.72, 0.85 * shaft + 0.15 * end),
        (0.92, 0.98 * end),
        (1, end),
    )
    return tuple((t, a, a * depth) for t, a in sections)


def padded(table: np.ndarray) -> np.ndarray:
    """A table as float32 between two zeros."""
    out = np.zeros(table.size + 2, np.float32)
    out[1:-1] = table
    return out


def look_up(tables: tuple[np.ndarray, np.ndarray], u_squared: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Beam path from the tables of a body."""
    path = tables[0].take(index, mode="clip")
    path -= u_squared
    np.maximum(path, 0, out=path)
    np.sqrt(path, out=path)
    path *= tables[1].take(index, mode="clip")
    return path


@dataclass(frozen=True)
class Line:
    """A body's axis on the film: start, direction, length in mm, table nodes per mm, reach to its sides."""

    x_mm: float
    y_mm: float
    dx: float
    dy: float
    length_mm: float
    knots: float
    reach_mm: float

    def on(self, canvas: Canvas) -> bool:
        """Whether any of the body may be on the film."""
        rows, columns = self._span(canvas, 0, canvas.shape[0])
        return rows.stop > rows.start and columns.stop > columns.start

    def blocks(self, canvas: Canvas) -> Iterator[tuple[slice, slice, np.ndarray, np.ndarray]]:
        """Blocks of pixels along the body, their distance from the axis (mm) and index in the padded tables.

        They are small enough for their arrays to stay in cache, and narrow where the body lies obliquely.
        """
        everything, columns = self._span(canvas, 0, canvas.shape[0])
        height = max(4, BLOCK_PIXELS // max(columns.stop - columns.start, 1))
        for first in range(everything.start, everything.stop, height):
            rows, columns = self._span(canvas, first, min(first + height, everything.stop))
            if columns.stop <= columns.start or rows.stop <= rows.start:
                continue
            spacing = canvas.spacing_mm
            x = np.arange(columns.start, columns.stop, dtype=np.float32)
            y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
            x, y = x * spacing + (0.5 * spacing - self.x_mm), y * spacing + (0.5 * spacing - self.y_mm)
            # Tables have one empty node at either end, so that what lies beyond looks up zero.
            w = (x * (self.dx * self.knots) + 1.5) + y * (self.dy * self.knots)
            yield rows, columns, y * self.dx - x * self.dy, w.astype(np.intp)

    def _span(self, canvas: Canvas, first_row: int, last_row: int) -> tuple[slice, slice]:
        spacing = canvas.spacing_mm
        ex, ey = self.reach_mm * abs(self.dy), self.reach_mm * abs(self.dx)
        end_x, end_y = self.x_mm + self.dx * self.length_mm, self.y_mm + self.dy * self.length_mm
        low, high = min(self.x_mm, end_x) - ex, max(self.x_mm, end_x) + ex
        r0 = max(int((min(self.y_mm, end_y) - ey) / spacing) - 1, first_row)
        r1 = min(int((max(self.y_mm, end_y) + ey) / spacing) + 2, last_row)
        if abs(self.dy) > 0.05:
            slope = self.dx / self.dy
            at = [(r * spacing - self.y_mm) * slope + self.x_mm for r in (r0, r1)]
            across = self.reach_mm / abs(self.dy)
            low, high = max(low, min(at) - across), min(high, max(at) + across)
        c0, c1 = max(int(low / spacing) - 1, 0), min(int(high / spacing) + 2, canvas.shape[1])
        return slice(r0, max(r1, r0)), slice(c0, max(c1, c0))
