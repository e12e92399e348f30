"""What a batch of hand films is, and which films it holds: all of it follows from the seed and the step alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from KneeBoneAgeLib.network import UNKNOWN_SEX

from ..recipes.schema import HandRecipe, Stage
from ..runs.record import RunError
from ..runs.trainer import step_loader
from ..teachers.base import HandTruth
from .augmentation import draw_variation, varied
from .films import Numbers
from .pictures import load_picture, network_picture


class HandBatch(NamedTuple):
    """B films as a teacher takes them, and what is known about them."""

    image: Tensor  # (B, 1, H, W) of -1 to 1
    sex: Tensor  # (B,) 0 F, 1 M, 2 unknown
    age_months: Tensor  # (B,) NaN where unknown
    months: Tensor  # (B,) the label
    key_points: Tensor  # (B, K, 2) shares of the picture, NaN where unknown
    mask: Tensor  # (B, H, W) uint8, 1 on the hand

    @property
    def truth(self) -> HandTruth:
        return HandTruth(self.key_points, self.mask)


@dataclass(frozen=True)
class Films:
    """N films to learn from: files of their pictures, and numbers."""

    pictures: tuple[Path, ...]
    numbers: Numbers

    def __len__(self) -> int:
        return len(self.pictures)

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> Films:
        """The films of some rows."""
        chosen = np.asarray(rows, dtype=np.intp)
        return Films(tuple(self.pictures[row] for row in chosen), self.numbers.take(chosen))


@dataclass(frozen=True)
class Plan:
    """How a stage of a fold runs: `batch` films a step, `epoch_steps` steps an epoch, `steps` at most in all."""

    recipe: HandRecipe
    stage: Stage
    seed: tuple[int, ...]
    batch: int
    epoch_steps: int

    @property
    def steps(self) -> int:
        return self.epoch_steps * self.stage.epochs

    @classmethod
    def of(cls, recipe: HandRecipe, stage: Stage, seed: tuple[int, ...], films: int, devices: int) -> Plan:
        """For so many films on so many devices. Raises RunError where there are fewer films than devices."""
        batch = min(recipe.batch, films) // devices * devices
        if not batch:
            raise RunError(
                f"{films} films and batch {recipe.batch} cannot be shared out to {devices} devices; use fewer devices"
            )
        return cls(recipe, stage, seed, batch, -(-films // batch))


class StepBatches(Dataset[HandBatch]):
    """Item i is the batch of step i; of `world` devices this is the share of number `rank`."""

    def __init__(self, films: Films, plan: Plan, rank: int = 0, world: int = 1) -> None:
        self.films, self.plan, self.rank, self.world = films, plan, rank, world

    def __getitem__(self, step: int) -> HandBatch:
        plan = self.plan
        rows = self._rows(step * plan.batch, plan.batch)
        rng = np.random.default_rng((*plan.seed, 1, step))
        variation = draw_variation(len(rows), rng, plan.recipe.augmentation)
        no_sex = rng.random(len(rows)) < plan.stage.missing_sex
        no_age = rng.random(len(rows)) < plan.stage.missing_age
        part = len(rows) // self.world
        mine = slice(self.rank * part, (self.rank + 1) * part)
        rows = rows[mine]
        image, mask, points = varied(
            [load_picture(self.films.pictures[row]) for row in rows],
            plan.recipe.image_size,
            variation.take(mine),
        )
        known = self.films.numbers
        return HandBatch(
            image,
            torch.from_numpy(np.where(no_sex[mine], UNKNOWN_SEX, known.sex[rows])),
            torch.from_numpy(np.where(no_age[mine], np.float32(np.nan), known.age_months[rows])),
            torch.from_numpy(known.bone_age_months[rows]),
            _stacked(points),
            mask,
        )

    def _rows(self, first: int, count: int) -> NDArray[np.intp]:
        """So many films of an endless row of passes over all films, each in its own order."""
        films, chosen = len(self.films), []
        for number in range(first // films, (first + count - 1) // films + 1):
            order = np.random.default_rng((*self.plan.seed, 0, number)).permutation(films)
            chosen.append(order[max(0, first - number * films) : first + count - number * films])
        return np.concatenate(chosen)


def _stacked(points: Sequence[Tensor]) -> Tensor:
    """Key points of each film → (B, K, 2); K is the largest number that a film has."""
    most = max(len(one) for one in points)
    stacked = torch.full((len(points), most, 2), torch.nan)
    for row, one in zip(stacked, points, strict=True):
        row[: len(one)] = one
    return stacked


class HandData(lightning.LightningDataModule):
    """Batches of a stage for Lightning, prepared by `workers` processes beside the loop (0: by the loop itself)."""

    def __init__(self, films: Films, plan: Plan, workers: int) -> None:
        super().__init__()
        self.films, self.plan, self.workers = films, plan, workers

    def train_dataloader(self) -> DataLoader[HandBatch]:
        trainer = self.trainer
        assert trainer is not None
        batches = StepBatches(self.films, self.plan, trainer.global_rank, trainer.world_size)
        return step_loader(batches, trainer, self.plan.steps, self.workers)


class PlainPictures(Dataset[Tensor]):
    """Item i is the picture of film i as the network sees it, (1, H, W), not varied."""

    def __init__(self, pictures: Sequence[Path], image_size: tuple[int, int]) -> None:
        self.pictures, self.image_size = pictures, image_size

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, row: int) -> Tensor:
        return torch.from_numpy(network_picture(load_picture(self.pictures[row]), self.image_size))[None]
