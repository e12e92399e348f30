"""What happens beside the steps of a knee student: the error on crops that are not learnt from."""

from __future__ import annotations

from pathlib import Path

import lightning
import numpy as np
import torch
from numpy.typing import NDArray

from KneeBoneAgeLib.intervals import mean_months
from KneeBoneAgeLib.network import AgeNetwork

from ..age_module import AgeModule
from ..crop_cache import CropCache
from ..predicting import posterior, predict
from ..recipes.schema import EarlyStopping
from ..runs.loop import StopRequest
from ..runs.progress import Reporter
from ..runs.watch import Course, Watch, mean_of_devices


class KneeWatch(Watch):
    """Watches one fold. `target_months` (N,) of all rows of the cache are what `watched` rows are compared with."""

    def __init__(
        self,
        folder: Path,
        course: Course,
        cache: CropCache,
        watched: NDArray[np.intp],
        target_months: NDArray[np.float32],
        early_stopping: EarlyStopping | None,
        reporter: Reporter,
        stop: StopRequest,
    ) -> None:
        super().__init__(folder, course, early_stopping, reporter, stop)
        self.cache, self.target = cache, target_months
        self.judged = watched[np.isfinite(target_months[watched])]

    def error_months(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> float | None:
        """Of the averaged network with sex and age, shared out to the devices."""
        assert isinstance(module, AgeModule)
        if not len(self.judged):
            return None
        rows = self.judged[trainer.global_rank :: trainer.world_size]
        error = 0.0
        if len(rows):
            error = float(np.abs(estimates(module.averaged, self.cache, rows) - self.target[rows]).sum())
        total = mean_of_devices(trainer, torch.tensor(error, dtype=torch.float64)) * trainer.world_size
        return float(total) / len(self.judged)


def estimates(network: AgeNetwork, cache: CropCache, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """What a network says of crops, with sex and age, (N,) months; it runs where its weights lie."""
    labels = cache.labels.take(rows)
    found = predict(network, cache, rows)
    return mean_months(posterior(network, found.log_likelihood, labels.sex, labels.age_months))
