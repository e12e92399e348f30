"""How far a picture's likelihood may be believed, measured on children that the networks have not learnt from.

A network that has seen few children is surer than it may be: what it says of a child that it does not know is too
narrow, and by Bayes' rule overrules the better prior. Temperature scaling (Guo et al. 2017, arXiv 1706.04599) takes the
likelihood to the power of one number, here from 0 (the picture says nothing) to 1, chosen where labels held out are
most probable. Each fold gets its own from the other folds, so that its own children have no say in it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from KneeBoneAgeLib.network import AgeNetwork

from .age_module import label_loss

POWERS = tuple(round(0.05 * step, 2) for step in range(1, 21))
"""What is tried: 0.05 to 1."""


@dataclass(frozen=True)
class HeldOut:
    """Of N children that `network` has not learnt from.

    Attributes
    ----------
    log_likelihood : (N, 2, bins), of a network at power 1.
    sex : (N,) 0 F, 1 M, 2 unknown; `age_months` (N,), NaN where unknown.
    label_months : (N,) what a reader or a hand model says, with `sd_months` (N,) about the true bone age.
    """

    network: AgeNetwork
    log_likelihood: Tensor
    sex: Tensor
    age_months: Tensor
    label_months: Tensor
    sd_months: Tensor

    @torch.no_grad()
    def losses(self, power: float) -> Tensor:
        """Negative log-probability of each label, (N,); the mean of that with and without chronological age."""
        found = []
        for age in (self.age_months, torch.full_like(self.age_months, torch.nan)):
            log_p = self.network.log_posterior(power * self.log_likelihood, self.sex, age)
            found.append(label_loss(log_p, self.label_months, self.sd_months, self.sex.clamp(max=1)))
        return torch.stack(found).mean(0)


def power_of(parts: Sequence[HeldOut]) -> float:
    """The power under which the labels of all parts are most probable; 1 where there are none."""
    if not sum(len(part.label_months) for part in parts):
        return 1.0
    return min(POWERS, key=lambda power: float(torch.cat([part.losses(power) for part in parts]).mean()))


def powers_of_folds(parts: Sequence[HeldOut]) -> list[float]:
    """For each fold's network the power that suits the children of the other folds; 1 for the only one."""
    return [power_of([*parts[:index], *parts[index + 1 :]]) for index in range(len(parts))]


def tempered(network: AgeNetwork, power: float) -> AgeNetwork:
    """A copy whose likelihood is that of `network` to the power, as long as spreads lie within 1 and 150 months."""
    copied = copy.deepcopy(network)
    linear = copied.head.linear
    with torch.no_grad():
        weight, bias = linear.weight.view(2, -1, linear.in_features), linear.bias.view(2, -1)
        bias[:, 1] -= 0.5 * math.log(power)  # a Gaussian to the power p is wider by the square root of 1 / p
        weight[:, 2:] *= power
        bias[:, 2:] *= power
        if copied.head.bent is not None:
            last: Any = copied.head.bent[-1]
            last.weight.view(2, -1, last.in_features)[:, 2:] *= power
            last.bias.view(2, -1)[:, 2:] *= power
    return copied
