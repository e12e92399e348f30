"""Whether a crop shows what the networks were trained on: a frontal knee without an implant in the joint.

Two questions are asked of the pooled features of all folds. A gate that has learnt from other parts, lateral
views, implants and photographs says how much it looks like a knee; it decides. A very loose bound on the
distance to the training crops catches what is like nothing at all: a real film looks different from a drawn
one, and that alone is no reason to refuse it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .arrays import Floats, KeptArrays

DISTANCE_SLACK = 4.0
"""The distance bound in units of the 99.9th percentile of held-out training crops."""


@dataclass(frozen=True)
class GateAnswer:
    """What the gate says of one crop; `reason` is empty where the crop is accepted."""

    accepted: bool
    knee_probability: float
    distance: float  # 1 is the bound
    reason: str


@dataclass(frozen=True)
class KneeGate(KeptArrays):
    """The gate of a bundle of K networks with F pooled features each; everything is a float32 array.

    A small network a fold (F → H → 1) on standardised features; the folds' logits are averaged. The distance
    is Mahalanobis' in the D leading principal components of each fold, averaged too.
    """

    WHAT: ClassVar[str] = "knee gate"

    centre: Floats  # (K, F) mean of the features of training knees
    scale: Floats  # (K, F) their standard deviation
    hidden_weight: Floats  # (K, F, H)
    hidden_bias: Floats  # (K, H)
    out_weight: Floats  # (K, H)
    out_bias: Floats  # (K,)
    components: Floats  # (K, F, D) whitening
    threshold: Floats  # (2,) lowest accepted logit, largest accepted distance

    def logit(self, features: Floats) -> Floats:
        """Features (K, B, F) of the folds → how much each crop looks like a knee (B,), log-odds."""
        z = self._standardised(features)
        hidden = np.maximum(np.einsum("kbf,kfh->kbh", z, self.hidden_weight) + self.hidden_bias[:, None], 0)
        return (np.einsum("kbh,kh->kb", hidden, self.out_weight) + self.out_bias[:, None]).mean(0)

    def confirms(self, features: Floats) -> list[bool]:
        """Features (K, B, F) → whether each crop, which the finder is unsure of, shows a knee: accepted, and likelier
        one than not. An unsure gate does not refuse what the finder is sure of, but it does not confirm either."""
        return [answer.accepted and answer.knee_probability >= 0.5 for answer in self.answer(features)]

    def distance(self, features: Floats) -> Floats:
        """Features (K, B, F) → distance to the training knees (B,); 1 about where they are themselves."""
        white = np.einsum("kbf,kfd->kbd", self._standardised(features), self.components)
        return np.sqrt((white**2).mean(-1)).mean(0)

    def answer(self, features: Floats) -> list[GateAnswer]:
        """Features (K, B, F) → one answer a crop."""
        lowest, farthest = (float(v) for v in self.threshold)
        answers = []
        for logit, distance in zip(self.logit(features), self.distance(features), strict=True):
            reason = ""
            if not logit >= lowest:
                reason = "what is in the crop does not look like a frontal knee without implants"
            elif not distance <= farthest:
                reason = "what is in the crop is unlike anything the networks were trained on"
            probability = 1 / (1 + np.exp(-np.clip(logit, -60, 60)))
            answers.append(GateAnswer(not reason, float(probability), float(distance / farthest), reason))
        return answers

    def _standardised(self, features: Floats) -> Floats:
        if features.ndim != 3 or features.shape[::2] != self.centre.shape:
            folds, count = self.centre.shape
            raise ValueError(f"features of shape {features.shape}: ({folds}, crops, {count}) are needed")
        return np.clip((features - self.centre[:, None]) / self.scale[:, None], -30, 30)
