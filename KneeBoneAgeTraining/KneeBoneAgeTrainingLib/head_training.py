"""The heads of an age network learnt again, in large batches, on features that are kept in memory.

The backbone takes almost all of a training step's time, and what comes after it wants many more steps than that leaves
it: the perceptron that reads the landmarks, and the reader of the physes. So what the backbone and the landmark finder
say of a few jittered views of every crop is kept, with a strip along each physis, and the rest learns from that alone.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from KneeBoneAgeLib.network import UNKNOWN_SEX, AgeNetwork
from KneeBoneAgeLib.physes import KNEE_PHYSES

from .age_module import AgeModule, label_loss, masked_smooth_l1
from .batches import Part, rows_of
from .crop_cache import CropCache
from .recipe import TRUE_SD_MONTHS
from .runs.loop import move_average

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeadRecipe:
    """How the heads are learnt; chosen on crops that no test uses."""

    views: int = 2
    """Jittered ones of each crop: with one alone, the error on crops learnt from was 1.2 times smaller than on others,
    with two and twice the crops still 1.1 times."""
    steps: int = 800
    batch: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    dropout: float = 0.1  # in the perceptron that reads the landmarks
    base_dropout: float = 0.5  # of what else is known: it is learnt by heart more easily
    strip_noise: float = 0.15  # on strips of deviation 1: each view is seen many times
    indicator_weight: float = 60.0
    ema_decay: float = 0.998
    seed: int = 7


@dataclass(frozen=True)
class CachedFeatures:
    """What is known of N views: `base` (N, A), the features that stay as they are; `read` (N, R), what the perceptron
    reads at the landmarks; `strips` (N, K, D, L) float16, the physes, K 0 for a network that does not look at them;
    `labels`, the other entries of `batches.rows_of`."""

    base: Tensor
    read: Tensor
    strips: Tensor
    labels: dict[str, Tensor]


@torch.no_grad()
def cache_features(
    module: AgeModule,
    cache: CropCache,
    rows: NDArray[np.intp],
    seed: int,
    batch: int = 32,
) -> CachedFeatures:
    """One jittered view of each crop, as the module's averaged network sees it. Raises ValueError for a network
    without a perceptron at its landmarks."""
    network, recipe = module.averaged.eval(), module.recipe
    first, physes = _perceptron(network)[0], network.physis_reader
    seen: list[Tensor] = []
    strips: list[Tensor] = []
    hook = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    rng = np.random.default_rng(seed)
    part = Part(cache, rows, 1.0, "true", TRUE_SD_MONTHS)
    bases: list[Tensor] = []
    labels: list[dict[str, Tensor]] = []
    try:
        for start in range(0, len(rows), batch):
            drawn = rows_of(part, rows[start : start + batch], recipe, rng, recipe.network.image_size)
            image = drawn.pop("image")
            features, points = network.see(image)
            bases.append(features[:, : _base_count(network)])
            if physes is not None and points is not None:
                window = network.window(image)
                found = physes.strips(window, points.places, window.shape[-1] / image.shape[-1])
                strips.append(found.half())
            labels.append(drawn)
    finally:
        hook.remove()
    known = {name: torch.cat([one[name] for one in labels]) for name in labels[0]}
    kept = torch.cat(strips) if strips else torch.zeros(len(rows), 0, 0, 0, dtype=torch.float16)
    return CachedFeatures(torch.cat(bases), torch.cat(seen), kept, known)


def joined(views: Sequence[CachedFeatures]) -> CachedFeatures:
    """Several views' rows after each other."""
    labels = {name: torch.cat([view.labels[name] for view in views]) for name in views[0].labels}
    base, read, strips = (
        torch.cat([getattr(view, name) for view in views]) for name in ("base", "read", "strips")
    )
    return CachedFeatures(base, read, strips, labels)


def save_views(path: Path, cached: CachedFeatures) -> None:
    """Keep the views in a safetensors file; what stood there is replaced when all is written."""
    labels = {f"label.{name}": one for name, one in cached.labels.items()}
    unfinished = path.with_name(f"{path.name}.unfinished")
    save_file({"base": cached.base, "read": cached.read, "strips": cached.strips, **labels}, unfinished)
    unfinished.replace(path)


def load_views(path: Path) -> CachedFeatures:
    """The inverse of `save_views`."""
    tensors = load_file(path)
    labels = {name.removeprefix("label."): one for name, one in tensors.items() if name.startswith("label.")}
    return CachedFeatures(tensors["base"], tensors["read"], tensors["strips"], labels)


def _base_count(network: AgeNetwork) -> int:
    """How many features come before those of the landmarks."""
    config = network.config
    physes = config.physis_features * len(config.physes) if network.physis_reader is not None else 0
    return network.feature_count - config.point_features - physes


def _perceptron(network: AgeNetwork) -> nn.Sequential:
    reader = network.point_reader
    if reader is None or not isinstance(reader.linear, nn.Sequential):
        raise ValueError("only a network with landmarks and `point_hidden` units has heads to learn again")
    return reader.linear


class Heads(nn.Module):
    """What comes after backbone and landmarks, on standardised inputs; `put_back` makes a network of it again."""

    mean: Tensor
    scale: Tensor

    def __init__(self, module: AgeModule, cached: CachedFeatures, recipe: HeadRecipe) -> None:
        super().__init__()
        torch.manual_seed(recipe.seed)
        fresh = AgeModule(module.recipe, *_outputs(module))
        self.recipe = recipe
        self.perceptron = _perceptron(fresh.network)
        self.physis_reader = fresh.network.physis_reader
        self.head = fresh.network.head
        self.indicator_head, self.maturity_head = fresh.indicator_head, fresh.maturity_head
        both = torch.cat([cached.base, cached.read], dim=1)
        self.register_buffer("mean", both.mean(0))
        self.register_buffer("scale", both.std(0) + 1e-3)
        self.base_count = cached.base.shape[1]

    def forward(self, base: Tensor, read: Tensor, strips: Tensor, sex: Tensor) -> tuple[Tensor, Tensor]:
        """Base (B, A), read (B, R), strips (B, K, D, L), sex (B,) → log-likelihood (B, 2, bins), indicators and
        maturities (B, I + M)."""
        wide = (torch.cat([base, read], dim=1) - self.mean) / self.scale
        base = functional.dropout(wide[:, : self.base_count], self.recipe.base_dropout, self.training)
        points = wide[:, self.base_count :]
        for layer in self.perceptron:
            points = layer(points)
            if isinstance(layer, nn.GELU):
                points = functional.dropout(points, self.recipe.dropout, self.training)
        parts = [base, torch.relu(points)]
        if self.physis_reader is not None:
            strips = strips.float()
            if self.training:
                strips = strips + self.recipe.strip_noise * torch.randn_like(strips)
            physes = self.physis_reader.read_strips(strips)
            parts.append(functional.dropout(physes, self.recipe.dropout, self.training))
        features = torch.cat(parts, dim=1)
        either = self.maturity_head(features).view(len(features), 2, -1)
        own = either[torch.arange(len(sex)), sex.clamp(max=1)]
        return self.head(features), torch.cat([self.indicator_head(features), own], dim=1)

    @torch.no_grad()
    def put_back(self, module: AgeModule) -> None:
        """Into both networks of a module; the standardisation goes into the weights. What told knees from others by
        the old perceptron's features is forgotten."""
        count = self.base_count
        _standardise(self.perceptron[0], self.mean[count:], self.scale[count:])
        for linear in (self.head.linear, self.indicator_head, self.maturity_head):
            _standardise(linear, self.mean[:count], self.scale[:count])
        for network in (module.network, module.averaged):
            _perceptron(network).load_state_dict(self.perceptron.state_dict())
            if self.physis_reader is not None and network.physis_reader is not None:
                network.physis_reader.load_state_dict(self.physis_reader.state_dict())
            network.head.load_state_dict(self.head.state_dict())
        module.indicator_head.load_state_dict(self.indicator_head.state_dict())
        module.maturity_head.load_state_dict(self.maturity_head.state_dict())
        module.knee_head.weight[:, count:] = 0.0


def _outputs(module: AgeModule) -> tuple[int, int]:
    return module.indicator_head.out_features, module.maturity_head.out_features // 2


def _standardise(linear: nn.Module, mean: Tensor, scale: Tensor) -> None:
    """Let a layer take (x - mean) / scale for its first inputs from x itself."""
    assert isinstance(linear, nn.Linear)
    count = len(mean)
    linear.weight[:, :count].div_(scale)
    linear.bias.sub_(linear.weight[:, :count] @ mean)


def _batches(
    cached: CachedFeatures, recipe: HeadRecipe
) -> Iterator[tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]]:
    draw = torch.Generator().manual_seed(recipe.seed)
    for _ in range(recipe.steps):
        rows = torch.randint(len(cached.base), (recipe.batch,), generator=draw)
        yield (
            cached.base[rows],
            cached.read[rows],
            cached.strips[rows],
            {name: one[rows] for name, one in cached.labels.items()},
        )


def with_physes(module: AgeModule, physes: Sequence[Sequence[int]] = KNEE_PHYSES) -> AgeModule:
    """The same module with a reader of the physes that has learnt nothing yet; the other weights are taken over.

    Raises ValueError for a network that finds fewer landmarks than the physes need."""
    network = module.recipe.network
    if network.points <= max(max(physis) for physis in physes):
        raise ValueError(
            f"a network of {network.points} landmarks does not find those of the physes {physes}"
        )
    wider = replace(network, physes=tuple(tuple(physis) for physis in physes))
    torch.manual_seed(module.recipe.seed)
    grown = AgeModule(replace(module.recipe, network=wider), *_outputs(module))
    state = grown.state_dict()
    for name, old in module.state_dict().items():
        if state[name].shape == old.shape:
            state[name] = old
        else:  # a layer that reads all features: it is blind to the new ones
            state[name] = torch.zeros_like(state[name])
            state[name][:, : old.shape[1]] = old
    grown.load_state_dict(state)
    return grown


def learn_heads(module: AgeModule, cached: CachedFeatures, recipe: HeadRecipe | None = None) -> None:
    """Learn the perceptron at the landmarks, the likelihood and the indicators of `module` again from cached views.

    The losses are the module's: age with and without chronological age, and, heavier, indicators and maturities."""
    recipe = recipe or HeadRecipe()
    heads = Heads(module, cached, recipe)
    averaged = copy.deepcopy(heads).eval()
    optimizer = torch.optim.AdamW(
        heads.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    pace = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.steps)
    prior = module.averaged.eval()
    began = time.monotonic()
    for step, (base, read, strips, labels) in enumerate(_batches(cached, recipe)):
        likelihood, indicators = heads(base, read, strips, labels["sex"])
        sex = torch.where(labels["sex_missing"], UNKNOWN_SEX, labels["sex"])
        ages = (labels["age_months"], torch.full_like(labels["age_months"], torch.nan))
        loss = recipe.indicator_weight * masked_smooth_l1(indicators, labels["indicators"])
        for age in ages:
            log_p = prior.log_posterior(likelihood, sex, age)
            loss = loss + label_loss(log_p, labels["label"], labels["label_sd"], labels["sex"]).mean() / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pace.step()
        move_average(averaged, heads, step, recipe.ema_decay)
        if (step + 1) % 250 == 0:
            log.info("heads: step %d  %.0f s  loss %.3f", step + 1, time.monotonic() - began, loss.item())
    averaged.put_back(module)
