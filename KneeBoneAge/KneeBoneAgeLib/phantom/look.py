"""How a film looks: every setting of one exposure, drawn at random, and the way from beam paths to the finished film.

`Look.draw` covers what departments of different vendors deliver; `Look.draw_strong` adds domain randomisation far beyond
that for training what must hold on films never seen. `expose` applies a look to the beam paths of a scene.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from . import props
from .beam import Beam, Detector, beam_profile, detect, scatter, transmission
from .grids import CoarseGrid, noise_tile
from .processing import BAND_MM, Damage, Processing, damage, present

FIELD_CELL_MM = 1.2
CAST_SOFT_EQUIVALENT = 0.045  # 1/mm, attenuation of plaster of Paris bandage (about 1.0 g/cm³) near 45 keV
TEXTS = ("KNEE", "R KNEE AP", "AP", "L", "R", "PORT", "ERECT", "STANDING", "Knee J.", "12:47", "TJ", "WB", "0042", "1/1")
HARDWARE = ("tibial nail", "femoral nail", "tibial plate", "femoral plate", "screws", "eight-plates")


@dataclass(frozen=True)
class Collimation:
    """A rectangular field; `margins` are fractions of the film hidden at the left, top, right and bottom."""

    margins: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    angle_deg: float = 0.0
    edge_mm: float = 1.5
    leak: float = 0.004
    shutter: float | None = None  # grey painted over what lies outside; None shows it bright as it is


@dataclass(frozen=True)
class Look:
    """All settings of one film; equal looks, scenes and seeds give equal films."""

    beam: Beam = Beam()
    detector: Detector = Detector()
    processing: Processing = Processing()
    collimation: Collimation = Collimation()
    labels: tuple[props.Label, ...] = ()
    muscle: float = 0.02  # deviation of soft-tissue path by muscles and fat planes, fraction
    hardware: str | None = None
    cast_mm: float = 0.0
    table_lines: int = 0
    dust: int = 0
    border: str | None = None  # see props.add_border
    border_fraction: float = 0.005
    damage: Damage = field(default_factory=Damage)

    @staticmethod
    def draw(rng: np.random.Generator, strength: float = 1.0) -> Look:
        """Draw a look as departments deliver it; `strength` 0 is the plainest, 1 the full range."""
        return _draw(rng, float(strength))

    @staticmethod
    def draw_strong(rng: np.random.Generator) -> Look:
        """Draw a look for domain randomisation: a wide `draw` with a damaged picture on most films."""
        look = _draw(rng, 1.3)
        return replace(look, damage=_draw_damage(rng))

    def without_hardware(self) -> Look:
        """The same look with neither metal nor cast."""
        return replace(self, hardware=None, cast_mm=0.0)


def expose(projection: Any, look: Look, rng: np.random.Generator) -> np.ndarray:
    """Make the film of a scene.

    Parameters
    ----------
    projection : Scene or Canvas
        Beam paths `soft_mm`, `bone_mm`, `metal_mm` (float32 (rows, cols)) and `spacing_mm`, itself or as `.canvas`;
        `.knees` (each `centre_px`, `width_px`, `angle_deg`, `side`), if any, are kept free of labels and collimator.
    look : Look
    rng : numpy Generator
        Noise and the places of labels.

    Returns
    -------
    float32 (rows, cols) in [0, 1], bone bright (dark only where `look.damage.inverted`). `projection` is not changed.
    """
    canvas, knees = getattr(projection, "canvas", projection), tuple(getattr(projection, "knees", ()))
    shape, spacing = canvas.soft_mm.shape, float(canvas.spacing_mm)
    side = next((k.side for k in knees if k.side in ("R", "L")), None)
    metal, burned = _metal_and_labels(canvas, knees, look, side, rng)
    if metal is not None and not metal.any():
        metal = None
    grid = CoarseGrid(shape, max(2, round(FIELD_CELL_MM / spacing)))
    bands = CoarseGrid(shape, max(1, int(BAND_MM / spacing)))
    soft, bone = grid.sample(canvas.soft_mm), grid.sample(canvas.bone_mm)
    cell_mm = spacing * grid.factor

    light = beam_profile(grid, spacing, look.beam)
    collimation = _fit_to_knees(look.collimation, knees, shape)
    window = _collimator(grid, spacing, collimation)
    light *= window
    if look.cast_mm > 0:
        shell = props.cast_mm(soft, cell_mm, look.cast_mm, rng)
        light *= np.exp(np.float32(-CAST_SOFT_EQUIVALENT) * shell)
    if look.table_lines:
        light *= _table(grid, look.table_lines, rng)
    through = transmission(soft, bone, None, look.beam)
    if look.muscle > 0:
        light *= np.exp(_muscle(grid.cells, cell_mm, rng) * np.float32(-look.muscle) * 0.024 * soft)
    through *= light
    scattered = scatter(grid, spacing, through, soft, look.beam)

    seen = (window > 0.5) & (soft > 6.0)
    through += scattered
    exposure = float(np.median(through[seen])) if seen.any() else 0.2
    log_signal, pooled = detect(
        canvas.soft_mm, canvas.bone_mm, metal, spacing, light, scattered, grid, bands, look.beam, look.detector,
        exposure, rng,
    )  # fmt: skip
    anatomy = _nearest(grid, bands, seen)
    if metal is not None:
        anatomy &= bands.sample(metal) < 0.3
    film = present(log_signal, pooled, bands, anatomy, spacing, look.processing)
    if collimation.shutter is not None:
        _close_shutter(film, spacing, collimation)
    for stamp in burned:
        _burn_in(film, *stamp)
    if look.dust:
        props.add_dust(film, look.dust, rng)
    if look.border:
        props.add_border(film, look.border, round(look.border_fraction * max(shape)), rng)
    return damage(film, look.damage, rng)


def _metal_and_labels(canvas: Any, knees: tuple, look: Look, side: str | None, rng: np.random.Generator):
    """Metal with hardware and lead letters (None = the scene has none), and the stamps to burn in afterwards."""
    metal = canvas.metal_mm
    lead = [label for label in look.labels if not label.burned_in]
    if lead or (look.hardware and knees):
        metal = metal.copy()
    if look.hardware and knees:
        props.add_hardware(metal, canvas.spacing_mm, knees[int(rng.integers(len(knees)))], look.hardware, rng)
    free = [(*k.centre_px, 0.62 * k.width_px) for k in knees]
    burned = []
    for label in look.labels:
        # the workstation writes in proportion to the film, lead letters have their size
        size = max(metal.shape) * canvas.spacing_mm / 300 if label.burned_in else 1.0
        grey, cover = props.stamp(label, canvas.spacing_mm / size, side)
        spot = props.place(metal.shape, cover.shape, free, rng)
        if spot is None:
            continue
        row, col = spot
        free.append((col + cover.shape[1] / 2, row + cover.shape[0] / 2, 0.5 * float(np.hypot(*cover.shape))))
        if label.burned_in:
            burned.append((grey, cover, row, col))
        else:
            patch = metal[row : row + cover.shape[0], col : col + cover.shape[1]]
            patch += grey * cover * np.float32(props.LEAD_AS_STEEL_MM)
    return metal, burned


def _burn_in(film: np.ndarray, grey: np.ndarray, cover: np.ndarray, row: int, col: int) -> None:
    patch = film[row : row + cover.shape[0], col : col + cover.shape[1]]
    patch += cover * (grey - patch)


def _fit_to_knees(collimation: Collimation, knees: tuple, shape: tuple[int, int]) -> Collimation:
    """Open the field as far as the knees need: 0.7 widths around each joint stay exposed."""
    left, top, right, bottom = collimation.margins
    slack = abs(np.tan(np.deg2rad(collimation.angle_deg)))
    for knee in knees:
        (x, y), reach = knee.centre_px, 0.7 * knee.width_px
        left = min(left, (x - reach) / shape[1] - slack / 2)
        right = min(right, (shape[1] - x - reach) / shape[1] - slack / 2)
        top = min(top, (y - reach) / shape[0] - slack / 2)
        bottom = min(bottom, (shape[0] - y - reach) / shape[0] - slack / 2)
    return replace(collimation, margins=(left, top, right, bottom))


def _sides(collimation: Collimation, shape: tuple[int, int]):
    """The middle of the field (x, y), its half sizes in pixels, and cosine and sine of its turn.

    A margin of zero is no edge, however the field is turned.
    """
    far = 4 * max(shape)
    left, top, right, bottom = collimation.margins
    edges = (
        left * shape[1] if left > 0 else -far,
        top * shape[0] if top > 0 else -far,
        (1 - right) * shape[1] if right > 0 else shape[1] + far,
        (1 - bottom) * shape[0] if bottom > 0 else shape[0] + far,
    )
    angle = np.deg2rad(collimation.angle_deg)
    return edges, (shape[1] / 2, shape[0] / 2), float(np.cos(angle)), float(np.sin(angle))


def _inside(x: np.ndarray, y: np.ndarray, collimation: Collimation, shape: tuple[int, int]) -> np.ndarray:
    """Distance in pixels from (x, y) to the nearest edge of the field, positive inside."""
    (left, top, right, bottom), (mx, my), cos, sin = _sides(collimation, shape)
    u = (x - mx) * cos + (y - my) * sin + mx
    v = (y - my) * cos - (x - mx) * sin + my
    return np.minimum(np.minimum(u - left, right - u), np.minimum(v - top, bottom - v))


def _collimator(grid: CoarseGrid, spacing_mm: float, collimation: Collimation) -> np.ndarray:
    """Share of the beam that the collimator lets through, float32 (grid.cells)."""
    if max(collimation.margins) <= 0:
        return np.ones(grid.cells, np.float32)
    inside = _inside(grid.centres(1)[None, :], grid.centres(0)[:, None], collimation, grid.shape)
    t = np.clip(inside * (spacing_mm / max(collimation.edge_mm, 1e-3)) + 0.5, 0, 1)
    t = t * t * (3 - 2 * t)
    return (collimation.leak + (1 - collimation.leak) * t).astype(np.float32)


def _close_shutter(film: np.ndarray, spacing_mm: float, collimation: Collimation) -> None:
    """Paint what lies outside the field (and its penumbra) in one grey, in place."""
    if max(collimation.margins) <= 0:
        return
    rows, cols = film.shape
    margin = collimation.edge_mm / spacing_mm
    coarse = CoarseGrid(film.shape, max(1, min(rows, cols) // 64))
    near = _inside(coarse.centres(1)[None, :], coarse.centres(0)[:, None], collimation, film.shape)
    reach = coarse.factor + 1.0
    x = np.arange(cols, dtype=np.float32)[None, :] + 0.5
    for cell, line in enumerate(near < margin + reach):
        if not line.any():
            continue
        first, last = cell * coarse.factor, min(rows, (cell + 1) * coarse.factor)
        y = np.arange(first, last, dtype=np.float32)[:, None] + 0.5
        film[first:last][_inside(x, y, collimation, film.shape) < margin] = collimation.shutter


def _table(grid: CoarseGrid, lines: int, rng: np.random.Generator) -> np.ndarray:
    """Edges of a table, mattress or cassette behind the limb: steps and thin lines of a few per cent, float32."""
    light = np.ones(grid.cells, np.float32)
    x = (np.arange(grid.cells[1]) / grid.cells[1] - 0.5)[None, :]
    y = (np.arange(grid.cells[0]) / grid.cells[0] - 0.5)[:, None]
    for _ in range(lines):
        angle = rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.03)
        away = x * np.cos(angle) + y * np.sin(angle) - rng.uniform(-0.48, 0.48)
        if rng.random() < 0.5:
            light[np.broadcast_to(away > 0, light.shape)] *= np.float32(rng.uniform(0.88, 0.98))
        else:
            light[np.broadcast_to(np.abs(away) < rng.uniform(0.002, 0.006), light.shape)] *= np.float32(
                rng.uniform(0.85, 0.97)
            )
    return light


def _muscle(cells: tuple[int, int], cell_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Bundles along the limb, unit deviation, float32 (cells): wide ones and streaks."""
    base = noise_tile(0)
    rows, cols = max(2, int(cells[0] * cell_mm / 6)), max(2, int(cells[1] * cell_mm / 6))
    row, col = rng.integers(base.shape[0] // 2), rng.integers(base.shape[1] // 2)
    small = base[row : row + min(rows, 400), col : col + min(cols, 400)]
    small = gaussian_filter(small, (4.0, 0.8)) + 0.8 * gaussian_filter(small[::-1], (3.0, 2.5))
    r = np.linspace(0, small.shape[0] - 1, cells[0])
    c = np.linspace(0, small.shape[1] - 1, cells[1])
    r0, c0 = np.minimum(r.astype(int), small.shape[0] - 2), np.minimum(c.astype(int), small.shape[1] - 2)
    fr, fc = (r - r0).astype(np.float32)[:, None], (c - c0).astype(np.float32)[None, :]
    wide = small[:, c0] * (1 - fc) + small[:, c0 + 1] * fc
    field_ = wide[r0] * (1 - fr) + wide[r0 + 1] * fr
    return (field_ / max(float(small.std()), 1e-6)).astype(np.float32)


def _nearest(source: CoarseGrid, target: CoarseGrid, values: np.ndarray) -> np.ndarray:
    """`values` on the cells of `source`, read at the cell centres of `target`."""
    rows = np.minimum((target.centres(0) / source.factor).astype(int), source.cells[0] - 1)
    cols = np.minimum((target.centres(1) / source.factor).astype(int), source.cells[1] - 1)
    return values[rows][:, cols]


def _draw(rng: np.random.Generator, strength: float) -> Look:
    s = strength
    beam = Beam(
        kvp=float(rng.uniform(60 - 8 * s, 60 + 10 * s)),
        filtration_mm_al=float(rng.uniform(2.5, 2.5 + 1.5 * s)),
        source_detector_mm=float(rng.choice([1000.0, 1100.0, 1150.0, 1500.0])),
        magnification=float(rng.uniform(1.03, 1.18)),
        focal_mm=float(rng.choice([0.6, 1.0, 1.2])),
        scatter_to_primary=float(rng.uniform(0.05, 0.1 + 0.6 * s)),
        scatter_sigma_mm=float(rng.uniform(18, 40)),
        heel=float(rng.uniform(0, 0.25 * s)),
        heel_angle_deg=float(rng.choice([0.0, 90.0, 180.0, 270.0]) + rng.normal(0, 4)),
        centre=(float(rng.normal(0, 0.08 * s)), float(rng.normal(0, 0.12 * s))),
        metal=str(rng.choice(["steel", "titanium"])),
    )
    detector = Detector(
        quanta_per_mm2=float(np.exp(rng.uniform(np.log(1.5e6 / 8**s), np.log(1.5e6 * 3**s)))),
        electronic_per_mm2=float(rng.uniform(10, 10 + 150 * s)),
        blur_mm=float(rng.uniform(0.04, 0.16)),
        correlation_px=float(rng.choice([0.0, 0.4, 0.7])),
        grid_amplitude=float(rng.uniform(0.002, 0.012) * s) if rng.random() < 0.12 * s else 0.0,
        grid_period_px=float(rng.uniform(2.1, 9.0)),
        banding=float(rng.uniform(0.002, 0.012) * s) if rng.random() < 0.25 * s else 0.0,
        lines_along_columns=bool(rng.random() < 0.5),
    )
    return Look(
        beam=beam,
        detector=detector,
        processing=_draw_processing(rng, s),
        collimation=_draw_collimation(rng, s),
        labels=_draw_labels(rng, s),
        muscle=float(rng.uniform(0.005, 0.01 + 0.05 * s)),
        hardware=str(rng.choice(HARDWARE)) if rng.random() < 0.05 * s else None,
        cast_mm=float(rng.uniform(3, 10)) if rng.random() < 0.03 * s else 0.0,
        table_lines=int(rng.integers(1, 4)) if rng.random() < 0.12 * s else 0,
        dust=int(rng.integers(1, 40)) if rng.random() < 0.15 * s else 0,
        border=str(rng.choice(["line", "strip", "strip", "black", "white"])) if rng.random() < 0.25 * s else None,
        border_fraction=float(rng.uniform(0.002, 0.015)),
    )


def _draw_processing(rng: np.random.Generator, s: float) -> Processing:
    """One of four manners: flattened with crisp edges, plain and contrasty, soft and dark, and old-fashioned film."""

    def around(middle: float, spread: float, low: float = 0.0, high: float = 10.0) -> float:
        return float(np.clip(rng.normal(middle, spread * s), low, high))

    manner = rng.choice(["flat", "plain", "dark", "film"], p=[0.4, 0.2, 0.25, 0.15])
    background = float(rng.uniform(0.0, 0.09)) if rng.random() < 0.85 else float(rng.uniform(0.09, 0.09 + 0.15 * s))
    if manner == "flat":
        return Processing(
            around(0.6, 0.15, 0.25, 1.0), around(40, 12, 15, 80), around(1.7, 0.35, 0.9, 2.8), around(2.2, 0.6, 1, 4),
            around(0.85, 0.08, 0.65, 1), "sigmoid", around(1.2, 0.6, 0.2, 3), around(0.02, 0.12, -0.25, 0.3),
            around(0.35, 0.25, -0.05, 1.1), around(1.5, 0.35, 0.7, 2.5), background,
        )  # fmt: skip
    if manner == "dark":
        return Processing(
            around(0.7, 0.15, 0.3, 1.1), around(40, 12, 15, 80), around(1.4, 0.3, 0.8, 2.4), around(1.5, 0.5, 0.8, 3),
            around(0.9, 0.08, 0.7, 1), "linear", 1.0, around(0.05, 0.12, -0.25, 0.3),
            around(0.95, 0.35, 0.2, 1.8), around(1.35, 0.3, 0.7, 2.2), background,
        )  # fmt: skip
    if manner == "film":
        return Processing(
            1.0, 40.0, 1.0, 1.0, 1.0, "sigmoid", around(2.5, 0.7, 1, 4.5), around(-0.02, 0.1, -0.25, 0.3),
            around(0.1, 0.15, -0.2, 0.5), around(1.2, 0.3, 0.6, 2.0), background,
        )  # fmt: skip
    return Processing(
        around(0.95, 0.12, 0.6, 1.2), around(40, 12, 15, 80), around(1.1, 0.15, 0.8, 1.6), around(1.3, 0.4, 0.8, 2.5),
        around(0.97, 0.05, 0.8, 1), str(rng.choice(["toe", "linear", "sigmoid"])), around(2.0, 0.8, 0.5, 4),
        around(0.03, 0.1, -0.2, 0.3), around(0.05, 0.15, -0.2, 0.5), around(1.15, 0.25, 0.6, 2.0), background,
    )  # fmt: skip


def _draw_collimation(rng: np.random.Generator, s: float) -> Collimation:
    if rng.random() > 0.4 * min(s, 1.2):
        return Collimation()
    margins = np.where(rng.random(4) < 0.5, rng.uniform(0.005, 0.05 + 0.13 * s * rng.random(), 4), 0.0)
    shutter = None if rng.random() < 0.5 else float(rng.choice([0.0, 0.0, 0.05, 1.0]))
    return Collimation(
        tuple(float(m) for m in margins),  # type: ignore[arg-type]
        float(rng.normal(0, 1.2)) if rng.random() < 0.7 else 0.0,
        float(rng.uniform(1.0, 6.0)),
        float(np.exp(rng.uniform(np.log(0.001), np.log(0.03)))),
        shutter,
    )


def _draw_labels(rng: np.random.Generator, s: float) -> tuple[props.Label, ...]:
    """Mostly a side letter, sometimes lead and askew, sometimes with writing, a logo or a text block."""
    labels: list[props.Label] = []
    if rng.random() < 0.65:
        burned = rng.random() < 0.5
        turned = not burned and rng.random() < 0.35
        labels.append(
            props.Label(
                "SIDE", float(rng.uniform(7, 18)), float(rng.uniform(-180, 180) if turned else rng.normal(0, 4) * (not burned)),
                bool(not burned and rng.random() < 0.08), burned, str(rng.choice(["none", "none", "dark", "frame"])) if burned else "none",
                float(rng.uniform(0.75, 1)),
            )  # fmt: skip
        )
    for _ in range(int(rng.poisson(0.6 * s))):
        labels.append(
            props.Label(
                str(rng.choice(TEXTS)), float(rng.uniform(3.5, 9)), float(rng.choice([0, 0, 0, 90, rng.uniform(-180, 180)])),
                False, bool(rng.random() < 0.75), str(rng.choice(["none", "dark", "frame"])), float(rng.uniform(0.6, 1)),
            )  # fmt: skip
        )
    if rng.random() < 0.2 * s:
        labels.append(props.Label("LOGO", float(rng.uniform(5, 10)), brightness=float(rng.uniform(0.8, 1))))
    return tuple(labels)


def _draw_damage(rng: np.random.Generator) -> Damage:
    def sometimes(share: float, low: float, high: float, otherwise: float = 0.0) -> float:
        value = float(rng.uniform(low, high))
        return value if rng.random() < share else otherwise

    gain = sometimes(0.4, 0.45, 1.6, 1.0)
    return Damage(
        inverted=bool(rng.random() < 0.04),
        gamma=float(np.exp(rng.normal(0, 0.35))) if rng.random() < 0.5 else 1.0,
        gain=gain,
        offset=sometimes(0.3, -0.15, 0.25) + 0.3 * (1 - gain) * float(rng.random()),
        blur_px=sometimes(0.25, 0.4, 1.4),
        coarsening=int(rng.choice([1, 1, 1, 1, 2, 2, 3])),
        noise=sometimes(0.3, 0.005, 0.05),
        equalisation=sometimes(0.25, 0.2, 0.9),
        shading=sometimes(0.25, 0.03, 0.2),
        jpeg_quality=int(rng.integers(25, 90)) if rng.random() < 0.3 else 0,
    )
