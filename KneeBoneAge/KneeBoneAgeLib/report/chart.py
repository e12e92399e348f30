"""A small chart of one knee's answer for the module's panel: how sure it is, and where the child's age lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .pictures import AMBER, TEAL, TEXT, png, typeface
from .records import Result, format_age

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw as Draw

SIZE = (340, 110)
"""Logical pixels; the picture has `SCALE` times as many."""
SCALE = 2
OVER = 2
"""Lines are drawn this many times too large again and shrunk, for smooth edges."""
LEFT, RIGHT, TOP, BASE = 12, 328, 34, 86

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Palette:
    """Colours of the chart; the field behind them is opaque, so that either is legible on any panel."""

    field: Colour
    band: Colour
    filled: Colour
    curve: Colour
    estimate: Colour
    age: Colour
    quiet: Colour


LIGHT = Palette(
    field=(250, 250, 248),
    band=(226, 238, 236),
    filled=(170, 210, 206),
    curve=(38, 128, 122),
    estimate=(176, 92, 0),
    age=(40, 52, 64),
    quiet=(98, 110, 120),
)
DARK = Palette(
    field=(27, 41, 54),
    band=(40, 62, 74),
    filled=(47, 108, 112),
    curve=TEAL,
    estimate=AMBER,
    age=TEXT,
    quiet=(160, 173, 184),
)


def chart(
    probabilities: NDArray[np.floating[Any]] | Sequence[float],
    result: Result,
    months_to: float = 240.0,
    *,
    dark: bool = False,
) -> bytes:
    """PNG of 680 x 220 pixels, to be shown at half that size.

    The distribution is filled quietly, the interval is a band, the estimate a line with its label, the
    chronological age a dashed line. A mature knee has an arrow from its least age on; a refused one is grey and
    names no number.

    Parameters
    ----------
    probabilities : (bins,) over 0 to ``months_to`` months.
    """
    colours = DARK if dark else LIGHT
    density = np.asarray(probabilities, float)
    first, last = _span(density, result, months_to)

    def across(months: float) -> float:
        return LEFT + (RIGHT - LEFT) * (min(max(months, first), last) - first) / (last - first)

    factor = SCALE * OVER
    big = Image.new("RGB", (SIZE[0] * factor, SIZE[1] * factor), colours.field)
    draw = ImageDraw.Draw(big)

    def scaled(*values: float) -> tuple[float, ...]:
        return tuple(value * factor for value in values)

    refused = result.status != "ok"
    if result.interval_months is not None and not refused:
        low, high = result.interval_months
        draw.rectangle(scaled(across(low), TOP, across(high), BASE), fill=colours.band)
    centres = (np.arange(density.size) + 0.5) * months_to / max(density.size, 1)
    shown = (centres >= first) & (centres <= last)
    heights = density / max(float(density.max(initial=0)), 1e-12) * (BASE - TOP - 4)
    curve = [
        scaled(across(month), BASE - height)
        for month, height in zip(centres[shown], heights[shown], strict=True)
    ]
    if len(curve) > 1:
        grey = _mixed(colours.quiet, colours.field, 0.25)
        under = [(curve[0][0], BASE * factor), *curve, (curve[-1][0], BASE * factor)]
        draw.polygon(under, fill=grey if refused else colours.filled)
        line = _mixed(colours.quiet, colours.field, 0.6) if refused else colours.curve
        draw.line(curve, fill=line, width=round(1.5 * factor), joint="curve")
    draw.line(scaled(LEFT, BASE, RIGHT, BASE), fill=colours.quiet, width=OVER)
    _axis_ticks(draw, first, last, across, factor, colours)
    estimate = None if refused else result.at_least_months if result.mature else result.bone_age_months
    if estimate is not None:
        x = across(estimate)
        draw.line(scaled(x, TOP - 4, x, BASE), fill=colours.estimate, width=2 * factor)
        if result.mature:
            end = max(
                x + 26, min(RIGHT, across(result.interval_months[1] if result.interval_months else last))
            )
            y = TOP + 8
            draw.line(scaled(x, y, end - 4, y), fill=colours.estimate, width=2 * factor)
            draw.polygon(
                [scaled(end, y), scaled(end - 9, y - 5), scaled(end - 9, y + 5)], fill=colours.estimate
            )
    age = result.chronological_age_months
    if age is not None and first <= age <= last:
        for y in range(TOP - 4, BASE, 6):
            draw.line(
                scaled(across(age), y, across(age), min(y + 3, BASE)),
                fill=colours.age,
                width=round(1.5 * factor),
            )
    small = big.reduce(OVER)
    draw = ImageDraw.Draw(small)
    _axis_labels(draw, first, last, across, colours)
    _headings(draw, result, estimate, across, colours)
    return png(small, compress_level=1)  # a person waits for it


def _span(density: NDArray[np.float64], result: Result, months_to: float) -> tuple[float, float]:
    """Whole years that hold the distribution, the interval and the chronological age, at least four."""
    ends: list[float] = [*(result.interval_months or ())]
    if result.mature and ends:
        ends[1] = min(ends[1], months_to)
    if result.chronological_age_months is not None:
        ends.append(result.chronological_age_months)
    total = density.sum()
    if total > 0:
        share = np.cumsum(density) / total
        centres = (np.arange(density.size) + 0.5) * months_to / density.size
        ends += [float(np.interp(level, share, centres)) for level in (0.002, 0.998)]
    low, high = (min(ends), max(ends)) if ends else (0.0, months_to)
    first, last = 12 * np.floor((low - 4) / 12), 12 * np.ceil((high + 4) / 12)
    missing = max(0.0, 48 - (last - first))
    first, last = first - 12 * np.floor(missing / 24), last + 12 * np.ceil(missing / 24)
    first = max(0.0, min(first, months_to - 48))
    return float(first), float(max(first + 48, min(last, months_to)))


def _years(first: float, last: float) -> list[int]:
    step = next(step for step in (1, 2, 5) if (last - first) / 12 / step <= 9 or step == 5)
    return [year for year in range(round(first / 12), round(last / 12) + 1) if year % step == 0]


def _axis_ticks(draw: Draw, first: float, last: float, across: Any, factor: int, colours: Palette) -> None:
    if last - first <= 72:
        for month in range(round(first), round(last) + 1, 3):
            x = across(month) * factor
            draw.line((x, BASE * factor, x, (BASE + 2) * factor), fill=colours.quiet, width=OVER)
    for year in _years(first, last):
        x = across(12 * year) * factor
        draw.line((x, BASE * factor, x, (BASE + 4) * factor), fill=colours.quiet, width=OVER)


def _axis_labels(draw: Draw, first: float, last: float, across: Any, colours: Palette) -> None:
    letters = typeface(11 * SCALE)
    years = _years(first, last)
    for year in years:
        text = f"{year} y"
        half = letters.getlength(text) / 2
        x = min(max(across(12 * year) * SCALE, half + 4), SIZE[0] * SCALE - half - 4)
        draw.text((x, (BASE + 17) * SCALE), text, colours.quiet, letters, anchor="ms")


def _headings(draw: Draw, result: Result, estimate: float | None, across: Any, colours: Palette) -> None:
    """The estimate above its line, the chronological age above its own; side by side where they would meet."""
    bold, plain = typeface(13 * SCALE), typeface(11 * SCALE)
    right_end = SIZE[0] * SCALE - 8
    if result.status != "ok":
        draw.text((8, 20 * SCALE), "refused: no bone age", colours.quiet, bold, anchor="ls")
    age = result.chronological_age_months
    taken: tuple[float, float] | None = None
    if estimate is not None:
        text = f"at least {format_age(estimate)}" if result.mature else f"bone age {format_age(estimate)}"
        taken = _place(across(estimate) * SCALE, bold.getlength(text), right_end)
        draw.text((taken[0], 24 * SCALE), text, colours.estimate, bold, anchor="ls")
    if age is None:
        return
    text = f"age {format_age(age)}"
    width = plain.getlength(text)
    place = _place(across(age) * SCALE, width, right_end)
    y = 24 * SCALE
    if result.status != "ok":
        y, place = 20 * SCALE, (right_end - width, right_end)
    elif taken is not None and place[0] < taken[1] + 12 and taken[0] < place[1] + 12:
        after = estimate is not None and age >= estimate
        if (after and taken[1] + 12 + width <= right_end) or taken[0] - 12 - width < 8:
            place = (taken[1] + 12, taken[1] + 12 + width)
        else:
            place = (taken[0] - 12 - width, taken[0] - 12)
    draw.text((place[0], y), text, colours.age, plain, anchor="ls")


def _place(middle: float, width: float, right_end: float) -> tuple[float, float]:
    left = min(max(middle - width / 2, 8), right_end - width)
    return left, left + width


def _mixed(one: Colour, other: Colour, share: float) -> Colour:
    return tuple(round(a * share + b * (1 - share)) for a, b in zip(one, other, strict=True))  # type: ignore[return-value]
