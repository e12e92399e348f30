"""Bone ages that hand models give to films: the mean over folds and runs, with its spread.

A film, or another film of a child, that a run learnt from is labelled only by the fold that held the child out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from .hand.films import HandFilm, Numbers
from .hand.pictures import PictureCache
from .hand.predicting import Estimates, pooled, predict
from .hand.weights import WEIGHTS_JSON, load_fold
from .runs.record import FILMS_CSV, Run, RunError, read_json, read_rows, write_table

COLUMNS = (
    *("file", "patient_id", "sex", "age_months", "pseudo_label_months", "spread_months"),
    *("folds", "model", "version", "run_sha256"),
)
UNJUDGED_SD_MONTHS = 12.0
"""Spread of a network that gives no distribution in a run without out-of-fold estimates."""


@dataclass(frozen=True)
class PseudoLabel:
    """What the models say of a film: mean and standard deviation in months, and which folds of each run were asked."""

    film: HandFilm
    months: float
    spread_months: float
    folds: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Labels:
    """The labelled films, and those that every trained fold had learnt from."""

    labelled: tuple[PseudoLabel, ...]
    unlabelled: tuple[HandFilm, ...] = field(default=())


def folds_that_may(run: Run, films: Sequence[HandFilm]) -> list[tuple[int, ...]]:
    """For each film the trained folds of a run that learnt from neither it nor its child."""
    trained = tuple(int(folder.name.partition("-")[2]) for folder in run.fold_folders)
    by_film, by_child = {}, {}
    for row in read_rows(run.folder / FILMS_CSV):
        by_film[row["sha256"]] = by_child[row["patient_id"]] = int(row["fold"])
    found = []
    for film in films:
        own = by_film.get(film.sha256, by_child.get(film.patient_id) if film.patient_id else None)
        found.append(trained if own is None else tuple(fold for fold in trained if fold == own))
    return found


def pseudo_label(
    runs: Sequence[Run],
    films: Sequence[HandFilm],
    cache: Path,
    *,
    device: torch.device | str = "cpu",
    workers: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Labels:
    """Label films with the trained folds of one or more runs.

    Parameters
    ----------
    cache : folder of prepared pictures.
    progress : called with (what is done, films done, films in all).

    Raises
    ------
    RunError
        A run has no trained fold, or its weights cannot be used.
    FilmError
        A film cannot be read.
    """
    of_runs: list[Estimates] = []
    asked: list[list[tuple[int, ...]]] = []
    for run in runs:
        if not run.fold_folders:
            raise RunError(f"{run.folder}: no fold is trained; train it first")
        asked.append(folds_that_may(run, films))
        of_runs.append(_of_run(run, films, asked[-1], cache, device, workers, progress))
    labelled, unlabelled = [], []
    for row, film in enumerate(films):
        said = [
            Estimates(one.months[row : row + 1], one.sd_months[row : row + 1])
            for one in of_runs
            if np.isfinite(one.months[row])
        ]
        if not said:
            unlabelled.append(film)
            continue
        mean, spread = pooled(said)
        labelled.append(PseudoLabel(film, float(mean[0]), float(spread[0]), tuple(may[row] for may in asked)))
    return Labels(tuple(labelled), tuple(unlabelled))


def _of_run(
    run: Run,
    films: Sequence[HandFilm],
    may: Sequence[tuple[int, ...]],
    cache: Path,
    device: torch.device | str,
    workers: int,
    progress: Callable[[str, int, int], None] | None,
) -> Estimates:
    """Mean and spread over the folds of a run that may be asked; NaN for films that none may label."""
    folders = run.fold_folders
    months = np.full((len(folders), len(films)), np.nan)
    spread = np.full_like(months, np.nan)
    judged = (run.metrics.get("out_of_fold") or {}).get("model", {}).get("rmse", UNJUDGED_SD_MONTHS)
    for index, folder in enumerate(folders):
        number = int(folder.name.partition("-")[2])
        rows = [row for row, folds in enumerate(may) if number in folds]
        if not rows:
            continue
        model = load_fold(folder)
        chosen = [films[row] for row in rows]
        paths = PictureCache(cache, model.teacher.inputs.image_size).prepare(
            chosen, workers=workers, progress=_told(progress, "preparing pictures")
        )
        said = predict(
            model.teacher.to(device), paths, Numbers.of(chosen), mirrored=model.mirrored, workers=workers
        )
        months[index, rows] = said.months
        spread[index, rows] = np.where(np.isnan(said.sd_months), judged, said.sd_months)
        if progress:
            progress(f"{run.name} fold {number}", index + 1, len(folders))
    mean, sd = np.full(len(films), np.nan), np.full(len(films), np.nan)
    for row in range(len(films)):
        asked = np.flatnonzero(np.isfinite(months[:, row]))
        if asked.size:
            one = pooled([Estimates(months[i : i + 1, row], spread[i : i + 1, row]) for i in asked])
            mean[row], sd[row] = one[0][0], one[1][0]
    return Estimates(mean, sd)


def _told(progress: Callable[[str, int, int], None] | None, what: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    tell = progress
    return lambda done, total: tell(what, done, total)


def runs_sha256(runs: Sequence[Run]) -> str:
    """One SHA-256 of the weights of all trained folds, whatever the order of the runs."""
    weights = sorted(
        str(read_json(folder / WEIGHTS_JSON).get("sha256")) for run in runs for folder in run.fold_folders
    )
    return hashlib.sha256("\n".join(weights).encode()).hexdigest()


def write_labels(path: Path, labels: Labels, runs: Sequence[Run]) -> None:
    """The table of labels. Folds are divided by blanks, those of several runs by " | "."""
    model = "+".join(run.recipe for run in runs)
    version = "+".join(sorted({str(run.facts.get("code", {}).get("version", "")) for run in runs}))
    sha256 = runs_sha256(runs)
    write_table(
        path,
        COLUMNS,
        (
            (
                one.film.file,
                one.film.patient_id,
                one.film.sex,
                one.film.age_months,
                f"{one.months:.3f}",
                f"{one.spread_months:.3f}",
                " | ".join(" ".join(map(str, folds)) for folds in one.folds),
                model,
                version,
                sha256,
            )
            for one in labels.labelled
        ),
    )
