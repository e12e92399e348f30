"""The reader of the regions of an age network, learnt from what they show in jittered crops alone.

What a region shows is told by its own indicators and maturities, and by where its landmarks lie: a number for the whole
picture hardly teaches to find the faint edge of a patella, the place of that edge does. No backbone runs, and the
regions lie where the true landmarks are, a little misplaced: so this needs no finished landmarks, and knees are seen by
the hundred thousand. Each region is learnt by itself.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from KneeBoneAgeLib.network import AgeNetwork
from KneeBoneAgeLib.phantom.build import LANDMARKS
from KneeBoneAgeLib.phantom.maturation import INDICATOR_NAMES
from KneeBoneAgeLib.regions import KNEE_REGIONS, POINTS_NEEDED, Region, RegionReader

from .age_module import AgeModule, masked_smooth_l1, of_own_sex
from .crop_cache import CropCache, CropLabels
from .jittered_windows import jittered_crops
from .runs.loop import move_average

log = logging.getLogger(__name__)

REGION_FEATURES = 96
"""What is read of each region."""

GREYS, GREY = 40.0, 128.0
"""A region's picture, of deviation 1, is kept in bytes: so many to a deviation, around this one. What is beyond 3.2
deviations (markers, metal) is cut off there."""


@dataclass(frozen=True)
class RegionRecipe:
    """How the reader of the regions is learnt; `structure` as in `head_training.HeadRecipe`."""

    structure: tuple[float, ...] = (1.0, 0.3)
    steps: int = 6000  # a region
    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warm_up: float = 0.1  # share of the steps
    ema_decay: float = 0.998
    shift: float = 0.007
    """Standard deviation by which all landmarks of a crop are misplaced together, -1 to 1 across: more than found ones
    ever are."""
    scale: float = 0.01
    """And of the scale by which they are drawn apart."""
    rarest: float = 20.0
    """What few knees show (bridges, scars) counts as much as what all show, but at most so many times."""
    point_scale: float = 6.0
    """Of where landmarks lie in a region, in breadths, so that it counts as much as indicators."""
    least_seen: float = 0.05
    """A landmark is learnt where it lies in a region of this share of knees at least."""
    noise: float = 0.3
    """Largest standard deviation of the noise on a region, whose own deviation is 1."""
    seed: int = 27


@dataclass(frozen=True)
class RegionViews:
    """What one region shows in N jittered crops.

    `pictures` (N, rows, columns) uint8 (`GREYS`); of what it shows, `points` (N, P, 2) where the landmarks lie in it
    (`Region.locate`), `indicators` (N, I) and `maturities` (N, M), NaN where there is none; `sex` (N,) 0 F, 1 M."""

    pictures: Tensor
    points: Tensor
    indicators: Tensor
    maturities: Tensor
    sex: Tensor

    @classmethod
    def empty(cls, region: Region, views: int, labels: CropLabels) -> RegionViews:
        """Room for so many views; what is known of the crops is known of the views."""
        return cls(
            torch.empty(views, region.rows_px, region.columns_px, dtype=torch.uint8),
            torch.empty(views, len(_landmarks(region, labels.landmarks)), 2),
            torch.empty(views, len(_shown(region, labels.indicators))),
            torch.empty(views, len(_shown(region, labels.maturities))),
            torch.empty(views, dtype=torch.int64),
        )

    @property
    def told(self) -> Tensor:
        """Indicators and maturities, (N, I + M)."""
        return torch.cat([self.indicators, self.maturities], dim=1)

    def images(self, rows: Tensor) -> Tensor:
        """Pictures as the reader gets them, (B, 1, rows, columns) float32."""
        return (self.pictures[rows, None].float() - GREY) / GREYS


def reader_of(network: AgeNetwork) -> RegionReader:
    """What reads the regions of a network. Raises ValueError where nothing does."""
    if network.region_reader is None:
        raise ValueError("a network without `region_features` does not look at regions")
    return network.region_reader


def region_views(
    module: AgeModule,
    cache: CropCache,
    rows: NDArray[np.intp],
    recipe: RegionRecipe,
    numbers: Sequence[int] = range(len(KNEE_REGIONS)),
    batch: int = 64,
) -> dict[int, RegionViews]:
    """Of each of these regions, by its number, its views in a jittered crop of each row and each `structure`."""
    draw = torch.Generator().manual_seed(recipe.seed)
    count, indicators = len(recipe.structure) * len(rows), cache.labels.indicators.shape[1]
    found = {number: RegionViews.empty(KNEE_REGIONS[number], count, cache.labels) for number in numbers}
    for here, crops in jittered_crops(module, cache, rows, recipe.structure, recipe.seed, batch):
        places = _misplaced(crops["landmarks"], recipe, draw)
        own, clocks = crops["indicators"].tensor_split([indicators], dim=1)
        for number, kept in found.items():
            region = KNEE_REGIONS[number]
            shown = region.cut(crops["image"], places)[:, 0]
            kept.pictures[here] = (shown * GREYS + GREY).round().clamp(0, 255).to(torch.uint8)
            points = crops["landmarks"][:, _landmarks(region, crops["landmarks"])]
            kept.points[here] = region.locate(points, places)
            kept.indicators[here] = own[:, _shown(region, own)]
            kept.maturities[here] = clocks[:, _shown(region, clocks)]
            kept.sex[here] = crops["sex"]
    return found


def _shown(region: Region, told: Tensor | NDArray[np.float32]) -> list[int]:
    """Columns of indicators or maturities that a region shows: all where they are not the phantom's."""
    count = told.shape[1]
    return region.names(INDICATOR_NAMES) if count == len(INDICATOR_NAMES) else list(range(count))


def _landmarks(region: Region, known: Tensor | NDArray[np.float32]) -> list[int]:
    """Numbers of a region's landmarks, among those that are known of the crops."""
    return region.names(LANDMARKS[: known.shape[1]])


def _misplaced(places: Tensor, recipe: RegionRecipe, draw: torch.Generator) -> Tensor:
    """Landmarks (N, P, 2) of crops, moved together and apart as the recipe says; one that is not known lies in the
    middle."""
    count = len(places)
    unnamed = (0, 0, 0, max(0, POINTS_NEEDED - places.shape[1]))
    moved = functional.pad(torch.nan_to_num(places), unnamed) + recipe.shift * torch.randn(
        count, 1, 2, generator=draw
    )
    middle = moved[:, [KNEE_REGIONS[0].medial, KNEE_REGIONS[0].lateral]].mean(1, keepdim=True)
    return middle + (moved - middle) * (1 + recipe.scale * torch.randn(count, 1, 1, generator=draw))


def learn_regions(
    module: AgeModule, views: Mapping[int, RegionViews], recipe: RegionRecipe | None = None
) -> None:
    """Learn to read regions, by their numbers, in both networks of a module on a CPU, by indicators, maturities of
    either sex and landmarks. Convolutions run in bfloat16: half the time on processors that have it."""
    recipe = recipe or RegionRecipe()
    reader = copy.deepcopy(reader_of(module.averaged)).requires_grad_(True).train()
    for number, seen in views.items():
        log.info("region %d: %d views", number, len(seen.sex))
        _learn_region(reader, number, seen, recipe)
    for network in (module.network, module.averaged):
        reader_of(network).load_state_dict(reader.state_dict())


def _learn_region(reader: RegionReader, number: int, views: RegionViews, recipe: RegionRecipe) -> None:
    """Learn one region's part of the reader; the readout that it is learnt through is thrown away."""
    torch.manual_seed(recipe.seed + number)
    draw = torch.Generator().manual_seed(recipe.seed + number)
    often = torch.isfinite(views.points[..., 0]).float().mean(0) >= recipe.least_seen
    points, told = views.points[:, often], views.told
    middle = torch.nan_to_num(points.nanmean(0))
    outputs = (views.indicators.shape[1], views.maturities.shape[1])
    numbers = outputs[0] + 2 * outputs[1]
    readout = nn.Linear(reader.features, numbers + 2 * points.shape[1])
    learner = nn.ModuleList([reader.eyes[number], readout])
    averaged = copy.deepcopy(learner)
    optimizer = torch.optim.AdamW(
        learner.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    pace = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.steps, pct_start=recipe.warm_up
    )
    known = torch.isfinite(told).float().mean(0)
    weight = (1 / known.clamp(min=1e-6)).clamp(max=recipe.rarest)
    began, mean = time.monotonic(), 0.0
    for step in range(recipe.steps):
        rows = torch.randint(len(views.sex), (recipe.batch,), generator=draw)
        pictures = views.images(rows)
        pictures = pictures + recipe.noise * torch.rand(len(rows), 1, 1, 1) * torch.randn_like(pictures)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = reader.look(number, pictures)
        said, located = readout(found.float()).tensor_split([numbers], dim=1)
        loss = masked_smooth_l1(of_own_sex(said, views.sex[rows], outputs), told[rows], weight)
        loss = loss + masked_smooth_l1(located, recipe.point_scale * (points[rows] - middle).flatten(1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        pace.step()
        move_average(averaged, learner, step, recipe.ema_decay)
        mean += loss.item() / 250
        if (step + 1) % 250 == 0:
            log.info(
                "region %d: step %d  %.0f s  loss %.4f", number, step + 1, time.monotonic() - began, mean
            )
            mean = 0.0
    reader.eyes[number].load_state_dict(averaged[0].state_dict())
