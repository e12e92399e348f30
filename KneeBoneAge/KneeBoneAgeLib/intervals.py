"""Mean, quantiles and conformal intervals of bone-age distributions.

The network's own quantiles are widened or narrowed until they cover what they claim: conformalised quantile
regression (Romano, Patterson, Candès 2019) on out-of-fold predictions, scaled by the predicted width and
split into bands of predicted age. NumPy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MONTHS_MAX = 240.0
BAND_EDGES_MONTHS = (36.0, 72.0, 108.0, 144.0, 180.0)
SMALL_BAND = 100

Floats = NDArray[np.float64]


def mean_months(probabilities: ArrayLike) -> Floats:
    """Distributions over equal bins of 0 to 240 months (..., bins) → their means (...), months."""
    p = np.asarray(probabilities, dtype=np.float64)
    bins = p.shape[-1]
    return p @ ((np.arange(bins) + 0.5) * MONTHS_MAX / bins) / p.sum(-1)


def quantile_months(probabilities: ArrayLike, q: float) -> Floats:
    """Distributions (..., bins) → their q-quantiles (...), months, linear within a bin."""
    p = np.asarray(probabilities, dtype=np.float64)
    bins = p.shape[-1]
    flat = p.reshape(-1, bins)
    below = np.concatenate([np.zeros((len(flat), 1)), np.cumsum(flat, axis=1)], axis=1)
    target = q * below[:, -1]
    i = np.minimum((below[:, 1:] < target[:, None]).sum(1), bins - 1)
    rows = np.arange(len(flat))
    inside = (target - below[rows, i]) / np.maximum(flat[rows, i], 1e-300)
    return ((i + np.clip(inside, 0, 1)) * MONTHS_MAX / bins).reshape(p.shape[:-1])


@dataclass(frozen=True)
class Calibration:
    """How far to move the ends of the predicted interval, by band of predicted age.

    `shift[i]` is a fraction of the predicted width; band i reaches from `edges_months[i - 1]` to
    `edges_months[i]` (the first from 0, the last to 240). `count[i]` crops stood behind it; where fewer than
    `SMALL_BAND` did, the shift is the one of all crops. `target` says what is covered: "true" or "assigned"
    bone age.
    """

    level: float
    target: str
    edges_months: tuple[float, ...]
    shift: tuple[float, ...]
    count: tuple[int, ...]

    @classmethod
    def fit(
        cls,
        probabilities: ArrayLike,
        bone_age_months: ArrayLike,
        *,
        level: float = 0.9,
        target: str = "true",
        edges_months: Sequence[float] = BAND_EDGES_MONTHS,
    ) -> Calibration:
        """Calibrate on predictions (N, bins) that did not see their own bone ages (N,), months."""
        p = np.asarray(probabilities, dtype=np.float64)
        bone_age = np.asarray(bone_age_months, dtype=np.float64)
        if len(p) != len(bone_age) or len(p) == 0:
            raise ValueError(
                f"{len(p)} predictions for {len(bone_age)} bone ages: as many of both are needed"
            )
        low, high = _predicted_ends(p, level)
        score = np.maximum(low - bone_age, bone_age - high) / (high - low)
        band = np.digitize(mean_months(p), edges_months)
        everyone = _conformal_quantile(score, level)
        members = [score[band == i] for i in range(len(edges_months) + 1)]
        shift = [everyone if len(m) < SMALL_BAND else _conformal_quantile(m, level) for m in members]
        return cls(level, target, tuple(edges_months), tuple(shift), tuple(len(m) for m in members))

    def interval(self, probabilities: ArrayLike) -> tuple[Floats, Floats]:
        """Distributions (..., bins) → low and high ends (...), months, within 0..240 and around the mean."""
        p = np.asarray(probabilities, dtype=np.float64)
        low, high = _predicted_ends(p, self.level)
        mean = mean_months(p)
        move = np.asarray(self.shift)[np.digitize(mean, self.edges_months)] * (high - low)
        return (
            np.clip(np.minimum(low - move, mean), 0, MONTHS_MAX),
            np.clip(np.maximum(high + move, mean), 0, MONTHS_MAX),
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Calibration:
        return cls(
            float(values["level"]),
            str(values["target"]),
            tuple(float(v) for v in values["edges_months"]),
            tuple(float(v) for v in values["shift"]),
            tuple(int(v) for v in values["count"]),
        )


def _predicted_ends(p: Floats, level: float) -> tuple[Floats, Floats]:
    tail = (1 - level) / 2
    low, high = quantile_months(p, tail), quantile_months(p, 1 - tail)
    return low, np.maximum(high, low + 1.0)


def _conformal_quantile(score: Floats, level: float) -> float:
    """The ceil((n + 1) level)-th smallest score; the largest where n is too small for that."""
    rank = min(int(np.ceil((len(score) + 1) * level)), len(score))
    return float(np.sort(score)[rank - 1])
