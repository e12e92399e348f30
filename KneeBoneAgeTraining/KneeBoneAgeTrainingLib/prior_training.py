"""Learn p(bone age | chronological age, sex) from numbers alone."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from KneeBoneAgeLib.network import AgePrior


def fit_prior(
    prior: AgePrior,
    sex: NDArray[np.int64],
    age_months: NDArray[np.float32],
    bone_age_months: NDArray[np.float32],
    *,
    steps: int = 600,
    seed: int = 0,
) -> float:
    """Learn p(bone age | chronological age, sex) from numbers (N,); returns the last loss, nats."""
    bins = prior.marginal.shape[1]
    width = 240.0 / bins
    # A value on the edge of two bins, as at the atlas's end, is shared by both, so that it keeps its mean.
    position = np.clip(bone_age_months / width - 0.5, 0, bins - 1)
    low = np.minimum(position.astype(int), bins - 2)
    part = (position - low).astype(np.float32)
    smoothing = np.exp(-0.5 * (np.arange(-6, 7) * width / 2.0) ** 2)
    for which in (0, 1):
        rows = sex == which
        histogram = np.zeros(bins)
        np.add.at(histogram, low[rows], 1 - part[rows])
        np.add.at(histogram, low[rows] + 1, part[rows])
        inner = np.convolve(histogram, smoothing / smoothing.sum(), mode="same")
        seen = np.flatnonzero(histogram)
        if len(seen):
            inner[seen[-1]] += inner[seen[-1] + 1 :].sum()
            inner[seen[-1] + 1 :] = 0  # smoothing must not reach beyond the atlas's end
        p = inner / max(inner.sum(), 1) * 0.998 + 0.002 / bins
        prior.marginal[which] = torch.from_numpy(np.log(p / p.sum())).float()
    generator = torch.Generator().manual_seed(seed)
    table = [
        torch.from_numpy(np.asarray(a))
        for a in (sex.astype(np.int64), age_months.astype(np.float32), low, part)
    ]
    prior.requires_grad_(True)
    optimizer = torch.optim.Adam(prior.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows_now = torch.randint(len(sex), (512,), generator=generator)
        s, age, i, share = (column[rows_now] for column in table)
        log_p = prior(age)[torch.arange(len(s)), s]
        here, above = log_p.gather(1, i[:, None])[:, 0], log_p.gather(1, i[:, None] + 1)[:, 0]
        loss = -torch.logaddexp(here + torch.log1p(-share + 1e-6), above + torch.log(share + 1e-6)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    prior.requires_grad_(False)
    return float(loss.detach())
