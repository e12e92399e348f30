"""What a network says of the crops of a cache, and how far that is from the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from KneeBoneAgeLib.ensemble import Ensemble
from KneeBoneAgeLib.intervals import mean_months
from KneeBoneAgeLib.network import UNKNOWN_SEX, AgeNetwork

from .augmentation import Jitter, cut_out
from .crop_cache import CropCache, CropLabels


@dataclass(frozen=True)
class Prediction:
    """What a network says of N crops: pooled features (N, F) and log-likelihoods (N, 2, bins), float32."""

    features: NDArray[np.float32]
    log_likelihood: NDArray[np.float32]


@torch.inference_mode()
def predict(
    network: AgeNetwork, cache: CropCache, rows: NDArray[np.intp], size: int | None = None, batch: int = 16
) -> Prediction:
    """Features and likelihoods of unjittered crops, of the network's own or another side in pixels.

    The network runs where its weights lie.
    """
    network.eval()
    device = next(network.parameters()).device
    size = size or network.config.image_size
    features, likelihood = [], []
    for start in range(0, len(rows), batch):
        images = cut_out(cache.images(rows[start : start + batch]), size)
        found = network.features(images.to(device))
        likelihood.append(network.log_likelihood(found).float().cpu())
        features.append(found.float().cpu())
    return Prediction(torch.cat(features).numpy(), torch.cat(likelihood).numpy())


@torch.inference_mode()
def features_of_all(
    networks: Sequence[AgeNetwork],
    cache: CropCache,
    rows: NDArray[np.intp],
    jitter: Jitter | None = None,
    seed: int = 0,
    batch: int = 16,
) -> NDArray[np.float32]:
    """Features (K, N, F) that K networks have of crops, which are jittered, for all the same, where `jitter` is given;
    what the networks have in common is computed once."""
    ensemble = Ensemble([network.eval() for network in networks])
    size, device = networks[0].config.image_size, next(networks[0].parameters()).device
    rng = None if jitter is None else np.random.default_rng(seed)
    found = []
    for start in range(0, len(rows), batch):
        images = cut_out(cache.images(rows[start : start + batch]), size, rng, jitter)
        found.append(seen_by_all(ensemble, images.to(device)))
    return torch.cat(found, dim=1).numpy()


def seen_by_all(ensemble: Ensemble, images: Tensor) -> Tensor:
    """Features (K, B, F) of normalised crops (B, 1, S, S), float32 on the CPU; sex and age do not enter them."""
    sex = torch.full((len(images),), UNKNOWN_SEX, device=images.device)
    age = torch.full((len(images),), torch.nan, device=images.device)
    return ensemble.look(images, sex, age)[1].float().cpu()


@torch.inference_mode()
def posterior(
    network: AgeNetwork,
    log_likelihood: NDArray[np.float32],
    sex: NDArray[np.int64],
    age_months: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Likelihoods (N, 2, bins), sexes (2 = missing), ages (NaN = missing) → probabilities (N, bins)."""
    device = next(network.parameters()).device
    log_p = network.log_posterior(
        torch.from_numpy(log_likelihood).to(device),
        torch.from_numpy(sex.astype(np.int64)).to(device),
        torch.from_numpy(age_months.astype(np.float32)).to(device),
    )
    return log_p.exp().cpu().numpy()


def errors_months(prediction: Prediction, network: AgeNetwork, labels: CropLabels) -> dict[str, float]:
    """Mean absolute errors against the true (else the assigned) bone age; the oracle's where it is known."""
    target = np.where(np.isfinite(labels.true_months), labels.true_months, labels.assigned_months)
    means = {
        "mae": mean_months(posterior(network, prediction.log_likelihood, labels.sex, labels.age_months)),
        "mae_no_age": mean_months(
            posterior(network, prediction.log_likelihood, labels.sex, np.full_like(labels.age_months, np.nan))
        ),
        "oracle": labels.oracle_months,
        "oracle_no_age": labels.oracle_no_age_months,
    }
    return {key: float(np.abs(value - target).mean()) for key, value in means.items()}
