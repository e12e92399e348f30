"""What happens beside the steps of a network: progress, an end where one is asked for; after each epoch a look at what
is not learnt from, a row of metrics.csv, the best weights so far, and a checkpoint from which the run goes on to the
same weights."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT

from ..recipes.schema import EarlyStopping
from .loop import StopRequest
from .progress import Reporter
from .record import read_rows, write_table
from .weights import save_state

log = logging.getLogger(__name__)

METRICS_CSV, LAST, BEST = "metrics.csv", "last.ckpt", "best.safetensors"
COLUMNS = ("epoch", "step", "train_loss", "val_mae_months", "learning_rate", "seconds", "stage")


class TrainingError(RuntimeError):
    """Training went wrong: what was seen, and what to change."""


@dataclass(frozen=True)
class Course:
    """A stage of a fold: `steps` in epochs of `epoch_steps`, after those of earlier stages; the fold has `in_all`."""

    stage: str
    epoch_steps: int
    steps: int
    in_all: int
    epochs_before: int = 0
    steps_before: int = 0

    def then(self, stage: str, epoch_steps: int, steps: int) -> Course:
        """The stage after this one."""
        epochs = self.epochs_before + self.steps // self.epoch_steps
        later = replace(self, epochs_before=epochs, steps_before=self.steps_before + self.steps)
        return replace(later, stage=stage, epoch_steps=epoch_steps, steps=steps)


class Watch(lightning.Callback):
    """Watches one stage of a fold whose files lie in `folder`. The module's `averaged` is the network that is kept.

    Of several devices the first writes; all of them take part in looking and in deciding when to end.
    """

    def __init__(
        self,
        folder: Path,
        course: Course,
        early_stopping: EarlyStopping | None,
        reporter: Reporter,
        stop: StopRequest,
    ) -> None:
        self.folder, self.course, self.early_stopping = folder, course, early_stopping
        self.reporter, self.stop = reporter, stop
        self.stopped = False
        self.best: tuple[float, int] | None = None  # months, epoch of this stage
        self.ended = False
        self._loss: torch.Tensor | float = 0.0
        self._steps = 0
        self._spent = 0.0
        self._began = 0.0

    def error_months(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> float | None:
        """Mean absolute error on what is watched; None where there is nothing to watch."""
        raise NotImplementedError

    @property
    def seconds(self) -> float:
        """Time in this fold: earlier stages, and sittings before this one, included."""
        return self._spent + time.monotonic() - self._began

    def state_dict(self) -> dict[str, Any]:
        return {
            "stage": self.course.stage,
            "best": self.best,
            "ended": self.ended,
            "loss": float(self._loss),
            "steps": self._steps,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.ended = state["best"], state["ended"]
        self._loss, self._steps, self._spent = state["loss"], state["steps"], state["seconds"]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        # Lightning's own way breaks the step off; here it is finished, and a checkpoint written.
        self.stop.listen_again()
        if trainer.is_global_zero:
            # Rows that are younger than the checkpoint are made again.
            path, last = self.folder / METRICS_CSV, self.course.steps_before + trainer.global_step
            rows = [row for row in read_rows(path) if int(row["step"]) <= last]
            write_table(path, COLUMNS, [[row[name] for name in COLUMNS] for row in rows])
            self._spent = max([self._spent, *(float(row["seconds"]) for row in rows[-1:])])
        self._began = time.monotonic()
        if self.ended:
            trainer.should_stop = True

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
    ) -> None:
        assert isinstance(outputs, dict)
        self._loss = self._loss + outputs["loss"].detach().double()
        self._steps += 1
        step, course = trainer.global_step, self.course
        epoch = -(-step // course.epoch_steps)
        self.reporter.step(
            course.steps_before + step,
            course.in_all,
            epoch=course.epochs_before + epoch - 1,
            step=step - (epoch - 1) * course.epoch_steps,
            steps=course.epoch_steps,
            stage=course.stage,
        )
        asked = bool(self.stop)
        if trainer.world_size > 1:
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        if step % course.epoch_steps == 0:
            self._end_epoch(trainer, pl_module, epoch)
        self.ended = self.ended or step >= course.steps
        if asked and not self.ended:
            self.stopped = trainer.should_stop = True
        if asked or step % course.epoch_steps == 0:
            self._checkpoint(trainer)
        if self.ended:
            trainer.should_stop = True

    def _end_epoch(self, trainer: lightning.Trainer, module: lightning.LightningModule, epoch: int) -> None:
        loss = float(mean_of_devices(trainer, torch.as_tensor(float(self._loss) / max(1, self._steps))))
        self._loss, self._steps = 0.0, 0
        if not math.isfinite(loss):
            raise TrainingError(
                f"stage {self.course.stage}, epoch {epoch}: the loss is no number; lower learning_rate or precision "
                "in the recipe"
            )
        error = self.error_months(trainer, module)
        better = error is not None and (self.best is None or error < self.best[0])
        if better:
            assert error is not None
            self.best = (error, epoch)
        if self.early_stopping is not None and self.best is not None:
            if better and trainer.is_global_zero:
                assert isinstance(module.averaged, torch.nn.Module)
                save_state(self.folder / BEST, module.averaged)
            self.ended = epoch - self.best[1] >= self.early_stopping.patience_epochs
        if trainer.is_global_zero:
            self._tell_epoch(trainer, epoch, loss, error)

    def _tell_epoch(self, trainer: lightning.Trainer, epoch: int, loss: float, error: float | None) -> None:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        row = (
            self.course.epochs_before + epoch,
            self.course.steps_before + trainer.global_step,
            f"{loss:.6g}",
            "" if error is None else f"{error:.4f}",
            f"{rate:.6g}",
            f"{self.seconds:.1f}",
            self.course.stage,
        )
        with (self.folder / METRICS_CSV).open("a", encoding="utf-8") as stream:
            stream.write(",".join(map(str, row)) + "\n")
        if trainer.logger is not None:
            values = {"train_loss": loss, "learning_rate": rate}
            trainer.logger.log_metrics(
                values if error is None else {**values, "val_mae_months": error}, step=int(row[1])
            )
        self.reporter.tell(val_mae_months=error)
        facts = dict(zip(COLUMNS, row, strict=True))
        self.reporter.say("epoch", fold=self.reporter.now.fold_number, **facts)
        text = "" if error is None else f"  val MAE {error:.2f} months"
        log.info("%s epoch %d  loss %.4f%s  %.0f s", self.course.stage, row[0], loss, text, self.seconds)

    def _checkpoint(self, trainer: lightning.Trainer) -> None:
        unfinished = self.folder / f".{LAST}"
        trainer.save_checkpoint(unfinished)
        if trainer.is_global_zero:
            unfinished.replace(self.folder / LAST)


def mean_of_devices(trainer: lightning.Trainer, value: torch.Tensor) -> torch.Tensor:
    """The mean of a number over all devices of a run."""
    if trainer.world_size == 1:
        return value
    device = trainer.strategy.root_device
    return trainer.strategy.reduce(value.float().to(device), reduce_op="mean").cpu()


def stage_of(checkpoint: Path) -> str | None:
    """The stage that a checkpoint belongs to; None where there is none. The checkpoint is the run's own."""
    if not checkpoint.exists():
        return None
    state = torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=False)
    return next((one["stage"] for one in state["callbacks"].values() if "stage" in one), None)
