"""What the finished folds are worth, from their out-of-fold predictions: intervals, errors, closure, knee gate."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from KneeBoneAgeLib.intervals import Calibration, mean_months
from KneeBoneAgeLib.network import UNKNOWN_SEX

from .age_module import AgeModule, load_module
from .closure_training import (
    LEAST_CLOSED,
    VIEWS,
    closed_physes,
    fit_closure,
    rows_to_learn,
)
from .crop_cache import KNEE, CropCache, CropLabels
from .folds import FOLDS
from .gate_training import learn_gate
from .predicting import features_of_all, posterior

log = logging.getLogger(__name__)

KNOWN = {"sex_age": (True, True), "sex": (True, False), "age": (False, True), "none": (False, False)}
"""What is known beside the picture: sex, chronological age. Each case has its own calibration."""


def as_known(labels: CropLabels, case: str) -> CropLabels:
    """The same crops with sex, chronological age or both withheld, as `KNOWN[case]` says."""
    sex, age = KNOWN[case]
    return replace(
        labels,
        sex=labels.sex if sex else np.full_like(labels.sex, UNKNOWN_SEX),
        age_months=labels.age_months if age else np.full_like(labels.age_months, np.nan),
    )


def targets(labels: CropLabels, target: str) -> NDArray[np.float32]:
    """Bone ages to be covered; "true" falls back to the assigned ones where the true are not known."""
    if target == "true" and np.isfinite(labels.true_months).all():
        return labels.true_months
    return labels.assigned_months


def calibrate(
    run: Path, cache: CropCache, negatives: CropCache | None, *, target: str = "true", level: float = 0.9
) -> dict[str, Calibration]:
    """Write `calibration.json`, `metrics.json`, `closure.safetensors` and `gate.safetensors` into the run's folder.

    The intervals are meant for the bone age itself, so on a phantom they are calibrated on the true one;
    `target` "assigned" makes them cover what a reader would say. The choice is written down.
    """
    folds = [run / f"fold-{k}" for k in range(FOLDS)]
    modules = [load_module(folder) for folder in folds]
    networks = [module.averaged for module in modules]
    found = [np.load(folder / "out_of_fold.npz") for folder in folds]
    rows = np.concatenate([f["rows"] for f in found])
    labels = cache.labels.take(rows)
    fold_of = np.concatenate([np.full(len(f["rows"]), k) for k, f in enumerate(found)])
    likelihood = np.concatenate([f["log_likelihood"] for f in found])
    if target == "true" and not np.isfinite(labels.true_months).all():
        target = "assigned"
    calibrations, metrics = {}, {}
    for case in KNOWN:
        known = as_known(labels, case)
        p = np.empty((len(rows), likelihood.shape[-1]), np.float32)
        for k, network in enumerate(networks):
            mine = fold_of == k
            p[mine] = posterior(network, likelihood[mine], known.sex[mine], known.age_months[mine])
        calibrations[case] = Calibration.fit(p, targets(labels, target), level=level, target=target)
        metrics[case] = figures(p, labels, calibrations[case])
        log.info("%s  %s", case, "  ".join(f"{key} {value:.3f}" for key, value in metrics[case].items()))
    metrics["references"] = references(labels)
    closure = _train_closure(run, modules, cache)
    if closure:
        metrics["closure"] = closure
    (run / "calibration.json").write_text(
        json.dumps({case: c.to_json() for case, c in calibrations.items()}, indent=2) + "\n"
    )
    (run / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    _train_gate(run, modules, cache, negatives)
    return calibrations


def figures(p: NDArray[np.float32], labels: CropLabels, calibration: Calibration) -> dict[str, float]:
    """Errors (months) and coverage of predictions (N, bins) against the true and the assigned bone age."""
    mean = mean_months(p)
    low, high = calibration.interval(p)
    result = {"crops": float(len(p)), "interval_width": float((high - low).mean())}
    for name in ("true", "assigned"):
        bone_age = labels.true_months if name == "true" else labels.assigned_months
        result[f"mae_{name}"] = float(np.abs(mean - bone_age).mean())
        result[f"bias_{name}"] = float((mean - bone_age).mean())
        result[f"coverage_{name}"] = float(((low <= bone_age) & (bone_age <= high)).mean())
    return {key: value for key, value in result.items() if np.isfinite(value)}


def references(labels: CropLabels) -> dict[str, float]:
    """Errors (months) against the true bone age of the oracles and of chronological age alone."""
    guesses = {
        "oracle": labels.oracle_months,
        "oracle_no_age": labels.oracle_no_age_months,
        "chronological_age": labels.age_months,
    }
    errors = {name: float(np.abs(guess - labels.true_months).mean()) for name, guess in guesses.items()}
    return {name: error for name, error in errors.items() if np.isfinite(error)}


def _train_closure(run: Path, modules: list[AgeModule], cache: CropCache) -> dict[str, float]:
    """Learn to tell closed physes; how well that went on the children kept apart. Empty where too few are closed."""
    learnt, kept = rows_to_learn(cache.labels)
    closed = closed_physes(cache.labels)
    if min(closed[learnt].sum(), closed[kept].sum()) < LEAST_CLOSED:
        log.warning("too few knees with closed physes: the bundle will not tell them")
        return {}
    rows = np.concatenate([learnt, np.repeat(learnt[closed[learnt]], VIEWS - 1)])
    networks = [module.averaged for module in modules]
    closure = fit_closure(
        features_of_all(networks, cache, rows, modules[0].recipe.jitter, seed=11), closed[rows]
    )
    save_file(closure.tensors(), run / "closure.safetensors")
    called = closure.probability(features_of_all(networks, cache, kept)) > 0.5
    found = {
        "share of closed physes told": float(called[closed[kept]].mean()),
        "share of open physes called closed": float(called[~closed[kept]].mean()),
    }
    log.info("closure  %s", "  ".join(f"{name} {value:.3f}" for name, value in found.items()))
    return found


def _train_gate(run: Path, modules: list[AgeModule], cache: CropCache, negatives: CropCache | None) -> None:
    source = negatives or cache
    if not (source.labels.kind != KNEE).any():
        log.warning("no crops of anything but knees: the bundle will have no gate")
        return
    knees = np.flatnonzero(cache.labels.kind == KNEE)
    networks = [module.averaged for module in modules]
    learnt = learn_gate(networks, (cache, knees), source, modules[0].recipe.jitter)
    save_file(learnt.gate.tensors(), run / "gate.safetensors")
    for kind in np.unique(learnt.kinds):
        log.info(
            "gate refuses %.0f %% of %s", 100 * np.mean(learnt.others_refused[learnt.kinds == kind]), kind
        )
    log.info("gate refuses %.1f %% of knees", 100 * np.mean(learnt.knees_refused))
