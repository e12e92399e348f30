"""How sex and chronological age come in beside what the picture says."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from KneeBoneAgeLib.network import FEMALE, MALE, MONTHS_MAX

from .base import month_centres


class PersonCode(nn.Module):
    """Sex (B,) and chronological age (B,) → what a network concatenates to its features, (B, width).

    Either may be missing (2, NaN): then what stands for it is zero, and a network that has seen films without it
    copes. Age comes as a number and as its nearness to knots, so that the code may bend.
    """

    KNOTS = 13

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(2 + 2 + self.KNOTS, width)

    def forward(self, sex: Tensor, age_months: Tensor) -> Tensor:
        known = torch.isfinite(age_months)
        age = torch.where(known, age_months, 0.0).float().clamp(0, MONTHS_MAX)[:, None]
        knots = torch.linspace(0, MONTHS_MAX, self.KNOTS, device=age.device)
        near = torch.exp(-0.5 * ((age - knots) / (knots[1] - knots[0])) ** 2)
        number = torch.cat([torch.ones_like(age), age / 120 - 1, near], dim=1) * known[:, None]
        sexes = torch.stack([sex == FEMALE, sex == MALE], dim=1).to(number)
        return torch.relu(self.linear(torch.cat([sexes, number], dim=1)))


class AgeStart(nn.Module):
    """Where estimates start when chronological age (B,) is known: near it, so that pictures only correct it.

    As a number, (age - 120) / 120 times a factor that is learnt, first 1; as a distribution, a Gaussian about the age
    whose standard deviation is learnt, first 24 months. Both are 0 where the age is NaN. (Chosen, for every teacher.)
    """

    def __init__(self, distribution: bool = False) -> None:
        super().__init__()
        self.distribution = distribution
        self.learnt = nn.Parameter(torch.tensor(math.log(24.0) if distribution else 1.0))

    def forward(self, age_months: Tensor) -> Tensor:
        """(B,) to add to scaled numbers, or (B, 240) to add to logits over months."""
        known = torch.isfinite(age_months)
        age = torch.where(known, age_months, 120.0).float()
        if not self.distribution:
            return torch.where(known, self.learnt * (age / 120 - 1), 0.0)
        away = (month_centres(age) - age[:, None]) / self.learnt.exp()
        return torch.where(known[:, None], -0.5 * away**2, 0.0)
