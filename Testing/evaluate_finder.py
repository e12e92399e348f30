"""How well the knee finder finds: overlap with the reference crops, side, crops where there is no knee.

    python Testing/evaluate_finder.py --finder RUN_OR_BUNDLE --phantom COHORT
    python Testing/evaluate_finder.py --finder RUN_OR_BUNDLE --real ../shared/data/radiographs

The finder is `finder.safetensors` and `finder.json` of a training run, or a bundle. A cohort is what
`kneeboneage phantom` writes. Real films are for reporting only; no constant may be fitted to them.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from KneeBoneAgeLib.crop import KneeCrop, iou
from KneeBoneAgeLib.errors import FilmError
from KneeBoneAgeLib.radiograph import read_film
from KneeBoneAgeLib.report.records import SURE_CONFIDENCE
from KneeBoneAgeLib.segmentation import KneeFinder

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Truth:
    """A knee that must be found; ``adult`` only splits the report."""

    box: Box
    side: str | None
    adult: bool


@dataclass(frozen=True)
class Row:
    """One knee that must be found, or one crop that should not be there (``overlap`` None)."""

    file: str
    overlap: float | None
    width_ratio: float
    centre_error: float
    side_right: bool | None
    confidence: float
    adult: bool
    reason: str


def load_finder(folder: Path) -> KneeFinder:
    """A finder from a training run or from a bundle."""
    config = folder / "finder.json"
    if config.exists():
        settings = json.loads(config.read_text())
    else:
        settings = json.loads((folder / "bundle.json").read_text())["architecture"]["finder"]
    return KneeFinder(load_file(folder / "finder.safetensors"), settings)


def phantom_truth(folder: Path) -> dict[Path, list[Truth | None]]:
    """Films of a cohort with their knees; films of nothing to be cropped have none."""
    films: dict[Path, list[Truth | None]] = defaultdict(list)
    with (folder / "cohort.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            knees = films[folder / row["file"]]
            if row["x0"]:
                box = tuple(float(row[name]) for name in ("x0", "y0", "x1", "y1"))
                knees.append(Truth(box, row["side"], float(row["true_bone_age_months"]) >= 204))
    return films


def real_truth(folder: Path) -> dict[Path, list[Truth | None]]:
    """Films of `truth.csv`; None stands for a knee that is half outside, which may be found or not."""
    films: dict[Path, list[Truth | None]] = defaultdict(list)
    with (folder / "truth.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            knees = films[folder / row["file"]]
            if row["knee_index"] == "0":
                continue
            if not row["condyle_width"]:
                knees.append(None)
                continue
            x, y, width = (float(row[name]) for name in ("joint_x", "joint_y", "condyle_width"))
            side = {"left": "R", "right": "L"}.get(row["fibula_side"])
            knees.append(Truth((x - width, y - width, x + width, y + width), side, row["physis"] == "closed"))
    return films


def judge(file: str, truths: list[Truth | None], knees: tuple[KneeCrop, ...], reason: str) -> list[Row]:
    """Match crops to knees, best overlap first; what is left over is missed or false."""
    left, rows = list(knees), []
    for truth in truths:
        if truth is None:
            continue
        best = max(left, key=lambda crop: iou(crop.box_px, truth.box), default=None)
        overlap = iou(best.box_px, truth.box) if best else 0.0
        if best is None or overlap == 0:
            rows.append(Row(file, 0.0, np.nan, np.nan, False, 0.0, truth.adult, reason))
            continue
        left.remove(best)
        side = truth.box[2] - truth.box[0]
        middle = (truth.box[0] + truth.box[2]) / 2, (truth.box[1] + truth.box[3]) / 2
        away = float(np.hypot(best.centre_px[0] - middle[0], best.centre_px[1] - middle[1])) / (side / 2)
        right = None if truth.side is None else best.side == truth.side
        rows.append(Row(file, overlap, best.side_px / side, away, right, best.confidence, truth.adult, ""))
    spare = sum(truth is None for truth in truths)
    for crop in left[spare:]:
        rows.append(Row(file, None, np.nan, np.nan, None, crop.confidence, False, "false crop"))
    return rows


def report(name: str, rows: list[Row], films: int, empty: int, seconds: list[float]) -> dict[str, float]:
    """Print and return the shares that the project promises."""
    false_films = {row.file for row in rows if row.overlap is None}
    numbers: dict[str, float] = {
        "films": films,
        "films_without_knee": empty,
        "films_with_false_crop": len(false_films),
    }
    for group, chosen in (
        ("all", [row for row in rows if row.overlap is not None]),
        ("adult", [row for row in rows if row.overlap is not None and row.adult]),
        ("child", [row for row in rows if row.overlap is not None and not row.adult]),
    ):
        if not chosen:
            continue
        overlaps = np.array([row.overlap for row in chosen])
        sides = [row.side_right for row in chosen if row.side_right is not None]
        numbers[f"{group}_knees"] = len(chosen)
        for limit in (0.6, 0.75, 0.8):
            numbers[f"{group}_iou_{round(100 * limit)}"] = float((overlaps >= limit).mean())
        numbers[f"{group}_found"] = float((overlaps > 0).mean())
        numbers[f"{group}_side_right"] = float(np.mean(sides)) if sides else float("nan")
        found = [row for row in chosen if row.overlap]
        numbers[f"{group}_width_ratio"] = (
            float(np.median([row.width_ratio for row in found])) if found else 0.0
        )
        numbers[f"{group}_centre_error"] = (
            float(np.median([row.centre_error for row in found])) if found else 0.0
        )
    numbers |= confidence_numbers(rows)
    numbers["median_ms"] = 1000 * float(np.median(seconds))
    print(f"{name}:")
    for key, value in numbers.items():
        print(f"  {key:24} {value:.3f}" if isinstance(value, float) else f"  {key:24} {value}")
    return numbers


def confidence_numbers(rows: list[Row]) -> dict[str, float]:
    """How many crops are marked as uncertain, and how much more often these are off."""
    knees = [row for row in rows if row.overlap]
    doubted = [row for row in rows if row.confidence < SURE_CONFIDENCE]
    overlaps = np.array([row.overlap for row in knees])
    unsure = np.array([row.confidence < SURE_CONFIDENCE for row in knees], bool)
    numbers: dict[str, float] = {
        "knees_uncertain": int(unsure.sum()),
        "false_crops": sum(row.overlap is None for row in rows),
        "false_crops_uncertain": sum(row.overlap is None for row in doubted),
    }
    for group, chosen in (("uncertain", unsure), ("sure", ~unsure)):
        if chosen.any():
            numbers[f"{group}_iou_75"] = float((overlaps[chosen] >= 0.75).mean())
    return numbers


def evaluate(
    finder: KneeFinder, films: dict[Path, list[Truth | None]], name: str, header: bool, worst: int
) -> dict[str, float]:
    """Read and find on every film.

    Parameters
    ----------
    header : False blanks what the header says of view, part and side, so that only the picture counts.
    worst : this many of the worst knees and every false crop are listed.
    """
    rows: list[Row] = []
    seconds = []
    for path, truths in films.items():
        try:
            film = read_film(path)
        except FilmError as error:
            print(f"  unreadable: {error}")
            continue
        if not header:
            film = replace(film, view=None, body_part=None, side=None)
        start = time.perf_counter()
        finding = finder.find(film)
        seconds.append(time.perf_counter() - start)
        rows += judge(path.name, truths, finding.knees, finding.reason or "")
    numbers = report(name, rows, len(films), sum(not truths for truths in films.values()), seconds)
    listed = sorted((row for row in rows if row.overlap is not None), key=lambda row: row.overlap)[:worst]
    for row in [*listed, *(row for row in rows if row.overlap is None)]:
        shown = (
            "false crop" if row.overlap is None else f"IoU {row.overlap:.2f}, width x {row.width_ratio:.2f}"
        )
        print(f"  {row.file}: {shown}, confidence {row.confidence:.2f} {row.reason}")
    return numbers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--finder", type=Path, required=True, help="training run or bundle")
    parser.add_argument("--phantom", type=Path, help="folder of a phantom cohort")
    parser.add_argument("--real", type=Path, help="folder of real films with truth.csv")
    parser.add_argument("--header", action="store_true", help="let the header speak too")
    parser.add_argument("--worst", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    finder = load_finder(given.finder)
    numbers = {}
    if given.phantom:
        films = phantom_truth(given.phantom)
        numbers["phantom"] = evaluate(finder, films, "phantom", given.header, given.worst)
    if given.real:
        numbers["real"] = evaluate(finder, real_truth(given.real), "real", given.header, given.worst)
    if given.json:
        given.json.write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
