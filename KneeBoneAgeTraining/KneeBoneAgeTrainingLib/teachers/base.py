"""What every teacher is: a picture of a hand, sex and chronological age in; months out; its own losses.

Shapes: B films, H x W pixels of the prepared picture, K key points. Months are bone age, 0 to 240.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from KneeBoneAgeLib.network import UNKNOWN_SEX

MONTHS = 240
"""Bins of `Outcome.log_p`: bin k covers the months from k to k + 1."""


@dataclass(frozen=True)
class Inputs:
    """What a network is given: a picture of `image_size` (rows, columns), and which numbers beside it.

    A number that is not an input is hidden from the network, whatever the caller passes. The parameters are the
    same for any choice of numbers, so a stage that adds one starts from the weights of the stage before.
    """

    image_size: tuple[int, int]
    sex: bool = True
    chronological_age: bool = False


@dataclass(frozen=True)
class HandTruth:
    """Extra supervision of a batch, where the films have it.

    `key_points` (B, K, 2) are (x, y) in shares of the picture's width and height, 0 to 1; NaN where unknown.
    `mask` (B, H, W) is 1 on the hand and 0 elsewhere; a film without one is all NaN, a batch without any has None.
    """

    key_points: Tensor
    mask: Tensor | None = None


@dataclass(frozen=True)
class Outcome:
    """`months` (B,) are the estimates; `log_p` (B, 240) log-probabilities over months, None for pure regression.

    `extra` is what else an architecture found, the first dimension of each always B: "key_points" (B, K, 2) as in
    `HandTruth`, "mask_logits" (B, H, W), and what its own loss needs.
    """

    months: Tensor
    log_p: Tensor | None = None
    extra: dict[str, Tensor] = field(default_factory=dict)


class Teacher(nn.Module, ABC):
    """A network that estimates bone age from the picture of a hand.

    Buffers hold what was learnt without gradients (running statistics): whoever averages or keeps weights must
    take over buffers too. Every parameter gets a gradient in every step, so that several processes stay in step.
    """

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.inputs = inputs

    @abstractmethod
    def forward(self, image: Tensor, sex: Tensor, age_months: Tensor) -> Outcome:
        """Image (B, 1, H, W) in -1 to 1, sex (B,) 0 F, 1 M, 2 unknown, age (B,) months or NaN → `Outcome`."""

    @abstractmethod
    def loss(self, outcome: Outcome, months: Tensor, truth: HandTruth | None) -> dict[str, Tensor]:
        """Named parts, each weighted already, and "loss", their sum; `months` (B,) is the reader's bone age."""

    def shown(self, sex: Tensor, age_months: Tensor) -> tuple[Tensor, Tensor]:
        """Sex and age as the network may see them: unknown and NaN where they are no input."""
        if not self.inputs.sex:
            sex = torch.full_like(sex, UNKNOWN_SEX)
        if not self.inputs.chronological_age:
            age_months = torch.full_like(age_months, torch.nan)
        return sex, age_months


def with_sum(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """The parts of a loss and their sum as "loss"."""
    return {**parts, "loss": torch.stack(list(parts.values())).sum()}


def month_centres(like: Tensor) -> Tensor:
    """Centres of the month bins, (240,): 0.5 to 239.5."""
    return torch.arange(MONTHS, device=like.device, dtype=like.dtype) + 0.5


def mean_months(log_p: Tensor) -> Tensor:
    """Mean of distributions over months, (B, 240) → (B,)."""
    return (log_p.exp() * month_centres(log_p)).sum(-1)


def scaled_loss(found: Tensor, months: Tensor) -> Tensor:
    """Mean absolute error of estimates (B,) in units of 120 months."""
    return functional.l1_loss(found, months.to(found)) / 120


def from_scaled(raw: Tensor) -> Tensor:
    """Outputs of a regression, (age - 120) / 120, in months."""
    return 120 + 120 * raw.float()


def distribution_loss(log_p: Tensor, months: Tensor, sigma_months: float) -> Tensor:
    """Cross-entropy with a Gaussian about each label, cut off at 0 and 240 months; the mean over the batch.

    Label-distribution learning: Gao et al. 2017, doi 10.1109/TIP.2017.2689998.
    """
    away = (month_centres(log_p) - months[:, None].to(log_p)) / sigma_months
    target = torch.softmax(-0.5 * away**2, dim=-1)
    return -(target * log_p).sum(-1).mean()


def key_point_loss(found: Tensor, truth: HandTruth | None) -> Tensor:
    """Mean distance, in shares of the picture, of the first key points found (B, P, 2) from the true ones.

    The first min(P, K) are compared; unknown ones do not count. 0 where none is known.
    """
    if truth is None:
        return 0 * found.sum()
    count = min(found.shape[1], truth.key_points.shape[1])
    target = truth.key_points[:, :count].to(found)
    known = torch.isfinite(target)
    error = functional.smooth_l1_loss(found[:, :count], torch.nan_to_num(target), beta=0.02, reduction="none")
    return (error * known).sum() / known.sum().clamp(min=1)
