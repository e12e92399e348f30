"""A run is a folder: what was trained, on what, how far it is, and what came of it.

====================  ================================================================================================
run.json              format, kind, state, recipe, code version and commit, study and its data_sha256, seeds, times,
                      pid and command line of its process
recipe.yaml           the recipe with everything that was changed on the command line
folds.csv             ``patient_id, file, split, fold`` of the hand films; fold from 0, empty for the test set
films.csv             ``file, sha256, patient_id, fold`` of the films that were learnt from
train.log             what was said
progress.json         how far it is, for panels
fold-K/               metrics.csv, tensorboard/, weights.safetensors, weights.json, predictions.csv (out of fold);
                      while it is trained last.ckpt; of recipes with several stages after-STAGE.safetensors
test-predictions.csv  what the mean of all folds says of the test set, once, at the end
metrics.json          agreement of the out-of-fold and test estimates, beside those of chronological age alone
figures/              curves.png, bland-altman.png
====================  ================================================================================================

Small files are written whole or not at all, so that whoever looks at a run that goes on never sees half a file.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import socket
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from KneeBoneAgeLib.version import VERSION

from .process import command_line, is_training

FORMAT = 1
KIND = "hand"
RUN, RECIPE, LOG, PROGRESS, METRICS = "run.json", "recipe.yaml", "train.log", "progress.json", "metrics.json"
FOLDS_CSV, FILMS_CSV = "folds.csv", "films.csv"
RUNNING, FINISHED, STOPPED, FAILED = "running", "finished", "stopped", "failed"
INTERRUPTED = "interrupted"
"""How a run is called that says "running" although its process is gone; it goes on when it is started again."""


class RunError(ValueError):
    """A run's folder cannot be used: which, why, and what to do."""


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def write_json(path: Path, values: Any) -> None:
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_table(path: Path, header: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """A CSV table; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    write_text(path, text.getvalue())


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV table; [] where there is none."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@dataclass(frozen=True)
class Run:
    """A run's folder and what its run.json says."""

    folder: Path
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def recipe(self) -> str:
        return str(self.facts.get("recipe", ""))

    @property
    def pid(self) -> int | None:
        """The process that trains it, when it is alive and of this machine."""
        pid = self.facts.get("pid")
        here = self.facts.get("host") in (None, socket.gethostname())
        if self.facts.get("state") != RUNNING or not isinstance(pid, int) or not here:
            return None
        return pid if is_training(pid, self.facts.get("process")) else None

    @property
    def state(self) -> str:
        """As run.json says, but `INTERRUPTED` for a run whose process is gone."""
        state = str(self.facts.get("state", ""))
        gone = self.facts.get("host") in (None, socket.gethostname()) and self.pid is None
        return INTERRUPTED if state == RUNNING and gone else state

    @property
    def metrics(self) -> dict[str, Any]:
        """metrics.json; empty before the end."""
        return read_json(self.folder / METRICS)

    @property
    def progress(self) -> dict[str, Any]:
        """progress.json; empty before the first step."""
        return read_json(self.folder / PROGRESS)

    @property
    def fold_folders(self) -> list[Path]:
        """The folders of finished folds, in order."""
        found = [path.parent for path in self.folder.glob("fold-*/weights.json")]
        return sorted(found, key=lambda folder: int(folder.name.partition("-")[2]))

    def with_facts(self, **changes: Any) -> Run:
        """The same run with other facts, which are written down."""
        run = replace(self, facts={**self.facts, **changes})
        write_json(self.folder / RUN, run.facts)
        return run


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; {} where there is none or none that can be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def open_run(folder: str | Path) -> Run:
    """Open a run. Raises RunError where there is none, or one of another format."""
    folder = Path(folder)
    if not (folder / RUN).is_file():
        raise RunError(f"{folder}: there is no run here (no {RUN})")
    facts = read_json(folder / RUN)
    if facts.get("format") != FORMAT:
        raise RunError(f"{folder}: {RUN} is damaged or of another format than {FORMAT}")
    return Run(folder, facts)


def find_runs(folder: str | Path) -> Iterator[Run]:
    """The runs in a folder, or the folder itself, by name; what cannot be read is left out."""
    folder = Path(folder)
    for path in sorted([folder / RUN, *folder.glob(f"*/{RUN}")]):
        try:
            yield open_run(path.parent)
        except RunError:
            continue


def begin(folder: Path, recipe_yaml: str, same: dict[str, Any], facts: dict[str, Any]) -> Run:
    """Make a run's folder, or take up the one that was begun with the same line.

    Parameters
    ----------
    same : facts in which a run that goes on must not differ (data, recipe).
    facts : others, written anew.

    Raises
    ------
    RunError
        The folder holds something else, another run, or one that is being trained.
    """
    if (folder / RUN).exists():
        run = open_run(folder)
        if run.pid is not None and run.pid != os.getpid():
            raise RunError(
                f"{folder}: is being trained by process {run.pid}; stop it, or choose another --out"
            )
        for name, value in same.items():
            if run.facts.get(name) != value:
                raise RunError(
                    f"{folder}: was begun with {name} {run.facts.get(name)!r}, now {value!r}; choose another --out"
                )
        if (folder / RECIPE).read_text(encoding="utf-8") != recipe_yaml:
            raise RunError(
                f"{folder}: was begun with another recipe (see {RECIPE} there); choose another --out"
            )
        return run.with_facts(**facts)
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"{folder}: is a folder with other things in it; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / RECIPE, recipe_yaml)
    return Run(folder, {"format": FORMAT, "kind": KIND, **same, "started": now()}).with_facts(**facts)


def this_process() -> dict[str, Any]:
    """The facts by which others find the process that trains a run."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "process": command_line(pid)}


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """What the training library says goes to a file, as long as the block runs."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger(__name__.partition(".")[0])
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
        handler.close()


def code_version() -> dict[str, str | None]:
    """The version, and where this is a git checkout the commit, with "-dirty" when files were changed."""
    commit = None
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
        commit = said.stdout.strip() or None if said.returncode == 0 else None
    except (OSError, subprocess.SubprocessError):
        pass
    return {"version": VERSION, "commit": commit}
