"""What happens beside the steps of a hand teacher: the error on films that are not learnt from."""

from __future__ import annotations

from pathlib import Path

import lightning
import torch

from ..recipes.schema import EarlyStopping
from ..runs.loop import StopRequest
from ..runs.progress import Reporter
from ..runs.watch import Course, Watch, mean_of_devices
from .batches import Films
from .module import HandModule
from .predicting import predict


class HandWatch(Watch):
    """Watches a stage by the error on the `watched` films, which `workers` processes read."""

    def __init__(
        self,
        folder: Path,
        course: Course,
        watched: Films,
        early_stopping: EarlyStopping | None,
        reporter: Reporter,
        stop: StopRequest,
        workers: int = 0,
    ) -> None:
        super().__init__(folder, course, early_stopping, reporter, stop)
        self.watched, self.workers = watched, workers

    def error_months(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> float | None:
        """Of the averaged network, shared out to the devices."""
        assert isinstance(module, HandModule)
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
        total = mean_of_devices(trainer, torch.tensor(error, dtype=torch.float64)) * trainer.world_size
        return float(total) / len(self.watched)
