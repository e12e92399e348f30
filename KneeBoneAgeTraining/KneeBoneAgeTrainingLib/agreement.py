"""How the field says how good estimates are, and what chronological age alone would have achieved."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
WITHIN_MONTHS = (6, 12, 18, 24)
FEW = 20
"""With fewer children than this of a sex, both sexes share one curve."""


@dataclass(frozen=True)
class Agreement:
    """Estimates against labels of `n` films, in months.

    `bias` is the mean of estimate − label, the limits of agreement `lower` and `upper` lie 1.96 standard deviations
    about it (Bland, Altman 1986); `within` are the shares of films whose error is at most `WITHIN_MONTHS`.
    """

    n: int
    mae: float
    rmse: float
    median: float
    bias: float
    lower: float
    upper: float
    within: tuple[float, ...]

    def to_json(self) -> dict[str, float]:
        """Flat, as metrics.json has it: the shares as ``within_6`` and so on."""
        values = asdict(self)
        shares = values.pop("within")
        values |= {f"within_{months}": share for months, share in zip(WITHIN_MONTHS, shares, strict=True)}
        return {name: round(value, 4) for name, value in values.items()}


def agreement(estimate_months: ArrayLike, label_months: ArrayLike) -> Agreement | None:
    """Agreement of estimates (N,) with labels (N,); None where there is no film."""
    error = np.asarray(estimate_months, float) - np.asarray(label_months, float)
    if not error.size:
        return None
    size = np.abs(error)
    bias, sd = float(error.mean()), float(error.std(ddof=1)) if error.size > 1 else 0.0
    return Agreement(
        n=int(error.size),
        mae=float(size.mean()),
        rmse=float(np.sqrt((error**2).mean())),
        median=float(np.median(size)),
        bias=bias,
        lower=bias - 1.96 * sd,
        upper=bias + 1.96 * sd,
        within=tuple(float((size <= months).mean()) for months in WITHIN_MONTHS),
    )


@dataclass(frozen=True)
class AgeBaseline:
    """Bone age from chronological age and sex alone: a parabola a sex, least squares.

    `curves` (3, 3) are coefficients (constant, age, age²), age in years, for girls, boys and unknown sex; `mean_months`
    (3,) is what is said without an age; nothing beyond `range_months` is said.
    """

    curves: Floats
    mean_months: Floats
    range_months: tuple[float, float]

    def predict(self, age_months: ArrayLike, sex: ArrayLike) -> Floats:
        """Ages (N,), NaN where unknown, and sexes (N,) 0 F, 1 M, 2 unknown → months (N,)."""
        age = np.asarray(age_months, float)
        row = np.asarray(sex, int)
        months = np.einsum("nk,nk->n", self.curves[row], _powers(np.nan_to_num(age)))
        return np.clip(np.where(np.isfinite(age), months, self.mean_months[row]), *self.range_months)


def fit_age_baseline(age_months: ArrayLike, sex: ArrayLike, label_months: ArrayLike) -> AgeBaseline:
    """Fit the baseline on the children that a network learns from. Raises ValueError where there are none."""
    age, label, group = (np.asarray(v, float) for v in (age_months, label_months, sex))
    if not label.size:
        raise ValueError("a baseline needs children with a label")
    curves, means = np.zeros((3, 3)), np.full(3, label.mean())
    aged = np.isfinite(age)
    for row in (2, 0, 1):
        own = (group == row) if row < 2 else np.ones(len(group), bool)
        if row < 2 and (own & aged).sum() < FEW:
            curves[row] = curves[2]
            continue
        means[row] = label[own].mean()
        if (own & aged).sum() >= 3:
            curves[row] = np.linalg.lstsq(_powers(age[own & aged]), label[own & aged], rcond=None)[0]
        else:
            curves[row, 0] = means[row]
    return AgeBaseline(curves, means, (float(label.min()), float(label.max())))


def _powers(age_months: Floats) -> Floats:
    years = age_months / 12
    return np.stack([np.ones_like(years), years, years**2], -1)
