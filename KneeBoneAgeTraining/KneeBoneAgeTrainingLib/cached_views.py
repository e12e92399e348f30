"""What an age network sees of jittered crops, kept: its heads learn from that alone (`head_training`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from KneeBoneAgeLib.network import AgeNetwork

from .age_module import AgeModule
from .batches import Part, rows_of
from .crop_cache import CropCache


@dataclass(frozen=True)
class CachedFeatures:
    """What is known of N views; what a network does not look at has no entries.

    `base` (N, A): the features that stay as they are. `read` (N, R): what the perceptron reads at the landmarks.
    `patches` (N, P, X) float16: the pixels there. `regions` (N, F): what is read of the regions. `labels`: the other
    entries of `batches.rows_of`."""

    base: Tensor
    read: Tensor
    patches: Tensor
    regions: Tensor
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
    learnt here."""
    network = module.averaged.eval()
    recipe = replace(module.recipe, label=label, jitter=module.recipe.jitter.with_structure(structure))
    first, reader = landmark_perceptron(network)[0], network.region_reader
    close = network.point_reader.close if network.point_reader is not None else None
    if close is not None and network.config.refine_hidden == 0:
        raise ValueError("the landmarks of this network are not refined: `age_training landmarks` first")
    seen: list[Tensor] = []
    hook = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    rng = np.random.default_rng(seed)
    part = Part(cache, rows, 1.0, label, recipe.label_sd_months())
    views: list[CachedFeatures] = []
    try:
        for start in range(0, len(rows), batch):
            drawn = rows_of(part, rows[start : start + batch], recipe, rng, recipe.network.image_size)
            image, *_ = (drawn.pop(name) for name in ("image", "landmarks", "knee"))
            features, points = network.see(image)
            assert points is not None  # of a network with a perceptron at its landmarks
            window, count = network.window(image), len(image)
            field, places = window.shape[-1] / image.shape[-1], points.places
            patches, regions = torch.zeros(count, 0, 0), torch.zeros(count, 0)
            if close is not None:
                patches = close.patches(window, places / field)
            if reader is not None:
                regions = features[:, network.feature_count - reader.feature_count :]
            base = features[:, : base_count(network)]
            views.append(CachedFeatures(base, seen.pop(), patches.half(), regions, drawn))
    finally:
        hook.remove()
    return joined(views)


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


def base_count(network: AgeNetwork) -> int:
    """How many features come before those of the landmarks."""
    config, reader = network.config, network.region_reader
    regions = reader.feature_count if reader is not None else 0
    return network.feature_count - config.point_features - config.measure_features - regions


def landmark_perceptron(network: AgeNetwork) -> nn.Sequential:
    """What reads the landmarks. Raises ValueError where it is one layer, or nothing."""
    reader = network.point_reader
    if reader is None or not isinstance(reader.linear, nn.Sequential):
        raise ValueError("only a network with landmarks and `point_hidden` units has heads to learn again")
    return reader.linear
