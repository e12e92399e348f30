"""How far the folds of a knee run may be believed, each by what the others said of children held out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..hand.results import PREDICTIONS
from ..runs.record import read_json, read_rows, write_json
from ..runs.weights import POWER, POWER_FROM, WEIGHTS_JSON
from ..tempering import HeldOut, powers_of_folds
from .labels import Taught
from .results import held_out, posteriors, write_estimates
from .weights import load_networks

log = logging.getLogger(__name__)


def temper(run: Path, folds: Sequence[int], taught: Taught) -> None:
    """Choose the power of each fold's likelihood, write it into weights.json, and its estimates anew.

    What the same folds have settled already is left as it is; so is a single fold.
    """
    settled = [read_json(run / f"fold-{fold}" / WEIGHTS_JSON).get(POWER_FROM) for fold in folds]
    others = [[other for other in folds if other != fold] for fold in folds]
    if len(folds) < 2 or settled == others:
        return
    parts, all_rows = [], []
    for fold, network in zip(folds, load_networks(run, folds), strict=True):
        rows, likelihood = held_out(run / f"fold-{fold}", power=1.0)
        labels = taught.cache.labels.take(rows)
        parts.append(
            HeldOut(
                network,
                torch.from_numpy(likelihood),
                torch.from_numpy(labels.sex.astype(np.int64)),
                torch.from_numpy(labels.age_months.astype(np.float32)),
                torch.from_numpy(labels.assigned_months.astype(np.float32)),
                torch.from_numpy(taught.sd_months[rows].astype(np.float32)),
            )
        )
        all_rows.append(rows)
    powers = powers_of_folds(parts)
    for fold, power, used, part, rows in zip(folds, powers, others, parts, all_rows, strict=True):
        folder = run / f"fold-{fold}"
        _write_estimates(folder / PREDICTIONS, taught, rows, part, power)
        facts = read_json(folder / WEIGHTS_JSON)
        write_json(folder / WEIGHTS_JSON, {**facts, POWER: power, POWER_FROM: used})
    log.info("pictures count to the power %s of what the folds have learnt", ", ".join(map(str, powers)))


def _write_estimates(path: Path, taught: Taught, rows: NDArray[np.intp], part: HeldOut, power: float) -> None:
    labels = taught.cache.labels.take(rows)
    said = [power * part.log_likelihood.numpy()]
    p = {case: posteriors([part.network], said, labels, case) for case in ("sex_age", "sex")}
    age_alone = np.array([float(row["age_alone_months"] or "nan") for row in read_rows(path)])
    write_estimates(path, taught, rows, p, age_alone)
