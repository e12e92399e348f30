"""What is to be trained: a recipe on studies, where, which folds; which films do what; and the run's folder begun."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..cohort.study import STUDY, Study
from ..recipes import HandRecipe, dump_recipe
from ..runs.machine import Machine, cores
from ..runs.record import (
    FILMS_CSV,
    FOLDS_CSV,
    RUNNING,
    Run,
    RunError,
    begin,
    code_version,
    read_json,
    this_process,
    write_table,
)
from .films import HandFilm, hand_films
from .pictures import PictureCache, preprocessing_sha256

log = logging.getLogger(__name__)

HELD_APART = 3
"""Number of the generator that draws the children who are only looked at."""


@dataclass(frozen=True)
class Job:
    """A recipe on studies: one for all stages, or one a stage. `limit` takes so many films, to try things out."""

    recipe: HandRecipe
    studies: tuple[Study, ...]
    folder: Path
    machine: Machine = Machine()
    folds: tuple[int, ...] | None = None
    limit: int | None = None
    cache: Path | None = None

    @property
    def pictures(self) -> PictureCache:
        return PictureCache(self.cache or self.folder.parent / "hand-pictures", self.recipe.image_size)

    def study_of(self, stage: int) -> int:
        """Which study a stage learns from."""
        return stage if len(self.studies) > 1 else 0

    @property
    def all_folds(self) -> tuple[int, ...]:
        """The folds that the recipe wants."""
        there = range(self.studies[-1].parameters.folds)
        return tuple(there) if self.recipe.folds is None else self.recipe.folds


def learnable_films(study: Study, limit: int | None) -> list[HandFilm]:
    """The study's hand films with a label; with a `limit` so many training films, shared out to the folds."""
    films = [film for film in hand_films(study) if film.bone_age_months is not None]
    if limit is None:
        return films
    counted: Counter[int | None] = Counter()
    order = []
    for film in films:
        order.append((counted[film.fold], film))
        counted[film.fold] += 1
    training = sorted((place, film.fold, film.file) for place, film in order if film.fold is not None)[:limit]
    kept = {file for _, _, file in training}
    return [film for film in films if film.file in kept]


def check_job(job: Job, films: Sequence[Sequence[HandFilm]], folds: Sequence[int]) -> None:
    """Raises RunError where studies, folds or devices do not fit the recipe, or a device is not there."""
    job.machine.check()
    stages = len(job.recipe.stages)
    if len(job.studies) not in (1, stages):
        raise RunError(
            f"{len(job.studies)} studies: give one for all stages of {job.recipe.name}, or one for each of its {stages}"
        )
    if job.recipe.batch % job.machine.world:
        raise RunError(
            f"batch {job.recipe.batch} of the recipe cannot be shared out to {job.machine.world} devices evenly"
        )
    places: dict[str, HandFilm] = {}
    for study, some in zip(job.studies, films, strict=True):
        there = {film.fold for film in some}
        missing = [fold for fold in range(study.parameters.folds) if fold not in there]
        if missing:
            raise RunError(
                f"{study.folder}: fold {missing[0]} has no hand film with a bone age; give labels, or more children"
            )
        for film in some:
            other = places.setdefault(film.sha256, film)
            if other.place != film.place:
                raise RunError(
                    f"{film.path} is in {other.place} of one study and in {film.place} of another; what is learnt from "
                    "in one stage would be judged in the next. Build the studies without common films"
                )
    known = range(job.studies[-1].parameters.folds)
    wrong = [fold for fold in folds if fold not in known]
    if wrong or not folds:
        raise RunError(f"fold {wrong[0] if wrong else 'none'}: the study has folds 0 to {known[-1]}")


def begin_run(job: Job, films: Sequence[Sequence[HandFilm]], folds: Sequence[int]) -> Run:
    studies = [{"path": str(s.folder.resolve()), "data_sha256": s.data_sha256} for s in job.studies]
    run = begin(
        job.folder,
        dump_recipe(job.recipe),
        {
            "recipe": job.recipe.name,
            "data_sha256": [study["data_sha256"] for study in studies],
            "limit": job.limit,
            "preprocessing": preprocessing_sha256(),
        },
        {
            "state": RUNNING,
            "code": code_version(),
            "study": studies[-1],
            "studies": studies,
            "data": "phantom" if any(is_phantom(study) for study in job.studies) else "",
            "seed": job.recipe.seed,
            "options": {"folds": list(folds), "device": job.machine.device},
            "machine": {**asdict(job.machine), "cores": cores(), "torch": torch.__version__},
            **this_process(),
            "finished": None,
            "error": None,
        },
    )
    rows = [(f.patient_id, f.file, f.place.split, f.fold) for f in hand_films(job.studies[-1]) if f.place]
    write_table(job.folder / FOLDS_CSV, ["patient_id", "file", "split", "fold"], rows)
    learnt = [f for some in films for f in some if not f.is_test]
    write_table(
        job.folder / FILMS_CSV,
        ["file", "sha256", "patient_id", "fold"],
        ((f.file, f.sha256, f.patient_id, f.fold) for f in learnt),
    )
    return run


def is_phantom(study: Study) -> bool:
    """Whether the films are drawn: only the phantom's tables know the true bone age."""
    tables = read_json(study.folder / STUDY).get("tables", [])
    return any("true_bone_age_months" in table.get("ignored_columns", ()) for table in tables)


@dataclass(frozen=True)
class FoldRows:
    """Rows of a study's films in one fold: those that are learnt from, those that are only looked at, and the held-out
    ones (the same as those that are looked at, unless a stage stops early by them)."""

    learnt: NDArray[np.intp]
    watched: NDArray[np.intp]
    held_out: NDArray[np.intp]


def rows_of_fold(films: Sequence[HandFilm], fold: int, recipe: HandRecipe) -> FoldRows:
    """Which films of a study do what; children stay together."""
    folds = np.array([-1 if film.fold is None else film.fold for film in films])
    held_out, others = np.flatnonzero(folds == fold), np.flatnonzero((folds >= 0) & (folds != fold))
    if recipe.early_stopping is None:
        return FoldRows(others, held_out, held_out)
    children = sorted({films[int(row)].patient_id for row in others})
    count = max(1, round(recipe.early_stopping.validation_share * len(children)))
    if count >= len(children):
        raise RunError(f"fold {fold}: {len(children)} children are too few to stop early by some of them")
    rng = np.random.default_rng((recipe.seed, fold, HELD_APART))
    apart = {children[i] for i in rng.permutation(len(children))[:count]}
    looked_at = np.array([films[int(row)].patient_id in apart for row in others])
    return FoldRows(others[~looked_at], others[looked_at], held_out)
