"""Whether the physes of femur and tibia are closed: then the knee has grown and tells no bone age but "at least"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .arrays import Floats, KeptArrays

YOUNGEST_MONTHS = 120.0
"""Bone age from which it is learnt and asked: no physis of the knee closes before, and of small children's knees, where
there is hardly one to see, it may say anything."""


@dataclass(frozen=True)
class PhysisClosure(KeptArrays):
    """Logistic regressions on the F features of each of K networks, their logits averaged; all float32 arrays."""

    WHAT: ClassVar[str] = "closure file"

    centre: Floats  # (K, F) mean of the features that it was learnt from
    scale: Floats  # (K, F) their standard deviation
    weight: Floats  # (K, F)
    bias: Floats  # (K,)

    def probability(self, features: Floats) -> Floats:
        """Features (K, B, F) of the folds → probability that both physes are closed, (B,).

        Raises ValueError for features of another number of folds or another length."""
        folds, count = self.weight.shape
        if features.ndim != 3 or features.shape[::2] != (folds, count):
            raise ValueError(f"features of shape {features.shape}: ({folds}, crops, {count}) are needed")
        z = np.clip((features - self.centre[:, None]) / self.scale[:, None], -8, 8)
        logit = (np.einsum("kbf,kf->kb", z, self.weight) + self.bias[:, None]).mean(0)
        return 1 / (1 + np.exp(-np.clip(logit, -60, 60)))
