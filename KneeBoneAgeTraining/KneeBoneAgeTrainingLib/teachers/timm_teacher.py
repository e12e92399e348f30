"""Fine-tuned general-purpose networks: any backbone of timm, pooled features, sex and age, one head.

The head is either a distribution over 240 months, learnt with Gaussian targets and estimated by its mean (a
public report with ConvNeXt-Tiny at 512 x 512 uses a standard deviation of 10 months), or one number with L1
loss. Chosen here: one hidden layer over features, sex and age, so that both can act together; beside the
cross-entropy, the mean's own L1 loss, because a wide target pulls means from the ends.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .architecture import TimmArchitecture
from .backbones import create_backbone, feature_count
from .base import (
    MONTHS,
    HandTruth,
    Inputs,
    Outcome,
    Teacher,
    distribution_loss,
    from_scaled,
    mean_months,
    scaled_loss,
    with_sum,
)
from .fusion import AgeStart, PersonCode

HIDDEN = 256


class TimmTeacher(Teacher):
    """A timm backbone on hands."""

    def __init__(self, architecture: TimmArchitecture, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.architecture = architecture
        self.backbone = create_backbone(
            architecture.backbone, architecture.pretrained, inputs.image_size, architecture.backbone_options
        )
        self.code = PersonCode(architecture.code_width)
        self.start = AgeStart(distribution=architecture.head == "distribution")
        self.head = nn.Sequential(
            nn.Dropout(architecture.drop_rate),
            nn.Linear(feature_count(self.backbone) + architecture.code_width, HIDDEN),
            nn.GELU(),
            nn.Linear(HIDDEN, MONTHS if architecture.head == "distribution" else 1),
        )

    def forward(self, image: Tensor, sex: Tensor, age_months: Tensor) -> Outcome:
        sex, age_months = self.shown(sex, age_months)
        code, start = self.code(sex, age_months), self.start(age_months)
        raw = self.head(torch.cat([self.backbone(image), code], dim=1)).float()
        if self.architecture.head == "regression":
            return Outcome(from_scaled(raw[:, 0] + start))
        log_p = torch.log_softmax(raw + start, dim=-1)
        return Outcome(mean_months(log_p), log_p)

    def loss(self, outcome: Outcome, months: Tensor, truth: HandTruth | None) -> dict[str, Tensor]:
        parts = {"months": scaled_loss(outcome.months, months)}
        if outcome.log_p is not None:
            parts["distribution"] = distribution_loss(outcome.log_p, months, self.architecture.sigma_months)
        return with_sum(parts)
