"""KneeBoneAgeLib's age network taught on hands: what a knee network starts from.

The group's hand paper (doi 10.1177/03635465251359618) has a ConvNeXt trained first with sex, then with
chronological age added; how the numbers come in, and its loss, are not published. Here they come in by Bayes'
rule, as `KneeBoneAgeLib.network` describes; the first landmarks are the key points of the hand, where films
have them. A knee network takes over all weights when its window (crop size times field) has as many pixels as
the hand's.
"""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor

from KneeBoneAgeLib.network import AgeNetwork, Points

from ..age_module import label_loss, point_loss
from .architecture import AgeNetworkArchitecture
from .backbones import create_backbone
from .base import MONTHS, HandTruth, Inputs, Outcome, Teacher, mean_months, with_sum

log = logging.getLogger(__name__)


class AgeNetworkTeacher(Teacher):
    """An `AgeNetwork`, kept as `network`, on pictures of hands."""

    def __init__(self, architecture: AgeNetworkArchitecture, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.architecture = architecture
        config = architecture.config(inputs.image_size)
        if MONTHS % config.bins:
            raise ValueError(f"options.bins is {config.bins}: must divide the {MONTHS} months evenly")
        self.network = AgeNetwork(config)
        first, second = architecture.baseline
        others = [point for point in range(config.points) if point not in architecture.baseline]
        self.named = [first, second, *others][: config.points]
        """Which key point each landmark of the network is: its first two span the line it measures against."""
        if architecture.pretrained == "if-available":
            self._start_from_imagenet()

    def _start_from_imagenet(self) -> None:
        config = self.network.config
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in config.backbone_options.items()}
        backbone = create_backbone(config.backbone, "if-available", self.inputs.image_size, options)
        self.network.backbone.load_state_dict(backbone.state_dict())

    def forward(self, image: Tensor, sex: Tensor, age_months: Tensor) -> Outcome:
        """`extra["key_points"]` is NaN where the network looks for none."""
        sex, age_months = self.shown(sex, age_months)
        features, points = self.network.see(image)
        likelihood = self.network.log_likelihood(features).float()
        extra = {"sex": sex}
        log_p = self._by_month(self.network.log_posterior(likelihood, sex, age_months))
        if self.inputs.chronological_age:
            nowhere = torch.full_like(age_months, torch.nan)
            extra["log_p_without_age"] = self._by_month(self.network.log_posterior(likelihood, sex, nowhere))
        if points is not None:
            extra["points"], extra["point_log_share"] = points.places, points.log_share
            found = torch.full((len(image), max(self.named) + 1, 2), torch.nan, device=image.device)
            extra["key_points"] = found.index_copy(
                1, torch.tensor(self.named, device=image.device), (points.places.detach().float() + 1) / 2
            )
        return Outcome(mean_months(log_p), log_p, extra)

    def loss(self, outcome: Outcome, months: Tensor, truth: HandTruth | None) -> dict[str, Tensor]:
        assert outcome.log_p is not None
        sd = torch.full_like(outcome.months, self.architecture.reader_sd_months)
        sex = outcome.extra["sex"].clamp(max=1)  # of an unknown one the longer atlas
        label = months.to(sd)
        with_age = label_loss(outcome.log_p, label, sd, sex).mean()
        parts = {"age": with_age}
        if self.inputs.chronological_age:
            without = label_loss(outcome.extra["log_p_without_age"], label, sd, sex).mean()
            parts = {"age": with_age / 2, "without_age": without / 2}
        if truth is not None and "points" in outcome.extra:
            parts["key_points"] = self.architecture.point_weight * self._point_loss(outcome, truth)
        return with_sum(parts)

    def _point_loss(self, outcome: Outcome, truth: HandTruth) -> Tensor:
        log_share = outcome.extra["point_log_share"]
        points = Points(outcome.extra["points"], log_share, math.isqrt(log_share.shape[-1]))
        given = truth.key_points.to(points.places)
        missing = max(self.named) + 1 - given.shape[1]
        if missing > 0:
            given = torch.nn.functional.pad(given, (0, 0, 0, missing), value=torch.nan)
        return point_loss(points, 2 * given[:, self.named] - 1, self.network.config.field)

    def _by_month(self, log_p: Tensor) -> Tensor:
        """Bins of several months → single months, each an equal share, (B, bins) → (B, 240)."""
        months_a_bin = MONTHS // log_p.shape[-1]
        return log_p.repeat_interleave(months_a_bin, dim=-1) - math.log(months_a_bin)
