"""What the panel shows of a run folder (`runs.record`): progress, curves, errors, the end of the log; it is only read.

The panel keeps nothing of its own, so that whoever opens the folder next sees the same. A file that is being written
or that is damaged reads as if it were not there yet. Nothing heavy is imported: this file runs inside the application.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..agreement import WITHIN_MONTHS, Agreement
from . import process
from .process import Training
from .progress import Progress
from .record import LOG, METRICS, PROGRESS, RECIPE, RUN, Run, RunError, find_runs, open_run, read_json

FIGURES, BUNDLE = "figures", "bundle"
TAIL_BYTES = 32_768
OUT_OF_FOLD, TEST = "out_of_fold", "test"
ESTIMATES = ("model", "age_alone")


@dataclass(frozen=True)
class Epoch:
    """One line of a fold's metrics.csv; NaN where there is no value."""

    epoch: float
    train_loss: float
    val_mae_months: float


@dataclass(frozen=True)
class Comparison:
    """A model beside an estimate from chronological age alone, on the same films (`OUT_OF_FOLD` or `TEST`)."""

    films: str
    model: Agreement
    age_alone: Agreement | None


def latest_runs(folder: Path) -> tuple[Run, ...]:
    """The runs in a folder, the latest first; none where there is no such folder."""
    runs = [run for run in find_runs(folder) if run.folder != folder]
    return tuple(sorted(runs, key=lambda run: (str(run.facts.get("started")), run.name), reverse=True))


def read_run(folder: Path) -> Run | None:
    """A run; None where there is none that can be read."""
    try:
        return open_run(folder)
    except RunError:
        return None


def studies_of(run: Run) -> tuple[Path, ...]:
    """The studies of a run, one or one a stage; none where it names none."""
    found = run.facts.get("studies") or [run.facts.get("study")]
    return tuple(Path(one["path"]) for one in found if isinstance(one, Mapping) and one.get("path"))


def again(run: Run) -> tuple[str, ...] | None:
    """Words of the line that goes on where a run stopped; None where nobody knows it.

    A run's own recipe is taken, which holds what was changed on the command line. A knee run says itself how it goes
    on; of an older one that does not, the line is known where it was started from the panel.
    """
    recipe = str(run.folder / RECIPE)
    if run.facts.get("kind") != "hand":
        command = run.facts.get("command")
        words = list(map(str, command if isinstance(command, list) else process.line_of(run.folder) or ()))
        if "--recipe" not in words or "--out" not in words:
            return None
        words[words.index("--recipe") + 1] = recipe
        words[words.index("--out") + 1] = str(run.folder)
        return tuple(words)
    studies, options = studies_of(run), run.facts.get("options") or {}
    if not studies:
        return None
    folds = tuple(options.get("folds") or ())
    device = str(options.get("device") or "auto")
    return Training(recipe, studies, run.folder, folds, None, device, run.facts.get("limit")).arguments()


def read_progress(folder: Path) -> Progress | None:
    """How far a run is; None before it has said so."""
    facts = read_json(folder / PROGRESS)
    known = {field.name for field in fields(Progress)}
    return Progress(**{name: value for name, value in facts.items() if name in known}) if facts else None


def fraction(progress: Progress) -> float:
    """How much of all folds is done, from 0 to 1."""
    within = (progress.epoch + progress.step / max(1, progress.steps)) / max(1, progress.epochs)
    return min(1.0, max(0.0, (progress.fold + min(1.0, within)) / max(1, progress.folds)))


def read_epochs(folder: Path) -> dict[int, tuple[Epoch, ...]]:
    """Curves of each fold that has begun. Epochs that begin again in a later stage go on counting."""
    found = {}
    for place in sorted(folder.glob("fold-*")):
        number = place.name.partition("-")[2]
        if number.isdigit() and (epochs := _epochs(place / "metrics.csv")):
            found[int(number)] = epochs
    return dict(sorted(found.items()))


def _epochs(path: Path) -> tuple[Epoch, ...]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, ValueError, csv.Error):
        return ()
    found: list[Epoch] = []
    offset, last = 0.0, -math.inf
    for row in rows:
        number = _number(row.get("epoch"))
        values = [_number(row.get(name)) for name in ("train_loss", "val_mae_months")]
        if math.isnan(number) or all(map(math.isnan, values)):
            continue
        if number <= last:
            offset += last + 1 - number
        last = number
        found.append(Epoch(number + offset, *values))
    return tuple(found)


def read_comparisons(folder: Path) -> tuple[Comparison, ...]:
    """Errors of a run beside those of age alone, out of fold and on the test set; () before it has any."""
    facts = read_json(folder / METRICS)
    found = []
    for films in (OUT_OF_FOLD, TEST):
        part = facts.get(films)
        model, alone = (
            _agreement(part.get(name)) if isinstance(part, Mapping) else None for name in ESTIMATES
        )
        if model is not None:
            found.append(Comparison(films, model, alone))
    return tuple(found)


def _agreement(facts: Any) -> Agreement | None:
    try:
        values = {name: float(facts[name]) for name in ("mae", "rmse", "median", "bias", "lower", "upper")}
        within = tuple(float(facts[f"within_{months}"]) for months in WITHIN_MONTHS)
        return Agreement(n=int(facts["n"]), **values, within=within)
    except (KeyError, TypeError, ValueError):
        return None


def figures(folder: Path) -> tuple[Path, ...]:
    """The pictures of a finished run."""
    return tuple(sorted((folder / FIGURES).glob("*.png")))


def log_tail(path: Path, lines: int = 200) -> str:
    """The last lines of a log; "" where there is none."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - TAIL_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    found = text.splitlines()
    return "\n".join(found[1 if size > TAIL_BYTES else 0 :][-lines:])


def stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes when one of a run's files does: name, size and time of those that are read here."""
    found = []
    for path in [
        *(folder / name for name in (RUN, LOG, PROGRESS, METRICS)),
        *folder.glob("fold-*/metrics.csv"),
    ]:
        with suppress(OSError):
            about = path.stat()
            found.append((str(path), about.st_size, about.st_mtime_ns))
    return tuple(found)


def _number(value: Any) -> float:
    """A number, of text too; NaN for anything else."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
