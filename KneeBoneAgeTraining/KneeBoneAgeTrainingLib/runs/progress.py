"""How far a run is: a file for panels, a bar for people, lines of JSON for a parent process."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from .record import PROGRESS, write_json

EVERY_S = 1.0


@dataclass(frozen=True)
class Progress:
    """Where a run stands: the fold, epoch and step in work, counted from 0.

    `epochs` are those of all stages of a fold, `steps` those of an epoch; `fold_number` is what the study calls the
    fold, `seconds_left` those of all folds, if no stage ends early.
    """

    fold: int = 0
    folds: int = 0
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    seconds_left: float | None = None
    val_mae_months: float | None = None
    fold_number: int | None = None
    stage: str = ""
    doing: str = "starting"


class Reporter:
    """Tells how far a run is, at most once a second; without a `folder` it tells nobody."""

    def __init__(self, folder: Path | None = None, bar: Any = None, lines: TextIO | None = None) -> None:
        self.folder, self.bar, self.lines = folder, bar, lines
        self.now = Progress()
        self._task = bar.add_task("starting", total=None) if bar is not None else None
        self._told = 0.0
        self._began: tuple[float, int] | None = None

    def tell(self, *, always: bool = True, **changes: Any) -> None:
        """Change what is known, and tell it."""
        self.now = replace(self.now, **changes)
        if self.folder is None or not (always or time.monotonic() - self._told >= EVERY_S):
            return
        self._told = time.monotonic()
        write_json(self.folder / PROGRESS, asdict(self.now))
        self.say("progress", **asdict(self.now))

    def say(self, what: str, **facts: Any) -> None:
        """A line for the parent process, where there is one."""
        if self.lines is not None and self.folder is not None:
            print(json.dumps({"event": what, **facts}), file=self.lines, flush=True)

    def counting(self, doing: str) -> Any:
        """A function of (done, total) that tells of something else than training."""

        def count(done: int, total: int) -> None:
            self.tell(always=done == total, doing=doing)
            if self.bar is not None:
                self.bar.update(self._task, description=doing, total=total, completed=done)

        return count

    def begin_fold(self, fold: int, number: int) -> None:
        self._began = None
        self.tell(fold=fold, fold_number=number, epoch=0, step=0, seconds_left=None, doing="training")

    def step(self, made: int, in_all: int, **changes: Any) -> None:
        """`made` steps of this fold's `in_all` are done; the time left follows from the pace in this fold so far."""
        clock, n = time.monotonic(), self.now
        if self._began is None or made <= self._began[1]:
            self._began = (clock, made)
        since, first = self._began
        left = None
        if made > first:
            to_come = in_all * (n.folds - n.fold) - made
            left = round((clock - since) / (made - first) * to_come, 1)
        self.tell(always=False, seconds_left=left, **changes)
        if self.bar is not None:
            n = self.now
            text = f"fold {n.fold_number}  {n.stage}  epoch {n.epoch + 1}/{n.epochs}"
            done = in_all * n.fold + made
            self.bar.update(self._task, description=text, total=in_all * n.folds, completed=done)
