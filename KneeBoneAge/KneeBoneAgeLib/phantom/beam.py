"""From path lengths to what the detector reads: polyenergetic Beer–Lambert, scatter, heel, blur, noise.

Attenuation is taken at two effective energies of a filtered Kramers spectrum. Mass attenuation coefficients
are those of the NIST tables of Hubbell and Seltzer (NISTIR 5632, ICRU-44 soft tissue and cortical bone;
elements), in cm²/g.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

from .grids import CoarseGrid, RandomStrip, noise_tile, row_blocks

_KEV = np.array([15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 80.0])
_MASS_ATTENUATION = {
    "soft": (1.06, [1.699, 0.8231, 0.3790, 0.2688, 0.2264, 0.2048, 0.1823]),
    "bone": (1.92, [9.032, 4.001, 1.331, 0.6655, 0.4242, 0.3148, 0.2229]),
    "aluminium": (2.70, [7.955, 3.441, 1.128, 0.5685, 0.3681, 0.2778, 0.2018]),
    "titanium": (4.54, [35.87, 15.85, 4.972, 2.214, 1.213, 0.7661, 0.4052]),
    "steel": (7.87, [57.08, 25.68, 8.176, 3.629, 1.958, 1.205, 0.5952]),
}
_SIGNAL_FLOOR = 1e-5


@dataclass(frozen=True)
class Beam:
    """Source and geometry of one exposure."""

    kvp: float = 60.0
    filtration_mm_al: float = 3.0
    source_detector_mm: float = 1100.0
    magnification: float = 1.08  # of the joint; with the focal spot it sets the penumbra
    focal_mm: float = 1.0
    scatter_to_primary: float = 0.5  # behind 100 mm of soft tissue, in the open field
    scatter_sigma_mm: float = 28.0
    heel: float = 0.15  # loss of intensity from the middle to the anode edge, fraction
    heel_angle_deg: float = 90.0
    centre: tuple[float, float] = (0.0, 0.0)  # (x, y) of the central ray off the middle, fraction of the film
    metal: str = "steel"  # "steel" | "titanium"


@dataclass(frozen=True)
class Detector:
    """Noise, sharpness and periodic faults of one detector."""

    quanta_per_mm2: float = 1.5e6  # absorbed at direct exposure
    electronic_per_mm2: float = 60.0  # standard deviation in quanta for 1 mm²
    blur_mm: float = 0.08
    correlation_px: float = 0.4
    grid_amplitude: float = 0.0  # of residual grid lines, in log exposure
    grid_period_px: float = 3.3
    banding: float = 0.0  # line-to-line gain error of a laser scanner, in log exposure
    lines_along_columns: bool = True


@lru_cache(maxsize=256)
def attenuation(kvp: float, filtration_mm_al: float, metal: str) -> tuple[tuple[float, ...], np.ndarray]:
    """Weights (2) and linear attenuation (2, 3) per mm of soft tissue, bone and metal at two energies.

    The spectrum is Kramers' (kvp − E)/E behind aluminium, weighted with E as an energy-integrating detector
    does, and hardened by 60 mm of soft tissue before it is split in two halves of equal weight.
    """
    energy = np.arange(16.0, max(kvp, 30.0), 1.0)

    def mu(material: str) -> np.ndarray:
        density, mass = _MASS_ATTENUATION[material]
        return 0.1 * density * np.exp(np.interp(np.log(energy), np.log(_KEV), np.log(mass)))

    open_beam = (max(kvp, 30.0) - energy) * np.exp(-mu("aluminium") * filtration_mm_al)
    hardened = open_beam * np.exp(-mu("soft") * 60.0)
    split = np.searchsorted(np.cumsum(hardened) / hardened.sum(), 0.5)
    halves = (slice(0, max(split, 1)), slice(max(split, 1), None))
    weights = np.array([open_beam[half].sum() for half in halves])
    table = np.array(
        [
            [np.average(mu(m)[half], weights=hardened[half]) for m in ("soft", "bone", metal)]
            for half in halves
        ]
    )
    return tuple(float(w) for w in weights / weights.sum()), table.astype(np.float32)


def transmission(
    soft_mm: np.ndarray, bone_mm: np.ndarray, metal_mm: np.ndarray | None, beam: Beam
) -> np.ndarray:
    """Primary transmission in (0, 1] of path lengths in mm (any equal shapes), float32."""
    weights, table = attenuation(round(beam.kvp), round(beam.filtration_mm_al, 1), beam.metal)
    parts = []
    part = np.empty(np.shape(soft_mm), np.float32)
    for weight, (mu_soft, mu_bone, mu_metal) in zip(weights, table, strict=True):
        depth = soft_mm * -mu_soft
        depth -= np.multiply(bone_mm, mu_bone, out=part)
        if metal_mm is not None:
            depth -= np.multiply(metal_mm, mu_metal, out=part)
        np.exp(depth, out=depth)
        depth *= np.float32(weight)
        parts.append(depth)
    soft_energy, hard_energy = parts
    return np.add(soft_energy, hard_energy, out=part)


def beam_profile(grid: CoarseGrid, spacing_mm: float, beam: Beam) -> np.ndarray:
    """Relative open-field intensity on the cells of `grid`, float32: inverse square, obliquity, heel."""
    height, width = grid.shape
    x = (grid.centres(1) - np.float32(width * (0.5 + beam.centre[0]))) * np.float32(spacing_mm)
    y = (grid.centres(0) - np.float32(height * (0.5 + beam.centre[1]))) * np.float32(spacing_mm)
    off_axis = (x[None, :] ** 2 + y[:, None] ** 2) * np.float32(beam.source_detector_mm**-2)
    off_axis += np.float32(1)
    profile = 1 / (off_axis * np.sqrt(off_axis))
    angle = np.deg2rad(beam.heel_angle_deg)
    reach = max(0.5 * max(height, width) * spacing_mm, 1e-6)
    towards_anode = x[None, :] * np.float32(np.cos(angle) / reach) + y[:, None] * np.float32(
        np.sin(angle) / reach
    )
    loss = np.maximum(towards_anode, 0)
    loss *= loss
    loss += towards_anode
    loss *= np.float32(-0.5 * beam.heel)
    loss += 1
    np.maximum(loss, np.float32(0.1), out=loss)
    return np.multiply(profile, loss, out=profile)


def scatter(
    grid: CoarseGrid, spacing_mm: float, primary: np.ndarray, soft_mm: np.ndarray, beam: Beam
) -> np.ndarray:
    """Scatter on the cells of `grid`: primary × thickness, spread widely; arguments on the same cells."""
    cell_mm = grid.factor * spacing_mm
    step = max(1, round(beam.scatter_sigma_mm / 4 / cell_mm))
    wide = CoarseGrid(primary.shape, step)
    source = np.empty(wide.cells, np.float32)
    wide.pool(primary * np.minimum(soft_mm * np.float32(0.01), 2.5), source, 0)
    spread = gaussian_filter(source, beam.scatter_sigma_mm / (cell_mm * step), mode="constant", truncate=3.0)
    return wide.rows_of(spread).block(0, primary.shape[0]) * np.float32(beam.scatter_to_primary)


def detect(
    paths_mm: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    spacing_mm: float,
    lit: tuple[CoarseGrid, np.ndarray, np.ndarray],
    bands: CoarseGrid,
    beam: Beam,
    detector: Detector,
    exposure: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Expose the detector.

    Parameters
    ----------
    paths_mm : float32 (rows, cols) three times, bool (rows,)
        Path lengths in soft tissue, bone and metal, and in which rows there is metal.
    lit : (grid, float32 (grid.cells), float32 (grid.cells))
        Open-field intensity behind the collimator, and scatter.
    bands : CoarseGrid
        Grid on which the log signal is averaged for the processing.
    exposure : float
        Relative signal behind the anatomy, to which the exposure control set the tube.

    Returns
    -------
    float32 (rows, cols) and float32 (bands.cells)
        Logarithm of the relative signal (bone dark), and its cell means.
    """
    (soft_mm, bone_mm, metal_mm, metal_rows), (grid, field, scattered) = paths_mm, lit
    rows, cols = soft_mm.shape
    log_signal, pooled = np.empty((rows, cols), np.float32), np.empty(bands.cells, np.float32)
    field_rows, scatter_rows = grid.rows_of(field), grid.rows_of(scattered)
    noise = RandomStrip(noise_tile(round(detector.correlation_px * 10)), cols, rng)
    column_fault, row_fault = _line_faults((rows, cols), detector, rng)
    penumbra_mm = beam.focal_mm * (beam.magnification - 1) / 2.4  # width of a uniform source to a deviation
    variance_px = (penumbra_mm**2 + detector.blur_mm**2) / spacing_mm**2
    passes = 0 if variance_px < 0.1 else min(4, int(np.ceil(variance_px / 0.5)))
    area_mm2 = spacing_mm**2
    quantum = np.float32(exposure / (detector.quanta_per_mm2 * area_mm2))  # signal of one quantum
    electronic = np.float32(detector.electronic_per_mm2 * np.sqrt(area_mm2) * quantum) ** 2
    floor = np.float32(max(_SIGNAL_FLOOR, 0.005 * exposure))
    for first, last in row_blocks((rows, cols), bands.factor):
        top, bottom = max(0, first - passes), min(rows, last + passes)
        metal = metal_mm[top:bottom] if metal_rows[top:bottom].any() else None
        signal = transmission(soft_mm[top:bottom], bone_mm[top:bottom], metal, beam)
        signal *= field_rows.block(top, bottom)
        signal += scatter_rows.block(top, bottom)
        for _ in range(passes):
            _smooth(signal, min(0.25, variance_px / passes / 2))
        signal = signal[first - top : last - top]
        deviation = signal * quantum
        deviation += electronic
        np.sqrt(deviation, out=deviation)
        noise.jump(rng)
        deviation *= noise.block(first, last)
        deviation += signal
        np.maximum(deviation, floor, out=deviation)
        out = log_signal[first:last]
        np.log(deviation, out=out)
        if column_fault is not None:
            out += column_fault
            out += row_fault[first:last]
        bands.pool(out, pooled, first)
    return log_signal, pooled


def _smooth(signal: np.ndarray, weight: float) -> None:
    """Three-tap smoothing in place, both directions, `weight` on each neighbour; outermost lines stay."""
    if min(signal.shape) < 3:
        return
    w = np.float32(weight)
    upright, across = (slice(None, -2), slice(1, -1), slice(2, None)), slice(None)
    change = np.empty(signal.size, np.float32)
    for axis in (0, 1):
        before, middle, after = (signal[part] if axis == 0 else signal[across, part] for part in upright)
        both = np.add(before, after, out=change[: middle.size].reshape(middle.shape))
        both *= w
        middle *= 1 - 2 * w
        middle += both


def _line_faults(
    shape: tuple[int, int], detector: Detector, rng: np.random.Generator
) -> tuple[np.ndarray | None, np.ndarray]:
    """Residual grid lines and scanner banding: a row and a column to add to the log signal."""
    if detector.grid_amplitude <= 0 and detector.banding <= 0:
        return None, np.zeros((shape[0], 1), np.float32)
    length = shape[1] if detector.lines_along_columns else shape[0]
    phase = 2 * np.pi * (np.arange(length) / detector.grid_period_px + rng.random())
    lines = detector.grid_amplitude * np.sin(phase)
    walk = gaussian_filter(rng.standard_normal(length), 1.5)
    walk += gaussian_filter(rng.standard_normal(length), length / 60)
    lines = (lines + detector.banding * walk / max(walk.std(), 1e-6)).astype(np.float32)
    if detector.lines_along_columns:
        return lines[None, :], np.zeros((shape[0], 1), np.float32)
    return np.zeros((1, shape[1]), np.float32), lines[:, None]
