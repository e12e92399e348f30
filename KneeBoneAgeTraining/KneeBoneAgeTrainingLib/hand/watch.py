"""What happens beside the steps of a stage: looking at films that are not learnt from, rows, checkpoints, stopping."""

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
from ..runs.loop import StopRequest
from ..runs.progress import Reporter
from ..runs.record import read_rows, write_table
from .batches import Films, Plan
from .module import HandModule
from .predicting import predict
from .weights import save_state

log = logging.getLogger(__name__)

METRICS_CSV, LAST, BEST = "metrics.csv", "last.ckpt", "best.safetensors"
COLUMNS = ("epoch", "step", "train_loss", "val_mae_months", "learning_rate", "seconds", "stage")


class TrainingError(RuntimeError):
    """Training went wrong: what was seen, and what to change."""


@dataclass(frozen=True)
class Before:
    """Epochs and steps of the stages before this one, so that a fold's are counted through; `in_all` are its steps."""

    in_all: int = 0
    epochs: int = 0
    steps: int = 0

    def after(self, plan: Plan) -> Before:
        """The same, a stage later."""
        return replace(self, epochs=self.epochs + plan.stage.epochs, steps=self.steps + plan.steps)


class StageWatch(lightning.Callback):
    """After each step: progress, and an end where one is asked for. After each epoch: the error on the `watched` films,
    a row of metrics.csv, the best weights so far, and a checkpoint from which the run goes on to the same weights."""

    def __init__(
        self,
        folder: Path,
        watched: Films,
        before: Before,
        early_stopping: EarlyStopping | None,
        reporter: Reporter,
        stop: StopRequest,
        workers: int = 0,
    ) -> None:
        self.folder, self.watched, self.before = folder, watched, before
        self.early_stopping, self.reporter, self.stop, self.workers = early_stopping, reporter, stop, workers
        self.stopped = False
        self.best: tuple[float, int] | None = None  # months, epoch of this stage
        self.ended = False
        self._stage = ""
        self._loss: torch.Tensor | float = 0.0
        self._steps = 0
        self._spent = 0.0
        self._began = 0.0

    @property
    def seconds(self) -> float:
        """Time in this stage, sittings before this one included."""
        return self._spent + time.monotonic() - self._began

    def state_dict(self) -> dict[str, Any]:
        return {
            "stage": self._stage,
            "best": self.best,
            "ended": self.ended,
            "loss": float(self._loss),
            "steps": self._steps,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.ended = state["best"], state["ended"]
        self._loss, self._steps, self._spent = state["loss"], state["steps"], state["seconds"]

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, HandModule)
        self._stage = pl_module.plan.stage.name

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._began = time.monotonic()
        # Lightning's own way breaks the step off; here it is finished, and a checkpoint written.
        self.stop.listen_again()
        if trainer.is_global_zero:
            # Rows that are younger than the checkpoint are made again.
            path, last = self.folder / METRICS_CSV, self.before.steps + trainer.global_step
            rows = [row for row in read_rows(path) if int(row["step"]) <= last]
            write_table(path, COLUMNS, [[row[name] for name in COLUMNS] for row in rows])
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
        assert isinstance(pl_module, HandModule)
        assert isinstance(outputs, dict)
        self._loss = self._loss + outputs["loss"].detach().double()
        self._steps += 1
        step, plan = trainer.global_step, pl_module.plan
        epoch = -(-step // plan.epoch_steps)
        self.reporter.step(
            self.before.steps + step,
            self.before.in_all,
            epoch=self.before.epochs + epoch - 1,
            step=step - (epoch - 1) * plan.epoch_steps,
            steps=plan.epoch_steps,
            stage=plan.stage.name,
        )
        asked = bool(self.stop)
        if trainer.world_size > 1:
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        if step % plan.epoch_steps == 0:
            self._end_epoch(trainer, pl_module, epoch)
        self.ended = self.ended or step >= plan.steps
        if asked and not self.ended:
            self.stopped = trainer.should_stop = True
        if asked or step % plan.epoch_steps == 0:
            self._checkpoint(trainer)
        if self.ended:
            trainer.should_stop = True

    def _end_epoch(self, trainer: lightning.Trainer, module: HandModule, epoch: int) -> None:
        loss = float(_mean_of_devices(trainer, torch.as_tensor(float(self._loss) / max(1, self._steps))))
        self._loss, self._steps = 0.0, 0
        if not math.isfinite(loss):
            raise TrainingError(
                f"stage {module.plan.stage.name}, epoch {epoch}: the loss is no number; lower learning_rate or "
                "precision in the recipe"
            )
        error = self._error_months(trainer, module)
        better = error is not None and (self.best is None or error < self.best[0])
        if better:
            assert error is not None
            self.best = (error, epoch)
        if self.early_stopping is not None and self.best is not None:
            if better and trainer.is_global_zero:
                save_state(self.folder / BEST, module.averaged)
            self.ended = epoch - self.best[1] >= self.early_stopping.patience_epochs
        if not trainer.is_global_zero:
            return
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        row = (
            self.before.epochs + epoch,
            self.before.steps + trainer.global_step,
            f"{loss:.6g}",
            "" if error is None else f"{error:.4f}",
            f"{rate:.6g}",
            f"{self.seconds:.1f}",
            module.plan.stage.name,
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
        log.info("%s epoch %d  loss %.4f%s  %.0f s", module.plan.stage.name, row[0], loss, text, self.seconds)

    def _error_months(self, trainer: lightning.Trainer, module: HandModule) -> float | None:
        """Mean absolute error of the averaged network on the watched films, shared out to the devices."""
        if not len(self.watched):
            return None
        share = self.watched.take(range(trainer.global_rank, len(self.watched), trainer.world_size))
        found = predict(
            module.averaged,
            share.pictures,
            share.numbers,
            mirrored=module.plan.recipe.mirrored_average,
            workers=self.workers,
            context=trainer.precision_plugin.forward_context(),
        )
        error = float(abs(found.months - share.numbers.bone_age_months).sum())
        total = _mean_of_devices(trainer, torch.tensor(error, dtype=torch.float64)) * trainer.world_size
        return float(total) / len(self.watched)

    def _checkpoint(self, trainer: lightning.Trainer) -> None:
        unfinished = self.folder / f".{LAST}"
        trainer.save_checkpoint(unfinished)
        if trainer.is_global_zero:
            unfinished.replace(self.folder / LAST)


def _mean_of_devices(trainer: lightning.Trainer, value: torch.Tensor) -> torch.Tensor:
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
