"""What is to be trained on knees, which crops do what, and the run's folder begun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from KneeBoneAgeLib.bundle import current_preprocessing, default_bundle_path

from ..cohort.study import Study
from ..hand.job import HELD_APART, FoldRows, is_phantom
from ..runs.machine import Machine, cores
from ..runs.record import (
    FILMS_CSV,
    FOLDS_CSV,
    RECIPE,
    RUNNING,
    Run,
    RunError,
    begin,
    code_version,
    this_process,
    write_table,
)
from .corrections import CorrectedCrops
from .labels import READERS, PseudoLabels, Taught
from .pictures import LEFT_OUT_COLUMNS, BundleFinder, FinderSource
from .recipe import KneeRecipe, dump_knee_recipe
from .start import SCRATCH, Start

KIND = "knee"
NOT_LEARNT = "not_learnt.csv"


@dataclass(frozen=True)
class KneeJob:
    """A knee recipe on a study.

    Attributes
    ----------
    label : "readers", "pseudo" or "both" (the reader's where there is one); `labels` is the table of pseudo-labels.
    finder : finds the knees where `crops` names no squares of a person.
    share : of the training children of each fold that are learnt from, to see what fewer would give.
    """

    recipe: KneeRecipe
    study: Study
    folder: Path
    start: Start = Start(SCRATCH)
    label: str = READERS
    labels: Path | None = None
    crops: Path | None = None
    finder: FinderSource = field(default_factory=lambda: BundleFinder(default_bundle_path()))
    machine: Machine = Machine()
    folds: tuple[int, ...] | None = None
    cache: Path | None = None
    share: float = 1.0

    @property
    def prepared(self) -> Path:
        """Where the crops are kept."""
        return self.cache or self.folder.parent / "prepared"

    @property
    def command(self) -> list[str]:
        """The words of the command line ``kneeboneage`` that go on with this run."""
        recipe = str((self.folder / RECIPE).resolve())
        words = [
            "knee-transfer",
            "--out",
            str(self.folder.resolve()),
            "--recipe",
            recipe,
            "--label",
            self.label,
        ]
        start = "from-scratch" if self.start.folder is None else self.start.kind
        finder = self.finder.folder if isinstance(self.finder, BundleFinder) else None
        options = {
            "study": self.study.folder,
            start: self.start.folder,
            "labels": self.labels,
            "crops": self.crops,
            "finder": finder,
            "cache": self.prepared,
        }
        for name, path in options.items():
            if path is not None:
                words += [f"--{name}", str(path.resolve())]
        words += ["--from-scratch"] if self.start.folder is None else []
        words += ["--share", str(self.share)] if self.share < 1 else []
        words += ["--device", self.machine.device]
        words += ["--devices", str(self.machine.devices)] if self.machine.devices > 1 else []
        words += ["--nodes", str(self.machine.nodes)] if self.machine.nodes > 1 else []
        for fold in self.folds or ():
            words += ["--fold", str(fold)]
        return words

    @property
    def all_folds(self) -> tuple[int, ...]:
        """The folds that the recipe wants."""
        there = range(self.study.parameters.folds)
        return tuple(there) if self.recipe.folds is None else self.recipe.folds


def begin_run(job: KneeJob, pseudo: PseudoLabels | None, folds: Sequence[int]) -> Run:
    study, start = job.study, job.start
    crops = CorrectedCrops.read(job.crops) if job.crops else None
    about = {"path": str(study.folder.resolve()), "name": study.folder.name, "data_sha256": study.data_sha256}
    return begin(
        job.folder,
        dump_knee_recipe(job.recipe),
        {
            "kind": KIND,
            "recipe": job.recipe.name,
            "data_sha256": [study.data_sha256],
            "label": job.label,
            "labels": _table_facts(job.labels, pseudo),
            "start": {"kind": start.kind, "sha256": start.sha256},
            "finder": job.finder.sha256,
            "crops": crops.sha256 if crops else None,
            "preprocessing": current_preprocessing(),
            "share": job.share,
        },
        {
            "state": RUNNING,
            "code": code_version(),
            "study": about,
            "studies": [about],
            "start_folder": str(start.folder.resolve()) if start.folder else None,
            "data": "phantom" if is_phantom(study) else "",
            "seed": job.recipe.seed,
            "options": {"folds": list(folds), "device": job.machine.device},
            "command": job.command,
            "machine": {**asdict(job.machine), "cores": cores(), "torch": torch.__version__},
            **this_process(),
            "finished": None,
            "error": None,
        },
    )


def check_job(job: KneeJob, folds: Sequence[int], pseudo: PseudoLabels | None) -> None:
    """Raises RunError where folds, labels or devices do not fit the study and the recipe, or a device is not there."""
    job.machine.check()
    known = range(job.study.parameters.folds)
    wrong = [fold for fold in folds if fold not in known]
    if wrong or not folds:
        raise RunError(f"fold {wrong[0] if wrong else 'none'}: the study has folds 0 to {known[-1]}")
    if job.label != READERS and pseudo is None:
        raise RunError(
            f"--label {job.label} needs --labels, the table that `kneeboneage pseudo-label` writes"
        )
    if job.recipe.batch % job.machine.world:
        raise RunError(
            f"batch {job.recipe.batch} of the recipe cannot be shared out to {job.machine.world} devices evenly"
        )
    job.recipe.knees_of(job.recipe.batch, job.machine.world)


def _table_facts(path: Path | None, pseudo: PseudoLabels | None) -> dict[str, Any] | None:
    if path is None or pseudo is None:
        return None
    return {"model": pseudo.model, "run_sha256": pseudo.run_sha256, "labels": len(pseudo.of)}


def check_folds(job: KneeJob, taught: Taught) -> None:
    for fold in job.all_folds:
        if not (taught.fold == fold).any():
            raise RunError(f"{job.study.folder}: no knee of fold {fold} can be learnt from; see {NOT_LEARNT}")


def write_rows(job: KneeJob, taught: Taught) -> None:
    write_table(
        job.folder / NOT_LEARNT,
        LEFT_OUT_COLUMNS,
        ([getattr(one, name) for name in LEFT_OUT_COLUMNS] for one in taught.left_out),
    )
    films = [job.study.films[knee.film] for knee in taught.knees]
    places = [job.study.places[knee.film] for knee in taught.knees]
    rows = dict.fromkeys((f.patient_id, f.file, p.split, p.fold) for f, p in zip(films, places, strict=True))
    write_table(job.folder / FOLDS_CSV, ["patient_id", "file", "split", "fold"], rows)
    learnt = dict.fromkeys(
        (f.file, f.sha256, f.patient_id, p.fold)
        for f, p in zip(films, places, strict=True)
        if p.fold is not None
    )
    write_table(job.folder / FILMS_CSV, ["file", "sha256", "patient_id", "fold"], learnt)


def counts_of(taught: Taught) -> dict[str, int]:
    training = taught.fold >= 0
    patients = taught.cache.labels.patient_id
    return {
        "crops": len(taught.knees),
        "films": len({knee.file for knee in taught.knees}),
        "children": len(np.unique(patients)),
        "training_crops": int(training.sum()),
        "training_children": len(np.unique(patients[training])),
        "readers_labels": taught.from_readers,
        "pseudo_labels": len(taught.knees) - taught.from_readers,
        "crops_by_a_person": sum(knee.crop.origin == "person" for knee in taught.knees),
        "left_out": len(taught.left_out),
    }


def rows_of_fold(taught: Taught, fold: int, recipe: KneeRecipe, share: float = 1.0) -> FoldRows:
    """Which crops do what in a fold; children stay together. Some training children are held apart for early stopping,
    so that the held-out fold has no say in the choice; of the others a `share` is learnt from."""
    patients = taught.cache.labels.patient_id
    held_out, others = (
        np.flatnonzero(taught.fold == fold),
        np.flatnonzero((taught.fold >= 0) & (taught.fold != fold)),
    )
    children = np.unique(patients[others])
    order = np.random.default_rng((recipe.seed, fold, HELD_APART)).permutation(children)
    apart = 0
    if recipe.early_stopping is not None:
        apart = max(1, round(recipe.early_stopping.validation_share * len(children)))
    kept = max(1, round(share * (len(children) - apart)))
    if apart >= len(children):
        raise RunError(f"fold {fold}: {len(children)} children are too few to stop early by some of them")
    watched = others[np.isin(patients[others], order[:apart])]
    learnt = others[np.isin(patients[others], order[apart : apart + kept])]
    return FoldRows(learnt, watched if apart else held_out, held_out)
