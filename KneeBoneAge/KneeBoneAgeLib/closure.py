"""Whether the physes of femur and tibia are closed: then the knee has grown and tells no bone age but "at least"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class PhysisClosure:
    """Logistic regressions on the F features of each of K networks, their logits averaged; all float32 arrays."""

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

    def tensors(self) -> dict[str, Floats]:
        """Arrays by name, as a safetensors file holds them."""
        return {
            name: np.ascontiguousarray(getattr(self, name), np.float32) for name in self.__dataclass_fields__
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Floats]) -> PhysisClosure:
        """The inverse of `tensors`; raises ValueError when an array is missing or one too many."""
        names = set(cls.__dataclass_fields__)
        if set(tensors) != names:
            raise ValueError(f"a closure file has the arrays {sorted(names)}, not {sorted(tensors)}")
        return cls(**{name: np.asarray(tensors[name], np.float32) for name in names})
