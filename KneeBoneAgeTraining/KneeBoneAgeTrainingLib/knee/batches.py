"""Batches of the knee student: those of the age networks, with each label's own spread and all of the augmentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from ..batches import Batches, Data, Part, _counts, _rows_of, parts_of
from ..crop_cache import CropCache
from ..recipe import Recipe
from .labels import Taught
from .recipe import LABEL, KneeAugmentation, KneeRecipe

COARSEST = 3.0


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
        parts = parts_of(recipe, (taught.cache, rows, LABEL), None, taught.cache, negatives)
        return cls(tuple(parts), taught.sd_months, knee.augmentation)


class StudentBatches(Batches):
    """The batches of one epoch; they follow from the recipe's seed and the epoch alone.

    Every knee is drawn once in an epoch, in a random order, before one is drawn again.
    """

    def __init__(self, lesson: Lesson, recipe: Recipe, epoch: int) -> None:
        super().__init__(lesson.parts, recipe, epoch)
        self.lesson = lesson

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        rng = np.random.default_rng((self.recipe.seed, self.epoch))
        knees, *others = self.parts
        counts = _counts(self.recipe.batch, [part.share for part in self.parts])
        first = self.epoch * self.recipe.epoch_steps
        steps = min(self.recipe.epoch_steps, self.recipe.steps - first)
        rounds = -(-steps * counts[0] // len(knees.rows))
        order = np.concatenate([rng.permutation(knees.rows) for _ in range(rounds)])
        for step in range(steps):
            size = self.recipe.size_px(first + step)
            rows = order[step * counts[0] : (step + 1) * counts[0]]
            drawn = [_rows_of(knees, rows, self.recipe, rng, size)]
            drawn[0]["label_sd"] = torch.from_numpy(self.lesson.sd_months[rows])
            drawn += [
                _rows_of(part, rng.choice(part.rows, count), self.recipe, rng, size)
                for part, count in zip(others, counts[1:], strict=True)
            ]
            batch = {key: torch.cat([d[key] for d in drawn]) for key in drawn[0]}
            yield {**batch, "image": poorer(batch["image"], rng, self.lesson.augmentation)}


def poorer(image: Tensor, rng: np.random.Generator, augmentation: KneeAugmentation) -> Tensor:
    """Normalised crops (B, 1, S, S), some of them coarsened or inverted."""
    side = image.shape[-1]
    image = image.clone()
    for row in np.flatnonzero(rng.random(len(image)) < augmentation.resolution):
        small = max(8, round(side / rng.uniform(1, COARSEST)))
        reduced = functional.interpolate(image[row, None], (small, small), mode="area")
        image[row] = functional.interpolate(reduced, (side, side), mode="bilinear", align_corners=False)[0]
    inverted = torch.from_numpy(rng.random(len(image)) < augmentation.inversion)
    image[inverted] = -image[inverted]
    return image


class StudentData(Data):
    """`Data` with the student's batches."""

    def __init__(self, lesson: Lesson, recipe: Recipe, workers: int) -> None:
        super().__init__(lesson.parts, recipe, workers)
        self.lesson = lesson

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        step = self.trainer.global_step if self.trainer else 0
        batches = StudentBatches(self.lesson, self.recipe, step // self.recipe.epoch_steps)
        return DataLoader(batches, batch_size=None, num_workers=min(1, self.workers))
