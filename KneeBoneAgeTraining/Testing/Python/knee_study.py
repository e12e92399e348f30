"""A tiny study of knee films with hand films for tests: a bright bar whose place shows bone age. No child."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from KneeBoneAgeLib.crop import KneeCrop
from KneeBoneAgeLib.segmentation import Finding
from KneeBoneAgeTrainingLib.cohort.building import Inputs, Parameters, build
from KneeBoneAgeTrainingLib.cohort.study import open_study, write_study
from KneeBoneAgeTrainingLib.hand.weights import save_fold
from KneeBoneAgeTrainingLib.knee.job import KneeJob
from KneeBoneAgeTrainingLib.knee.pictures import prepare
from KneeBoneAgeTrainingLib.knee.recipe import KneeRecipe
from KneeBoneAgeTrainingLib.knee.transfer import transfer
from KneeBoneAgeTrainingLib.recipes import HandRecipe, dump_recipe
from KneeBoneAgeTrainingLib.runs.loop import StopRequest
from KneeBoneAgeTrainingLib.runs.machine import Machine
from KneeBoneAgeTrainingLib.runs.progress import Reporter
from KneeBoneAgeTrainingLib.runs.record import FILMS_CSV, begin, write_table
from KneeBoneAgeTrainingLib.teachers import Inputs as TeacherInputs
from KneeBoneAgeTrainingLib.teachers import build_teacher

NETWORK = {
    "backbone": "convnext_atto",
    "backbone_options": {
        "depths": [1, 1, 1, 1],
        "dims": [8, 8, 16, 16],
        "ls_init_value": None,
        "act_layer": "relu",
    },
    "map_channels": [4],
    "map_features": 8,
    "points": 0,
}
RECIPE = {
    "name": "tiny",
    "description": "for tests",
    "network": NETWORK,
    "epochs": 2,
    "learning_rate": 1e-3,
    "batch": 4,
    "prior_steps": 3,
    "negatives": {"count": 0},
    "augmentation": {"resolution": 0.5},
}
STILL = (
    "rotation_deg",
    "scale",
    "shift",
    "brightness",
    "contrast",
    "resolution",
    "blur_px",
    "noise",
    "occlusion",
)
PLAIN_RECIPE = {**RECIPE, "name": "plain", "missing_sex": 0.0, "augmentation": dict.fromkeys(STILL, 0.0)}
"""Without anything drawn but the order, so that a batch that is shared out teaches what the whole one does."""


@dataclass(frozen=True)
class MiddleFinder:
    """Says that the knee lies in the middle of every film, but for films that are not square."""

    sha256: str = "0" * 64

    def load(self):
        return self

    def find(self, film):
        rows, cols = film.pixels.shape
        if rows != cols:
            return Finding((), "there is no knee")
        side = film.side or "R"
        return Finding((KneeCrop((cols / 2, rows / 2), 60.0, 0.0, side, side == "L"),))


def draw_knee(bone_age_months: float, rng: np.random.Generator) -> np.ndarray:
    """(80, 80) uint8."""
    film = rng.integers(20, 40, (80, 80)).astype(np.uint8)
    row = 15 + round(bone_age_months / 5)
    film[row : row + 6, 15:65] = 220
    return film


def make_study(
    folder: Path, children: int = 16, folds: int = 2, empty: int | None = None, days: int = 30
) -> Path:
    """Draw the films and build a study of pairs; its folder. Every second hand film has a reader's bone age and is
    `days` days younger than the knee film; child number `empty` has a film without a knee."""
    rng = np.random.default_rng(0)
    (folder / "films").mkdir(parents=True)
    knees, hands = [], []
    for child in range(children):
        age = float(rng.uniform(30, 190))
        bone_age = float(np.clip(age + rng.normal(0, 10), 10, 210))
        sex = "FM"[child % 2]
        for side in "RL" if child % 4 == 0 else "R":
            name = f"films/knee-{child:03d}-{side}.png"
            pixels = draw_knee(bone_age, rng)
            if side == "L":
                pixels = np.ascontiguousarray(pixels[:, ::-1])
            if child == empty:
                pixels = pixels[:, :60]
            Image.fromarray(pixels).save(folder / name)
            knees.append((name, f"C{child:03d}", sex, round(age, 3), side))
        name = f"films/hand-{child:03d}.png"
        Image.fromarray(rng.integers(0, 255, (40, 30)).astype(np.uint8)).save(folder / name)
        read = round(bone_age, 3) if child % 2 == 0 else None
        hands.append((name, f"C{child:03d}", sex, round(age - days / 30.4375, 3), read))
    write_table(folder / "knees.csv", ["file", "patient_id", "sex", "age_months", "side"], knees)
    write_table(folder / "hands.csv", ["file", "patient_id", "sex", "age_months", "bone_age_months"], hands)
    cohort = build(
        Inputs(knees=(folder / "knees.csv",), hands=(folder / "hands.csv",)),
        Parameters(folds=folds),
        workers=1,
    )
    return write_study(cohort, folder / "study")


def write_labels(folder: Path, study, spread: float = 2.0) -> Path:
    """A table of pseudo-labels as `kneeboneage pseudo-label` writes it: the age of the hand film plus one month."""
    path = folder / "labels.csv"
    films = {film.hand_file: film for film in study.films}
    write_table(
        path,
        [
            "file",
            "patient_id",
            "sex",
            "age_months",
            "pseudo_label_months",
            "spread_months",
            "model",
            "run_sha256",
        ],
        (
            (
                name,
                film.patient_id,
                film.sex,
                film.hand_age_months,
                film.hand_age_months + 1,
                spread,
                "toy",
                "0" * 64,
            )
            for name, film in films.items()
        ),
    )
    return path


def transfer_line(place: Path, out: str, *more: str, recipe: str = "tiny") -> list[str]:
    """The words that train a recipe of `place` from scratch on pseudo-labels of the study in it, on a CPU; the squares
    are a person's, so that no finder is asked."""
    study = place / "data" / "study"
    if not (place / "crops.csv").exists():
        films = sorted((place / "data" / "films").glob("knee-*.png"))
        squares = [(path, path.stem[-1], 10, 10, 70, 70) for path in films]
        write_table(place / "crops.csv", ["file", "side", "x0", "y0", "x1", "y1"], squares)
        write_labels(place, open_study(study))
        for one in (RECIPE, PLAIN_RECIPE):
            (place / f"{one['name']}.yaml").write_text(json.dumps(one))
    given = ["knee-transfer", "--study", study, "--out", place / out, "--recipe", place / f"{recipe}.yaml"]
    given += ["--crops", place / "crops.csv", "--labels", place / "labels.csv", "--label", "both"]
    given += ["--cache", place / "prepared", "--from-scratch", "--fold", 0]
    return [*map(str, given), "--device", "cpu", "--workers", "0", *more]


MACHINE = Machine("cpu", workers=0)
TINY = KneeRecipe.model_validate(RECIPE)
FOLLOWING = KneeRecipe.model_validate({**RECIPE, "network": {}, "negatives": {"count": 10}})
"""Names nothing of its network, which is as in what it starts from."""


def job_of(study, out, **changes):
    return KneeJob(
        TINY, study, out, finder=MiddleFinder(), machine=MACHINE, cache=out.parent / "prepared", **changes
    )


def run_job(job):
    return transfer(job, Reporter(), StopRequest())


def prepared(study, folder, crops=None):
    return prepare(study, folder, MiddleFinder(), crops)


def teacher_run(folder, study, folds=(0, 1)):
    """A run of a hand teacher as `kneeboneage train` leaves it, with first weights."""
    recipe = HandRecipe.model_validate(
        {
            "name": "toy-teacher",
            "description": "for tests",
            "architecture": {"kind": "age-network", "options": {**NETWORK, "field": 1.0}},
            "image_size": [160, 160],
            "stages": [{"epochs": 1, "learning_rate": 1e-3}],
        }
    )
    begin(folder, dump_recipe(recipe), {"recipe": recipe.name}, {"state": "finished"})
    for fold in folds:
        torch.manual_seed(fold)
        teacher = build_teacher(recipe.architecture, TeacherInputs((160, 160), True, True), fetch=False)
        (folder / f"fold-{fold}").mkdir()
        save_fold(folder / f"fold-{fold}", teacher, recipe, {"fold": fold})
    films = zip(study.films, study.places, strict=True)
    rows = {
        f.hand_file: (f.hand_file, f.hand_sha256, f.patient_id, p.fold)
        for f, p in films
        if p.fold is not None
    }
    write_table(folder / FILMS_CSV, ["file", "sha256", "patient_id", "fold"], rows.values())
    return folder
