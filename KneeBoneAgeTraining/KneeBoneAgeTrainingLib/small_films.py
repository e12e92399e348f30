"""Small films of many virtual children, for experiments: hands, knees, and the tables from which a study is built.

Networks are compared here on pictures of 100 to 200 pixels. Films of ten times as many would only be made smaller
again, so they are drawn small: by the anatomy and image formation of `KneeBoneAgeLib.phantom`, about 0.1 s each. A knee
film is the surroundings of one knee, and its square stands in ``crops.csv``, so that no finder is needed:

    python -m KneeBoneAgeTrainingLib.small_films OUT --children 2000 --seed 5101 --part hand
    kneeboneage cohort build STUDY --kind hand --patients OUT/patients.csv --hands OUT/hands.csv

================  =============================================================================================
patients.csv      patient_id, sex; written last
hands.csv         one left hand a child, of the knee's day; truth and masks beside it as `hand.pictures` reads them
knees.csv         one knee a child, right or left
crops.csv         its square (``knee-transfer --crops``)
================  =============================================================================================
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from KneeBoneAgeLib.phantom.children import Child, draw_children
from KneeBoneAgeLib.phantom.hand.film import draw_hand
from KneeBoneAgeLib.phantom.look import Look, expose
from KneeBoneAgeLib.phantom.scenes import knee_view
from KneeBoneAgeLib.phantom.writing import write_mask, write_png

from .drawing import VIEW_PX, crop_of
from .runs.record import write_table, write_text

HAND, KNEE = "hand", "knee"
HAND_PX = 384
"""Longer side of a hand film; `hand.pictures` looks for the hand at half of it, as finely as on a film of any size."""

PATIENTS, HANDS, KNEES, CROPS = "patients.csv", "hands.csv", "knees.csv", "crops.csv"
FILM_COLUMNS = (
    "file",
    "patient_id",
    "age_months",
    "sex",
    "side",
    "view",
    "bone_age_months",
    "true_bone_age_months",
)
CROP_COLUMNS = ("file", "side", "x0", "y0", "x1", "y1", "angle_deg", "mirrored")

Row = Mapping[str, object]


def write_small_films(
    out: Path,
    children: int,
    seed: int,
    parts: Sequence[str] = (HAND, KNEE),
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw films of `children` into a folder, unless they are there. Same seed, same bytes.

    Parameters
    ----------
    parts : "hand", "knee" or both.
    progress : called with (children done, children in all).

    Returns
    -------
    The path of patients.csv, written last.

    Raises
    ------
    ValueError
        For another part, or none.
    """
    if not parts or not set(parts) <= {HAND, KNEE}:
        raise ValueError(f"parts {', '.join(parts) or 'none'}: choose {HAND}, {KNEE} or both")
    if (out / PATIENTS).exists():
        return out / PATIENTS
    for folder in ("hands/films", "hands/truth", "hands/masks", "films"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    everybody = draw_children(children, seed, with_oracle=False)
    hands: list[Row] = []
    knees: list[Row] = []
    crops: list[Row] = []
    for number, child in enumerate(everybody):
        if HAND in parts:
            hands.append(_draw_hand(out, number, seed, child))
        if KNEE in parts:
            knee, crop = _draw_knee(out, number, seed, child)
            knees.append(knee)
            crops.append(crop)
        if progress:
            progress(number + 1, children)
    tables: tuple[tuple[str, Sequence[str], list[Row]], ...] = (
        (HANDS, FILM_COLUMNS, hands),
        (KNEES, FILM_COLUMNS, knees),
        (CROPS, CROP_COLUMNS, crops),
    )
    for name, columns, rows in tables:
        if rows:
            write_table(out / name, columns, ([row[column] for column in columns] for row in rows))
    write_table(out / PATIENTS, ("patient_id", "sex"), ((one.patient_id, one.sex) for one in everybody))
    return out / PATIENTS


def _draw_hand(out: Path, number: int, seed: int, child: Child) -> Row:
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(21, number)))
    film = draw_hand(child, rng, HAND_PX)
    name = f"{number:05d}"
    write_mask(out / f"hands/masks/{name}.png", film.mask.astype(np.uint8))
    points = {point: [round(x, 2), round(y, 2)] for point, (x, y) in film.key_points.items()}
    write_text(out / f"hands/truth/{name}.json", json.dumps({"key_points": points}) + "\n")
    write_png(out / f"hands/films/{name}.png", film.pixels)
    return _film_row(f"hands/films/{name}.png", child, "L")


def _draw_knee(out: Path, number: int, seed: int, child: Child) -> tuple[Row, Row]:
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(22, number)))
    right = bool(rng.random() < 0.5)
    scene = knee_view(child.indicators, child.chronological_age_months, rng, VIEW_PX, right)
    file = f"films/{number:05d}.png"
    write_png(out / file, expose(scene, Look.draw(rng), rng))
    crop = crop_of(scene.knees[0])
    box = (round(value, 2) for value in crop.box_px)
    turned = {"angle_deg": round(crop.angle_deg, 3), "mirrored": "yes" if crop.mirrored else "no"}
    square = {
        "file": file,
        "side": crop.side,
        **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)),
        **turned,
    }
    return _film_row(file, child, crop.side), square


def _film_row(file: str, child: Child, side: str) -> Row:
    return {
        "file": file,
        "patient_id": child.patient_id,
        "age_months": round(child.chronological_age_months, 3),
        "sex": child.sex,
        "side": side,
        "view": "frontal",
        "bone_age_months": round(child.bone_age_months, 3),
        "true_bone_age_months": round(child.true_bone_age_months, 3),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--children", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--part", choices=[HAND, KNEE], help="only these films (default: both of each child)")
    given = parser.parse_args(arguments)
    parts = (given.part,) if given.part else (HAND, KNEE)
    print(write_small_films(given.out, given.children, given.seed, parts))


if __name__ == "__main__":
    main()
