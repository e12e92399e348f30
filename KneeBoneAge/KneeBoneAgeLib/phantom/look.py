"""How a film looks: every setting of one exposure, drawn at random, and the way from beam paths to film.

`Look.draw` covers what departments of different vendors deliver; `Look.draw_strong` adds domain randomisation
far beyond that for training what must hold on films never seen. `expose` applies a look to the beam paths of
a scene.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from . import props
from .beam import Beam, Detector, beam_profile, detect, scatter, transmission
from .collimation import Collimation, close_shutter, collimator, fit_to_knees
from .grids import CoarseGrid, noise_tile
from .processing import BAND_MM, Damage, Processing, damage, present

FIELD_CELL_MM = 1.2
CAST_SOFT_EQUIVALENT = 0.045  # 1/mm, attenuation of plaster of Paris bandage (about 1.0 g/cm³) near 45 keV
TEXTS = (
    "KNEE",
    "R KNEE AP",
    "AP",
    "L",
    "R",
    "PORT",
    "ERECT",
    "STANDING",
    "Knee J.",
    "12:47",
    "TJ",
    "WB",
    "42",
    "1/1",
)
HARDWARE = ("tibial nail", "femoral nail", "tibial plate", "femoral plate", "screws", "eight-plates")


@dataclass(frozen=True)
class Manner:
    """How a family of workstations works: for fields of `Processing`, (middle, spread, lowest, highest)."""

    share: float
    curves: tuple[str, ...]
    settings: dict[str, tuple[float, float, float, float]]


MANNERS = (
    Manner(0.4, ("sigmoid",), {  # flattened, with crisp edges
        "residual": (0.6, 0.15, 0.25, 1.0), "residual_mm": (40, 12, 15, 80), "middle": (1.7, 0.35, 0.9, 2.8),
        "fine": (2.2, 0.6, 1, 4), "power": (0.85, 0.08, 0.65, 1), "steepness": (1.2, 0.6, 0.2, 3),
        "black": (0.02, 0.12, -0.25, 0.3), "white": (0.35, 0.25, -0.05, 1.1), "gamma": (1.5, 0.35, 0.7, 2.5),
    }),
    Manner(0.2, ("toe", "linear", "sigmoid"), {  # plain and contrasty
        "residual": (0.95, 0.12, 0.6, 1.2), "residual_mm": (40, 12, 15, 80), "middle": (1.1, 0.15, 0.8, 1.6),
        "fine": (1.3, 0.4, 0.8, 2.5), "power": (0.97, 0.05, 0.8, 1), "steepness": (2.0, 0.8, 0.5, 4),
        "black": (0.03, 0.1, -0.2, 0.3), "white": (0.05, 0.15, -0.2, 0.5), "gamma": (1.35, 0.35, 0.6, 2.4),
    }),
    Manner(0.25, ("linear",), {  # soft and dark, white far above the bone
        "residual": (0.7, 0.15, 0.3, 1.1), "residual_mm": (40, 12, 15, 80), "middle": (1.4, 0.3, 0.8, 2.4),
        "fine": (1.5, 0.5, 0.8, 3), "power": (0.9, 0.08, 0.7, 1),
        "black": (0.05, 0.12, -0.25, 0.3), "white": (0.95, 0.35, 0.2, 1.8), "gamma": (1.35, 0.3, 0.7, 2.2),
    }),
    Manner(0.15, ("sigmoid",), {  # as film was: no bands touched, a steep curve
        "residual": (1, 0, 1, 1), "middle": (1, 0, 1, 1), "fine": (1, 0, 1, 1), "power": (1, 0, 1, 1),
        "steepness": (2.5, 0.7, 1, 4.5), "black": (-0.02, 0.1, -0.25, 0.3), "white": (0.1, 0.15, -0.2, 0.5),
        "gamma": (1.2, 0.3, 0.6, 2.0),
    }),
)  # fmt: skip


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
        Beam paths `soft_mm`, `bone_mm`, `metal_mm` (float32 (rows, cols)) and `spacing_mm`, or `.canvas`
        with them. `.knees` (each `centre_px`, `width_px`, `angle_deg`, `side`), if any, are kept free of
        labels and collimator.
    look : Look
    rng : numpy Generator
        Noise and the places of labels.

    Returns
    -------
    float32 (rows, cols) in [0, 1], bone bright (dark only if `look.damage.inverted`); `projection` is not
    changed.
    """
    canvas, knees = getattr(projection, "canvas", projection), tuple(getattr(projection, "knees", ()))
    shape, spacing = canvas.soft_mm.shape, float(canvas.spacing_mm)
    side = next((k.side for k in knees if k.side in ("R", "L")), None)
    metal, burned = _metal_and_labels(canvas, knees, look, side, rng)
    metal_rows = metal.any(axis=1)
    grid = CoarseGrid(shape, max(2, round(FIELD_CELL_MM / spacing)))
    bands = CoarseGrid(shape, max(1, int(BAND_MM / spacing)))
    soft, bone = grid.sample(canvas.soft_mm), grid.sample(canvas.bone_mm)
    cell_mm = spacing * grid.factor

    light = beam_profile(grid, spacing, look.beam)
    collimation = fit_to_knees(look.collimation, knees, shape)
    window = collimator(grid, spacing, collimation)
    light *= window
    if look.cast_mm > 0:
        shell = props.cast_mm(soft, cell_mm, look.cast_mm, rng)
        light *= np.exp(np.float32(-CAST_SOFT_EQUIVALENT) * shell)
    if look.table_lines:
        light *= props.table_light(grid, look.table_lines, rng)
    through = transmission(soft, bone, None, look.beam)
    if look.muscle > 0:
        light *= np.exp(_muscle(grid.cells, cell_mm, rng) * np.float32(-look.muscle) * 0.024 * soft)
    through *= light
    scattered = scatter(grid, spacing, through, soft, look.beam)

    seen = (window > 0.5) & (soft > 6.0)
    through += scattered
    exposure = float(np.median(through[seen])) if seen.any() else 0.2
    log_signal, pooled = detect(
        (canvas.soft_mm, canvas.bone_mm, metal, metal_rows), spacing, (grid, light, scattered), bands,
        look.beam, look.detector, exposure, rng,
    )  # fmt: skip
    anatomy = _nearest(grid, bands, seen)
    if metal_rows.any():
        anatomy &= bands.sample(metal) < 0.3
    film = present(log_signal, pooled, bands, anatomy, spacing, look.processing)
    if collimation.shutter is not None:
        close_shutter(film, spacing, collimation)
    for stamp in burned:
        _burn_in(film, *stamp)
    if look.dust:
        props.add_dust(film, look.dust, rng)
    if look.border:
        props.add_border(film, look.border, round(look.border_fraction * max(shape)), rng)
    return damage(film, look.damage, rng)


def _metal_and_labels(canvas: Any, knees: tuple, look: Look, side: str | None, rng: np.random.Generator):
    """Metal with hardware and lead letters, and stamps (grey, cover, row, column) to burn in later."""
    metal = canvas.metal_mm
    lead = [label for label in look.labels if not label.burned_in]
    if lead or (look.hardware and knees):
        metal = metal.copy() if metal.any() else np.zeros(metal.shape, np.float32)
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
        border=str(rng.choice(["line", "strip", "strip", "black", "white"]))
        if rng.random() < 0.25 * s
        else None,
        border_fraction=float(rng.uniform(0.002, 0.015)),
    )


def _draw_processing(rng: np.random.Generator, s: float) -> Processing:
    manner = MANNERS[rng.choice(len(MANNERS), p=[m.share for m in MANNERS])]
    settings = {
        name: float(np.clip(rng.normal(middle, spread * s), low, high))
        for name, (middle, spread, low, high) in manner.settings.items()
    }
    raised = rng.random() < 0.15
    background = rng.uniform(0.09, 0.09 + 0.15 * s) if raised else rng.uniform(0.0, 0.09)
    return Processing(**settings, curve=str(rng.choice(manner.curves)), background=float(background))


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
                "SIDE",
                float(rng.uniform(7, 18)),
                float(rng.uniform(-180, 180) if turned else rng.normal(0, 4) * (not burned)),
                bool(not burned and rng.random() < 0.08),
                burned,
                str(rng.choice(["none", "none", "dark", "frame"])) if burned else "none",
                float(rng.uniform(0.75, 1)),
            )  # fmt: skip
        )
    for _ in range(int(rng.poisson(0.6 * s))):
        labels.append(
            props.Label(
                str(rng.choice(TEXTS)),
                float(rng.uniform(3.5, 9)),
                float(rng.choice([0, 0, 0, 90, rng.uniform(-180, 180)])),
                False,
                bool(rng.random() < 0.75),
                str(rng.choice(["none", "dark", "frame"])),
                float(rng.uniform(0.6, 1)),
            )  # fmt: skip
        )
    if rng.random() < 0.2 * s:
        labels.append(props.Label("LOGO", float(rng.uniform(5, 10)), brightness=float(rng.uniform(0.8, 1))))
    return tuple(labels)


def _draw_damage(rng: np.random.Generator) -> Damage:
    def sometimes(share: float, low: float, high: float, otherwise: float = 0.0) -> float:
        value = float(rng.uniform(low, high))
        return value if rng.random() < share else otherwise

    gain = sometimes(0.4, 0.45, 1.4, 1.0)
    return Damage(
        inverted=bool(rng.random() < 0.04),
        gamma=float(np.exp(rng.normal(0, 0.3))) if rng.random() < 0.5 else 1.0,
        gain=gain,
        offset=sometimes(0.3, -0.15, 0.2) + 0.4 * (1 - gain),
        blur_px=sometimes(0.25, 0.4, 1.4),
        coarsening=int(rng.choice([1, 1, 1, 1, 2, 2, 3])),
        noise=sometimes(0.3, 0.005, 0.05),
        equalisation=sometimes(0.25, 0.2, 0.9),
        shading=sometimes(0.25, 0.03, 0.2),
        jpeg_quality=int(rng.integers(25, 90)) if rng.random() < 0.3 else 0,
    )
