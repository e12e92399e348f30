"""What a teacher says of films: estimates in months, with the spread of its own distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from ..teachers.age_network import AgeNetworkTeacher
from ..teachers.base import Teacher, month_centres
from .batches import PlainPictures
from .films import Numbers

BATCH = 16
FEW = 200
"""Films that are read sooner than processes that would read them are started."""


@dataclass(frozen=True)
class Estimates:
    """Of N films, in months: the estimate, and the standard deviation of the network's own distribution.

    The latter is NaN for networks that give no distribution.
    """

    months: NDArray[np.float64]
    sd_months: NDArray[np.float64]


@torch.no_grad()
def predict(
    teacher: Teacher,
    pictures: Sequence[Path],
    numbers: Numbers,
    *,
    mirrored: bool = True,
    workers: int = 0,
    context: AbstractContextManager[object] | None = None,
    check: Callable[[], None] | None = None,
) -> Estimates:
    """Estimates of kept pictures, with `mirrored` the mean of a picture's and its mirror image's.

    The network runs where its weights lie. `check` is called between batches; what it raises ends the work.
    """
    device = next(teacher.parameters()).device
    was_training = teacher.training
    teacher.eval()
    months, spread = [], []
    first = 0
    with context or nullcontext():
        for image in _batches(teacher, pictures, workers):
            rows = slice(first, first + len(image))
            first += len(image)
            image = image.to(device)
            sex = torch.from_numpy(numbers.sex[rows]).to(device)
            age = torch.from_numpy(numbers.age_months[rows]).to(device)
            views = [image, image.flip(-1)] if mirrored else [image]
            outcomes = [teacher(view, sex, age) for view in views]
            mean = torch.stack([outcome.months.float().cpu().double() for outcome in outcomes]).mean(0)
            months.append(mean)
            if all(outcome.log_p is not None for outcome in outcomes):
                said = [o.log_p.float().cpu().double().exp() for o in outcomes if o.log_p is not None]
                p = torch.stack(said).mean(0)
                away = month_centres(p) - (p @ month_centres(p))[:, None]
                spread.append((p * away**2).sum(-1).sqrt())
            else:
                spread.append(torch.full_like(mean, torch.nan))
            if check:
                check()
    teacher.train(was_training)
    nothing = torch.empty(0, dtype=torch.float64)
    return Estimates(torch.cat([*months, nothing]).numpy(), torch.cat([*spread, nothing]).numpy())


@torch.no_grad()
def log_likelihoods(
    teacher: AgeNetworkTeacher,
    pictures: Sequence[Path],
    *,
    workers: int = 0,
    check: Callable[[], None] | None = None,
) -> Tensor:
    """What kept pictures alone say, (N, 2, bins) log-likelihoods of both sexes on the CPU; `check` as in `predict`."""
    device = next(teacher.parameters()).device
    teacher.eval()
    found = []
    for image in _batches(teacher, pictures, workers):
        network = teacher.network
        found.append(network.log_likelihood(network.features(image.to(device))).float().cpu())
        if check:
            check()
    return torch.cat(found) if found else torch.empty(0, 2, teacher.network.config.bins)


def _batches(teacher: Teacher, pictures: Sequence[Path], workers: int) -> DataLoader[Tensor]:
    """Pictures (B, 1, H, W), at most `BATCH` at once."""
    films = PlainPictures(pictures, teacher.inputs.image_size)
    return DataLoader(films, batch_size=BATCH, num_workers=workers if len(films) > FEW else 0)


def pooled(
    estimates: Sequence[Estimates], own_sd_months: Sequence[float] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of several networks, and the standard deviation of the mixture of what they say, (N,) months each.

    Parameters
    ----------
    own_sd_months : of each network, for those that give no distribution (their out-of-fold error); without it these
        count as sure of themselves, and one alone has NaN.
    """
    months = np.stack([one.months for one in estimates])
    own = np.stack([one.sd_months for one in estimates])
    if own_sd_months is not None:
        own = np.where(np.isnan(own), np.asarray(own_sd_months, float)[:, None], own)
    elif len(estimates) > 1:
        own = np.nan_to_num(own)
    return months.mean(0), np.sqrt((own**2).mean(0) + months.var(0))
