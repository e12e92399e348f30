"""What is learnt from a batch of the knee student: the module of the age networks, one step as good as another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..age_module import AgeModule
from ..recipe import Recipe
from ..runs.loop import seed_of
from .batches import Lesson

DROPPED = 2
"""Number of the generator of what a network drops in training."""


class StudentModule(AgeModule):
    """An `AgeModule` whose steps follow from their number alone, so that a run goes on at any of them."""

    @classmethod
    def of(cls, recipe: Recipe, lesson: Lesson) -> StudentModule:
        """With first weights, the same ones for the same seed."""
        torch.manual_seed(recipe.seed)
        labels = lesson.parts[0].cache.labels
        return cls(recipe, labels.indicators.shape[1], labels.maturities.shape[1])

    def on_train_start(self) -> None:
        self.network.train()

    def on_train_batch_start(self, *_: Any) -> None:
        torch.manual_seed(seed_of(self.recipe.seed, DROPPED, self.global_step, self.global_rank))

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        return self.losses(batch)["loss"]

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        # Averaged before anybody looks at the step or keeps it, which callbacks do before a module's own end of it.
        super().optimizer_step(*args, **kwargs)
        super().on_train_batch_end()

    def on_train_batch_end(self, *_: Any) -> None:
        """Nothing: the step is averaged already."""
