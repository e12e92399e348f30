"""All folds of a bundle at once: what they share is computed once, the rest in one call for all of them.

Folds that were fine-tuned from one network hold, bit for bit, the same tensors wherever training kept them as they
were. Nothing in a bundle says so; it is seen by comparing them. The answers are those of the folds one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from .network import AgeNetwork, log_posterior
from .stacked import Block, Reduction, alike, can_stack_block, can_stack_reduction, perceptron_of, product_of
from .stacked_readers import MapReaders, PointReaders, RegionReaders, can_stack_readers, level

PARTS = frozenset(["backbone", "map_reader", "point_reader", "region_reader", "pixels", "head", "prior"])
"""Parts of a fold that are known here; a fold with another one is never stacked without it."""

Step = Callable[[Tensor], Tensor]


def shared_stages(folds: Sequence[AgeNetwork]) -> int:
    """How many of the first stages, the stem before them included, all folds have alike."""
    if not alike([fold.backbone.stem for fold in folds]):
        return 0
    stages = list(zip(*(fold.backbone.stages for fold in folds), strict=True))
    return next((rank for rank, stage in enumerate(stages) if not alike(stage)), len(stages))


def can_stack(fold: AgeNetwork) -> bool:
    """Whether every part of a fold has a stacked counterpart; another backbone's folds run one by one."""
    if not isinstance(fold.backbone, ConvNeXt) or not PARTS.issuperset(dict(fold.named_children())):
        return False
    stages: Any = fold.backbone.stages
    return (
        all(can_stack_block(block) for stage in stages for block in stage.blocks)
        and all(
            isinstance(one.downsample, nn.Identity) or can_stack_reduction(one.downsample) for one in stages
        )
        and can_stack_readers(fold.map_reader, fold.point_reader)
    )


class Ensemble:
    """Folds of one architecture as one function of the crops, sex and age. What it has stacked are copies: weights that
    change later may not reach it.

    `shared` is how many first stages they have alike, which are computed once; None where the folds run one by one.
    """

    def __init__(self, folds: Sequence[AgeNetwork]) -> None:
        self.folds = list(folds)
        self.shared = shared_stages(folds) if all(map(can_stack, folds)) else None
        if self.shared is None:
            return
        stages = list(zip(*(fold.backbone.stages for fold in folds), strict=True))
        with torch.no_grad():
            self.stages = [
                self._stage(stage[:1] if rank < self.shared else stage) for rank, stage in enumerate(stages)
            ]
            maps = [fold.map_reader for fold in folds if fold.map_reader is not None]
            points = [fold.point_reader for fold in folds if fold.point_reader is not None]
            self.maps = MapReaders(maps) if maps else None
            one_backbone = self.shared == len(stages)
            self.points = PointReaders(points, one_backbone) if points else None
            regions = [fold.region_reader for fold in folds if fold.region_reader is not None]
            self.regions = RegionReaders(regions) if regions else None
            self.head = product_of([fold.head.linear for fold in folds])
            bent = [fold.head.bent for fold in folds if fold.head.bent is not None]
            self.bent = perceptron_of(bent) if bent else None
        self.priors = [fold.prior for fold in folds]
        if alike(self.priors):
            del self.priors[1:]

    @torch.inference_mode()
    def look(self, images: Tensor, sex: Tensor, age_months: Tensor) -> tuple[Tensor, Tensor]:
        """Distributions (K, B, bins) and features (K, B, F) of K folds.

        Parameters
        ----------
        images : (B, 1, S, S) normalised crops.
        sex, age_months : (B,) as in `AgeNetwork.forward`.
        """
        if self.shared is None:
            features = torch.stack([fold.features(images) for fold in self.folds])
            likelihood = torch.stack(
                [fold.log_likelihood(one) for fold, one in zip(self.folds, features, strict=True)]
            )
            prior = torch.stack([fold.prior(age_months) for fold in self.folds])
        else:
            features = self._features(images)
            likelihood = self.folds[0].head.of_numbers(self._numbers(features))
            prior = torch.stack([prior(age_months) for prior in self.priors])
        return log_posterior(likelihood + prior, sex).exp(), features

    def _numbers(self, features: Tensor) -> Tensor:
        """Features (K, B, F) → what the layers of the heads give, (K, B, N)."""
        raw = self.head(features)
        if self.bent is None:
            return raw
        found = features[..., self.folds[0].head.rough :]
        for step in self.bent:
            found = step(found)
        return raw + found

    def _features(self, images: Tensor) -> Tensor:
        first = self.folds[0]
        window = first.window(images)
        stems = [fold.backbone.stem for fold in (self.folds[:1] if self.shared else self.folds)]
        cells = torch.stack([stem(window).permute(0, 2, 3, 1) for stem in stems], 3)
        maps = []
        for steps in self.stages:
            for step in steps:
                cells = step(cells)
            maps.append(cells)
        last = cells.permute(3, 0, 4, 1, 2).expand(len(self.folds), -1, -1, -1, -1)
        backbones = [fold.backbone for fold in self.folds]
        features = [
            torch.stack(
                [one.forward_head(one.norm_pre(its)) for one, its in zip(backbones, last, strict=True)]
            )
        ]
        levels = [level(one) for one in maps]
        if self.maps is not None:
            features.append(self.maps(levels[len(levels) - len(first.config.map_channels) :]))
        if self.points is not None:
            field = window.shape[-1] / images.shape[-1]
            read, places = self.points(window, levels, field)
            features.append(read)
            if self.regions is not None:
                features.append(self.regions(images, places))
        return torch.cat(features, -1)

    @staticmethod
    def _stage(stages: Sequence[Any]) -> list[Step]:
        """A stage of each fold, stacked: what reduces the maps, and the blocks."""
        reductions = [stage.downsample for stage in stages]
        first: list[Step] = [] if isinstance(reductions[0], nn.Identity) else [Reduction(reductions)]
        return [*first, *(Block(blocks) for blocks in zip(*(stage.blocks for stage in stages), strict=True))]
