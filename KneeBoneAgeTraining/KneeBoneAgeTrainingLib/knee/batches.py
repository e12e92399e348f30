"""Batches of the knee student: those of the age networks, with each label's own spread and all of the augmentation."""

from __future__ import annotations

from dataclasses import dataclass

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..augmentation import prepare
from ..batches import Part, counts_of_parts, parts_of, rows_of
from ..crop_cache import CropCache
from ..looks import coarsened
from ..recipe import Recipe
from ..runs.trainer import step_loader
from .labels import Taught
from .recipe import LABEL, KneeAugmentation, KneeRecipe

COARSEST = 3.0
ORDER, VARIED = 0, 1
"""Numbers of the generators that order the knees and that vary the crops."""


@dataclass(frozen=True)
class Lesson:
    """What a fold learns from: the parts of a batch, knees first; `sd_months` (N,) of all rows of the knees' cache."""

    parts: tuple[Part, ...]
    sd_months: NDArray[np.float32]
    augmentation: KneeAugmentation

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        knee: KneeRecipe,
        taught: Taught,
        rows: NDArray[np.intp],
        negatives: CropCache | None,
    ) -> Lesson:
        others = negatives if len(knee.negatives.shares) > 1 else None
        parts = parts_of(recipe, (taught.cache, rows, LABEL), None, taught.cache, others)
        return cls(tuple(parts), taught.sd_months, knee.augmentation)


class StudentBatches(Dataset[dict[str, Tensor]]):
    """Item i is the batch of step i; of `world` devices this is the share of number `rank`.

    It follows from the recipe's seed, the step and the rank alone. Every knee is drawn once, in a random order, before
    one is drawn again; each device has the same number of knees and of other things.
    """

    def __init__(self, lesson: Lesson, recipe: Recipe, rank: int = 0, world: int = 1) -> None:
        self.lesson, self.recipe, self.rank, self.world = lesson, recipe, rank, world
        self.counts = counts_of_parts(recipe.batch // world, [part.share for part in lesson.parts])

    def __len__(self) -> int:
        return self.recipe.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.recipe.seed, VARIED, step, self.rank))
        size = self.recipe.size_px(step)
        knees, *others = self.lesson.parts
        rows = self._knees(step)
        drawn = [rows_of(knees, rows, self.recipe, rng, size)]
        drawn[0]["label_sd"] = torch.from_numpy(self.lesson.sd_months[rows])
        drawn += [
            rows_of(part, rng.choice(part.rows, count), self.recipe, rng, size)
            for part, count in zip(others, self.counts[1:], strict=True)
        ]
        batch = {key: torch.cat([d[key] for d in drawn]) for key in drawn[0]}
        return {**batch, "image": poorer(batch["image"], rng, self.lesson.augmentation)}

    def _knees(self, step: int) -> NDArray[np.intp]:
        """This device's rows of a step, out of an endless row of passes over all knees, each in its own order."""
        knees, count = self.lesson.parts[0].rows, self.counts[0]
        first = (step * self.world + self.rank) * count
        passes = range(first // len(knees), (first + count - 1) // len(knees) + 1)
        orders = [np.random.default_rng((self.recipe.seed, ORDER, n)).permutation(knees) for n in passes]
        start = first - passes[0] * len(knees)
        return np.concatenate(orders)[start : start + count]


def poorer(image: Tensor, rng: np.random.Generator, augmentation: KneeAugmentation) -> Tensor:
    """Normalised crops (B, 1, S, S), some of them coarsened or inverted."""
    image = image.clone()
    for row in np.flatnonzero(rng.random(len(image)) < augmentation.resolution):
        image[row, 0] = torch.from_numpy(coarsened(image[row, 0].numpy(), rng.uniform(1, COARSEST)))
    inverted = torch.from_numpy(rng.random(len(image)) < augmentation.inversion)
    image[inverted] = -image[inverted]
    return image


class StudentData(lightning.LightningDataModule):
    """Batches of a fold for Lightning, prepared by `workers` processes beside the loop (0: by the loop itself)."""

    def __init__(self, lesson: Lesson, recipe: Recipe, workers: int) -> None:
        super().__init__()
        self.lesson, self.recipe, self.workers = lesson, recipe, workers

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        trainer = self.trainer
        assert trainer is not None
        prepare(self.recipe.jitter, self.recipe.size_px(trainer.global_step))
        batches = StudentBatches(self.lesson, self.recipe, trainer.global_rank, trainer.world_size)
        return step_loader(batches, trainer, self.recipe.steps, self.workers)
