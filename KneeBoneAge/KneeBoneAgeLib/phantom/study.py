"""A cohort with both films of each child: knees as in `cohort`, left hands of the same children, and the tables
from which ``kneeboneage cohort build`` makes a study.

The knee films are those of `cohort.write_cohort` with the same seed, byte for byte. A hand film has a date of its own;
the child's clock moves on by the days between. Children, dates and exclusions are drawn; nothing speaks of real ones.
"""

from __future__ import annotations

import csv
import datetime
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .children import READER_SD_MONTHS, Child, draw_children
from .cohort import write_cohort
from .hand.film import DAYS_PER_MONTH, HandFilm, aged, draw_hand
from .maturation import BONE_AGE_CAP_MONTHS
from .writing import FIXED_DATE, FilmMeta, write_dicom, write_mask, write_png

KNEE_DATE = datetime.datetime.strptime(FIXED_DATE, "%Y%m%d").date()
"""All knee films are of this day."""

HAND_FILMS_SHARES = (0.04, 0.81, 0.12, 0.03)
"""Shares of children with 0, 1, 2 and 3 hand films (chosen)."""
SAME_DAY_SHARE, WITHIN_SHARE = 0.35, 0.50
"""Shares of first hand films of the knee's day, and of 1 to 85 days off it; the rest are 95 to 150 days off
(chosen)."""
LONGEST_DAYS = 150
CONDITION_SHARES = {
    "physeal_trauma": 0.012,
    "skeletal_dysplasia": 0.004,
    "genetic_disorder": 0.004,
    "endocrinopathy": 0.008,
}
"""Shares of children whom the tables state to be excluded; their films are drawn like the others' (chosen)."""
HAND_PIXELS = (1000, 1500)
"""Range of the longer side of a hand film."""

PATIENT_COLUMNS = ("patient_id", "sex", "birth_date", *CONDITION_SHARES)
KNEE_COLUMNS = (
    "file", "patient_id", "date", "age_months", "sex", "side", "view", "bone_age_months", "true_bone_age_months",
)  # fmt: skip
HAND_COLUMNS = (*KNEE_COLUMNS, "days", "truth", "mask")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class HandOrder:
    """One hand film to be drawn: ``child`` is as old as on the film's day."""

    number: int
    seed: int
    child_number: int
    child: Child
    days: int
    bone_age_months: float
    dicom: bool

    @property
    def stem(self) -> str:
        return f"{self.number:05d}"

    @property
    def film(self) -> str:
        return f"hands/films/{self.stem}.{'dcm' if self.dicom else 'png'}"


def write_study(
    out: str | os.PathLike[str],
    knees: int,
    seed: int,
    format: str = "dicom",
    progress: Progress | None = None,
    others: int = 0,
    workers: int | None = None,
    hand_progress: Progress | None = None,
) -> dict[str, Path]:
    """Draw a cohort with hand films into a folder.

    Parameters
    ----------
    out, knees, seed, format, progress, others, workers : see `cohort.write_cohort`, which draws the knees
    hand_progress : called with (hand films done, hand films in all)

    Returns
    -------
    The paths of the tables "patients", "knees" and "hands", written last.

    Raises
    ------
    ValueError
        For another format.
    """
    out = Path(out)
    cohort = write_cohort(out, knees, seed, format, progress, others, workers)
    for folder in ("films", "truth", "masks"):
        (out / "hands" / folder).mkdir(parents=True, exist_ok=True)
    with cohort.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    numbers = sorted({_number(row) for row in rows})
    children = draw_children(numbers[-1] + 1, seed, with_oracle=False)
    orders = list(_orders({n: children[n] for n in numbers}, seed, format == "dicom"))
    hands: list[Mapping[str, object]] = []
    for row in _drawn(orders, out, min(workers or os.cpu_count() or 1, max(len(orders), 1))):
        hands.append(row)
        if hand_progress:
            hand_progress(len(hands), len(orders))
    tables = {name: out / f"{name}.csv" for name in ("patients", "knees", "hands")}
    _write_table(tables["hands"], HAND_COLUMNS, hands)
    _write_table(tables["knees"], KNEE_COLUMNS, map(_knee_row, rows))
    _write_table(tables["patients"], PATIENT_COLUMNS, (_patient_row(n, children[n], seed) for n in numbers))
    return tables


def _number(row: Mapping[str, str]) -> int:
    return int(row["patient_id"].rpartition("-")[2])


def _orders(children: Mapping[int, Child], seed: int, dicom: bool) -> Iterator[HandOrder]:
    number = 0
    for child_number, child in children.items():
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(9, child_number)))
        count = int(rng.choice(len(HAND_FILMS_SHARES), p=HAND_FILMS_SHARES))
        off = _days_off(rng, count, child.chronological_age_months)
        nearest = min(off, key=abs, default=0)
        for days in off:
            then = aged(child, days)
            # The knee's assigned bone age is a reading of the nearest hand film; others are read anew.
            error = child.bone_age_months - child.true_bone_age_months
            if days != nearest:
                error = float(rng.normal(0, READER_SD_MONTHS))
            cap = BONE_AGE_CAP_MONTHS[child.sex]
            read = float(np.clip(then.true_bone_age_months + error, 0.0, cap))
            yield HandOrder(number, seed, child_number, then, days, read, dicom)
            number += 1


def _days_off(rng: np.random.Generator, count: int, age_months: float) -> list[int]:
    """Days from the knee film to each hand film, all different; none before birth."""
    off: list[int] = []
    for i in range(count):
        u = rng.random()
        if i == 0 and u < SAME_DAY_SHARE:
            days = 0
        elif i == 0 and u < SAME_DAY_SHARE + WITHIN_SHARE:
            days = int(rng.integers(1, 86))
        else:
            days = int(rng.integers(95 if i == 0 else 30, LONGEST_DAYS + 1))
        if rng.random() < 0.5 and days / DAYS_PER_MONTH < age_months:
            days = -days
        if days not in off:
            off.append(days)
    return off


def _drawn(orders: list[HandOrder], out: Path, workers: int) -> Iterator[Mapping[str, object]]:
    if workers <= 1:
        yield from (draw_hand_film(order, out) for order in orders)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(draw_hand_film, orders, [out] * len(orders), chunksize=1)


def draw_hand_film(order: HandOrder, out: Path) -> dict[str, object]:
    """Draw one hand film with its truth into ``out`` and return its row of hands.csv."""
    child = order.child
    rng = np.random.default_rng(np.random.SeedSequence(order.seed, spawn_key=(10, order.number)))
    film = draw_hand(child, rng, int(rng.integers(HAND_PIXELS[0], HAND_PIXELS[1] + 1)))
    truth, mask = f"hands/truth/{order.stem}.json", f"hands/masks/{order.stem}.png"
    taken = KNEE_DATE + datetime.timedelta(days=order.days)
    if order.dicom:
        _write_hand_dicom(out / order.film, film, order, taken, rng)
    else:
        write_png(out / order.film, film.pixels, bits=16)
    write_mask(out / mask, film.mask.astype(np.uint8))
    row: dict[str, object] = {
        "file": order.film,
        "patient_id": f"PHANTOM-{order.child_number:06d}",
        "date": taken.isoformat(),
        "age_months": round(child.chronological_age_months, 3),
        "sex": child.sex,
        "side": "L",
        "view": "frontal",
        "bone_age_months": round(order.bone_age_months, 3),
        "true_bone_age_months": round(child.true_bone_age_months, 3),
        "days": order.days,
        "truth": truth,
        "mask": mask,
    }
    _write_truth(out / truth, film, row)
    return row


def _write_truth(path: Path, film: HandFilm, row: Mapping[str, object]) -> None:
    said = {
        **{name: row[name] for name in ("file", "mask", "true_bone_age_months")},
        "shape": list(film.pixels.shape),
        "spacing_mm": round(film.spacing_mm, 6),
        "key_points": {name: [round(x, 2), round(y, 2)] for name, (x, y) in film.key_points.items()},
        "boxes": {name: [round(v, 2) for v in box] for name, box in film.boxes.items()},
    }
    part = path.with_suffix(".json.part")
    part.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)


def _write_hand_dicom(
    path: Path, film: HandFilm, order: HandOrder, taken: datetime.date, rng: np.random.Generator
) -> None:
    """A film as DICOM: written like a knee, then told that it is a PA hand of another day and study."""
    import pydicom

    meta = FilmMeta(
        number=order.child_number,
        seed=order.seed,
        instance=1000 + order.number,
        sex=order.child.sex,
        chronological_age_months=order.child.chronological_age_months,
        side="L",
        body_part="HAND",
        spacing_mm=film.spacing_mm,
        magnification=1.03,
        kvp=52.0,
        bits_stored=int(rng.choice([10, 12, 12, 14, 16])),
        monochrome=int(rng.choice([1, 2])),
        compression=str(rng.choice(["none", "none", "none", "rle"])),
    )
    part = path.with_suffix(".dcm.part")
    write_dicom(part, film.pixels, meta)
    dataset = pydicom.dcmread(part)
    for stem in ("Study", "Series", "Acquisition", "Content"):
        setattr(dataset, f"{stem}Date", taken.strftime("%Y%m%d"))
    dataset.StudyInstanceUID = meta.uid(f"study of hand {order.number}")
    dataset.SeriesInstanceUID = meta.uid(f"series of hand {order.number}")
    dataset.StudyID = f"H{order.number % 10**8}"
    dataset.ViewPosition, dataset.PatientOrientation = "PA", ["L", "H"]
    view = dataset.ViewCodeSequence[0]
    view.CodeValue, view.CodeMeaning = "272479007", "postero-anterior"
    dataset.save_as(part, enforce_file_format=True)
    os.replace(part, path)


def _knee_row(row: Mapping[str, str]) -> dict[str, object]:
    """A row of knees.csv from one of cohort.csv."""
    empty = row["knee_index"] == "0"
    view = "lateral" if row["kind"] == "lateral" else "other" if empty else "frontal"
    return {
        **{
            name: row[name]
            for name in ("file", "patient_id", "sex", "side", "bone_age_months", "true_bone_age_months")
        },
        "date": KNEE_DATE.isoformat(),
        "age_months": row["chronological_age_months"],
        "view": view,
    }


def _patient_row(number: int, child: Child, seed: int) -> dict[str, object]:
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(11, number)))
    stated = {name: "yes" if rng.random() < share else "no" for name, share in CONDITION_SHARES.items()}
    born = KNEE_DATE - datetime.timedelta(days=round(child.chronological_age_months * DAYS_PER_MONTH))
    return {
        "patient_id": f"PHANTOM-{number:06d}",
        "sex": child.sex,
        "birth_date": born.isoformat(),
        **stated,
    }


def _write_table(path: Path, columns: tuple[str, ...], rows: Iterable[Mapping[str, object]]) -> None:
    part = path.with_suffix(".csv.part")
    with part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(part, path)
