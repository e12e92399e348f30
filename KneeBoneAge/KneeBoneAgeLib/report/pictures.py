"""Pictures for people: the film with its crops; of each knee the crop, what its age rests on, and how sure.

Drawn with Pillow. Everything is shown as on the film (a left knee is not mirrored); crops are shown upright.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from ..crop import cut, to_film
from ..version import VERSION
from .records import PICTURE_MARK, Result, Run, crop_doubt, format_age, headline, side_name, unknown_facts

if TYPE_CHECKING:
    from ..crop import KneeCrop

Grey = NDArray[np.floating[Any]]

NIGHT, PANEL, QUIET, TEXT = (15, 26, 36), (27, 41, 54), (138, 153, 166), (238, 241, 243)
AMBER, TEAL, RED = (255, 178, 71), (94, 200, 190), (236, 112, 99)
OVERLAY_SIDE_PX = 1400
CELL_PX = 400
PAD = 24
CAUTION_PX = 14
CAUTION_LINE_PX = round(CAUTION_PX * 1.4)

_HEAT = np.array(
    [(0, 20, 60, 60), (0.35, 120, 40, 120), (0.65, 230, 90, 60), (0.85, 255, 178, 71), (1, 255, 246, 200)]
)
"""Colours of the heat map: value, red, green, blue."""


def overlay(
    film_pixels: Grey,
    knees: Sequence[tuple[KneeCrop | None, Result]],
    run: Run,
    saliency: Grey | None = None,
) -> Image.Image:
    """The film with the squares that were cut and one line of text a knee.

    Parameters
    ----------
    film_pixels : (rows, cols) in 0..1, bone bright.
    knees : crop (None for a film without knees) and its record.
    run : says what the picture must carry (`Run.caution`).
    saliency : (rows, cols) map in the film's own pixels to lay over it, any scale.

    Returns
    -------
    RGB picture, longer side of the film at most 1400 px, quiet lines below it.
    """
    rows, cols = film_pixels.shape
    scale = min(1.0, OVERLAY_SIDE_PX / max(rows, cols))
    size = (max(1, round(cols * scale)), max(1, round(rows * scale)))
    film = _grey(film_pixels).resize(size, Image.Resampling.BOX if scale < 0.5 else Image.Resampling.LANCZOS)
    film = film.convert("RGB")
    if saliency is not None:
        heat = Image.fromarray(np.asarray(saliency, np.float32)).resize(size, Image.Resampling.BILINEAR)
        film = _heated(film, np.asarray(heat))
    width = max(film.width, 420)
    unit = max(13, min(30, width // 40))
    lines = (
        [] if any(crop is not None for crop, _ in knees) else _wrapped(knees[0][1].reason or "", width, unit)
    )
    quiet = max(12, round(unit * 0.6))
    caution = _wrapped(run.caution, width - PAD, quiet)
    footer = unit + len(lines) * round(unit * 1.4) + len(caution) * round(quiet * 1.4)
    picture = Image.new("RGB", (width, film.height + footer), NIGHT)
    left = (width - film.width) // 2
    picture.paste(film, (left, 0))
    draw = ImageDraw.Draw(picture)
    for crop, result in knees:
        if crop is not None:
            _square(draw, crop, result, scale, left, film, unit)
    for number, line in enumerate(lines):
        draw.text((PAD // 2, film.height + unit * 0.5 + number * unit * 1.4), line, TEXT, typeface(unit))
    _last_lines(draw, caution, PAD // 2, picture.height - quiet * 0.7, quiet)
    return picture


def panel(
    film_pixels: Grey,
    crop: KneeCrop,
    result: Result,
    run: Run,
    saliency: Grey | None = None,
    probabilities: Grey | None = None,
) -> Image.Image:
    """One knee: crop, crop with heat map, distribution over bone ages, and what the bundle says of itself.

    Parameters
    ----------
    run : gives the end of the scale and what the picture must carry (`Run.caution`).
    saliency : (rows, cols) map in the film's own pixels, any scale, larger is more; None leaves the cell out.
    probabilities : (bins,) over 0..``run.scale_end_months`` (240 where not known); None leaves the cell out.
    """
    upright = dataclasses.replace(crop, mirrored=False)
    plain = _grey(cut(film_pixels, upright, CELL_PX)).convert("RGB")
    cells: list[tuple[str, Image.Image]] = [("Crop, upright", plain)]
    if saliency is not None:
        cells.append(("What the estimate rests on", _heated(plain, cut(saliency, upright, CELL_PX))))
    if probabilities is not None and result.status == "ok":
        end = run.scale_end_months or 240.0
        cells.append(("Bone age in years", _distribution(probabilities, result, end)))
    width = PAD + len(cells) * (CELL_PX + PAD)
    title = f"{side_name(result)}: {headline(result)}"
    details = [(line, QUIET) for line in _wrapped(_details(result), width - 2 * PAD, 16)]
    if result.crop_uncertain:
        doubt = crop_doubt(result.crop_origin, result.crop_confidence)
        details += [(line, AMBER) for line in _wrapped(doubt[:1].upper() + doubt[1:], width - 2 * PAD, 16)]
    made = f"KneeBoneAge {VERSION}" + (f", bundle {result.bundle}" if result.bundle else "")
    last = [line for text in (run.caution, made) for line in _wrapped(text, width - 2 * PAD, CAUTION_PX)]
    top = PAD + 36 + len(details) * 22 + 16
    picture = Image.new("RGB", (width, top + CELL_PX + 44 + len(last) * CAUTION_LINE_PX), NIGHT)
    draw = ImageDraw.Draw(picture)
    font = _fitting(title, width - 2 * PAD, 26)
    draw.text((PAD, PAD + 24), title, RED if result.status != "ok" else TEXT, font, anchor="ls")
    for number, (line, colour) in enumerate(details):
        draw.text((PAD, PAD + 50 + number * 22), line, colour, typeface(16), anchor="ls")
    for column, (name, cell) in enumerate(cells):
        x = PAD + column * (CELL_PX + PAD)
        picture.paste(cell, (x, top))
        draw.text((x, top + CELL_PX + 20), name, TEXT, typeface(14), anchor="ls")
    _last_lines(draw, last, PAD, picture.height - 16, CAUTION_PX)
    return picture


def png(picture: Image.Image, compress_level: int = 6) -> bytes:
    """The picture as PNG that says in its header that it is no film."""
    stream = io.BytesIO()
    picture.save(stream, "PNG", pnginfo=_no_film(), compress_level=compress_level)
    return stream.getvalue()


def jpeg(picture: Image.Image, longest_px: int = 1240) -> bytes:
    """The picture as a small JPEG for the page."""
    small = picture.copy()
    small.thumbnail((longest_px, longest_px))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=85, optimize=True)
    return stream.getvalue()


def png_patch(patch: Grey) -> bytes:
    """A cut crop in 0..1 as a 16-bit grey PNG; it is turned, perhaps mirrored, so a walk takes it for no film."""
    stream = io.BytesIO()
    grey = Image.fromarray(np.round(np.clip(patch, 0, 1) * 65535).astype(np.uint16))
    grey.save(stream, "PNG", pnginfo=_no_film())
    return stream.getvalue()


def _no_film() -> PngInfo:
    info = PngInfo()
    info.add_text("Software", PICTURE_MARK)
    return info


def _last_lines(draw: ImageDraw.ImageDraw, lines: Sequence[str], x: float, base: float, size: int) -> None:
    """Quiet lines of ``size`` pixels, the last one at ``base``."""
    for below, line in zip(reversed(range(len(lines))), lines, strict=True):
        draw.text((x, base - below * round(size * 1.4)), line, QUIET, typeface(size), anchor="ls")


def _square(
    draw: ImageDraw.ImageDraw,
    crop: KneeCrop,
    result: Result,
    scale: float,
    left: int,
    film: Image.Image,
    unit: int,
) -> None:
    colour = AMBER if result.status == "ok" else RED
    corners = to_film([[0, 0], [1, 0], [1, 1], [0, 1]], crop, 1) * scale + (left, 0)
    ring = [tuple(point) for point in np.vstack([corners, corners[:1]])]
    line = max(2, unit // 7)
    draw.line(ring, fill=NIGHT, width=line + 2, joint="curve")
    if result.crop_uncertain:
        _dashes(draw, ring, colour, line, unit)
    else:
        draw.line(ring, fill=colour, width=line, joint="curve")
    doubt = ", crop uncertain" if result.crop_uncertain else ""
    label = f"{result.side if result.side in 'RL' else '?'}  {headline(result)}{doubt}"
    font = _fitting(label, film.width - unit, unit)
    box = draw.textbbox((0, 0), label, font)
    x = float(np.clip(corners[:, 0].min(), left, left + film.width - box[2] - unit))
    y = float(np.clip(corners[:, 1].min() - unit * 1.7, 0, film.height - unit * 1.7))
    draw.rounded_rectangle((x, y, x + box[2] + unit, y + unit * 1.6), unit // 3, fill=NIGHT)
    draw.text((x + unit / 2, y + unit * 0.8), label, colour, font, anchor="lm")


def _dashes(
    draw: ImageDraw.ImageDraw,
    ring: Sequence[tuple[float, ...]],
    colour: tuple[int, ...],
    line: int,
    unit: int,
) -> None:
    """The sides of a square in dashes of about ``unit`` pixels, with one at each corner."""
    for start, end in itertools.pairwise(np.asarray(ring)):
        steps = max(1, round(float(np.hypot(*(end - start))) / (2 * unit)))
        for step in range(steps):
            for low, high in ((step, step + 0.3), (step + 0.7, step + 1)):
                one, other = (start + (end - start) * share / steps for share in (low, high))
                draw.line([tuple(one), tuple(other)], fill=colour, width=line)


def _details(result: Result) -> str:
    parts = []
    if result.status != "ok" and result.reason:
        return result.reason
    if result.interval_months is not None and not result.mature:
        low, high = result.interval_months
        level = f"{result.interval_level:.0%} interval " if result.interval_level else "interval "
        parts.append(f"{level}{low:.0f} to {high:.0f} months")
    if result.chronological_age_months is not None:
        parts.append(f"chronological age {format_age(result.chronological_age_months)}")
    if result.sex is not None:
        parts.append({"F": "girl", "M": "boy"}.get(result.sex, result.sex))
    if unknown := unknown_facts(result):
        parts.append(f"{unknown} unknown")
    if result.crop_confidence is not None and result.crop_origin == "automatic" and not result.crop_uncertain:
        parts.append(f"crop confidence {result.crop_confidence:.2f}")
    if result.side_conflict:
        parts.append(f"the header says side {result.side_from_header}")
    return ", ".join(parts)


def _heated(plain: Image.Image, heat: Grey) -> Image.Image:
    heat = np.abs(np.nan_to_num(heat))
    top = float(np.quantile(heat, 0.995)) or float(heat.max())
    strength = np.clip(heat / top, 0, 1) if top > 0 else np.zeros_like(heat)
    colours = np.stack([np.interp(strength, _HEAT[:, 0], _HEAT[:, band]) for band in (1, 2, 3)], axis=-1)
    weight = (0.75 * strength**0.8)[..., None]
    mixed = np.asarray(plain, np.float32) * (1 - weight) + colours * weight
    return Image.fromarray(np.round(mixed).astype(np.uint8))


def _distribution(probabilities: Grey, result: Result, months_to: float) -> Image.Image:
    """The curve drawn three times too large, for smooth edges; labels are drawn after shrinking."""
    over, left, right, base, top = 3, 14, CELL_PX - 14, CELL_PX - 42, 28

    def across(months: float) -> float:
        return left + (right - left) * months / months_to

    big = Image.new("RGB", (CELL_PX * over, CELL_PX * over), PANEL)
    draw = ImageDraw.Draw(big)

    def scaled(*values: float) -> tuple[float, ...]:
        return tuple(value * over for value in values)

    if result.interval_months is not None:
        low, high = result.interval_months
        draw.rectangle(scaled(across(low), top, across(high), base), fill=(38, 66, 78))
    for year in range(0, int(months_to / 12) + 1, 2):
        draw.line(scaled(across(year * 12), base, across(year * 12), base + 5), fill=QUIET, width=over)
    density = np.asarray(probabilities, float)
    heights = density / max(float(density.max()), 1e-12) * (base - top - 12)
    centres = (np.arange(density.size) + 0.5) * months_to / density.size
    curve = [scaled(across(month), base - height) for month, height in zip(centres, heights, strict=True)]
    draw.polygon([scaled(across(0), base), *curve, scaled(across(months_to), base)], fill=(47, 108, 112))
    draw.line(curve, fill=TEAL, width=2 * over, joint="curve")
    draw.line(scaled(left, base, right, base), fill=QUIET, width=over)
    estimate = result.at_least_months if result.mature else result.bone_age_months
    if estimate is not None:
        draw.line(scaled(across(estimate), top, across(estimate), base), fill=AMBER, width=2 * over)
    age = result.chronological_age_months
    if age is not None and age <= months_to:
        x = across(age)
        draw.polygon([scaled(x, base), scaled(x - 6, base + 10), scaled(x + 6, base + 10)], fill=TEXT)
    cell = big.resize((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(cell)
    for year in range(0, int(months_to / 12) + 1, 2):
        draw.text((across(year * 12), base + 26), str(year), QUIET, typeface(12), anchor="ms")
    legend = "line: at least" if result.mature else "line: estimate, band: interval"
    if age is not None:
        legend += ", triangle: chronological age"
    draw.text((left, 18), legend, QUIET, _fitting(legend, right - left, 12), anchor="ls")
    return cell


def _grey(pixels: Grey) -> Image.Image:
    return Image.fromarray(np.round(np.clip(np.nan_to_num(pixels), 0, 1) * 255).astype(np.uint8))


def typeface(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own typeface at ``size`` pixels."""
    return ImageFont.load_default(size)


def _fitting(text: str, width: float, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font at ``size``, or smaller so that the text fits into ``width`` pixels."""
    while size > 9 and typeface(size).getlength(text) > width:
        size -= 1
    return typeface(size)


def _wrapped(text: str, width: int, size: int) -> list[str]:
    return textwrap.wrap(text, max(20, int(width / (size * 0.52)))) if text else []
