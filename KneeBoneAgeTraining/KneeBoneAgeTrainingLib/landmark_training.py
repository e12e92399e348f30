"""The refinement of an age network's landmarks, learnt from the picture's pixels alone.

Where the maps of the backbone place a landmark is off by a pixel or two, and what matures between ten years and the end
of growth are breadths that change by less. Around a landmark that is misplaced on purpose a few hundred pixels tell
where it belongs; no backbone runs, so hundreds of thousands of knees are seen in minutes.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace

import torch
from torch import nn

from KneeBoneAgeLib.network import AgeNetwork
from KneeBoneAgeLib.readers import CloseLook

from .age_module import AgeModule
from .jittered_windows import Windows
from .region_training import REGION_FEATURES

log = logging.getLogger(__name__)

REFINE_HIDDEN, MEASURE_FEATURES = 64, 192
"""Units of each landmark's refinement; features that are measured between the landmarks."""
HEAD_HIDDEN = 128
"""Units of the perceptron beside the linear likelihood."""


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


def refinement_of(network: AgeNetwork) -> CloseLook:
    """What refines the landmarks of a network. Raises ValueError where nothing does."""
    reader = network.point_reader
    if reader is None or reader.refine is None:
        raise ValueError("a network without `refine_hidden` units has no landmarks to refine")
    return reader.refine


def with_close_readers(
    module: AgeModule,
    refine_hidden: int = REFINE_HIDDEN,
    measure_features: int = MEASURE_FEATURES,
    region_features: int = REGION_FEATURES,
    head_hidden: int = HEAD_HIDDEN,
) -> AgeModule:
    """The same module with a refinement of the landmarks (0 units: without) instead of the correction by what describes
    them, a perceptron that measures them, a reader of the regions (0 features: without) and a perceptron beside the
    linear likelihood, that have learnt nothing yet; the other weights are taken over.

    Raises ValueError for a network that finds fewer landmarks than the regions need, or reads regions already."""
    network = module.recipe.network
    if network.region_features:
        raise ValueError("this network reads its regions already: its features would change places")
    wider = replace(
        network,
        refine_hidden=refine_hidden,
        measure_features=measure_features,
        region_features=region_features,
        head_hidden=head_hidden,
    )
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
        views = windows.take(chosen)
        picture, true = views.images(), views.places
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
