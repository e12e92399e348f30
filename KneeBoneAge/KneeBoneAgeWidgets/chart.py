"""A small chart of one knee's answer: how sure it is, and where the child's age lies.

Painted by the application itself, in its letters and its language. Only long-standing calls of Qt's painter are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import qt
from numpy.typing import NDArray
from slicer.i18n import tr as _

from .wording import years_and_months

SIZE = (340, 110)
"""Logical pixels."""
SCALE = 2.0
"""Pixels a logical pixel, so that it is sharp on fine screens too."""
LEFT, RIGHT, TOP, BASE = 12, 328, 34, 86
STEP = 2
"""Logical pixels between two places of the curve."""
LEAST_SPAN_MONTHS = 48.0


@dataclass(frozen=True)
class Palette:
    """Colours of the chart; the field behind them is opaque, so that either is legible on any panel."""

    field: str
    band: str
    filled: str
    curve: str
    estimate: str
    age: str
    quiet: str
    refused: str


LIGHT = Palette("#fafaf8", "#e2eeec", "#aad2ce", "#26807a", "#b05c00", "#283440", "#626e78", "#d4d7d8")
DARK = Palette("#1b2936", "#283e4a", "#2f6c70", "#5ec8be", "#ffb247", "#eef1f3", "#a0adb8", "#3c4a57")


@dataclass(frozen=True)
class Answer:
    """What a chart shows of a record; ages in months.

    Attributes
    ----------
    estimate : bone age, or the least one of a mature knee; None of a refused one, which names no number.
    """

    refused: bool
    mature: bool
    estimate: float | None
    interval: tuple[float, float] | None
    age: float | None

    @classmethod
    def of(cls, record: dict[str, Any], months_to: float) -> Answer:
        refused, mature = record.get("status") != "ok", bool(record.get("mature"))
        estimate = record.get("at_least_months" if mature else "bone_age_months")
        interval = record.get("interval_months")
        if interval and mature:
            interval = (interval[0], min(interval[1], months_to))
        return cls(
            refused,
            mature,
            None if refused else estimate,
            None if refused or not interval else (interval[0], interval[1]),
            record.get("chronological_age_months"),
        )


def chart(
    probabilities: Sequence[float], record: dict[str, Any], months_to: float = 240.0, *, dark: bool = False
) -> Any:
    """A pixmap of `SIZE` logical pixels.

    The distribution is filled quietly, the interval is a band, the estimate a line with its label, the chronological
    age a dashed line. A mature knee has an arrow from its least age on; a refused one is grey and names no number.

    Parameters
    ----------
    probabilities : (bins,) over 0 to ``months_to`` months.
    record : of `report.records.Result`.
    """
    density = np.asarray(probabilities, float)
    answer = Answer.of(record, months_to)
    pixmap = qt.QPixmap(int(SIZE[0] * SCALE), int(SIZE[1] * SCALE))
    pixmap.setDevicePixelRatio(SCALE)
    colours = DARK if dark else LIGHT
    pixmap.fill(qt.QColor(colours.field))
    painter = qt.QPainter()
    painter.begin(pixmap)
    try:
        painter.setRenderHint(qt.QPainter.Antialiasing)
        _Drawing(painter, colours, answer, *span(density, answer, months_to)).draw(density, months_to)
    finally:
        painter.end()
    return pixmap


def span(density: NDArray[np.float64], answer: Answer, months_to: float) -> tuple[float, float]:
    """Whole years, in months, that hold the distribution, the interval and the age; at least four years."""
    ends = [*(answer.interval or ()), *([] if answer.age is None else [answer.age])]
    total = density.sum()
    if total > 0:
        share = np.cumsum(density) / total
        ends += [float(np.interp(level, share, _centres(density, months_to))) for level in (0.002, 0.998)]
    low, high = (min(ends), max(ends)) if ends else (0.0, months_to)
    first, last = 12 * np.floor((low - 4) / 12), 12 * np.ceil((high + 4) / 12)
    missing = max(0.0, LEAST_SPAN_MONTHS - (last - first))
    first, last = first - 12 * np.floor(missing / 24), last + 12 * np.ceil(missing / 24)
    first = max(0.0, min(first, months_to - LEAST_SPAN_MONTHS))
    return float(first), float(max(first + LEAST_SPAN_MONTHS, min(last, months_to)))


def _centres(density: NDArray[np.float64], months_to: float) -> NDArray[np.float64]:
    return (np.arange(density.size) + 0.5) * months_to / max(density.size, 1)


class _Drawing:
    """One painting of a chart from month ``first`` to ``last``."""

    def __init__(self, painter: Any, colours: Palette, answer: Answer, first: float, last: float) -> None:
        self.painter, self.colours, self.answer = painter, colours, answer
        self.first, self.last = first, last

    def draw(self, density: NDArray[np.float64], months_to: float) -> None:
        if self.answer.interval:
            low, high = (self._across(months) for months in self.answer.interval)
            self._fill(low, TOP, high - low, BASE - TOP, self.colours.band)
        self._distribution(density, months_to)
        self._axis()
        if self.answer.estimate is not None:
            self._estimate(self._across(self.answer.estimate))
        if self.answer.age is not None and self.first <= self.answer.age <= self.last:
            x = self._across(self.answer.age)
            dashes = [(x, y, x, min(y + 3, BASE)) for y in range(TOP - 4, BASE, 6)]
            self._lines(dashes, self.colours.age, 1.5)
        self._headings()

    def _across(self, months: float) -> float:
        inside = min(max(months, self.first), self.last)
        return LEFT + (RIGHT - LEFT) * (inside - self.first) / (self.last - self.first)

    def _line(self, x0: float, y0: float, x1: float, y1: float, colour: str, width: float) -> None:
        self._lines([(x0, y0, x1, y1)], colour, width)

    def _lines(self, ends: Sequence[tuple[float, float, float, float]], colour: str, width: float) -> None:
        """Lines from (x0, y0) to (x1, y1) with one pen."""
        pen = qt.QPen(qt.QColor(colour))
        pen.setWidthF(width)
        self.painter.setPen(pen)
        draw, point = self.painter.drawLine, qt.QPointF
        for x0, y0, x1, y1 in ends:
            draw(point(x0, y0), point(x1, y1))

    def _fill(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        self.painter.fillRect(qt.QRectF(x, y, width, height), qt.QColor(colour))

    def _distribution(self, density: NDArray[np.float64], months_to: float) -> None:
        if density.size < 2 or not density.max() > 0:
            return
        x = np.arange(LEFT, RIGHT + 1, STEP, dtype=float)
        months = self.first + (x - LEFT) / (RIGHT - LEFT) * (self.last - self.first)
        heights = np.interp(months, _centres(density, months_to), density) / density.max() * (BASE - TOP - 4)
        colours, refused, fill = self.colours, self.answer.refused, self.painter.fillRect
        ground = qt.QColor(colours.refused if refused else colours.filled)
        for left, height in zip(x[:-1].tolist(), ((heights[:-1] + heights[1:]) / 2).tolist(), strict=True):
            if height > 0.1:
                fill(qt.QRectF(left, BASE - height, STEP, height), ground)
        pen = qt.QPen(qt.QColor(colours.quiet if refused else colours.curve))
        pen.setWidthF(1.5)
        pen.setCapStyle(qt.Qt.RoundCap)
        self.painter.setPen(pen)
        seen = np.flatnonzero(heights > 0.1)
        if seen.size:
            # Every second place: a line is smooth enough with that, a filled column would not be.
            part = slice(max(int(seen[0]) - 1, 0), int(seen[-1]) + 3, 2)
            tops = zip(x[part].tolist(), (BASE - heights[part]).tolist(), strict=True)
            points = [qt.QPointF(*top) for top in tops]
            for one, other in pairwise(points):
                self.painter.drawLine(one, other)

    def _axis(self) -> None:
        quiet = self.colours.quiet
        years = (self.last - self.first) / 12
        step = next(step for step in (1, 2, 5) if years / step <= 9 or step == 5)
        shown = [
            year for year in range(round(self.first / 12), round(self.last / 12) + 1) if year % step == 0
        ]
        ticks = [(self._across(12 * year), 4) for year in shown]
        if self.last - self.first <= 72:
            ticks += [(self._across(month), 2) for month in range(round(self.first), round(self.last) + 1, 6)]
        axis = [(LEFT, BASE, RIGHT, BASE), *((x, BASE, x, BASE + length) for x, length in ticks)]
        self._lines(axis, quiet, 1.0)
        letters = _letters(11)
        metrics = qt.QFontMetrics(letters)
        self.painter.setFont(letters)
        for year, (x, _length) in zip(shown, ticks, strict=False):
            text = _("{years} y").format(years=year)
            half = metrics.boundingRect(text).width() / 2
            left = min(max(x, half + 2), SIZE[0] - half - 2) - half
            self.painter.drawText(qt.QPointF(left, BASE + 17), text)

    def _estimate(self, x: float) -> None:
        colour = self.colours.estimate
        self._line(x, TOP - 4, x, BASE, colour, 2.0)
        if self.answer.mature:
            end = self._across(self.answer.interval[1] if self.answer.interval else self.last)
            end, y = max(x + 26, min(RIGHT, end)), TOP + 8
            self._line(x, y, end, y, colour, 2.0)
            for rise in (-4.5, 4.5):
                self._line(end, y, end - 7, y + rise, colour, 2.0)

    def _headings(self) -> None:
        """The estimate above its line, the chronological age above its own; side by side where they would meet."""
        answer, colours = self.answer, self.colours
        bold, plain = _letters(13, bold=True), _letters(11)
        if answer.refused:
            self._text(4, 20, _("refused: no bone age"), bold, colours.quiet)
        taken = None
        if answer.estimate is not None:
            words = _("at least {age}") if answer.mature else _("bone age {age}")
            text = words.format(age=years_and_months(answer.estimate))
            taken = _place(self._across(answer.estimate), _width(bold, text))
            self._text(taken[0], 24, text, bold, colours.estimate)
        if answer.age is None:
            return
        text = _("age {age}").format(age=years_and_months(answer.age))
        width = _width(plain, text)
        left = SIZE[0] - 4 - width if answer.refused else _place(self._across(answer.age), width)[0]
        if taken is not None:
            left = _beside(taken, left, width, answer.age >= (answer.estimate or 0.0))
        self._text(left, 20 if answer.refused else 24, text, plain, colours.age)

    def _text(self, x: float, y: float, text: str, letters: Any, colour: str) -> None:
        """Text with its left end at x, standing on y."""
        self.painter.setFont(letters)
        self.painter.setPen(qt.QPen(qt.QColor(colour)))
        self.painter.drawText(qt.QPointF(x, y), text)


def _letters(pixels: int, bold: bool = False) -> Any:
    letters = qt.QFont()
    letters.setPixelSize(pixels)
    letters.setBold(bold)
    return letters


def _width(letters: Any, text: str) -> float:
    return float(qt.QFontMetrics(letters).boundingRect(text).width())


def _place(middle: float, width: float) -> tuple[float, float]:
    """Left and right end of a text about a place, within the chart."""
    left = min(max(middle - width / 2, 4), SIZE[0] - 4 - width)
    return left, left + width


def _beside(taken: tuple[float, float], left: float, width: float, after: bool) -> float:
    """The left end of a text that leaves ``taken`` free: where it was, or to the side that it belongs to."""
    if left >= taken[1] + 6 or taken[0] >= left + width + 6:
        return left
    fits_after, fits_before = taken[1] + 6 + width <= SIZE[0] - 4, taken[0] - 6 - width >= 4
    return taken[1] + 6 if (after and fits_after) or not fits_before else taken[0] - 6 - width
