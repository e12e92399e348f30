"""The reader of the regions of an age network, learnt from windows of the picture alone.

What a region shows is told by its indicators and maturities. No backbone runs, and the regions lie where the true
landmarks are, a little misplaced: so this needs no finished landmarks, and knees are seen by the hundred thousand.
"""

from __future__ import annotations

import copy
import logging
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from KneeBoneAgeLib.network import AgeNetwork
from KneeBoneAgeLib.regions import KNEE_REGIONS, RegionReader

from .age_module import AgeModule, masked_smooth_l1, of_own_sex
from .jittered_windows import Windows
from .runs.loop import move_average

log = logging.getLogger(__name__)

REGION_FEATURES = 96
"""What is read of each region."""


@dataclass(frozen=True)
class RegionRecipe:
    """How the reader of the regions is learnt; `structure` as in `head_training.HeadRecipe`."""

    structure: tuple[float, ...] = (1.0, 0.3)
    steps: int = 8000
    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warm_up: float = 0.1  # share of the steps
    ema_decay: float = 0.998
    shift_px: float = 0.7
    """Standard deviation by which all landmarks of a window are misplaced together: more than found ones ever are."""
    scale: float = 0.01
    """And of the scale by which they are drawn apart."""
    rarest: float = 10.0
    """What few knees show (bridges, scars) counts as much as what all show, but at most so many times."""
    noise: float = 0.3
    """Largest standard deviation of the noise on a region, whose own deviation is 1."""
    seed: int = 27


def reader_of(network: AgeNetwork) -> RegionReader:
    """What reads the regions of a network. Raises ValueError where nothing does."""
    if network.region_reader is None:
        raise ValueError("a network without `region_features` does not look at regions")
    return network.region_reader


def learn_regions(module: AgeModule, windows: Windows, recipe: RegionRecipe | None = None) -> None:
    """Learn the reader of the regions, in both networks of a module on a CPU, by indicators and maturities of either
    sex. Convolutions run in bfloat16: half the time on processors that have it."""
    recipe = recipe or RegionRecipe()
    torch.manual_seed(recipe.seed)
    draw = torch.Generator().manual_seed(recipe.seed)
    reader = copy.deepcopy(reader_of(module.averaged)).requires_grad_(True).train()
    indicators, maturities = module.outputs
    readout = nn.Linear(reader.feature_count, indicators + 2 * maturities)
    learner = nn.ModuleList([reader, readout])
    averaged = copy.deepcopy(learner)
    optimizer = torch.optim.AdamW(
        learner.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    pace = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.steps, pct_start=recipe.warm_up
    )
    known = torch.isfinite(windows.indicators).float().mean(0)
    weight = (1 / known.clamp(min=1e-6)).clamp(max=recipe.rarest)
    began, mean = time.monotonic(), 0.0
    for step in range(recipe.steps):
        views = windows.take(torch.randint(len(windows.pictures), (recipe.batch,), generator=draw))
        pictures = _misplaced(views, recipe)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            seen = reader.read(pictures)
        said = of_own_sex(readout(seen.float()), views.sex, module.outputs)
        loss = masked_smooth_l1(said, views.indicators, weight)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        pace.step()
        move_average(averaged, learner, step, recipe.ema_decay)
        mean += loss.item() / 250
        if (step + 1) % 250 == 0:
            log.info("regions: step %d  %.0f s  loss %.4f", step + 1, time.monotonic() - began, mean)
            mean = 0.0
    learnt = averaged[0].state_dict()
    for network in (module.network, module.averaged):
        reader_of(network).load_state_dict(learnt)


def _misplaced(views: Windows, recipe: RegionRecipe) -> list[Tensor]:
    """What the regions of N windows show, (N, 1, rows, columns) each, misplaced and with noise."""
    count, pitch = len(views.pictures), 2 / views.pictures.shape[-1]
    places = torch.nan_to_num(views.places) + recipe.shift_px * pitch * torch.randn(count, 1, 2)
    edges = places[:, [KNEE_REGIONS[0].medial, KNEE_REGIONS[0].lateral]].mean(1, keepdim=True)
    places = edges + (places - edges) * (1 + recipe.scale * torch.randn(count, 1, 1))
    window = views.images()
    pictures = [region.cut(window, places, 1.0) for region in KNEE_REGIONS]
    return [one + recipe.noise * torch.rand(count, 1, 1, 1) * torch.randn_like(one) for one in pictures]
