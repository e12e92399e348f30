"""The refinement of an age network's landmarks, learnt from the picture's pixels alone.

Where the maps of the backbone place a landmark is off by a pixel or two, and what matures between ten years and the end
of growth are breadths that change by less. Around a landmark that is misplaced on purpose a few hundred pixels tell
where it belongs; no backbone runs, so hundreds of thousands of knees are seen in minutes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from KneeBoneAgeLib.network import AgeNetwork
from KneeBoneAgeLib.physes import KNEE_PHYSES
from KneeBoneAgeLib.readers import CloseLook

from .age_module import AgeModule
from .batches import Part, rows_of
from .crop_cache import CropCache
from .recipe import TRUE_SD_MONTHS

log = logging.getLogger(__name__)

REFINE_HIDDEN, MEASURE_FEATURES = 64, 192
"""Units of each landmark's refinement; features that are measured between the landmarks."""


@dataclass(frozen=True)
class LandmarkRecipe:
    """How the refinement is learnt; `structure` as in `head_training.HeadRecipe`."""

    structure: tuple[float, ...] = (1.0, 0.3)
    steps: int = 12_000
    batch: int = 96
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    nearest_px: float = 0.05
    farthest_px: float = 2.25
    """Least and largest standard deviation by which landmarks of a window are misplaced."""
    seed: int = 17


@dataclass(frozen=True)
class Windows:
    """What the backbone sees of N jittered crops, (N, W, W) uint8 of -1 to 1, and the true landmarks there, (N, P, 2),
    -1 to 1 across it; NaN where there is none."""

    pictures: Tensor
    places: Tensor


def jittered_windows(
    module: AgeModule, cache: CropCache, rows: NDArray[np.intp], recipe: LandmarkRecipe, batch: int = 64
) -> Windows:
    """A view of each crop and each of the recipe's structures."""
    network = module.averaged
    size = network.config.image_size
    field = network.window_px(size) / size
    rng = np.random.default_rng(recipe.seed)
    pictures, places = [], []
    part = Part(cache, rows, 1.0, "true", TRUE_SD_MONTHS)
    for structure in recipe.structure:
        drawn = replace(module.recipe, jitter=module.recipe.jitter.with_structure(structure))
        for start in range(0, len(rows), batch):
            views = rows_of(part, rows[start : start + batch], drawn, rng, size)
            window = network.window(views["image"])[:, 0]
            pictures.append(((window + 1) * 127.5).round().to(torch.uint8))
            known = views["landmarks"] / field
            unnamed = (0, 0, 0, network.config.points - known.shape[1])
            places.append(functional.pad(known, unnamed, value=torch.nan))
    return Windows(torch.cat(pictures), torch.cat(places))


def refinement_of(network: AgeNetwork) -> CloseLook:
    """What refines the landmarks of a network. Raises ValueError where nothing does."""
    reader = network.point_reader
    if reader is None or reader.refine is None:
        raise ValueError("a network without `refine_hidden` units has no landmarks to refine")
    return reader.refine


def with_refined_landmarks(
    module: AgeModule,
    physes: Sequence[Sequence[int]] = KNEE_PHYSES,
    refine_hidden: int = REFINE_HIDDEN,
    measure_features: int = MEASURE_FEATURES,
) -> AgeModule:
    """The same module with a reader of the physes, a refinement of the landmarks (0 units: without) instead of the
    correction by what describes them, and a perceptron that measures them (0 features: without), that have learnt
    nothing yet; the other weights are taken over.

    Raises ValueError for a network that finds fewer landmarks than the physes need, or reads physes already."""
    network = module.recipe.network
    if network.physes:
        raise ValueError("this network reads its physes already: its features would change places")
    if network.points <= max(max(physis) for physis in physes):
        raise ValueError(
            f"a network of {network.points} landmarks does not find those of the physes {physes}"
        )
    looked_at = tuple(tuple(physis) for physis in physes)
    wider = replace(network, physes=looked_at, refine_hidden=refine_hidden, measure_features=measure_features)
    torch.manual_seed(module.recipe.seed)
    grown = AgeModule(replace(module.recipe, network=wider), *module.outputs)
    state = grown.state_dict()
    for name, old in module.state_dict().items():
        if state[name].shape == old.shape:
            state[name] = old
        elif "point_reader.close." in name:  # what corrected comes first
            state[name] = old[..., -state[name].shape[-1] :]
        else:  # a layer that reads all features: it is blind to the new ones
            state[name] = torch.zeros_like(state[name])
            state[name][:, : old.shape[1]] = old
    grown.load_state_dict(state)
    return grown


def learn_landmarks(module: AgeModule, windows: Windows, recipe: LandmarkRecipe | None = None) -> None:
    """Learn to put misplaced landmarks where they belong, for both networks of a module.

    Each coordinate's error counts by what it usually is (a Laplace likelihood whose width is learnt beside it): along
    an edge no landmark is ever placed well, and that must not drown how well it is placed across."""
    recipe = recipe or LandmarkRecipe()
    draw = torch.Generator().manual_seed(recipe.seed)
    learner = refinement_of(module.averaged).requires_grad_(True).train()
    points, pitch = learner.hidden.shape[0], 2 / windows.pictures.shape[-1]
    width = nn.Parameter(torch.zeros(points, 2))
    weights = {"params": list(learner.parameters()), "weight_decay": recipe.weight_decay}
    optimizer = torch.optim.AdamW([weights, {"params": [width], "weight_decay": 0.0}], recipe.learning_rate)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.steps)
    began = time.monotonic()
    for step in range(recipe.steps):
        chosen = torch.randint(len(windows.pictures), (recipe.batch,), generator=draw)
        picture = windows.pictures[chosen].float()[:, None] / 127.5 - 1
        true = windows.places[chosen]
        known = (torch.isfinite(true) & (true.abs() < 1)).all(-1, keepdim=True).expand_as(true)
        true = torch.nan_to_num(true)
        share = torch.rand(recipe.batch, 1, 1, generator=draw) ** 1.5
        scale = recipe.nearest_px + (recipe.farthest_px - recipe.nearest_px) * share
        start = true + pitch * scale * torch.randn(true.shape, generator=draw)
        off = (start + learner(picture, start)[0] - true) / pitch
        loss = ((off**2 + 0.01).sqrt() / width.exp() + width)[known].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pace.step()
        if (step + 1) % 1000 == 0:
            log.info("landmarks: step %d  %.0f s  loss %.3f", step + 1, time.monotonic() - began, loss.item())
    learner.requires_grad_(False).eval()
    refinement_of(module.network).load_state_dict(learner.state_dict())
