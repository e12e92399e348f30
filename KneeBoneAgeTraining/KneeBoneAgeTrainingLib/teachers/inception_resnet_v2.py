"""Inception-ResNet-V2 with global average pooling and one ReLU output, one model for each sex.

Cheng et al. 2021, BioMedicine, doi 10.37796/2211-8039.1256: 8,061 left hands, 0 to 18 years. Chosen here: the
output counts years and starts at 10, so that its ReLU is alive at first; L1 loss; dropout; a child of unknown
sex gets the mean of both models and teaches both. Age, where it is an input, stands beside the pooled
features. A CPU can have it narrower and with fewer residual blocks (`smaller`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from KneeBoneAgeLib.network import FEMALE, MALE, UNKNOWN_SEX

from .architecture import InceptionResNetV2Architecture
from .backbones import create_backbone, feature_count
from .base import HandTruth, Inputs, Outcome, Teacher, scaled_loss, with_sum
from .fusion import AgeStart, PersonCode

SMALLEST_PX = 107
"""Side below which the last maps are one cell, and a batch with one girl or one boy could not be normalised."""


def smaller(network: Any, narrow: int, blocks: tuple[int, int, int]) -> Any:
    """timm's Inception-ResNet-V2 with one `narrow`-th of the maps of every convolution but the picture itself, and
    with fewer of its residual blocks A, B and C; with first weights."""
    network.repeat = network.repeat[: blocks[0]]
    network.repeat_1 = network.repeat_1[: blocks[1]]
    network.repeat_2 = network.repeat_2[: blocks[2] - 1]  # the last, without ReLU, stands by itself
    for module in [one for one in network.modules() if any(True for _ in one.children())]:
        for name, layer in module.named_children():
            if isinstance(layer, nn.Conv2d):
                setattr(module, name, _narrower(layer, narrow))
            elif isinstance(layer, nn.BatchNorm2d):
                _narrow_norm(layer, layer.num_features // narrow)
    network.num_features = network.head_hidden_size = network.num_features // narrow
    return network


def _narrower(layer: nn.Conv2d, narrow: int) -> nn.Conv2d:
    return nn.Conv2d(
        max(1, layer.in_channels // narrow),
        layer.out_channels // narrow,
        kernel_size=layer.kernel_size,  # type: ignore[arg-type]
        stride=layer.stride,  # type: ignore[arg-type]
        padding=layer.padding,  # type: ignore[arg-type]
        bias=layer.bias is not None,
    )


def _narrow_norm(layer: nn.BatchNorm2d, maps: int) -> None:
    layer.num_features = maps
    for name, value in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
        if value.ndim:
            kept = value.detach()[:maps].clone()
            setattr(layer, name, nn.Parameter(kept) if isinstance(value, nn.Parameter) else kept)


class YearsModel(nn.Module):
    """Picture, sex and age → months, (B,)."""

    def __init__(self, architecture: InceptionResNetV2Architecture, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.backbone = create_backbone(architecture.backbone, architecture.pretrained, image_size)
        if not architecture.as_published:
            self.backbone = smaller(self.backbone, architecture.narrow, architecture.blocks)
        self.code = PersonCode(architecture.code_width)
        self.start = AgeStart()
        self.drop = nn.Dropout(architecture.drop_rate)
        self.out = nn.Linear(feature_count(self.backbone) + architecture.code_width, 1)
        nn.init.trunc_normal_(self.out.weight, std=0.01)
        nn.init.constant_(self.out.bias, 10.0)

    def forward(self, image: Tensor, sex: Tensor, age_months: Tensor) -> Tensor:
        features = torch.cat([self.backbone(image), self.code(sex, age_months)], dim=1)
        years = self.out(self.drop(features))[:, 0].float() + 10 * self.start(age_months)
        return 12 * torch.relu(years)


class InceptionResNetV2(Teacher):
    """Two `YearsModel`s, for girls and for boys, or one for both."""

    def __init__(self, architecture: InceptionResNetV2Architecture, inputs: Inputs) -> None:
        super().__init__(inputs)
        if architecture.backbone == "inception_resnet_v2" and min(inputs.image_size) < SMALLEST_PX:
            raise ValueError(
                f"image_size {inputs.image_size}: Inception-ResNet-V2 needs at least {SMALLEST_PX} pixels a side"
            )
        self.architecture = architecture
        models = 2 if architecture.sex_specific else 1
        self.models = nn.ModuleList(YearsModel(architecture, inputs.image_size) for _ in range(models))

    def forward(self, image: Tensor, sex: Tensor, age_months: Tensor) -> Outcome:
        sex, age_months = self.shown(sex, age_months)
        if not self.architecture.sex_specific:
            return Outcome(self.models[0](image, sex, age_months))
        months = torch.zeros(len(sex), device=image.device)
        for which, model in zip((FEMALE, MALE), self.models, strict=True):
            rows = ((sex == which) | (sex == UNKNOWN_SEX)).nonzero()[:, 0]
            share = torch.where(sex[rows] == UNKNOWN_SEX, 0.5, 1.0)
            if len(rows):
                found = model(image[rows], sex[rows], age_months[rows])
                months = months.index_add(0, rows, share * found)
            elif self.training:  # no gradient but zero, which several processes expect of every parameter
                months = months + 0 * sum(one.sum() for one in model.parameters())
        return Outcome(months)

    def loss(self, outcome: Outcome, months: Tensor, truth: HandTruth | None) -> dict[str, Tensor]:
        return with_sum({"months": scaled_loss(outcome.months, months)})
