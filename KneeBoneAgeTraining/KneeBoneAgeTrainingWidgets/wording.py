"""What the training panel says: states, times left, errors in months."""

from __future__ import annotations

import datetime
import math
from typing import Any

from slicer.i18n import tr as _

from KneeBoneAgeTrainingLib.runs import record as runs
from KneeBoneAgeTrainingLib.runs.progress import Progress


def state_name(state: str) -> str:
    return {
        runs.RUNNING: _("running"),
        runs.STOPPED: _("stopped"),
        runs.FINISHED: _("finished"),
        runs.FAILED: _("failed"),
        runs.INTERRUPTED: _("interrupted"),
    }.get(state, state)


def state_line(state: str, error: str = "") -> str:
    """The state of a run in a sentence, with the reason of a failure and the way out."""
    failed = _("Failed ({reason}). Press Resume to try again.").format(
        reason=error.rstrip(". ") or _("see the log")
    )
    return {
        runs.RUNNING: _("Training. It goes on when this module or Slicer is closed."),
        runs.STOPPED: _("Stopped after a whole step. Press Resume to go on from there."),
        runs.FINISHED: _("Finished."),
        runs.FAILED: failed,
        runs.INTERRUPTED: _("Its process is gone. Press Resume to go on from its last checkpoint."),
    }.get(state, state)


def kind_name(kind: str) -> str:
    return {"hand": _("hand model"), "knee": _("knee model")}.get(kind, kind)


def months(value: Any) -> str:
    """``"9.8"``; a dash where there is no number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return "–"
    return "–" if math.isnan(number) else _("{months:.1f}").format(months=number)


def share(value: Any) -> str:
    """``"63 %"`` of a share from 0 to 1."""
    try:
        return _("{percent:.0f} %").format(percent=100 * float(value))
    except (TypeError, ValueError):
        return "–"


def time_left(seconds: float | None) -> str:
    """``"about 1 h 12 min left"``, coarser the longer it takes; "" where it is not known."""
    if seconds is None or seconds < 0:
        return ""
    minutes = round(seconds / 60)
    if seconds < 50:
        return _("less than a minute left")
    if minutes < 60:
        return _("about {minutes} min left").format(minutes=max(1, minutes))
    hours, rest = divmod(minutes, 60)
    if hours < 24:
        return _("about {hours} h {minutes} min left").format(hours=hours, minutes=rest)
    days, hours = divmod(round(minutes / 60), 24)
    return _("about {days} d {hours} h left").format(days=days, hours=hours)


def progress_line(progress: Progress) -> str:
    """Where a run is now, in words."""
    if progress.doing != "training":
        return {
            "starting": _("Starting…"),
            "preparing pictures": _("Preparing the films…"),
            "preparing crops": _("Finding and cutting out the knees…"),
            "drawing crops of other things": _("Drawing crops of other things…"),
            "waiting for another run": _("Waiting for another run that prepares the same films…"),
            "estimating": _("Estimating the films held out…"),
            "estimating the test set": _("Estimating the test set…"),
            "finished": _("Finished."),
            "stopped": _("Stopped."),
        }.get(progress.doing, progress.doing)
    number = progress.fold if progress.fold_number is None else progress.fold_number
    parts = [
        _("Fold {number} ({fold} of {folds})").format(
            number=number, fold=progress.fold + 1, folds=progress.folds
        ),
        _("epoch {epoch} of {epochs}").format(epoch=progress.epoch + 1, epochs=progress.epochs),
        _("step {step} of {steps}").format(step=progress.step, steps=progress.steps),
        time_left(progress.seconds_left),
    ]
    return ", ".join(filter(None, parts))


def when(text: str) -> str:
    """A time in ISO 8601 as date and minute of this computer's clock; as it is where it is none."""
    try:
        return datetime.datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return text


def curve_words() -> dict[str, str]:
    """What is written into the charts; keys of `scene.show_curves`."""
    return {
        "fold": _("Fold {fold}"),
        "epoch": _("Epoch"),
        "age_alone": _("Age alone"),
        "val_mae_months.title": _("Validation error"),
        "val_mae_months.axis": _("Mean absolute error (months)"),
        "train_loss.title": _("Training loss"),
        "train_loss.axis": _("Loss"),
    }
