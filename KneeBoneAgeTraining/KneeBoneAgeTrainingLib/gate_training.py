"""Learn the knee gate: features of the finished folds, of knees and of what is not one.

Both are seen jittered, as the networks learnt to see: a gate that knows plain drawn knees alone takes the look of a
real film for something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from KneeBoneAgeLib.network import AgeNetwork
from KneeBoneAgeLib.refusal import DISTANCE_SLACK, KneeGate

from .augmentation import Jitter
from .crop_cache import KNEE, CropCache
from .predicting import features_of_all

Floats = NDArray[np.floating]

GATE_KNEES, GATE_OTHERS = 1500, 4500
"""So many knees at most, and so many other crops, are looked at for the gate; part of them sets its thresholds."""
HIDDEN, COMPONENTS, STEPS = 16, 32, 400
KNEES_REFUSED = 0.005
"""Share of held-out training knees that may fall below the gate's threshold."""
OTHERS_REFUSED = 0.98
"""Share of held-out crops of other things that must; the threshold is no stricter than it takes, since a real film
looks less like a drawn knee than a drawn knee does."""
STRICTEST_LOGIT = -1.0
"""The threshold is never above this: a film that the gate is unsure of is not refused where the finder is sure."""


class LearntGate(NamedTuple):
    """A gate and how it does: of other crops that it has not seen, `kinds` (N,) and which are refused (N,); and which
    knees are, of those it has learnt from."""

    gate: KneeGate
    kinds: NDArray[np.str_]
    others_refused: NDArray[np.bool_]
    knees_refused: NDArray[np.bool_]


def learn_gate(
    networks: Sequence[AgeNetwork],
    knees: tuple[CropCache, NDArray[np.intp]],
    others: CropCache,
    jitter: Jitter,
) -> LearntGate:
    """The gate of K networks from a cache's knees, by their rows, and from what a cache holds beside knees. A fifth of
    the latter is only looked at."""
    cache, rows = knees
    rows = np.random.default_rng(0).permutation(rows)[:GATE_KNEES]
    other_rows = np.random.default_rng(1).permutation(np.flatnonzero(others.labels.kind != KNEE))[
        :GATE_OTHERS
    ]
    near = features_of_all(networks, cache, rows, jitter, seed=12)
    far = features_of_all(networks, others, other_rows, jitter, seed=13)
    learnt = len(other_rows) * 4 // 5
    gate = fit_gate(near, far[:, :learnt])

    def refused(features: Floats) -> NDArray[np.bool_]:
        return np.array([not answer.accepted for answer in gate.answer(features)], bool)

    return LearntGate(gate, others.labels.kind[other_rows[learnt:]], refused(far[:, learnt:]), refused(near))


def fit_gate(knees: Floats, others: Floats, seed: int = 0) -> KneeGate:
    """Features of knees (K, N, F) and of other crops (K, M, F) of K folds → the gate.

    A fifth of either is not learnt from; it sets the thresholds. Raises ValueError without other crops.
    """
    if others.shape[1] == 0:
        raise ValueError("the gate needs crops that are not frontal knees; draw negatives first")
    rng = np.random.default_rng(seed)
    order = rng.permutation(knees.shape[1])
    held_out, learnt = order[: len(order) // 5], order[len(order) // 5 :]
    seen = knees[:, learnt].astype(np.float32)
    taught = max(1, others.shape[1] * 4 // 5)
    centre, scale = seen.mean(1), seen.std(1) + 1e-3
    heads, whitening = [], []
    for fold in range(len(knees)):
        z = (seen[fold] - centre[fold]) / scale[fold]
        far = np.clip((others[fold, :taught] - centre[fold]) / scale[fold], -30, 30).astype(np.float32)
        heads.append([p.detach().numpy() for p in _fit_head(z, far, seed + fold).parameters()])
        _, singular, axes = np.linalg.svd(z - z.mean(0), full_matrices=False)
        count = min(COMPONENTS, len(singular))
        whitening.append(axes[:count].T / (singular[:count] / np.sqrt(len(z)) + 1e-3))
    gate = KneeGate(
        centre=centre,
        scale=scale,
        hidden_weight=np.stack([weight.T for weight, _, _, _ in heads]),
        hidden_bias=np.stack([bias for _, bias, _, _ in heads]),
        out_weight=np.stack([weight[0] for _, _, weight, _ in heads]),
        out_bias=np.stack([bias[0] for _, _, _, bias in heads]),
        components=np.stack(whitening),
        threshold=np.array([-np.inf, np.inf]),
    )
    kept = knees[:, held_out].astype(np.float32)
    enough = float(np.quantile(gate.logit(others[:, taught:].astype(np.float32)), OTHERS_REFUSED))
    lowest = min(float(np.quantile(gate.logit(kept), KNEES_REFUSED)), enough, STRICTEST_LOGIT)
    farthest = float(np.quantile(gate.distance(kept), 0.999)) * DISTANCE_SLACK
    tensors = {**gate.tensors(), "threshold": np.array([lowest, farthest], np.float32)}
    return KneeGate.from_tensors(tensors)


def _fit_head(knees: Floats, others: Floats, seed: int) -> nn.Sequential:
    """F → hidden → 1 with dropout and weight decay, both kinds weighing the same."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    head = nn.Sequential(nn.Linear(knees.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))
    near, far = torch.from_numpy(np.ascontiguousarray(knees)), torch.from_numpy(np.ascontiguousarray(others))
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=0.1)
    target = torch.cat([torch.ones(128), torch.zeros(128)])
    for _ in range(STEPS):
        rows = torch.randint(len(near), (128,), generator=generator)
        other_rows = torch.randint(len(far), (128,), generator=generator)
        inputs = torch.cat([near[rows], far[other_rows]])
        logits = head(functional.dropout(inputs, 0.2))[:, 0]
        loss = functional.binary_cross_entropy_with_logits(logits, target * 0.98 + 0.01)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head.eval()
