"""What lies or is written on a film besides the anatomy: letters, labels, logos, metal, casts, dust, borders.

Things in the beam (lead, metal, plaster) are drawn as path lengths; what a workstation burns in is drawn as
grey. All positions are continuous pixel coordinates (x, y) of the film, pixel (0, 0) covers [0, 1) × [0, 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from .grids import CoarseGrid

LEAD_AS_STEEL_MM = 6.0  # 1 mm of lead attenuates 50 keV like about 6 mm of steel


@dataclass(frozen=True)
class Label:
    """A piece of writing."""

    text: str
    height_mm: float
    angle_deg: float = 0.0
    mirrored: bool = False
    burned_in: bool = True  # written by the workstation, otherwise lead in the beam
    box: str = "none"  # "none" | "dark" | "frame"
    brightness: float = 1.0


@lru_cache(maxsize=256)
def _glyphs(text: str, height_px: int) -> np.ndarray:
    """Coverage of the text in [0, 1], float32, cut to its ink."""
    font = ImageFont.load_default(size=height_px * 1.35)
    left, top, right, bottom = font.getbbox(text)
    picture = Image.new("L", (max(1, int(right - left) + 2), max(1, int(bottom - top) + 2)))
    ImageDraw.Draw(picture).text((1 - left, 1 - top), text, fill=255, font=font)
    return np.asarray(picture, np.float32) / 255


def stamp(label: Label, spacing_mm: float, side: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Grey and coverage (float32, same shape) of a label; the text "SIDE" becomes `side`."""
    text = (side or "R") if label.text == "SIDE" else label.text
    height = int(np.clip(round(label.height_mm / spacing_mm), 4, 400))
    if text == "LOGO":
        grey = _logo(height * 3)
        cover = np.ones_like(grey)
    else:
        cover = _glyphs(text, height)
        grey = np.ones_like(cover)
        if label.box != "none":
            margin = max(1, height // 5)
            grey = np.pad(cover, margin)
            cover = np.full_like(grey, 0.97)
            if label.box == "frame":
                edge = max(1, height // 10)
                grey[:edge] = grey[-edge:] = 1
                grey[:, :edge] = grey[:, -edge:] = 1
    if label.mirrored:
        grey, cover = grey[:, ::-1], cover[:, ::-1]
    if abs(label.angle_deg) > 0.5:
        weighted, cover = _turned(grey * cover, label.angle_deg), _turned(cover, label.angle_deg)
        grey = weighted / np.maximum(cover, 1e-3)
    return grey * np.float32(label.brightness), cover


def _turned(picture: np.ndarray, angle_deg: float) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.rotate(angle_deg, Image.Resampling.BILINEAR, expand=True))


@lru_cache(maxsize=32)
def _logo(size: int) -> np.ndarray:
    """A made-up clinic sign: white plate with a frame, a dark shape, stripes and a line of initials."""
    picture = Image.new("L", (size, size), 235)
    pen = ImageDraw.Draw(picture)
    line = max(1, size // 24)
    pen.rectangle((line, line, size - 1 - line, size - 1 - line), outline=40, width=line)
    pen.ellipse((size * 0.2, size * 0.15, size * 0.6, size * 0.55), fill=30)
    pen.polygon([(size * 0.5, size * 0.2), (size * 0.85, size * 0.7), (size * 0.55, size * 0.7)], fill=60)
    for i in range(4):
        y = size * (0.5 + 0.06 * i)
        pen.rectangle((size * 0.15, y, size * 0.5, y + max(1, size * 0.025)), fill=30)
    if size >= 30:
        pen.text((size * 0.18, size * 0.76), "K B A", fill=20, font=ImageFont.load_default(size=size * 0.16))
    return np.asarray(picture, np.float32) / 255


def place(
    shape: tuple[int, int],
    size: tuple[int, int],
    keep_free: list[tuple[float, float, float]],
    rng: np.random.Generator,
) -> tuple[int, int] | None:
    """Find (row, column) for a patch of `size` (rows, cols) clear of circles (x, y, radius), or None."""
    rows, cols = shape[0] - size[0], shape[1] - size[1]
    if rows <= 2 or cols <= 2:
        return None
    for _ in range(12):
        row, col = int(rng.integers(rows)), int(rng.integers(cols))
        x, y = col + size[1] / 2, row + size[0] / 2
        half = 0.5 * float(np.hypot(*size))
        if all(np.hypot(x - cx, y - cy) > radius + half for cx, cy, radius in keep_free):
            return row, col
    return None


def add_rod(
    metal_mm: np.ndarray,
    spacing_mm: float,
    start: tuple[float, float],
    end: tuple[float, float],
    diameter_mm: float,
    hollow: float = 0.0,
    thread_mm: float = 0.0,
) -> None:
    """Add the chord of a round rod between two points to `metal_mm`; hollow = inner / outer diameter."""
    patch, along, across, length = _segment(metal_mm, spacing_mm, start, end, diameter_mm)
    if patch is None:
        return
    radius = np.float32(diameter_mm / 2)
    if thread_mm > 0:
        radius = radius * (0.85 + 0.15 * np.abs((along / np.float32(thread_mm)) % 2 - 1))
    inside = (along > 0) & (along < length)
    chord = np.sqrt(np.maximum(radius**2 - across**2, 0))
    if hollow > 0:
        chord -= np.sqrt(np.maximum((radius * np.float32(hollow)) ** 2 - across**2, 0))
    patch += 2 * chord * inside


def add_plate(
    metal_mm: np.ndarray,
    spacing_mm: float,
    start: tuple[float, float],
    end: tuple[float, float],
    width_mm: float,
    thickness_mm: float,
    hole_every_mm: float = 16.0,
) -> None:
    """Add a flat plate with round holes between two points to `metal_mm` in place."""
    patch, along, across, length = _segment(metal_mm, spacing_mm, start, end, width_mm)
    if patch is None:
        return
    nearest = (along % np.float32(hole_every_mm)) - np.float32(hole_every_mm / 2)
    hole = (nearest**2 + across**2) < (0.22 * width_mm) ** 2
    inside = (along > 0) & (along < length) & (np.abs(across) < width_mm / 2) & ~hole
    patch += np.float32(thickness_mm) * inside


def _segment(film: np.ndarray, spacing_mm: float, start, end, width_mm: float):
    """View of `film` around a segment, with the distance along and across it and its length, in mm."""
    (x0, y0), (x1, y1) = start, end
    margin = width_mm / spacing_mm / 2 + 1
    left, right = max(0, int(min(x0, x1) - margin)), min(film.shape[1], int(max(x0, x1) + margin) + 1)
    top, bottom = max(0, int(min(y0, y1) - margin)), min(film.shape[0], int(max(y0, y1) + margin) + 1)
    length = float(np.hypot(x1 - x0, y1 - y0))
    if left >= right or top >= bottom or length < 1e-6:
        return None, None, None, 0.0
    dx, dy = np.float32((x1 - x0) / length), np.float32((y1 - y0) / length)
    x = (np.arange(left, right, dtype=np.float32) + np.float32(0.5 - x0)) * np.float32(spacing_mm)
    y = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - y0))[:, None] * np.float32(spacing_mm)
    return film[top:bottom, left:right], x * dx + y * dy, y * dx - x * dy, length * spacing_mm


def add_hardware(metal_mm: np.ndarray, spacing_mm: float, knee, kind: str, rng: np.random.Generator) -> None:
    """Put metal beside the joint of `knee` (centre_px (x, y), width_px, angle_deg), clear of the joint line.

    kind : "tibial nail" | "femoral nail" | "tibial plate" | "femoral plate" | "screws" | "eight-plates"
    Lengths in knee widths; a width of 80 mm carries a nail of 10 mm.
    """
    width, (cx, cy) = float(knee.width_px), knee.centre_px
    size = np.clip(width * spacing_mm / 80.0, 0.3, 1.3)
    angle = np.deg2rad(float(getattr(knee, "angle_deg", 0.0)))
    tilt = rng.uniform(-0.03, 0.03)

    def at(across: float, along: float) -> tuple[float, float]:
        x, y = across * width, along * width
        return cx + x * np.cos(angle) - y * np.sin(angle), cy + x * np.sin(angle) + y * np.cos(angle)

    def screw(across0: float, along0: float, across1: float, along1: float, diameter: float = 4.5) -> None:
        add_rod(metal_mm, spacing_mm, at(across0, along0), at(across1, along1), diameter * size, 0.0, 1.75)
        head = across0 + 0.05 * np.sign(across1 - across0)
        add_rod(metal_mm, spacing_mm, at(across0, along0), at(head, along0), 1.8 * diameter * size)

    down = 1.0 if kind.startswith("tibial") else -1.0
    if kind.endswith("nail"):
        near, far = rng.uniform(0.18, 0.4), rng.uniform(1.5, 4.0)
        diameter, hollow = rng.uniform(8, 12) * size, rng.choice([0.0, 0.5])
        add_rod(metal_mm, spacing_mm, at(tilt, down * near), at(-tilt, down * far), diameter, hollow)
        for _ in range(int(rng.integers(0, 3))):
            along = down * (near + rng.uniform(0.08, 0.4))
            screw(-0.3, along, rng.uniform(0.2, 0.35), along + rng.uniform(-0.03, 0.03))
    elif kind in ("tibial plate", "femoral plate"):
        side, near, far = rng.choice([-1.0, 1.0]), rng.uniform(0.2, 0.35), rng.uniform(1.0, 2.2)
        top, low = at(0.42 * side, down * near), at(0.22 * side, down * far)
        add_plate(metal_mm, spacing_mm, top, low, rng.uniform(4, 13) * size, rng.uniform(3, 5))
        for share in np.linspace(0.05, 0.95, int(rng.integers(3, 8))):
            along = down * (near + share * (far - near))
            reach = (0.42 - 0.2 * share) * side
            screw(reach, along, -reach * rng.uniform(0.4, 0.9), along, 4.0)
    elif kind == "eight-plates":
        side, along = rng.choice([-1.0, 1.0]), rng.choice([-0.38, 0.24])
        ends = at(0.49 * side, along - 0.12), at(0.49 * side, along + 0.12)
        add_plate(metal_mm, spacing_mm, *ends, 4.0 * size, 4.0, 9.0)
        for shift in (-0.1, 0.1):
            screw(0.52 * side, along + shift, 0.1 * side, along + 1.3 * shift, 4.5)
    else:
        for _ in range(int(rng.integers(1, 4))):
            along = down * rng.uniform(0.3, 0.9)
            end = rng.uniform(-0.3, 0.3), along + rng.uniform(-0.15, 0.15)
            screw(rng.choice([-0.4, 0.4]), along, *end, rng.uniform(3, 7))


def add_knee_replacement(metal_mm: np.ndarray, spacing_mm: float, knee, rng: np.random.Generator) -> None:
    """Cover both joint surfaces of `knee` with a total replacement: what an estimate must refuse."""
    width, (cx, cy) = float(knee.width_px), knee.centre_px
    angle = np.deg2rad(float(getattr(knee, "angle_deg", 0.0)))

    def at(across: float, along: float) -> tuple[float, float]:
        x, y = across * width, along * width
        return cx + x * np.cos(angle) - y * np.sin(angle), cy + x * np.sin(angle) + y * np.cos(angle)

    scale = width * spacing_mm
    for side in (-0.27, 0.27):
        add_rod(metal_mm, spacing_mm, at(side - 0.21, -0.17), at(side + 0.21, -0.17), 0.3 * scale, 0.6)
    add_plate(metal_mm, spacing_mm, at(-0.47, -0.27), at(0.47, -0.27), 0.2 * scale, 5.0, 1e6)
    add_plate(metal_mm, spacing_mm, at(-0.48, 0.11), at(0.48, 0.11), 0.06 * scale, 30.0, 1e6)
    tip = at(rng.uniform(-0.02, 0.02), 0.12 + rng.uniform(0.4, 0.7))
    add_rod(metal_mm, spacing_mm, at(0.0, 0.12), tip, 0.15 * scale)


def cast_mm(soft_mm: np.ndarray, cell_mm: float, thickness_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Path in mm through a plaster or resin shell around the widest limb in `soft_mm` (cells), same shape.

    The limb is taken as round in each row of cells: the shell is the difference of two chords, with a weave.
    """
    inside = soft_mm > 4.0
    shell = np.zeros_like(soft_mm)
    if not inside.any():
        return shell
    # the widest run of soft tissue in the middle row tells which limb is wrapped
    middle = inside[inside.shape[0] // 2] if inside[inside.shape[0] // 2].any() else inside.any(axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], middle.astype(np.int8), [0]])))
    runs = edges.reshape(-1, 2)
    seed = int(runs[np.argmax(runs[:, 1] - runs[:, 0])].mean())
    left, right = np.full(len(inside), np.nan), np.full(len(inside), np.nan)
    for row, line in enumerate(inside):
        if not line[seed]:
            continue
        before, after = np.flatnonzero(~line[:seed]), np.flatnonzero(~line[seed:])
        left[row] = before[-1] + 1 if before.size else 0
        right[row] = seed + after[0] if after.size else line.size
    known = np.flatnonzero(np.isfinite(left))
    rows = np.arange(len(inside))
    left = gaussian_filter1d(np.interp(rows, known, left[known]), 8 / cell_mm)
    right = gaussian_filter1d(np.interp(rows, known, right[known]), 8 / cell_mm)
    x = np.arange(inside.shape[1], dtype=np.float32)[None, :] + 0.5
    padding = rng.uniform(2.0, 6.0)
    half = ((right - left) / 2 * cell_mm + padding).astype(np.float32)[:, None]
    offset2 = ((x - ((left + right) / 2).astype(np.float32)[:, None]) * np.float32(cell_mm)) ** 2
    shell = np.sqrt(np.maximum((half + np.float32(thickness_mm)) ** 2 - offset2, 0))
    shell -= np.sqrt(np.maximum(half**2 - offset2, 0))
    thread = max(1.0, 2.0 / cell_mm)
    weave = gaussian_filter(rng.standard_normal(shell.shape).astype(np.float32), (0.6 * thread, 1.5 * thread))
    pitch_mm, slant = rng.uniform(25, 60), rng.normal(0, 0.25)
    turns = (rows[:, None] + x * np.float32(slant)) * np.float32(cell_mm / pitch_mm) % 1.0
    weave *= np.float32(0.06 / max(float(weave.std()), 1e-6))
    weave += np.where(turns < 0.3, 0.25, 0.0)  # a bandage covers its last turn in part
    shell *= 2 * (1 + weave)
    if rng.random() < 0.5:  # open at one end
        stop = rng.uniform(0.05, 0.35) * len(rows)
        beyond = rows - stop if rng.random() < 0.5 else len(rows) - stop - rows
        ramp = np.clip(beyond / 3, 0, 1)
        shell *= ramp.astype(np.float32)[:, None]
    return shell


def table_light(grid: CoarseGrid, lines: int, rng: np.random.Generator) -> np.ndarray:
    """Edges of a table or cassette behind the limb, float32: steps and thin lines of a few per cent."""
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


def add_dust(film: np.ndarray, count: int, rng: np.random.Generator) -> None:
    """Bright or dark specks and hairs on a finished film, in place."""
    rows, cols = film.shape
    for _ in range(count):
        row, col = int(rng.integers(rows)), int(rng.integers(cols))
        size = int(rng.integers(1, max(2, min(rows, cols) // 250) + 1))
        step = np.float32(rng.choice([-0.06, 0.15, 0.4]) * rng.uniform(0.3, 1))
        if rng.random() < 0.25:
            length, slope = int(rng.integers(3, max(4, rows // 25))), rng.uniform(-1, 1)
            steps = np.arange(length)
            r = np.clip(row + steps, 0, rows - 1)
            c = np.clip((col + slope * steps + 2 * np.sin(steps / 7)).astype(int), 0, cols - 1)
            film[r, c] = np.clip(film[r, c] + step, 0, 1)
        else:
            patch = film[row : row + size, col : col + size]
            np.clip(patch + step, 0, 1, out=patch)


def add_border(film: np.ndarray, kind: str, width_px: int, rng: np.random.Generator) -> None:
    """Edges of the sheet, in place: "line" (thin white frame), "strip" (bright edges), "black" or "white"."""
    w = max(1, width_px)
    if kind in ("black", "white", "line"):
        grey = 0.0 if kind == "black" else 1.0
        w = w if kind != "line" else max(1, w // 4)
        film[:w] = film[-w:] = grey
        film[:, :w] = film[:, -w:] = grey
    if kind in ("strip", "line"):
        # lines fade in and out along the edge as on sheets that lay a little askew under the scanner
        for edge in (film[:w], film[-w:], film.T[:w], film.T[-w:]):
            if rng.random() < (0.45 if kind == "strip" else 0.25):
                fade = gaussian_filter1d(rng.standard_normal(edge.shape[1]), edge.shape[1] / 12)
                fade = np.clip(fade / max(np.abs(fade).max(), 1e-6) + 0.4, 0, 1).astype(np.float32)
                np.maximum(edge, fade[None, :], out=edge)
