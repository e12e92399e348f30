"""The heads of an age network learnt again, in large batches, on features that are kept in memory.

The backbone takes almost all of a training step's time, and what comes after it wants many more steps than that leaves
it: the perceptrons that read the landmarks. So what the backbone says of a few jittered views of every crop is kept,
where the landmarks lie, which `landmark_training` has refined, with the pixels around each, and what is read of the
regions, which `region_training` has taught; the rest learns from that alone. The perceptron that measures learns first,
by itself, and stays.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from KneeBoneAgeLib.network import UNKNOWN_SEX
from KneeBoneAgeLib.readers import PointReader

from .age_module import AgeModule, label_loss, masked_smooth_l1, of_own_sex
from .cached_views import CachedFeatures, landmark_perceptron
from .runs.loop import move_average

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeadRecipe:
    """How the heads are learnt; chosen on crops that no test uses."""

    structure: tuple[float, ...] = (1.0, 0.3)
    """`Jitter.with_structure` of each jittered view that is kept of a crop: the first teaches to see through what real
    films show, the second to read closely what is plain to see."""
    steps: int = 5000
    batch: int = 384
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    dropout: float = 0.1  # in the perceptron that reads the landmarks
    base_dropout: float = 0.5  # of what the backbone saw: it is learnt by heart more easily
    close_noise: float = 0.15  # on patches of deviation 1: each view is seen many times
    indicator_weight: float = 60.0
    measure_steps: int = 6000  # of the perceptron that measures
    ema_decay: float = 0.998
    seed: int = 7

    @property
    def views(self) -> int:
        """How many views are kept of a crop."""
        return len(self.structure)


LEAST_VARIED = 1e-3
"""Standard deviation from which on an input of the heads is standardised."""


class Answers(NamedTuple):
    """What `Heads` say of N views."""

    log_likelihood: Tensor
    """(N, 2, bins)"""
    indicators: Tensor
    """(N, I + M), indicators and maturities"""


class Heads(nn.Module):
    """What comes after backbone and landmarks, on standardised inputs; `put_back` makes a network of it again."""

    mean: Tensor
    scale: Tensor

    def __init__(
        self, module: AgeModule, cached: CachedFeatures, recipe: HeadRecipe, fresh: bool = True
    ) -> None:
        """With first weights, but for what describes and what measures the landmarks, or, not `fresh`, with the
        module's own. What measures them stays as it is."""
        super().__init__()
        torch.manual_seed(recipe.seed)
        own = copy.deepcopy(module).requires_grad_(True)
        source = AgeModule(module.recipe, *module.outputs) if fresh else own
        network = source.network if fresh else source.averaged
        self.recipe, self.points, self.outputs = recipe, module.recipe.network.points, module.outputs
        self.perceptron = landmark_perceptron(network)
        points = own.averaged.point_reader
        self.close = points.close if points is not None else None
        self.measure = points.measure.requires_grad_(False) if points is not None and points.measure else None
        self.head = network.head
        self.indicator_head, self.maturity_head = source.indicator_head, source.maturity_head
        both = torch.cat([cached.base, cached.read], dim=1)
        self.register_buffer("mean", both.mean(0))
        self.register_buffer("scale", _scale_of(both.std(0)))
        self.base_count = cached.base.shape[1]
        if not fresh:
            for linear, mean, scale in self._first_layers():
                _take_standardised(linear, mean, scale)

    def forward(self, views: CachedFeatures) -> Answers:
        """What is said of N views."""
        wide = (torch.cat([views.base, self._at_landmarks(views)], dim=1) - self.mean) / self.scale
        base = functional.dropout(wide[:, : self.base_count], self.recipe.base_dropout, self.training)
        points = wide[:, self.base_count :]
        for layer in self.perceptron:
            points = layer(points)
            if isinstance(layer, nn.GELU):
                points = functional.dropout(points, self.recipe.dropout, self.training)
        parts = [base, torch.relu(points)]
        if self.measure is not None:
            parts.append(torch.relu(self.measure(PointReader.placed(views.read, self.points))))
        features = torch.cat([*parts, views.regions], dim=1)
        said = torch.cat([self.indicator_head(features), self.maturity_head(features)], dim=1)
        return Answers(self.head(features), of_own_sex(said, views.labels["sex"], self.outputs))

    def _at_landmarks(self, views: CachedFeatures) -> Tensor:
        """What the perceptron is given, (N, R)."""
        if self.close is None:
            return views.read
        patches = views.patches.float()
        if self.training:
            patches = patches + self.recipe.close_noise * torch.randn_like(patches)
        seen = self.close.describe(patches)
        # What the pixels show comes last; where the landmarks lie and what the maps show there stay.
        stays = views.read.unflatten(1, (seen.shape[1], -1))[..., : -seen.shape[-1]]
        return torch.cat([stays, seen], dim=-1).flatten(1)

    @torch.no_grad()
    def put_back(self, module: AgeModule) -> None:
        """Into both networks of a module; the standardisation goes into the weights. What told knees from others by
        the old perceptron's features is forgotten."""
        for linear, mean, scale in self._first_layers():
            _standardise(linear, mean, scale)
        for network in (module.network, module.averaged):
            landmark_perceptron(network).load_state_dict(self.perceptron.state_dict())
            reader = network.point_reader
            for mine, its in (
                (self.close, reader.close if reader is not None else None),
                (self.measure, reader.measure if reader is not None else None),
            ):
                if mine is not None and its is not None:
                    its.load_state_dict(mine.state_dict())
            network.head.load_state_dict(self.head.state_dict())
        module.indicator_head.load_state_dict(self.indicator_head.state_dict())
        module.maturity_head.load_state_dict(self.maturity_head.state_dict())
        module.knee_head.weight[:, self.base_count :] = 0.0

    def _first_layers(self) -> Iterator[tuple[nn.Module, Tensor, Tensor]]:
        """The layers that are given standardised inputs, first of all theirs, with mean and scale of these."""
        count = self.base_count
        yield self.perceptron[0], self.mean[count:], self.scale[count:]
        for linear in (self.head.linear, self.indicator_head, self.maturity_head):
            yield linear, self.mean[:count], self.scale[:count]


def _scale_of(deviation: Tensor) -> Tensor:
    """What inputs of these standard deviations are divided by. What hardly ever varies in drawn knees is left as it is:
    in a real one it may, and would be magnified into anything."""
    return torch.where(deviation < LEAST_VARIED, torch.ones_like(deviation), deviation + 1e-3)


def _standardise(linear: nn.Module, mean: Tensor, scale: Tensor) -> None:
    """Let a layer take (x - mean) / scale for its first inputs from x itself."""
    assert isinstance(linear, nn.Linear)
    count = len(mean)
    linear.weight[:, :count].div_(scale)
    linear.bias.sub_(linear.weight[:, :count] @ mean)


@torch.no_grad()
def _take_standardised(linear: nn.Module, mean: Tensor, scale: Tensor) -> None:
    """The inverse of `_standardise`."""
    assert isinstance(linear, nn.Linear)
    count = len(mean)
    linear.bias.add_(linear.weight[:, :count] @ mean)
    linear.weight[:, :count].mul_(scale)


def _batches(cached: CachedFeatures, recipe: HeadRecipe) -> Iterator[CachedFeatures]:
    draw = torch.Generator().manual_seed(recipe.seed)
    for _ in range(recipe.steps):
        yield cached.take(torch.randint(len(cached.base), (recipe.batch,), generator=draw))


def learn_measures(module: AgeModule, cached: CachedFeatures, recipe: HeadRecipe) -> None:
    """Learn what measures the landmarks, in both networks of a module, by indicators and maturities alone: first and
    by itself, since beside other readers it learns breadths only half as exactly."""
    readers = [network.point_reader for network in (module.network, module.averaged)]
    measures = [reader.measure for reader in readers if reader is not None and reader.measure is not None]
    if not measures:
        return
    torch.manual_seed(recipe.seed)
    measure = copy.deepcopy(measures[0]).requires_grad_(True)
    for layer in measure:
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
    indicators, maturities = module.outputs
    readout = nn.Linear(module.recipe.network.measure_features, indicators + 2 * maturities)
    learner = nn.Sequential(measure, nn.ReLU(), readout)
    placed = PointReader.placed(cached.read, module.recipe.network.points)
    mean, scale = placed.mean(0), placed.std(0) + 1e-3
    averaged = copy.deepcopy(learner).eval()
    optimizer = torch.optim.AdamW(
        learner.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    pace = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.measure_steps
    )
    draw = torch.Generator().manual_seed(recipe.seed)
    for step in range(recipe.measure_steps):
        rows = torch.randint(len(placed), (recipe.batch,), generator=draw)
        said = learner((placed[rows] - mean) / scale)
        found = of_own_sex(said, cached.labels["sex"][rows], module.outputs)
        loss = masked_smooth_l1(found, cached.labels["indicators"][rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pace.step()
        move_average(averaged, learner, step, recipe.ema_decay)
    log.info("measures: loss %.4f", loss.item())
    learnt: Any = averaged[0]
    with torch.no_grad():
        _standardise(learnt[0], mean, scale)
    for measure in measures:
        measure.load_state_dict(learnt.state_dict())


def _age_loss(log_p: Tensor, told: Tensor, labels: dict[str, Tensor]) -> Tensor:
    """Of distributions (N, bins) that are found: cross-entropy with those that are told, and where these are NaN the
    loss of the label, (N,). Raises ValueError where one is told over other bins than are found."""
    of_label = label_loss(log_p, labels["label"], labels["label_sd"], labels["sex"])
    known = torch.isfinite(told).all(1)
    if not known.any():
        return of_label
    if told.shape != log_p.shape:
        raise ValueError(f"a posterior over {told.shape[1]} bins cannot teach a network of {log_p.shape[1]}")
    return torch.where(known, -(torch.nan_to_num(told) * log_p).sum(-1), of_label)


def learn_heads(
    module: AgeModule, cached: CachedFeatures, recipe: HeadRecipe | None = None, fresh: bool = True
) -> None:
    """Learn the readers at the landmarks, the likelihood and the indicators of `module` again from cached views, from
    first weights or, not `fresh`, from where they are; what measures the landmarks is only learnt when `fresh`.

    The losses are the module's: age with and without chronological age, and, heavier, indicators and maturities. Where
    the oracle's posterior is known it is what is learnt, not the one bone age that the child happens to have: what no
    method can know about a child would only be learnt by heart."""
    recipe = recipe or HeadRecipe()
    if fresh:
        learn_measures(module, cached, recipe)
    heads = Heads(module, cached, recipe, fresh)
    averaged = copy.deepcopy(heads).eval()
    learning = [values for values in heads.parameters() if values.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.steps)
    prior = module.averaged.eval()
    began = time.monotonic()
    for step, views in enumerate(_batches(cached, recipe)):
        likelihood, indicators = heads(views)
        labels = views.labels
        sex = torch.where(labels["sex_missing"], UNKNOWN_SEX, labels["sex"])
        ages = (labels["age_months"], torch.full_like(labels["age_months"], torch.nan))
        loss = recipe.indicator_weight * masked_smooth_l1(indicators, labels["indicators"])
        for age, told in zip(ages, labels["posterior"].unbind(1), strict=True):
            log_p = prior.log_posterior(likelihood, sex, age)
            loss = loss + _age_loss(log_p, told, labels).mean() / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pace.step()
        move_average(averaged, heads, step, recipe.ema_decay)
        if (step + 1) % 250 == 0:
            log.info("heads: step %d  %.0f s  loss %.3f", step + 1, time.monotonic() - began, loss.item())
    averaged.put_back(module)
