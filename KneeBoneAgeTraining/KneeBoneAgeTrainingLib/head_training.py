"""The heads of an age network learnt again, in large batches, on features that are kept in memory.

The backbone takes almost all of a training step's time, and what comes after it wants many more steps than that leaves
it: the perceptron that reads the landmarks, and the readers of physes and patella. So what the backbone says of a few
jittered views of every crop is kept, and where the landmarks lie, which `landmark_training` has refined, with the
pixels around each, a strip along each physis and a square on the patella, and the rest learns from that alone.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from KneeBoneAgeLib.network import UNKNOWN_SEX, AgeNetwork
from KneeBoneAgeLib.phantom.build import LANDMARKS, PATELLA_POINTS
from KneeBoneAgeLib.physes import KNEE_PHYSES

from .age_module import AgeModule, label_loss, masked_smooth_l1
from .batches import Part, rows_of
from .crop_cache import CropCache
from .patella_outline import outline_loss
from .runs.loop import move_average

log = logging.getLogger(__name__)

PATELLA_FEATURES, REFINE_HIDDEN = 24, 64
_PATELLA = slice(LANDMARKS.index(PATELLA_POINTS[0]), LANDMARKS.index(PATELLA_POINTS[-1]) + 1)


@dataclass(frozen=True)
class HeadRecipe:
    """How the heads are learnt; chosen on crops that no test uses."""

    structure: tuple[float, ...] = (1.0, 0.3)
    """`Jitter.with_structure` of each jittered view that is kept of a crop. With one view alone, the error on crops
    learnt from was 1.2 times smaller than on others, with two and twice the crops still 1.1 times; the first teaches to
    see through what real films show, the second to read closely what is plain to see."""
    steps: int = 1200
    batch: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    dropout: float = 0.1  # in the perceptron that reads the landmarks
    base_dropout: float = 0.5  # of what else is known: it is learnt by heart more easily
    close_noise: float = 0.15  # on strips and squares of deviation 1: each view is seen many times
    indicator_weight: float = 60.0
    outline_weight: float = 3.0
    ema_decay: float = 0.998
    seed: int = 7

    @property
    def views(self) -> int:
        """How many views are kept of a crop."""
        return len(self.structure)


@dataclass(frozen=True)
class CachedFeatures:
    """What is known of N views; what a network does not look at has no entries.

    `base` (N, A): the features that stay as they are. `read` (N, R): what the perceptron reads at the landmarks.
    `patches` (N, P, X) float16: the pixels there. `strips` (N, K, D, L) float16: the physes. `squares` (N, S, S)
    float16: the patella, and `patella` (N, 4, 2), its true landmarks in that square, NaN where there is none. `labels`:
    the other entries of `batches.rows_of`."""

    base: Tensor
    read: Tensor
    patches: Tensor
    strips: Tensor
    squares: Tensor
    patella: Tensor
    labels: dict[str, Tensor]

    def take(self, rows: Tensor) -> CachedFeatures:
        """Some of the views."""
        tensors = {name: getattr(self, name)[rows] for name in _TENSORS}
        return CachedFeatures(**tensors, labels={name: one[rows] for name, one in self.labels.items()})


_TENSORS = tuple(field.name for field in fields(CachedFeatures) if field.name != "labels")


@torch.no_grad()
def cache_features(
    module: AgeModule,
    cache: CropCache,
    rows: NDArray[np.intp],
    seed: int,
    structure: float = 1.0,
    label: str = "true",
    batch: int = 32,
) -> CachedFeatures:
    """One jittered view of each crop, as the module's averaged network sees it, with so much `structure`
    (`Jitter.with_structure`); `label` is the bone age that is learnt from it (`recipe.LABELS`).

    Raises ValueError for a network without a perceptron at its landmarks or whose landmarks are corrected by what is
    learnt here, and where one that looks at the patella is given crops that do not tell where it is."""
    network = module.averaged.eval()
    recipe = replace(module.recipe, label=label, jitter=module.recipe.jitter.with_structure(structure))
    first, physes, patella = _perceptron(network)[0], network.physis_reader, network.patella_reader
    close = network.point_reader.close if network.point_reader is not None else None
    if close is not None and network.config.refine_hidden == 0:
        raise ValueError(
            "the landmarks of this network are not refined: `with_close_readers`, `learn_landmarks`"
        )
    seen: list[Tensor] = []
    hook = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    rng = np.random.default_rng(seed)
    part = Part(cache, rows, 1.0, label, recipe.label_sd_months())
    views: list[CachedFeatures] = []
    try:
        for start in range(0, len(rows), batch):
            drawn = rows_of(part, rows[start : start + batch], recipe, rng, recipe.network.image_size)
            image = drawn.pop("image")
            features, points = network.see(image)
            assert points is not None  # of a network with a perceptron at its landmarks
            window, count = network.window(image), len(image)
            field, places = window.shape[-1] / image.shape[-1], points.places
            patches, strips, squares, true = (
                torch.zeros(count, *size) for size in ((0, 0), (0, 0, 0), (0, 0), (0, 2))
            )
            if close is not None:
                patches = close.patches(window, places / field)
            if physes is not None:
                strips = physes.strips(window, places, field)
            if patella is not None:
                squares = patella.squares(window, places, field)
                true = patella.frame(places).of_crop(_patella_of(drawn["landmarks"]))
            base = features[:, : _base_count(network)]
            near = {"patches": patches.half(), "strips": strips.half(), "squares": squares.half()}
            views.append(CachedFeatures(base, seen.pop(), patella=true, labels=drawn, **near))
    finally:
        hook.remove()
    return joined(views)


def _patella_of(landmarks: Tensor) -> Tensor:
    """(B, 4, 2) of (B, P, 2)."""
    if landmarks.shape[1] < _PATELLA.stop:
        raise ValueError(
            f"crops with {landmarks.shape[1]} landmarks: the patella's are the last of {_PATELLA.stop}"
        )
    return landmarks[:, _PATELLA]


def joined(views: Sequence[CachedFeatures]) -> CachedFeatures:
    """Several views' rows after each other."""
    labels = {name: torch.cat([view.labels[name] for view in views]) for name in views[0].labels}
    tensors = {name: torch.cat([getattr(view, name) for view in views]) for name in _TENSORS}
    return CachedFeatures(**tensors, labels=labels)


def save_views(path: Path, cached: CachedFeatures) -> None:
    """Keep the views in a safetensors file; what stood there is replaced when all is written."""
    tensors = {name: getattr(cached, name).contiguous() for name in _TENSORS}
    labels = {f"label.{name}": one for name, one in cached.labels.items()}
    unfinished = path.with_name(f"{path.name}.unfinished")
    save_file({**tensors, **labels}, unfinished)
    unfinished.replace(path)


def load_views(path: Path) -> CachedFeatures:
    """The inverse of `save_views`."""
    tensors = load_file(path)
    labels = {name.removeprefix("label."): one for name, one in tensors.items() if name.startswith("label.")}
    return CachedFeatures(**{name: tensors[name] for name in _TENSORS}, labels=labels)


def _base_count(network: AgeNetwork) -> int:
    """How many features come before those of the landmarks."""
    config = network.config
    close = config.physis_features * len(config.physes) if network.physis_reader is not None else 0
    close += config.patella_features if network.patella_reader is not None else 0
    return network.feature_count - config.point_features - close


def _perceptron(network: AgeNetwork) -> nn.Sequential:
    reader = network.point_reader
    if reader is None or not isinstance(reader.linear, nn.Sequential):
        raise ValueError("only a network with landmarks and `point_hidden` units has heads to learn again")
    return reader.linear


class Answers(NamedTuple):
    """What `Heads` say of N views."""

    log_likelihood: Tensor
    """(N, 2, bins)"""
    indicators: Tensor
    """(N, I + M), indicators and maturities"""
    outline: Tensor | None
    """(N, C, C) logits of `PatellaReader.outline`; None where the network does not look at the patella"""


class Heads(nn.Module):
    """What comes after backbone and landmarks, on standardised inputs; `put_back` makes a network of it again."""

    mean: Tensor
    scale: Tensor

    def __init__(
        self, module: AgeModule, cached: CachedFeatures, recipe: HeadRecipe, fresh: bool = True
    ) -> None:
        """With first weights, but for what describes the landmarks, or, not `fresh`, with the module's own."""
        super().__init__()
        torch.manual_seed(recipe.seed)
        own = copy.deepcopy(module).requires_grad_(True)
        source = AgeModule(module.recipe, *_outputs(module)) if fresh else own
        network = source.network if fresh else source.averaged
        self.recipe = recipe
        self.perceptron = _perceptron(network)
        points = own.averaged.point_reader
        self.close = points.close if points is not None else None
        self.physis_reader, self.patella_reader = network.physis_reader, network.patella_reader
        self.head = network.head
        self.indicator_head, self.maturity_head = source.indicator_head, source.maturity_head
        both = torch.cat([cached.base, cached.read], dim=1)
        self.register_buffer("mean", both.mean(0))
        self.register_buffer("scale", both.std(0) + 1e-3)
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
        parts, outline = [base, torch.relu(points)], None
        if self.physis_reader is not None:
            physes = self.physis_reader.read_strips(self._noisy(views.strips))
            parts.append(functional.dropout(physes, self.recipe.dropout, self.training))
        if self.patella_reader is not None:
            outline = self.patella_reader.outline(self._noisy(views.squares))
            parts.append(self.patella_reader.read_outline(outline))
        features = torch.cat(parts, dim=1)
        either, sex = self.maturity_head(features).view(len(features), 2, -1), views.labels["sex"]
        own = either[torch.arange(len(sex)), sex.clamp(max=1)]
        return Answers(self.head(features), torch.cat([self.indicator_head(features), own], dim=1), outline)

    def _at_landmarks(self, views: CachedFeatures) -> Tensor:
        """What the perceptron is given, (N, R)."""
        if self.close is None:
            return views.read
        seen = self.close.describe(self._noisy(views.patches))
        # What the pixels show comes last; where the landmarks lie and what the maps show there stay.
        stays = views.read.unflatten(1, (seen.shape[1], -1))[..., : -seen.shape[-1]]
        return torch.cat([stays, seen], dim=-1).flatten(1)

    def _noisy(self, pictures: Tensor) -> Tensor:
        pictures = pictures.float()
        if not self.training:
            return pictures
        return pictures + self.recipe.close_noise * torch.randn_like(pictures)

    @torch.no_grad()
    def put_back(self, module: AgeModule) -> None:
        """Into both networks of a module; the standardisation goes into the weights. What told knees from others by
        the old perceptron's features is forgotten."""
        for linear, mean, scale in self._first_layers():
            _standardise(linear, mean, scale)
        for network in (module.network, module.averaged):
            _perceptron(network).load_state_dict(self.perceptron.state_dict())
            reader = network.point_reader
            for mine, its in (
                (self.close, reader.close if reader is not None else None),
                (self.physis_reader, network.physis_reader),
                (self.patella_reader, network.patella_reader),
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


def _outputs(module: AgeModule) -> tuple[int, int]:
    return module.indicator_head.out_features, module.maturity_head.out_features // 2


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


def with_close_readers(
    module: AgeModule,
    physes: Sequence[Sequence[int]] = KNEE_PHYSES,
    patella_features: int = PATELLA_FEATURES,
    refine_hidden: int = REFINE_HIDDEN,
) -> AgeModule:
    """The same module with readers of physes and patella (0 features: without), and a refinement of the landmarks
    (0 units: without) instead of the correction by what describes them, that have learnt nothing yet; the other weights
    are taken over.

    Raises ValueError for a network that finds fewer landmarks than the physes need."""
    network = module.recipe.network
    if network.points <= max(max(physis) for physis in physes):
        raise ValueError(
            f"a network of {network.points} landmarks does not find those of the physes {physes}"
        )
    looked_at = tuple(tuple(physis) for physis in physes)
    wider = replace(network, physes=looked_at, patella_features=patella_features, refine_hidden=refine_hidden)
    torch.manual_seed(module.recipe.seed)
    grown = AgeModule(replace(module.recipe, network=wider), *_outputs(module))
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


def learn_heads(
    module: AgeModule, cached: CachedFeatures, recipe: HeadRecipe | None = None, fresh: bool = True
) -> None:
    """Learn the readers at the landmarks, the likelihood and the indicators of `module` again from cached views, from
    first weights or, not `fresh`, from where they are.

    The losses are the module's: age with and without chronological age, and, heavier, indicators and maturities."""
    recipe = recipe or HeadRecipe()
    heads = Heads(module, cached, recipe, fresh)
    averaged = copy.deepcopy(heads).eval()
    optimizer = torch.optim.AdamW(
        heads.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    pace = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.steps)
    prior = module.averaged.eval()
    began = time.monotonic()
    for step, views in enumerate(_batches(cached, recipe)):
        likelihood, indicators, outline = heads(views)
        labels = views.labels
        sex = torch.where(labels["sex_missing"], UNKNOWN_SEX, labels["sex"])
        ages = (labels["age_months"], torch.full_like(labels["age_months"], torch.nan))
        loss = recipe.indicator_weight * masked_smooth_l1(indicators, labels["indicators"])
        if outline is not None:
            loss = loss + recipe.outline_weight * outline_loss(outline, views.patella)
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
