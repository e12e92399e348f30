"""What happens beside the steps of a knee student: progress, an end where one is asked for; after each epoch a look
at crops that are not learnt from, a row of metrics.csv, the best weights so far and a checkpoint to go on from."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT
from numpy.typing import NDArray

from KneeBoneAgeLib.intervals import mean_months

from ..age_module import AgeModule
from ..crop_cache import CropCache
from ..hand.watch import BEST, COLUMNS, LAST, METRICS_CSV, TrainingError
from ..hand.weights import load_state, save_state
from ..predicting import posterior, predict
from ..recipes.schema import EarlyStopping
from ..runs.loop import StopRequest
from ..runs.progress import Reporter
from ..runs.record import read_rows, write_table

log = logging.getLogger(__name__)

STAGE = "knee"


class KneeWatch(lightning.Callback):
    """Watches one fold. `target_months` (N,) of all rows of the cache are what `watched` rows are compared with."""

    def __init__(
        self,
        folder: Path,
        cache: CropCache,
        watched: NDArray[np.intp],
        target_months: NDArray[np.float32],
        early_stopping: EarlyStopping | None,
        reporter: Reporter,
        stop: StopRequest,
    ) -> None:
        self.folder, self.cache, self.watched, self.target = folder, cache, watched, target_months
        self.early_stopping, self.reporter, self.stop = early_stopping, reporter, stop
        self.stopped = False
        self.best: tuple[float, int] | None = None  # months, epoch
        self.ended = False
        self._loss, self._steps, self._spent, self._began = 0.0, 0, 0.0, 0.0

    @property
    def seconds(self) -> float:
        """Time in this fold, sittings before this one included."""
        return self._spent + time.monotonic() - self._began

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "ended": self.ended, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.ended, self._spent = state["best"], state["ended"], state["seconds"]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._began = time.monotonic()
        path = self.folder / METRICS_CSV
        rows = [row for row in read_rows(path) if int(row["step"]) <= trainer.global_step]
        write_table(path, COLUMNS, [[row[name] for name in COLUMNS] for row in rows])
        trainer.should_stop = self.ended

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, AgeModule)
        assert isinstance(outputs, dict)
        self._loss += float(outputs["loss"].detach())
        self._steps += 1
        step, recipe = trainer.global_step, pl_module.recipe
        epoch = -(-step // recipe.epoch_steps)
        self.reporter.step(
            step,
            recipe.steps,
            epoch=epoch - 1,
            step=step - (epoch - 1) * recipe.epoch_steps,
            steps=recipe.epoch_steps,
            stage=STAGE,
        )
        if self.stop and step % recipe.epoch_steps and step < recipe.steps:
            # The epoch is begun anew when the run goes on: its crops follow from its number.
            self.stopped = trainer.should_stop = True

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, AgeModule)
        step, recipe = trainer.global_step, pl_module.recipe
        if self.stopped or not self._steps:
            return
        self._look(trainer, pl_module, -(-step // recipe.epoch_steps))
        self.ended = self.ended or step >= recipe.steps
        unfinished = self.folder / f".{LAST}"
        trainer.save_checkpoint(unfinished)
        unfinished.replace(self.folder / LAST)
        if self.stop and not self.ended:
            self.stopped = True
        if self.stopped or self.ended:
            trainer.should_stop = True

    def _look(self, trainer: lightning.Trainer, module: AgeModule, epoch: int) -> None:
        loss = self._loss / max(1, self._steps)
        self._loss, self._steps = 0.0, 0
        if not math.isfinite(loss):
            raise TrainingError(
                f"epoch {epoch}: the loss is no number; lower learning_rate or precision in the recipe"
            )
        error = self._error_months(module)
        if error is not None and (self.best is None or error < self.best[0]):
            self.best = (error, epoch)
            if self.early_stopping is not None:
                save_state(self.folder / BEST, module.averaged)
        if self.early_stopping is not None and self.best is not None:
            self.ended = epoch - self.best[1] >= self.early_stopping.patience_epochs
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        row = (
            epoch,
            trainer.global_step,
            f"{loss:.6g}",
            "" if error is None else f"{error:.4f}",
            f"{rate:.6g}",
            f"{self.seconds:.1f}",
            STAGE,
        )
        with (self.folder / METRICS_CSV).open("a", encoding="utf-8") as stream:
            stream.write(",".join(map(str, row)) + "\n")
        if trainer.logger is not None:
            values = {"train_loss": loss, "learning_rate": rate}
            trainer.logger.log_metrics(
                values if error is None else {**values, "val_mae_months": error}, step=trainer.global_step
            )
        self.reporter.tell(val_mae_months=error)
        facts = dict(zip(COLUMNS, row, strict=True))
        self.reporter.say("epoch", fold=self.reporter.now.fold_number, **facts)
        text = "" if error is None else f"  val MAE {error:.2f} months"
        log.info("epoch %d  loss %.4f%s  %.0f s", epoch, loss, text, self.seconds)

    def _error_months(self, module: AgeModule) -> float | None:
        """Mean absolute error of the averaged network on the watched crops; None where there are none to judge."""
        rows = self.watched[np.isfinite(self.target[self.watched])]
        if not len(rows):
            return None
        return float(np.abs(estimates(module, self.cache, rows) - self.target[rows]).mean())


def estimates(module: AgeModule, cache: CropCache, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """What the averaged network says of crops, with sex and age, (N,) months."""
    device = next(module.averaged.parameters()).device
    network = module.averaged.cpu()
    try:
        labels = cache.labels.take(rows)
        found = predict(network, cache, rows)
        return mean_months(posterior(network, found.log_likelihood, labels.sex, labels.age_months))
    finally:
        module.averaged.to(device)


def best_weights(folder: Path, module: torch.nn.Module) -> bool:
    """Take over the best epoch's weights, where a fold kept some."""
    if not (folder / BEST).exists():
        return False
    load_state(folder / BEST, module)
    return True
