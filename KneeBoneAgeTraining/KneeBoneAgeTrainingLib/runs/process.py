"""A training as a process of its own: starting, stopping and killing it.

A training started with `start` belongs to nobody: it goes on when the panel, the module or the application is closed.
What it does is read from its folder (`runs.folder`). Nothing heavy is imported: this file runs inside the application.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from KneeBoneAgeLib import process_tree

PACKAGE = "KneeBoneAgeTrainingLib"
COMMANDS = f"{PACKAGE}.commands"
STARTED = ".started"
"""Folder beside the runs with what belongs to their processes."""
LIBRARIES = tuple(
    dict.fromkeys(
        str(Path(path).resolve().parents[level])
        for path, level in ((__file__, 2), (process_tree.__file__, 1))
        if path is not None
    )
)
"""Folders that hold the two libraries; one and the same where the extension is installed."""


@dataclass(frozen=True)
class Training:
    """What is to be trained.

    Attributes
    ----------
    recipe : name of a shipped recipe, or the path of one's own.
    studies : one for all stages of the recipe, or one for each.
    out : the run folder; one that exists goes on where it stopped.
    folds : which folds; none are all of them.
    epochs : of each stage instead of the recipe's; None leaves them.
    limit : number of films that are learnt from, to try things out; None takes all.
    """

    recipe: str
    studies: tuple[Path, ...]
    out: Path
    folds: tuple[int, ...] = ()
    epochs: int | None = None
    device: str = "auto"
    limit: int | None = None

    def arguments(self) -> tuple[str, ...]:
        """Words for the command line ``kneeboneage``."""
        words = ["train", self.recipe]
        for study in self.studies:
            words += ["--study", str(study)]
        words += ["--out", str(self.out)]
        for fold in self.folds:
            words += ["--fold", str(fold)]
        words += ["--epochs", str(self.epochs)] if self.epochs else []
        words += ["--limit", str(self.limit)] if self.limit else []
        return (*words, "--device", self.device)


@dataclass(frozen=True)
class KneeTraining:
    """A knee model that is to be trained.

    Attributes
    ----------
    teacher : run of a hand model whose weights it starts from; None starts from first weights.
    label : "readers", "pseudo" or "both"; `labels` is the table of pseudo-labels.
    """

    recipe: str
    study: Path
    out: Path
    teacher: Path | None = None
    label: str = "readers"
    labels: Path | None = None
    folds: tuple[int, ...] = ()
    epochs: int | None = None
    device: str = "auto"

    def arguments(self) -> tuple[str, ...]:
        """Words for the command line ``kneeboneage``."""
        words = ["knee-transfer", "--recipe", self.recipe, "--study", str(self.study), "--out", str(self.out)]
        words += ["--teacher", str(self.teacher)] if self.teacher else ["--from-scratch"]
        words += ["--label", self.label, *(["--labels", str(self.labels)] if self.labels else [])]
        for fold in self.folds:
            words += ["--fold", str(fold)]
        words += ["--epochs", str(self.epochs)] if self.epochs else []
        return (*words, "--device", self.device)


def environment() -> dict[str, str]:
    """The environment of a child that finds both libraries."""
    paths = [*LIBRARIES, os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONIOENCODING": "utf-8",
        "PYTHONUNBUFFERED": "1",
    }


def start(arguments: Sequence[str], folder: Path, python: str = sys.executable) -> subprocess.Popen[bytes]:
    """Start ``python -m KneeBoneAgeTrainingLib.commands`` so that it outlives its parent.

    Parameters
    ----------
    folder : of the run. The line (`line_of`) and what the process prints (`console_of`) are kept beside it, since
        the run's own folder must be empty before it begins.

    Raises
    ------
    OSError
        The files cannot be written or the interpreter cannot be started.
    """
    console, line = console_of(folder), _line_file(folder)
    console.parent.mkdir(parents=True, exist_ok=True)
    line.write_text(json.dumps(list(arguments)), encoding="utf-8")
    apart: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    with console.open("wb") as out:
        return subprocess.Popen(
            [python, "-m", COMMANDS, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment(),
            **apart,
        )


def console_of(folder: Path) -> Path:
    """Where a run's process prints what it says before its folder is there, and its last words."""
    return folder.parent / STARTED / f"{folder.name}.txt"


def line_of(folder: Path) -> tuple[str, ...] | None:
    """The words with which a run was started from here; None for one that was started elsewhere."""
    try:
        words = json.loads(_line_file(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return tuple(map(str, words)) if isinstance(words, list) else None


def _line_file(folder: Path) -> Path:
    return folder.parent / STARTED / f"{folder.name}.json"


def stop(pid: int) -> None:
    """Ask a training to end after its present step; where that cannot be asked (Windows), end it.

    ``pid`` must be a training (`is_training`). One that is gone is no error.
    """
    if sys.platform == "win32":
        kill(pid)
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


def kill(pid: int) -> None:
    """End a training with all that it started; a run that was killed can be resumed."""
    process_tree.end(pid)


def is_training(pid: int, line: str | None = None) -> bool:
    """Whether this process is alive and one of ours; a number that another program got meanwhile is not.

    ``line`` is its `command_line` when it began; where that was not kept, any that names this library will do.
    """
    if pid <= 0:
        return False
    if sys.platform == "win32":
        return _is_python_on_windows(pid)
    if not process_tree.is_alive(pid):
        return False
    return command_line(pid) == line if line else PACKAGE in command_line(pid)


def command_line(pid: int) -> str:
    """With which words a process was started; "" for one that is gone or on Windows."""
    if sys.platform == "win32":
        return ""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        done = subprocess.run(
            ["ps", "-o", "command=", "-p", str(pid)], check=False, capture_output=True, text=True
        )
        return done.stdout.strip()


def _is_python_on_windows(pid: int) -> bool:
    listing = subprocess.run(
        ["tasklist", "/FO", "CSV", "/NH", "/FI", f"PID eq {pid}"],
        check=False,
        capture_output=True,
        text=True,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    return "python" in listing.stdout.lower()
