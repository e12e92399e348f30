"""What a batch is made of: crops of one or more caches, jittered, with their labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from .augmentation import cut_out, moved, places, prepare
from .crop_cache import KNEE, CropCache, CropLabels
from .recipe import TRUE_SD_MONTHS, Recipe

EVALUATED = 400  # crops that are looked at after an epoch


@dataclass(frozen=True)
class Part:
    """Rows of a cache that make up `share` of every batch, with the label that is learnt from them."""

    cache: CropCache
    rows: NDArray[np.intp]
    share: float
    label: str
    label_sd_months: float


class Batches(IterableDataset[dict[str, Tensor]]):
    """The batches of one epoch; they follow from the recipe's seed and the epoch alone."""

    def __init__(self, parts: Sequence[Part], recipe: Recipe, epoch: int) -> None:
        self.parts, self.recipe, self.epoch = parts, recipe, epoch

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        rng = np.random.default_rng((self.recipe.seed, self.epoch))
        first = self.epoch * self.recipe.epoch_steps
        counts = counts_of_parts(self.recipe.batch, [part.share for part in self.parts])
        for step in range(first, min(first + self.recipe.epoch_steps, self.recipe.steps)):
            size = self.recipe.size_px(step)
            drawn = [
                rows_of(part, rng.choice(part.rows, count), self.recipe, rng, size)
                for part, count in zip(self.parts, counts, strict=True)
                if count
            ]
            yield {key: torch.cat([d[key] for d in drawn]) for key in drawn[0]}


def counts_of_parts(batch: int, shares: Sequence[float]) -> list[int]:
    """Crops of each part; every part gets one at least, the first what is left."""
    others = [max(1, round(batch * share / sum(shares))) for share in shares[1:]]
    return [batch - sum(others), *others]


def rows_of(
    part: Part, rows: NDArray[np.intp], recipe: Recipe, rng: np.random.Generator, size: int
) -> dict[str, Tensor]:
    known = part.cache.labels.take(rows)
    knee = known.kind == KNEE
    label = np.nan_to_num(getattr(known, f"{part.label}_months"))
    auxiliary = np.where(knee[:, None], np.concatenate([known.indicators, known.maturities], axis=1), np.nan)
    arrays = {
        "sex": known.sex.astype(np.int64),
        "sex_missing": rng.random(len(rows)) < recipe.missing_sex,
        "age_months": known.age_months.astype(np.float32),
        "label": label.astype(np.float32),
        "label_sd": np.full(len(rows), part.label_sd_months, np.float32),
        "indicators": auxiliary.astype(np.float32),
        "knee": knee,
        "posterior": known.posterior.astype(np.float32) if part.label == "true" else _unknown(known),
    }
    batch = {key: torch.from_numpy(value) for key, value in arrays.items()}
    matrix = places(len(rows), rng, recipe.jitter)
    batch["landmarks"] = torch.from_numpy(moved(known.landmarks, matrix).astype(np.float32))
    batch["image"] = cut_out(part.cache.images(rows), size, rng, recipe.jitter, matrix)
    return batch


def _unknown(labels: CropLabels) -> NDArray[np.float32]:
    """No posterior is told where readers' bone ages are learnt: of children on films nothing else is known."""
    return np.full(labels.posterior.shape, np.nan, np.float32)


class Data(lightning.LightningDataModule):
    def __init__(self, parts: Sequence[Part], recipe: Recipe, workers: int) -> None:
        super().__init__()
        self.parts, self.recipe, self.workers = parts, recipe, workers

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        # By steps: after a resumption Lightning's own count of epochs is one behind.
        step = self.trainer.global_step if self.trainer else 0
        batches = Batches(self.parts, self.recipe, step // self.recipe.epoch_steps)
        prepare(self.recipe.jitter, self.recipe.size_px(step))
        return DataLoader(batches, batch_size=None, num_workers=min(1, self.workers))


def knees_apart(cache: CropCache) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of the knees to learn from, and of the last patients' (5 %, at most `EVALUATED`) to look at."""
    knees = np.flatnonzero(cache.labels.kind == KNEE)
    patients = cache.labels.patient_id[knees]
    names = np.unique(patients)
    looked_at = np.isin(patients, names[len(names) - max(1, min(EVALUATED, len(names) // 20)) :])
    return knees[~looked_at], knees[looked_at]


def parts_of(
    recipe: Recipe,
    first: tuple[CropCache, NDArray[np.intp], str],
    replay: CropCache | None,
    cache: CropCache,
    negatives: CropCache | None,
) -> list[Part]:
    """The cohort; beside it the pretraining cohort (`replay`) and what is not a knee, where there are any."""
    parts = [
        Part(
            *first[:2],
            1.0,
            first[2],
            recipe.label_sd_months() if first[2] == recipe.label else TRUE_SD_MONTHS,
        )
    ]
    if replay is not None and recipe.replay_share:
        parts.append(Part(replay, knees_apart(replay)[0], recipe.replay_share, "true", TRUE_SD_MONTHS))
    for source in (cache, negatives):
        if source is not None and (others := np.flatnonzero(source.labels.kind != KNEE)).size:
            parts.append(Part(source, others, recipe.negative_share, "true", TRUE_SD_MONTHS))
            break
    rest = sum(part.share for part in parts[1:])
    return [replace(parts[0], share=1 - rest), *parts[1:]]
