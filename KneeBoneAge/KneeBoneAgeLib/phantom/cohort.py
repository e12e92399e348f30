"""A cohort of virtual children as files: films, masks, landmarks, and `cohort.csv` with the truth about each knee.

Film ``i`` follows from the seed and ``i`` alone, so workers may draw them in any order and the bytes stay the same.
Anatomy is drawn at twice the pixel size of the film and made finer: its edges are softer than that through focal
spot and detector anyway.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .build import KneeTruth
from .children import Child, draw_children
from .finer import COARSER, finer
from .look import Look, expose
from .scenes import Scene, frontal_film, lateral_film, other_film
from .writing import FilmMeta, write_dicom, write_mask, write_png

COLUMNS = (
    "file", "patient_id", "knee_index", "side", "sex", "chronological_age_months", "bone_age_months",
    "true_bone_age_months", "pseudo_label_months", "oracle_months", "oracle_no_age_months",
    "x0", "y0", "x1", "y1", "angle_deg", "kind", "mask", "landmarks",
)  # fmt: skip
"""Columns of cohort.csv. Boxes are squares of 2.0 knee widths in pixels of the film; ``bone_age_months`` is the
assigned one. A film on which nothing is to be cropped has one row with ``knee_index`` 0 and an empty box."""

KIND_SHARES = {"single": 0.66, "edge": 0.12, "bilateral": 0.12, "leg": 0.07, "long": 0.03}
PIXEL_MM = (0.1, 0.125, 0.139, 0.143, 0.15, 0.16, 0.175, 0.2)
MOST_PIXELS = 9e6


@dataclass(frozen=True)
class Order:
    """One film to be drawn."""

    number: int
    seed: int
    child: Child
    kind: str
    right: bool
    dicom: bool
    knees: int


def write_cohort(
    out: str | os.PathLike[str],
    knees: int,
    seed: int,
    format: str = "dicom",
    progress: Callable[[int, int], None] | None = None,
    others: int = 0,
    workers: int | None = None,
) -> Path:
    """Draw a cohort into a folder.

    Parameters
    ----------
    knees : number of knees, one child or more films a child; both knees of a bilateral film count.
    format : "dicom" or "png".
    progress : called with (knees done, knees in all).
    others : further films on which nothing is to be cropped: laterals, other parts, empty ones.
    workers : processes; None takes as many as there are cores.

    Returns
    -------
    The path of cohort.csv, written last.

    Raises
    ------
    ValueError
        For another format.
    """
    if format not in ("dicom", "png"):
        raise ValueError(f"format {format!r}: choose dicom or png")
    out = Path(out)
    for folder in ("films", "masks", "landmarks"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    orders = list(_orders(knees, seed, format == "dicom", others))
    workers = min(workers or os.cpu_count() or 1, len(orders))
    rows: dict[int, list[dict[str, object]]] = {}
    done = 0
    for number, found in _drawn(orders, out, workers):
        rows[number] = found
        done += orders[number].knees
        if progress:
            progress(done, knees)
    table = out / "cohort.csv"
    part = table.with_suffix(".csv.part")
    with part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        for number in sorted(rows):
            writer.writerows(rows[number])
    os.replace(part, table)
    return table


def _orders(knees: int, seed: int, dicom: bool, others: int) -> Iterator[Order]:
    children = draw_children(knees + others, seed)
    left, number = knees, 0
    while left or others:
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(7, number)))
        if left:
            kind = str(rng.choice(list(KIND_SHARES), p=list(KIND_SHARES.values())))
            if left < 2 and kind in ("bilateral", "long"):
                kind = "single"
            count = 2 if kind in ("bilateral", "long") else 1
            left -= count
        else:
            kind, count = str(rng.choice(["lateral", "other", "empty"], p=[0.5, 0.4, 0.1])), 0
            others -= 1
        yield Order(number, seed, children[number], kind, bool(rng.random() < 0.5), dicom, count)
        number += 1


def _drawn(orders: list[Order], out: Path, workers: int) -> Iterator[tuple[int, list[dict[str, object]]]]:
    if workers <= 1:
        yield from (draw_film(order, out) for order in orders)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(draw_film, orders, [out] * len(orders), chunksize=1)


def draw_film(order: Order, out: Path) -> tuple[int, list[dict[str, object]]]:
    """Draw one film into ``out`` and return its number and its rows of cohort.csv."""
    child = order.child
    rng = np.random.default_rng(np.random.SeedSequence(order.seed, spawn_key=(8, order.number)))
    pixel_mm = float(rng.choice(PIXEL_MM))
    for _ in range(20):
        most = MOST_PIXELS / COARSER**2 if pixel_mm < PIXEL_MM[-1] else None
        scene = _scene(order, child, rng, COARSER * pixel_mm, most)
        if not scene.canvas.labels.size:
            pixel_mm = PIXEL_MM[-1]
        elif len(scene.knees) == order.knees:
            break
    scene = finer(scene)
    film = expose(scene, Look.draw(rng), rng)
    stem = f"{order.number:05d}"
    name = f"films/{stem}.{'dcm' if order.dicom else 'png'}"
    if order.dicom:
        write_dicom(out / name, film, _meta(order, scene, pixel_mm, rng))
    else:
        write_png(out / name, film, bits=16)
    files = {"mask": "", "landmarks": ""}
    if scene.knees:
        files = {"mask": f"masks/{stem}.png", "landmarks": f"landmarks/{stem}.json"}
        write_mask(out / files["mask"], scene.canvas.labels)
        points = [{n: [round(x, 2), round(y, 2)] for n, x, y in k.landmarks_px} for k in scene.knees]
        (out / files["landmarks"]).write_text(json.dumps(points, indent=1) + "\n", encoding="utf-8")
    rows = [_row(order, child, name, files, i + 1, knee) for i, knee in enumerate(scene.knees)]
    return order.number, rows or [_row(order, child, name, files, 0, None)]


def _scene(
    order: Order, child: Child, rng: np.random.Generator, spacing_mm: float, most: float | None
) -> Scene:
    age = child.chronological_age_months
    if order.kind == "lateral":
        return lateral_film(child.indicators, age, rng, spacing_mm=spacing_mm, most=most)
    if order.kind in ("other", "empty"):
        return other_film(rng, age / 12, 700, "empty" if order.kind == "empty" else None)
    return frontal_film(child.indicators, age, rng, order.kind, order.right, spacing_mm=spacing_mm, most=most)


def _meta(order: Order, scene: Scene, pixel_mm: float, rng: np.random.Generator) -> FilmMeta:
    """What the header says: mostly complete, now and then without a side."""
    child = order.child
    sides = {k.side for k in scene.knees}
    side = "B" if len(sides) == 2 else next(iter(sides), None)
    bits = int(rng.choice([10, 12, 12, 14, 15, 16]))
    part = (
        {"long": "LEG", "leg": "LEG"}.get(order.kind, "KNEE")
        if order.kind not in ("other", "empty")
        else "LEG"
    )
    return FilmMeta(
        number=order.number,
        seed=order.seed,
        sex=child.sex,
        chronological_age_months=child.chronological_age_months,
        with_birth_date=bool(rng.random() < 0.3),
        side=side if rng.random() < 0.8 else None,
        view="LL" if order.kind == "lateral" and rng.random() < 0.5 else "AP",
        body_part=part,
        spacing_mm=scene.canvas.spacing_mm,
        bits_stored=bits,
        monochrome=int(rng.choice([1, 2])),
        compression=str(rng.choice(["none", "none", "none", "rle"])),
    )


def _row(order: Order, child: Child, name: str, files: dict[str, str], index: int, knee: KneeTruth | None):
    box = tuple(round(value, 2) for value in knee.box_px) if knee else ("", "", "", "")
    return {
        "file": name,
        "patient_id": f"PHANTOM-{order.number:06d}",
        "knee_index": index,
        "side": knee.side if knee else "",
        "sex": child.sex,
        "chronological_age_months": round(child.chronological_age_months, 3),
        "bone_age_months": round(child.bone_age_months, 3),
        "true_bone_age_months": round(child.true_bone_age_months, 3),
        "pseudo_label_months": round(child.pseudo_label_months, 3),
        "oracle_months": round(child.oracle_months, 3),
        "oracle_no_age_months": round(child.oracle_no_age_months, 3),
        **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)),
        "angle_deg": round(knee.angle_deg, 2) if knee else "",
        "kind": order.kind,
        **files,
    }
