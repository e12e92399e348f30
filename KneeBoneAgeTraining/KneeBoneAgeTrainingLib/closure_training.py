"""Learn to tell closed physes: features of the finished folds, of drawn knees whose bridging is known."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from KneeBoneAgeLib.closure import YOUNGEST_MONTHS, PhysisClosure
from KneeBoneAgeLib.phantom.maturation import Indicators

from .crop_cache import KNEE, CropLabels

Floats = NDArray[np.floating]

BRIDGED = 0.95
"""Share of a physis from which on it counts as closed: no reader sees the rest."""
VIEWS = 4
"""Jittered views of each closed knee: there are few."""
PENALTY = 0.1
"""Weight of half the squared weights beside the mean loss."""
LEAST_CLOSED = 20


def closed_physes(labels: CropLabels) -> NDArray[np.bool_]:
    """(N,) whether both the femoral and the tibial physis are closed; False where that is not known."""
    names = Indicators.visible_names()
    if labels.indicators.shape[1] != len(names):
        return np.zeros(len(labels.kind), bool)
    both = labels.indicators[:, [names.index("femur_bridging"), names.index("tibia_bridging")]]
    return (labels.kind == KNEE) & (np.nan_to_num(both) >= BRIDGED).all(1)


def rows_to_learn(labels: CropLabels, seed: int = 0) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of knees beyond childhood, in a random order: those to learn from, and a fifth of the children kept."""
    knees = np.flatnonzero((labels.kind == KNEE) & (np.nan_to_num(labels.true_months) >= YOUNGEST_MONTHS))
    rng = np.random.default_rng(seed)
    knees = rng.permutation(knees)
    children = rng.permutation(np.unique(labels.patient_id[knees]))
    kept = np.isin(labels.patient_id[knees], children[: len(children) // 5])
    return knees[~kept], knees[kept]


def fit_closure(features: Floats, closed: NDArray[np.bool_]) -> PhysisClosure:
    """Features (K, N, F) of K folds and whether the physes are closed (N,) → the regressions.

    Open and closed weigh the same: how many of a cohort are grown says nothing about the film in hand. Raises
    ValueError where there is but one of the two."""
    if closed.all() or not closed.any():
        raise ValueError("to tell closed physes, knees with open and with closed ones are needed")
    centre, scale = features.mean(1), features.std(1) + 1e-3
    target = torch.from_numpy(closed.astype(np.float32))
    heavy = torch.where(target > 0, 0.5 / target.mean(), 0.5 / (1 - target.mean()))
    weights, biases = [], []
    for fold, seen in enumerate(features):
        z = torch.from_numpy(np.clip((seen - centre[fold]) / scale[fold], -8, 8).astype(np.float32))
        weight, bias = _logistic(z, target, heavy)
        weights.append(weight)
        biases.append(bias)
    tensors = {"centre": centre, "scale": scale, "weight": np.stack(weights), "bias": np.concatenate(biases)}
    return PhysisClosure.from_tensors(tensors)


def _logistic(z: torch.Tensor, target: torch.Tensor, heavy: torch.Tensor) -> tuple[Floats, Floats]:
    weight = torch.zeros(z.shape[1], requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        found = functional.binary_cross_entropy_with_logits(z @ weight + bias, target, weight=heavy)
        found = found + PENALTY / 2 * (weight**2).sum()
        found.backward()
        return float(found.detach())

    optimizer.step(loss)
    return weight.detach().numpy(), bias.detach().numpy()
