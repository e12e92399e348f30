"""The flow diagram as a picture: what was read, what left and why, what is left; SVG and PNG, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from KneeBoneAgeLib.report.records import PICTURE_MARK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, EDGE, MAIN, SIDE, END = "#16222c", "#4a6274", "#e8f1f4", "#f6f3ec", "#e6f2ea"
WIDTH_IN, LINE_IN, PAD_IN, GAP_IN = 9.4, 0.21, 0.12, 0.32
FONT_PT = 9.5
LEFT_IN, BOX_IN = 0.15, 2.75
SIDE_IN, SIDE_BOX_IN = 3.35, 5.9
COLUMN_IN = 0.75
"""Width of a column of numbers, at the right end of a box."""


@dataclass(frozen=True)
class Line:
    """A line of text with numbers in columns at the right."""

    text: str
    numbers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Box:
    """Lines; the first is bold."""

    lines: tuple[Line, ...]
    colour: str

    @property
    def height_in(self) -> float:
        return len(self.lines) * LINE_IN + 2 * PAD_IN


def draw(numbers: dict[str, Any], svg: Path, png: Path) -> None:
    """Draw a flow (`flow.flow`) into both files; the same numbers give the same bytes.

    Raises
    ------
    ImportError
        matplotlib is missing; it comes with the training extra.
    """
    import matplotlib
    from matplotlib.figure import Figure

    rows, ends = _rows(numbers), _ends(numbers)
    heights = [max(box.height_in for box in row if box) for row in rows]
    total = sum(heights) + GAP_IN * len(rows) + max(box.height_in for box in ends) + 2 * PAD_IN
    figure = Figure(figsize=(WIDTH_IN, total))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, WIDTH_IN)
    axes.set_ylim(total, 0)
    axes.axis("off")
    _arrange(axes, rows, heights, ends)
    with matplotlib.rc_context({"svg.hashsalt": "kneeboneage", "svg.fonttype": "path"}):
        figure.savefig(svg, metadata={"Date": None, "Creator": PICTURE_MARK})
        figure.savefig(png, dpi=150, facecolor="white", metadata={"Software": PICTURE_MARK})


def _arrange(
    axes: Axes, rows: Sequence[tuple[Box, Box | None]], heights: Sequence[float], ends: Sequence[Box]
) -> None:
    middle = LEFT_IN + BOX_IN / 2
    top = PAD_IN
    for (main, side), height in zip(rows, heights, strict=True):
        _box(axes, main, LEFT_IN, top, BOX_IN)
        if side is not None:
            _box(axes, side, SIDE_IN, top, SIDE_BOX_IN)
            across = top + min(main.height_in, side.height_in) / 2
            _arrow(axes, (LEFT_IN + BOX_IN, across), (SIDE_IN, across))
        _arrow(axes, (middle, top + main.height_in), (middle, top + height + GAP_IN))
        top += height + GAP_IN
    training, test = ends
    _box(axes, training, LEFT_IN, top, BOX_IN)
    _box(axes, test, SIDE_IN, top, BOX_IN)
    other, fork = SIDE_IN + BOX_IN / 2, top - GAP_IN / 2
    axes.plot([middle, other], [fork, fork], color=EDGE, lw=1)
    _arrow(axes, (other, fork), (other, top))


def _box(axes: Axes, box: Box, left: float, top: float, width: float) -> None:
    from matplotlib.patches import FancyBboxPatch

    style = "round,pad=0,rounding_size=0.06"
    axes.add_patch(
        FancyBboxPatch((left, top), width, box.height_in, boxstyle=style, fc=box.colour, ec=EDGE, lw=1)
    )
    for number, line in enumerate(box.lines):
        look: dict[str, Any] = {
            "fontsize": FONT_PT,
            "color": INK,
            "va": "center",
            "weight": "normal" if number else "bold",
        }
        middle = top + PAD_IN + (number + 0.5) * LINE_IN
        axes.text(left + PAD_IN, middle, line.text, **look)
        for column, text in enumerate(reversed(line.numbers)):
            axes.text(left + width - PAD_IN - column * COLUMN_IN, middle, text, ha="right", **look)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate(
        "",
        xy=end,
        xytext=start,
        arrowprops={"arrowstyle": "-|>", "color": EDGE, "lw": 1, "shrinkA": 0, "shrinkB": 0},
    )


def _rows(numbers: dict[str, Any]) -> list[tuple[Box, Box | None]]:
    """Main boxes from top to bottom, each with what left after it."""
    kind, steps = numbers["kind"], numbers["steps"]
    first, rules, pairing = (
        [step for step in steps if step["stage"] == stage] for stage in ("usable", "rule", "pairing")
    )
    reasons = numbers["problems"]["reasons"]
    problems = [Line("Cannot be used (problems.csv)", (f"{sum(reasons.values()):,} rows",))]
    problems += [Line(what, (f"{count:,}",)) for what, count in reasons.items()]
    excluded = Box((_head("Excluded", kind), *_lines([*first, *rules], kind)), SIDE)
    rows = [
        (Box((Line("Read"), *_counts(numbers["read"], kind)), MAIN), Box(tuple(problems), SIDE)),
        (Box((Line("Usable"), *_counts(numbers["usable"], kind)), MAIN), excluded),
    ]
    if pairing:
        eligible = Box((Line("Eligible"), *_counts(rules[-1]["after"], kind)), MAIN)
        rows.append((eligible, Box((_head("Not paired", kind), *_lines(pairing, kind)), SIDE)))
    kept = Box((Line("In the study"), *_counts(numbers["kept"], kind)), MAIN)
    return [*rows, (kept, None)]


def _ends(numbers: dict[str, Any]) -> tuple[Box, Box]:
    """The boxes of training and test set."""
    test, folds = numbers["split"]["test"], numbers["split"]["folds"]
    head = ("patients", "films")
    lines = [
        Line(f"Fold {i}", (f"{fold['patients']:,}", f"{fold['films']:,}")) for i, fold in enumerate(folds)
    ]
    all_folds = (f"{sum(f['patients'] for f in folds):,}", f"{sum(f['films'] for f in folds):,}")
    return (
        Box((Line("Training", head), *lines, Line("All folds", all_folds)), END),
        Box((Line("Test", head), Line("", (f"{test['patients']:,}", f"{test['films']:,}"))), END),
    )


def _columns(kind: str) -> tuple[str, ...]:
    return ("patients", *(f"{part}_films" for part in ("knee", "hand") if kind in (part, "paired")))


def _head(title: str, kind: str) -> Line:
    return Line(title, tuple(name.removesuffix("_films") for name in _columns(kind)))


def _lines(steps: Sequence[dict[str, Any]], kind: str) -> list[Line]:
    return [
        Line(
            step["label"],
            tuple(f"{step['removed'][name]:,}" for name in _columns(kind))
            if step["stated"]
            else ("not stated",),
        )
        for step in steps
    ]


def _counts(counts: dict[str, int], kind: str) -> list[Line]:
    return [Line(name.replace("_", " "), (f"{counts[name]:,}",)) for name in _columns(kind)]
