"""The finder under training: its settings, its batches and its steps."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from KneeBoneAgeLib.finder_network import FinderNetwork

from .finder_augmentation import Views, draw_views
from .finder_cache import Cache
from .finder_targets import Targets, losses, make_targets


@dataclass(frozen=True)
class Recipe:
    """Settings of a run; it ends after ``minutes`` or ``steps``, whichever comes first."""

    minutes: float = 60.0
    steps: int = 1_000_000
    batch: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    ema: float = 0.998
    seed: int = 0


class Batches(torch.utils.data.IterableDataset[tuple[Views, Targets]]):
    """Endless augmented batches of a growing cache."""

    def __init__(self, cache: Cache, recipe: Recipe, size: int, first: int = 0) -> None:
        self.cache, self.recipe, self.size, self.number = cache, recipe, size, first

    def __iter__(self) -> Iterator[tuple[Views, Targets]]:
        while True:
            if self.number % 50 == 0:
                self.cache.refresh()
            rng = np.random.default_rng([self.recipe.seed, self.number])
            self.number += 1
            views = draw_views(
                *self.cache.take(rng.integers(len(self.cache), size=self.recipe.batch)), self.size, rng
            )
            yield views, make_targets(views.knees, views.labels)


class FinderTraining(lightning.LightningModule):
    """AdamW with a warm-up and cosine over the planned time, and a moving average of the weights."""

    def __init__(self, recipe: Recipe, config: dict[str, Any], log: Path) -> None:
        super().__init__()
        self.recipe, self.config, self.log_path = recipe, config, log
        self.network = FinderNetwork(config)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = torch.optim.swa_utils.AveragedModel(
            self.network,
            avg_fn=self._move,
            use_buffers=True,
        )
        self.spent = 0.0
        self._since = time.monotonic()
        self._sums: dict[str, float] = {}
        self._seen = 0

    def _move(self, average: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
        if not average.is_floating_point():
            return now
        keep = min(self.recipe.ema, (1 + int(count)) / (10 + int(count)))
        return average.lerp(now, 1 - keep)

    def start_from(self, weights: Path) -> None:
        """Go on from the weights of a finished finder, `finder.safetensors`; they must be of this architecture."""
        from safetensors.torch import load_file

        tensors = {n: v.float() if v.is_floating_point() else v for n, v in load_file(weights).items()}
        self.network.load_state_dict(tensors)
        self.averaged.load_state_dict(tensors)

    @property
    def averaged(self) -> FinderNetwork:
        """The network with the moving average of the weights."""
        network = self.average.module
        assert isinstance(network, FinderNetwork)
        return network

    @property
    def progress(self) -> float:
        """0 at the start and 1 at the end of the run."""
        return min(1.0, max(self.global_step / self.recipe.steps, self.spent / (60 * self.recipe.minutes)))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            self.network.parameters(), lr=self.recipe.learning_rate, weight_decay=self.recipe.weight_decay
        )

    def transfer_batch_to_device(
        self, batch: tuple[Views, Targets], device: torch.device, _: int
    ) -> tuple[Views, Targets]:
        views, targets = batch
        moved = {name: value.to(device) for name, value in vars(targets).items()}
        return (
            replace(views, pictures=views.pictures.to(device), labels=views.labels.to(device)),
            Targets(**moved),
        )

    def on_train_start(self) -> None:
        self._since = time.monotonic()

    def training_step(self, batch: tuple[Views, Targets], _: int) -> Tensor:
        views, targets = batch
        now = time.monotonic()
        # A machine that slept, or a long evaluation, is not training time.
        self.spent += min(now - self._since, 10.0)
        self._since = now
        warm = min(1.0, (self.global_step + 1) / min(200, 1 + 0.05 * self.recipe.steps))
        rate = self.recipe.learning_rate * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * self.progress)) / 2)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate
        maps = self.network(views.pictures.contiguous(memory_format=torch.channels_last))
        parts = losses(maps, views.labels, targets)
        for name, value in parts.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach())
        self._seen += 1
        if self.progress >= 1:
            self.trainer.should_stop = True
        return torch.stack(list(parts.values())).sum()

    def on_before_zero_grad(self, _: torch.optim.Optimizer) -> None:
        self.average.update_parameters(self.network)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["spent"] = self.spent

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.spent = checkpoint["spent"]

    def write_log(self, **more: float) -> None:
        """Append mean losses since the last row to the CSV log."""
        row = {"step": self.global_step, "minutes": round(self.spent / 60, 2)}
        row |= {name: round(total / max(self._seen, 1), 4) for name, total in sorted(self._sums.items())}
        row |= {name: round(value, 4) for name, value in more.items()}
        self._sums, self._seen = {}, 0
        fresh = not self.log_path.exists()
        with self.log_path.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(row)
            writer.writerow(row.values())
        print(" ".join(f"{name} {value}" for name, value in row.items()), flush=True)
