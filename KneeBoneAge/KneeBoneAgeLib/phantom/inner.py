"""What the insides of grown and growing bones show beside their physes: how dense they are from place to place.

The walls of the intercondylar fossa and the backs of the condyles in the femur, the rims of the plateau and the bone
under it in the tibia, streams of trabeculae, denser and emptier islands, growth-arrest lines. Where they lie and how
much of them is seen is a person's own and says nothing about age.

A bone's inside is a table over its frame: mineral is multiplied by 1 + density. So a gap in the bone stays one.
Positions were read off frontal anatomy in general; amplitudes were chosen, because none are published.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .solids import Canvas, Pose

STEP = 0.008
"""Step of the tables in metaphyseal widths: 0.6 mm in an adult."""

REACH = 0.72
"""How far a table goes to both sides, in metaphyseal widths."""

MOST = np.float32(0.85)
"""Bound of the relative density."""

STRIP_ROWS = 64
"""Rows of the canvas that are worked on at a time."""

TILE = 256
"""Entries of a side of the periodic noise that islands and streams are cut from."""

ISLANDS, STREAMS = ((1.8, 1.8), (3.5, 4.0), (7.0, 6.0), (11.0, 10.0)), (20.0, 1.1)
"""Widths (along, across) of islands of each size and of trabecular streams, in steps of the tables."""

_NOISE: list[np.ndarray] = []


@dataclass(frozen=True)
class End:
    """One end of a long bone, for which a table is made; lengths in mm, heights ``w`` in its frame.

    Attributes
    ----------
    unit : float
        Width of the metaphysis.
    proximal : int
        +1 where the shaft lies above the joint, -1 where it lies below.
    joint, physis : float
        Heights of the bone's end at the joint and of the shaft's end at the physis.
    half : float
        Half width of the epiphysis.
    formed : float
        How much of the grown shape the epiphysis has, 0 to 1.
    frontal : float
        Share of what is seen from the front that this view shows, 0 to 1.
    slant : tuple of float
        Shift (across, up) of what lies one mm behind, in mm: the sines of view and tilt.
    """

    unit: float
    proximal: int
    joint: float
    physis: float
    half: float
    formed: float
    frontal: float
    slant: tuple[float, float] = (0.0, 0.0)


class Table:
    """Relative density of one end of a bone over ``u`` and the distance from the joint, both in metaphyseal widths.

    Attributes
    ----------
    u, t : float32 (1, columns) and (rows, 1)
        Lateral positive, and towards the shaft positive from the bone's end at the joint.
    half, physis : float
        Half width of the epiphysis, and ``t`` of the shaft's end at the physis.
    density : float32 (rows, columns)
    """

    def __init__(self, end: End, rng: np.random.Generator) -> None:
        self.end, self.rng = end, rng
        self.half = float(end.half / end.unit)
        self.physis = float((end.physis - end.joint) * end.proximal / end.unit)
        self.u = np.arange(-REACH, REACH, STEP, dtype=np.float32)[None, :]
        self.t = np.arange(-0.2, min(self.physis + 0.95, 1.75), STEP, dtype=np.float32)[:, None]
        self.density = np.zeros((self.t.size, self.u.size), np.float32)

    def part(self, t: tuple[float, float], u: tuple[float, float] = (-1, 1)) -> tuple[slice, slice]:
        """Rows and columns between two heights and two places across."""
        one, other = np.searchsorted(self.t[:, 0], t)
        left, right = np.searchsorted(self.u[0], u)
        return slice(one, other), slice(left, right)

    def islands(self, most: float) -> None:
        """Denser and emptier places of 2 to 12 mm; ``most`` of each size."""
        for k, amount in enumerate(self.rng.uniform(0, most, len(ISLANDS))):
            self.density += np.float32(amount) * self.noise(k)

    def patchy(self, amount: float) -> None:
        """Let all that was added so far be stronger here and weaker there."""
        self.density *= np.maximum(1 + np.float32(amount) * self.noise(2), 0)

    def streams(self, amount: float) -> None:
        """Trabeculae along the bone, which spread towards the joint."""
        narrow = 0.45 + 0.55 * np.exp(-self.t.clip(0, None) / 0.6)
        columns = ((self.u / STEP) / narrow + TILE).astype(np.intp)
        first = int(self.rng.integers(TILE))
        rows = np.arange(first, first + self.t.size)[:, None] * (2 * TILE)
        self.density += np.float32(amount) * _noise()[-1].take(rows + columns)

    def canal(self, amount: float, start: float, width: float) -> None:
        """Empty marrow in the middle of the shaft from ``start`` on."""
        inside = np.exp(-((self.u / width) ** 2)) * _rise(self.t - start, 0.35)
        self.density -= np.float32(amount) * inside

    def arrest_lines(self) -> None:
        """Dense lines across the metaphysis, parallel to the physis, some only on one side."""
        rng = self.rng
        for _ in range(int(rng.poisson(1.1))):
            away, bend = self.physis + 0.03 + 0.6 * rng.beta(1.1, 2.0), rng.normal(0, 0.12)
            at = away + bend * self.u**2 + rng.normal(0, 0.03) * self.u
            self.curve(
                rng.uniform(0.03, 0.28),
                at,
                rng.normal(0, 0.15),
                rng.uniform(0.12, 0.6),
                rng.uniform(0.006, 0.02),
            )

    def blob(self, amount: float, u: float, t: float, across: float, along: float) -> None:
        """A denser (or emptier) place with soft edges around (u, t)."""
        part = self.part((t - 2.5 * along, t + 2.5 * along), (u - 2.5 * across, u + 2.5 * across))
        along_ = np.float32(amount) * np.exp(-(((self.t[part[0]] - t) / along) ** 2))
        self.density[part] += along_ * np.exp(-(((self.u[:, part[1]] - u) / across) ** 2))

    def curve(self, amount: float, at: np.ndarray, middle: float, reach: float, width: float) -> None:
        """A dense line of half ``width`` along t = ``at`` (1, columns), ``reach`` to both sides of ``middle``."""
        columns = self.part((0, 0), (middle - 1.5 * reach, middle + 1.5 * reach))[1]
        at, u = at[:, columns] + 0.006 * self.noise(2)[:1, columns], self.u[:, columns]
        if not at.size:
            return
        rows = self.part((float(at.min()) - 2.5 * width, float(at.max()) + 2.5 * width))[0]
        line = np.exp(-(((self.t[rows] - at) * (1 / width)) ** 2))
        line *= np.float32(amount) * np.exp(-(((u - middle) / reach) ** 4))
        self.density[rows, columns] += line

    def multiply(self, canvas: Canvas, pose: Pose) -> None:
        """Multiply the mineral of the canvas by 1 + density where the bone of this pose lies."""
        end = self.end
        reach = REACH * end.unit
        low, high = sorted(end.joint + end.proximal * end.unit * float(t) for t in self.t[[0, -1], 0])
        window = canvas.window(pose, (-reach, reach), (low, high))
        if window is None:
            return
        # Nothing beyond the joint, where the other bone may lie, and no seam in the shaft.
        self.density *= _rise(self.t + 0.04, 0.04) * _rise(self.t[-1] - 0.05 - self.t, 0.25)
        # However much comes together in one place, bone is at most MOST denser or emptier.
        factor = _twice(1 + self.density / np.sqrt(1 + (self.density / MOST) ** 2))
        rows, columns = factor.shape
        step = np.float32(0.5 * STEP * end.unit)
        t0 = np.float32(end.joint / step + end.proximal * float(self.t[0, 0]) * 2 / STEP)
        factor[[0, -1]] = factor[:, [0, -1]] = 1.0
        for first in range(0, len(window.y), STRIP_ROWS):
            patch = window.patch(slice(first, first + STRIP_ROWS))
            u, t = patch.u, patch.w
            u *= 1 / step
            u += columns / 2
            t *= 1 / step
            t -= t0
            t *= end.proximal
            np.clip(u, 0, columns - 1, out=u)
            np.clip(t, 0, rows - 1, out=t)
            index = t.astype(np.intp)
            index *= columns
            index += u.astype(np.intp)
            canvas.bone_mm[patch.rows, patch.columns] *= factor.take(index)

    def noise(self, index: int) -> np.ndarray:
        """Periodic noise of SD 1 as large as the table, from anywhere; a view."""
        row, column = self.rng.integers(TILE, size=2)
        return _noise()[index][row : row + self.t.size, column : column + self.u.size]


def femoral(end: End, rng: np.random.Generator, notch_depth: float) -> Table:
    """The inside of the distal femur; ``notch_depth`` in widths."""
    table, uniform = Table(end, rng), rng.uniform
    grown, half = end.formed * end.frontal, table.half
    for side in (-1, 1):
        _back_of_condyle(table, side, grown)
        # The margin beside the condyle is thin; the epicondyle on it has a small ring of its own.
        margin = np.float32(uniform(0, 0.3) * grown) * _rise(side * table.u - uniform(0.74, 0.9) * half, 0.05)
        table.density -= margin * _rise(table.physis + 0.2 - table.t, 0.15)
        table.blob(uniform(-0.25, 0.2) * grown, side * uniform(0.7, 0.92) * half, uniform(0.1, 0.36),
                   uniform(0.03, 0.07), uniform(0.03, 0.09))  # fmt: skip
    # Roof of the fossa, its lucent hollow, and the edge of the groove for the patella.
    width = uniform(0.09, 0.16)
    roof = notch_depth * np.exp(-((np.abs(table.u) / (0.5 * half)) ** 2.6)) + uniform(0.01, 0.09)
    table.curve(uniform(0, 0.6) * grown, roof, rng.normal(0, 0.03), uniform(0.12, 0.3), uniform(0.015, 0.04))
    table.blob(
        uniform(-0.28, 0.05) * grown, rng.normal(0, 0.03), uniform(0.14, 0.26), width, uniform(0.05, 0.1)
    )
    groove = uniform(0.3, 0.45) + rng.normal(0, 0.25) * table.u - uniform(0, 0.8) * table.u**2
    table.curve(
        uniform(-0.05, 0.2) * grown, groove, rng.normal(0.05, 0.1), uniform(0.1, 0.3), uniform(0.01, 0.03)
    )
    # Between the lines that bound the popliteal surface the shaft is thin.
    sides = uniform(0.16, 0.26) * np.exp(-(table.t - table.physis).clip(0, None) / 0.8)
    surface = _rise(sides - np.abs(table.u), 0.04) * _rise(table.t - table.physis - uniform(0, 0.15), 0.15)
    table.density -= np.float32(uniform(0, 0.22) * end.frontal) * surface
    _finish(table)
    return table


def _back_of_condyle(table: Table, side: int, grown: float) -> None:
    """The back of a condyle, seen through its front: denser inside, with a line along its wall and over its top."""
    uniform, half = table.rng.uniform, table.half
    depth, (aside, up) = uniform(0.15, 0.4), table.end.slant
    across, top = uniform(0.32, 0.42) * half, min(uniform(0.62, 1.02) * table.physis, table.physis - 0.01)
    middle = side * (uniform(0.12, 0.3) * half + across)
    round_ = np.float32(uniform(2.5, 5.0))
    part = table.part((-0.1, 1.15 * top + 0.1), (middle - 1.2 * across, middle + 1.2 * across))
    u = (table.u[:, part[1]] - middle - depth * aside) / across
    t = (table.t[part[0]] - depth * up * table.end.proximal) / max(top, 0.05)
    out = (np.abs(u) ** round_ + t.clip(0, None) ** round_) ** (1 / round_)
    out += np.float32(0.04) * table.noise(2)[part]
    rim = np.float32(uniform(0, 0.6)) * np.exp(-(((out - 0.97) * (1 / uniform(0.03, 0.07))) ** 2))
    inner = 1 / (1 + np.exp(side * u * 3))
    rim *= inner + uniform(0, 1) * (1 - inner)
    rim *= t > 0.05
    inside = np.float32(uniform(0.0, 0.34)) * _rise(1 - out, uniform(0.06, 0.3))
    table.density[part] += np.float32(grown) * (inside + rim)
    table.blob(uniform(0, 0.35) * grown, side * uniform(0.3, 0.55) * half, 0.0, uniform(0.1, 0.22),
               uniform(0.02, 0.08))  # fmt: skip


def tibial(end: End, rng: np.random.Generator) -> Table:
    """The inside of the proximal tibia."""
    table, uniform = Table(end, rng), rng.uniform
    grown, half = end.formed * end.frontal, table.half
    for side in (-1, 1):
        # Bone under the plateau, and the plateau's front and back rims at their own heights.
        middle = side * uniform(0.4, 0.6) * half
        dish = 0.02 - uniform(0, 0.25) * (table.u - middle) ** 2
        table.curve(uniform(0, 0.75) * grown, dish, middle, uniform(0.1, 0.22), uniform(0.018, 0.06))
        for _ in range(2):
            low = uniform(0.03, 0.16) - uniform(-0.2, 0.6) * (table.u - middle) ** 2
            low = low + rng.normal(0, 0.07) * (table.u - middle)
            middle_line = side * uniform(0.3, 0.6) * half
            table.curve(
                uniform(-0.05, 0.45) * grown, low, middle_line, uniform(0.08, 0.22), uniform(0.007, 0.018)
            )
        table.blob(uniform(-0.35, 0.2) * grown, side * uniform(0.5, 0.85) * half, uniform(0.12, 0.4),
                   uniform(0.05, 0.15), uniform(0.05, 0.15))  # fmt: skip
    table.blob(uniform(-0.2, 0.1) * grown, rng.normal(0, 0.04), uniform(0.06, 0.16), uniform(0.05, 0.12),
               uniform(0.04, 0.1))  # fmt: skip
    # Where the front of the shaft rises from the plateau the tibia is thicker, behind the canal thinner.
    table.blob(uniform(-0.1, 0.35) * end.frontal, rng.normal(0.02, 0.08), uniform(0.3, 0.6), uniform(0.05, 0.14),
               uniform(0.08, 0.25))  # fmt: skip
    _tuberosity_edge(table)
    _finish(table)
    return table


def _tuberosity_edge(table: Table) -> None:
    """Two lines that run down the shaft from the tuberosity's sides and near each other."""
    uniform = table.rng.uniform
    top, bottom, centre = uniform(0.28, 0.42), uniform(0.55, 0.95), table.rng.normal(0.03, 0.05)
    part = table.part((top, bottom), (-0.3, 0.3))
    t, u = table.t[part[0]], table.u[:, part[1]]
    along = _rise(t - top, 0.12) * _rise(bottom - t, 0.12)
    for side in (-1, 1):
        spread = (
            uniform(0.05, 0.14) * (1 - uniform(0.3, 1.0) * (t - top) / (bottom - top))
            + uniform(0, 0.2) * (t - top) ** 2
        )
        line = np.exp(-(((u - centre - side * spread) * (1 / uniform(0.012, 0.035))) ** 2))
        table.density[part] += np.float32(uniform(0, 0.28) * table.end.frontal) * line * along


def _finish(table: Table) -> None:
    """What any bone has: patchiness, islands, trabeculae, the canal, growth-arrest lines; some bones more of it."""
    uniform = table.rng.uniform
    table.arrest_lines()
    table.patchy(uniform(0.1, 0.5))
    table.islands(0.085)
    table.streams(uniform(0.0, 0.055))
    table.canal(uniform(0.0, 0.3), table.physis + uniform(0.1, 0.4), uniform(0.06, 0.14))
    table.density *= np.float32(np.exp(table.rng.normal(0.12, 0.35)))


def _rise(distance: np.ndarray, width: float) -> np.ndarray:
    """0 below zero, 1 above ``width``, smooth between."""
    t = np.clip(distance / np.float32(width), 0, 1)
    return t * t * (3 - 2 * t)


def _noise() -> list[np.ndarray]:
    """Noise of SD 1 with the period `TILE`, two periods each way: islands of each size, then streams."""
    if not _NOISE:
        from scipy.ndimage import gaussian_filter

        rng = np.random.default_rng(33)
        for widths in (*ISLANDS, STREAMS):
            tile = gaussian_filter(rng.normal(size=(TILE, TILE)), widths, mode="wrap")
            _NOISE.append(np.tile((tile / tile.std()).astype(np.float32), (2, 2)))
    return _NOISE


def _twice(table: np.ndarray) -> np.ndarray:
    """A table with one more entry between any two neighbours, (2 rows, 2 columns); the last ones repeated."""
    out = np.empty((2 * table.shape[0], 2 * table.shape[1]), np.float32)
    out[::2, ::2] = table
    out[::2, 1:-1:2] = 0.5 * (table[:, 1:] + table[:, :-1])
    out[::2, -1] = table[:, -1]
    out[1:-1:2] = 0.5 * (out[:-2:2] + out[2::2])
    out[-1] = out[-2]
    return out
