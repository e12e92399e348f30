"""Evidence for training, on the phantom: recipes of the literature against chronological age, transfer against scratch.

    python Testing/evidence_training.py recipes  [--out evidence]     trains each on hands: recipes.csv, recipes.md
    python Testing/evidence_training.py transfer [--out evidence]     trains knee students: transfer.csv, transfer.md

Every step is a command line of ``kneeboneage`` that is printed; what is finished is not done again. The recipes that
ship are made small enough for a CPU by `REDUCED`. Children are virtual: nothing is said about real ones.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from KneeBoneAgeTrainingLib.demo_training import program_of
from KneeBoneAgeTrainingLib.knee.recipe import KneeRecipe, dump_knee_recipe, load_knee_recipe
from KneeBoneAgeTrainingLib.recipes import HandRecipe, dump_recipe, load_recipe
from KneeBoneAgeTrainingLib.runs.record import read_json, read_rows, write_table, write_text
from KneeBoneAgeTrainingLib.small_films import CROPS, HAND, HANDS, KNEE, KNEES, PATIENTS

HAND_SEED, KNEE_SEED = 5101, 5102
"""Of the virtual children; those whose hands teach are others than those whose knees are learnt."""
HAND_FOLDS = 10
"""Of the hands' study; only the first is trained, so nine tenths of the training children are learnt from."""
RESAMPLES = 2000
PHANTOM = "Phantom only: this says nothing about real children."

_SMALL_NETWORK = {
    "depths": [1, 1, 2, 1],
    "dims": [16, 32, 64, 128],
    "ls_init_value": None,
    "act_layer": "relu",
}
_LITTLE = {
    "rotation_deg": 5,
    "scale": 0.05,
    "shift": 0.02,
    "brightness": 0.05,
    "contrast": 0.2,
    "resolution": 0.1,
}
_ALL = {"folds": [0], "early_stopping": None, "augmentation": _LITTLE, "ema_decay": 0.98, "batch": 16}

REDUCED: dict[str, dict[str, Any]] = {
    "convnext-hand": {
        **_ALL,
        "image_size": [160, 160],
        "architecture": {"options": {"backbone_options": _SMALL_NETWORK, "points": 40}},
        "stages": [{"epochs": 10, "learning_rate": 2e-3}, {"epochs": 3, "learning_rate": 1e-3}],
    },
    "bonet": {
        **_ALL,
        "image_size": [128, 128],
        "architecture": {"channels": [16, 32, 64, 64, 64], "dense": 256},
        "stages": [{"epochs": 50}],
    },
    "iglovikov": {
        **_ALL,
        "image_size": [128, 96],
        "architecture": {
            "hand_size": [96, 72],
            "channels": [4, 8, 16, 32, 64, 64],
            "dense": 128,
            "drop_rate": 0.1,
            "finder_size": [64, 32],
            "finder_channels": [4, 8, 16, 32, 32],
            "finder_dense": 128,
            "unet_encoder": "timm-mobilenetv3_small_minimal_100",
            "unet_channels": [32, 16, 16, 8, 8],
        },
        "stages": [{"epochs": 12, "learning_rate": 1.5e-3}],
    },
    "inception-resnet-v2": {  # as published it takes 0.2 s a film and step
        **_ALL,
        "image_size": [128, 128],
        "architecture": {"pretrained": "none", "narrow": 4, "blocks": [2, 4, 2]},
        "stages": [{"epochs": 36, "learning_rate": 1.5e-3}],
    },
}
"""What is changed in each recipe; all else is as it ships. Stages are changed one by one."""

STUDENT = "demo-knee"
"""The knee recipe: its network is that of the reduced convnext-hand. No gate is learnt."""
STUDENT_STEPS = 300
"""Steps of each student, whatever it learns from: the epochs follow."""
STUDENT_KNEES = 2370
"""Of the students' study: a fifth of them, 474, is the test set, as in the evaluation of the bundle that ships."""
SHARES = (0.1, 0.3, 1.0)
TEACHER, ARMS = "convnext-hand", ("transfer", "scratch")


def reduced(name: str, epochs: int | None = None) -> HandRecipe:
    """A recipe that ships, with what `REDUCED` changes in it; its last stage of so many epochs if they are given."""
    changes = copy.deepcopy(REDUCED[name])
    if epochs is not None:
        changes["stages"][-1]["epochs"] = epochs
    return HandRecipe.model_validate(_merged(load_recipe(name).model_dump(mode="json"), changes))


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`values` with `changes`; sections are merged, lists of sections one by one."""
    found = dict(values)
    for key, new in changes.items():
        old = found.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found[key] = _merged(old, new)
        elif isinstance(old, list) and old and isinstance(old[0], dict):
            found[key] = [_merged(one, change) for one, change in zip(old, new, strict=True)]
        else:
            found[key] = new
    return found


@dataclass(frozen=True)
class Work:
    """Where all is done, on how many children, in how many processes beside the loop."""

    out: Path
    hands: int = 2000
    knees: int = STUDENT_KNEES
    workers: int = 0
    epochs: int | None = None

    def settle(self) -> None:
        """Keep the settings in the folder. Raises RuntimeError where it holds results of others."""
        path = self.out / "settings.json"
        wanted = {"hands": self.hands, "knees": self.knees, "epochs": self.epochs}
        if path.exists() and (kept := read_json(path)) != wanted:
            raise RuntimeError(f"{self.out} holds results of {kept}, not of {wanted}; give another --out")
        self.out.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(wanted))

    def run(self, *call: object, made: Path | None = None) -> None:
        """A command of ``kneeboneage``, unless what it makes is there. Raises RuntimeError when it fails."""
        words = [str(word) for word in call]
        _execute([*program_of(words[0]), *words], "kneeboneage " + " ".join(words), made)

    def draw(self, part: str, children: int, seed: int) -> Path:
        """Small films of some children."""
        folder = self.out / f"{part}s"
        words = ["-m", "KneeBoneAgeTrainingLib.small_films", folder, "--children", children, "--seed", seed]
        words = [*map(str, words), "--part", part]
        _execute([sys.executable, *words], "python " + " ".join(words), folder / PATIENTS)
        return folder

    def hand_study(self) -> Path:
        films, study = self.draw(HAND, self.hands, HAND_SEED), self.out / "hand-study"
        tables = ("--patients", films / PATIENTS, "--hands", films / HANDS)
        more = ("--kind", "hand", "--folds", HAND_FOLDS)
        self.run("cohort", "build", study, *tables, *more, made=study / "study.json")
        return study

    def knee_study(self) -> Path:
        films, study = self.draw(KNEE, self.knees, KNEE_SEED), self.out / "knee-study"
        tables = ("--patients", films / PATIENTS, "--knees", films / KNEES)
        self.run("cohort", "build", study, *tables, "--kind", "knee", made=study / "study.json")
        return study

    def teacher(self, name: str) -> Path:
        """The run of a reduced recipe, trained now unless it is finished."""
        run, recipe = self.out / "runs" / name, self.out / "recipes" / f"{name}.yaml"
        if read_json(run / "run.json").get("state") == "finished":
            return run
        recipe.parent.mkdir(parents=True, exist_ok=True)
        write_text(recipe, dump_recipe(reduced(name, self.epochs)))
        study = self.hand_study()
        self.run("train", recipe, "--study", study, "--out", run, "--workers", self.workers)
        return run

    def student(self, arm: str, share: float, crops: int) -> Path:
        """The run of a knee student that learns from a share of the `crops` training crops of a fold."""
        run, recipe = (
            self.out / "runs" / f"knee-{arm}-{round(100 * share):03d}",
            self.out / "recipes" / "knee.yaml",
        )
        if read_json(run / "run.json").get("state") == "finished":
            return run
        recipe.parent.mkdir(parents=True, exist_ok=True)
        write_text(recipe, dump_knee_recipe(student_recipe()))
        start = ("--teacher", self.teacher(TEACHER)) if arm == "transfer" else ("--from-scratch",)
        data = ("--study", self.out / "knee-study", "--crops", self.out / "knees" / CROPS, "--share", share)
        length = ("--epochs", epochs_for(share, crops), "--workers", self.workers)
        self.run("knee-transfer", "--recipe", recipe, *start, *data, *length, "--out", run)
        return run


def student_recipe() -> KneeRecipe:
    """The recipe of the students."""
    recipe = load_knee_recipe(STUDENT)
    return recipe.model_copy(update={"negatives": recipe.negatives.model_copy(update={"count": 0})})


def epochs_for(share: float, crops: int) -> int:
    """Epochs that make about `STUDENT_STEPS` steps of the batches that a share of so many crops allows."""
    learnt = max(1, round(share * crops))
    batch = min(student_recipe().batch, max(2, learnt // 4))
    return max(1, round(STUDENT_STEPS / -(-learnt // batch)))


def _execute(words: Sequence[str], said: str, made: Path | None) -> None:
    if made is not None and made.exists():
        return
    print(f"\n$ {said}", flush=True)
    began = time.monotonic()
    if subprocess.run(words, check=False).returncode:
        raise RuntimeError(f"failed: {said}")
    print(f"({(time.monotonic() - began) / 60:.1f} minutes)", flush=True)


@dataclass(frozen=True)
class Interval:
    """A mean over films, in months, with its 95 % interval from resampling children."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ({self.low:.2f} to {self.high:.2f})"


def bootstrap(values: np.ndarray, patients: Sequence[str], seed: int = 0) -> Interval:
    """Mean of values (N,) of films; children are drawn with all of their films (Efron 1979, percentiles)."""
    _, child = np.unique(np.asarray(patients), return_inverse=True)
    sums, counts = np.bincount(child, values), np.bincount(child)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (RESAMPLES, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(values.mean()), float(low), float(high))


def errors_of(path: Path, name: str = "estimate_months") -> tuple[np.ndarray, list[str]]:
    """Absolute errors of a column of predictions against the label, months, and the children."""
    rows = read_rows(path)
    error = [abs(float(row[name]) - float(row["label_months"])) for row in rows]
    return np.array(error), [row["patient_id"] for row in rows]


def recipe_row(run: Path) -> dict[str, object]:
    """What came of a recipe on the test set, beside chronological age alone."""
    facts, path = (
        yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8")),
        run / "test-predictions.csv",
    )
    model, patients = errors_of(path)
    alone, _ = errors_of(path, "age_alone_months")
    own, other, less = (bootstrap(values, patients) for values in (model, alone, alone - model))
    epochs = read_rows(run / "fold-0" / "metrics.csv")
    weights = read_json(run / "fold-0" / "weights.json")
    return {
        "recipe": run.name,
        "image": "x".join(map(str, facts["image_size"])),
        "learnt_films": weights["films"],
        "epochs": epochs[-1]["epoch"],
        "steps": epochs[-1]["step"],
        "test_films": len(model),
        "mae_months": own,
        "age_alone_months": other,
        "gain_months": less,
    }


def transfer_rows(runs: dict[tuple[str, float], Path]) -> Iterator[dict[str, object]]:
    """One row a student and fold: error on the fold's own children, with and without chronological age known."""
    for (arm, share), run in runs.items():
        for folder in sorted(run.glob("fold-*")):
            path, steps = folder / "predictions.csv", read_rows(folder / "metrics.csv")[-1]["step"]
            learnt = read_json(folder / "weights.json")["crops"]
            mae, without, alone = (
                errors_of(path, name)[0]
                for name in ("estimate_months", "without_age_months", "age_alone_months")
            )
            yield {
                "arm": arm,
                "share": share,
                "fold": int(folder.name.partition("-")[2]),
                "learnt_crops": learnt,
                "steps": steps,
                "films": len(mae),
                "mae_months": round(float(mae.mean()), 3),
                "mae_without_age_months": round(float(without.mean()), 3),
                "age_alone_months": round(float(alone.mean()), 3),
            }


MEASURES = {
    "mae_without_age_months": ("without_age_months", "picture and sex"),
    "mae_months": ("estimate_months", "with age too"),
}
"""Columns of transfer.csv, the estimates that they are of, and what these are made from."""


def paired_gain(runs: dict[tuple[str, float], Path], share: float, estimate: str) -> Interval:
    """How much nearer transfer comes than scratch on the same children, all folds' own together."""
    nearer, patients = [], []
    for folder in sorted(runs[ARMS[0], share].glob("fold-*")):
        paths = [runs[arm, share] / folder.name / "predictions.csv" for arm in ARMS]
        (transfer, children), (scratch, same) = (errors_of(path, estimate) for path in paths)
        if children != same:
            raise RuntimeError(f"{paths[0]} and {paths[1]} are not of the same children")
        nearer.append(scratch - transfer)
        patients += children
    return bootstrap(np.concatenate(nearer), patients)


def transfer_table(rows: Sequence[dict[str, Any]], runs: dict[tuple[str, float], Path]) -> list[list[str]]:
    """One line a share and measure: both arms as mean ± SD over folds, the gain fold by fold and child by child."""
    lines = []
    for measure, (estimate, said) in MEASURES.items():
        for share in sorted({row["share"] for row in rows}):
            of = {
                arm: np.array([row[measure] for row in rows if row["arm"] == arm and row["share"] == share])
                for arm in ARMS
            }
            some = next(row for row in rows if row["share"] == share)
            gain = of["scratch"] - of["transfer"]
            lines.append(
                [f"{100 * share:.0f} %", str(some["learnt_crops"]), str(some["steps"]), said]
                + [
                    f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"
                    for values in (of["transfer"], of["scratch"])
                ]
                + [f"{gain.mean():+.2f} ± {gain.std(ddof=1):.2f}", f"{(gain > 0).sum()} of {len(gain)}"]
                + [str(paired_gain(runs, share, estimate))]
            )
    return lines


def markdown(header: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """A table."""
    rows = [header, ["---"] * len(header), *lines]
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in rows)


def write_recipes(work: Work, names: Sequence[str]) -> str:
    """Train the recipes, write recipes.csv and recipes.md; the latter's text."""
    rows = [recipe_row(work.teacher(name)) for name in names]
    found = [work.out / "runs" / name for name in REDUCED]
    rows = [recipe_row(run) for run in found if read_json(run / "run.json").get("state") == "finished"]
    plain = [{**row, **_flat(row)} for row in rows]
    header = [name for name in plain[0] if not isinstance(plain[0][name], Interval)]
    write_table(work.out / "recipes.csv", header, ([row[name] for name in header] for row in plain))
    titles = (
        "recipe", "picture, px", "films learnt from", "epochs", "steps", "test films",
        "MAE, months (95 %)", "chronological age alone", "gain",
    )  # fmt: skip
    text = markdown(titles, [list(row.values()) for row in rows])
    write_text(work.out / "recipes.md", f"{text}\n{PHANTOM}\n")
    return text


def _flat(row: dict[str, object]) -> dict[str, object]:
    """Intervals as three numbers each."""
    return {
        f"{name}{end}": round(getattr(value, part), 3)
        for name, value in row.items()
        if isinstance(value, Interval)
        for end, part in (("", "mean"), ("_low", "low"), ("_high", "high"))
    }


def write_transfer(work: Work) -> str:
    """Train the students, write transfer.csv and transfer.md; the latter's text."""
    study = work.knee_study()
    folds = read_rows(study / "folds.csv")
    training = [row for row in folds if row["fold"] != ""]
    crops = len(training) - sum(row["fold"] == "0" for row in training)
    runs = {(arm, share): work.student(arm, share, crops) for share in SHARES for arm in ARMS}
    rows = list(transfer_rows(runs))
    write_table(work.out / "transfer.csv", list(rows[0]), (row.values() for row in rows))
    titles = (
        "share", "knees learnt from", "steps", "estimate from", "transfer, MAE ± SD, months", "scratch",
        "gain ± SD", "folds in which transfer is better", "gain, 95 % over children",
    )  # fmt: skip
    text = markdown(titles, transfer_table(rows, runs))
    write_text(work.out / "transfer.md", f"{text}\n{PHANTOM}\n")
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("what", choices=["recipes", "transfer"])
    parser.add_argument("--out", type=Path, default=Path("evidence"))
    parser.add_argument(
        "--recipe", choices=list(REDUCED), action="append", help="only this one; more than once"
    )
    parser.add_argument("--hands", type=int, default=2000, help="children whose hands teach")
    parser.add_argument("--knees", type=int, default=STUDENT_KNEES, help="children whose knees are learnt")
    parser.add_argument("--workers", type=int, default=0, help="processes beside the loop")
    parser.add_argument("--epochs", type=int, help="of a recipe's last stage, instead of the reduced one's")
    given = parser.parse_args(arguments)
    work = Work(given.out, given.hands, given.knees, given.workers, given.epochs)
    try:
        work.settle()
        print(
            write_transfer(work)
            if given.what == "transfer"
            else write_recipes(work, given.recipe or list(REDUCED))
        )
    except RuntimeError as error:
        sys.exit(f"Error: {error}")
    print(PHANTOM)


if __name__ == "__main__":
    main()
