"""What came of a knee run: calibration on estimates out of fold, agreement beside chronological age alone, the gate."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from KneeBoneAgeLib.intervals import Calibration, mean_months
from KneeBoneAgeLib.network import AgeNetwork

from ..agreement import AgeBaseline, agreement, fit_age_baseline
from ..augmentation import Jitter
from ..calibration import KNOWN, as_known
from ..crop_cache import KNEE, CropCache, CropLabels
from ..gate_training import learn_gate
from ..hand.results import PREDICTIONS, TEST_PREDICTIONS, draw_figures, read_predictions
from ..predicting import posterior
from ..runs.record import METRICS, read_json, read_rows, write_json, write_table
from ..runs.weights import POWER, WEIGHTS_JSON
from .labels import Taught

log = logging.getLogger(__name__)

OUT_OF_FOLD, CALIBRATION, GATE = "out_of_fold.npz", "calibration.json", "gate.safetensors"
COLUMNS = (
    "file", "patient_id", "side", "estimate_months", "label_months", "sd_months", "age_alone_months",
    "without_age_months", "low_months", "high_months", "pseudo_label_months",
)  # fmt: skip
"""Of predictions.csv. `without_age_months` is the estimate without chronological age; `low_months` and `high_months`
are the calibrated interval, given for the test set only: on the others it was calibrated."""
LEAST_GATED = 50
"""Crops of other things, and of knees, without which no gate is learnt."""

Floats = NDArray[np.floating[Any]]


def spread_months(p: Floats) -> Floats:
    """Standard deviation of distributions (N, bins) over 0 to 240 months, (N,)."""
    centres = (np.arange(p.shape[-1]) + 0.5) * 240 / p.shape[-1]
    return np.sqrt((p * (centres - mean_months(p)[:, None]) ** 2).sum(-1))


def baseline_of(labels: CropLabels) -> AgeBaseline:
    """Chronological age alone, fitted on what a fold learns from."""
    return fit_age_baseline(labels.age_months, labels.sex, labels.assigned_months)


def write_estimates(
    path: Path,
    taught: Taught,
    rows: NDArray[np.intp],
    p: dict[str, Floats],
    age_alone: Floats,
    interval: tuple[Floats, Floats] | None = None,
) -> None:
    """Write estimates from distributions (N, bins) with sex and age, ``p["sex_age"]``, and with sex, ``p["sex"]``."""
    mean, without, sd = mean_months(p["sex_age"]), mean_months(p["sex"]), spread_months(p["sex_age"])
    low, high = interval if interval is not None else (np.full(len(rows), np.nan),) * 2
    judged = taught.judged_months

    def cell(value: float) -> str:
        return f"{value:.3f}" if np.isfinite(value) else ""

    write_table(
        path,
        COLUMNS,
        (
            (
                taught.knees[row].file,
                taught.knees[row].patient_id,
                taught.knees[row].side,
                *map(
                    cell,
                    (
                        mean[i], judged[row], sd[i], age_alone[i], without[i], low[i], high[i],
                        taught.pseudo_months[row],
                    ),
                ),
            )
            for i, row in enumerate(rows)
        ),
    )  # fmt: skip


def posteriors(
    networks: Sequence[AgeNetwork], likelihoods: Sequence[Floats], labels: CropLabels, case: str
) -> NDArray[np.float32]:
    """Mean distribution (N, bins) of networks over the same crops, when only what `case` says is known."""
    known = as_known(labels, case)
    return np.mean(
        [
            posterior(network, likelihood.astype(np.float32), known.sex, known.age_months)
            for network, likelihood in zip(networks, likelihoods, strict=True)
        ],
        axis=0,
    )


def held_out(folder: Path, power: float | None = None) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Rows that a fold has not learnt from, and what it says of them, (N, 2, bins) log-likelihoods to the power that
    the run has settled, or to another one."""
    if power is None:
        power = float(read_json(folder / WEIGHTS_JSON).get(POWER, 1.0))
    with np.load(folder / OUT_OF_FOLD) as found:
        return found["rows"], (power * found["log_likelihood"]).astype(np.float32)


def calibrate(
    run: Path,
    folds: Sequence[int],
    networks: Sequence[AgeNetwork],
    taught: Taught,
    level: float,
) -> dict[str, Calibration]:
    """Intervals for each case of what is known, on estimates out of fold; written to calibration.json.

    What is covered is what a reader would say (`Calibration.target` "assigned"), where no knee has a reader's bone age
    what the hand model would.
    """
    found = [held_out(run / f"fold-{fold}") for fold in folds]
    judged = taught.judged_months
    if np.isfinite(taught.reader_months).any():
        judged = taught.reader_months
    calibrations = {}
    for case in KNOWN:
        p, target = [], []
        for network, (rows, likelihood) in zip(networks, found, strict=True):
            p.append(posteriors([network], [likelihood], taught.cache.labels.take(rows), case))
            target.append(judged[rows])
        months = np.concatenate(target)
        known = np.isfinite(months)
        calibrations[case] = Calibration.fit(
            np.concatenate(p)[known], months[known], level=level, target="assigned"
        )
    write_json(run / CALIBRATION, {case: one.to_json() for case, one in calibrations.items()})
    return calibrations


def train_gate(
    run: Path,
    networks: Sequence[AgeNetwork],
    cache: CropCache,
    rows: NDArray[np.intp],
    others: CropCache,
    jitter: Jitter,
) -> str:
    """Learn the gate from the study's knees (`rows`) and crops of other things; what came of it, in words."""
    count = int((others.labels.kind != KNEE).sum())
    if min(len(rows), count) < LEAST_GATED:
        (run / GATE).unlink(missing_ok=True)
        return f"no gate: {len(rows)} knees and {count} other crops are too few (fewer than {LEAST_GATED})"
    learnt = learn_gate(networks, (cache, rows), others, jitter)
    save_file(learnt.gate.tensors(), run / GATE)
    far, near = learnt.others_refused, learnt.knees_refused
    return (
        f"gate refuses {100 * far.mean():.0f} % of {len(far)} crops of other things that the phantom drew, "
        f"and {100 * near.mean():.1f} % of {len(near)} knees"
    )


Against = Literal["label_months", "pseudo_label_months"]


def agreements(paths: Sequence[Path], against: Against = "label_months") -> dict[str, Any] | None:
    """Agreement of the model with and without chronological age, and of that alone; None without labels."""
    rows = [row for path in paths for row in read_rows(path) if row[against]]
    if not rows:
        return None

    def column(name: str) -> Floats:
        return np.array([float(row[name]) for row in rows])

    names = {"model": "estimate_months", "without_age": "without_age_months", "age_alone": "age_alone_months"}
    found = {name: agreement(column(values), column(against)) for name, values in names.items()}
    return {"n": len(rows), **{name: one.to_json() for name, one in found.items() if one is not None}}


def summarise(
    run: Path, folds: Sequence[int], taught: Taught, data: str, more: dict[str, Any]
) -> dict[str, Any]:
    """Write metrics.json and the figures of a run whose folds are trained; the test set's where there is one."""
    files = {fold: run / f"fold-{fold}" / PREDICTIONS for fold in folds}
    test = run / TEST_PREDICTIONS
    read = int(np.isfinite(taught.reader_months).sum())
    others = len(taught.knees) - read
    label = "a reader's bone age" if not others else "the pseudo-label of a hand model" if not read else (
        f"a reader's bone age ({read} crops), else the pseudo-label of a hand model ({others})"
    )  # fmt: skip
    metrics = {
        "unit": "months",
        "data": data,
        "label": label,
        "folds": list(folds),
        "out_of_fold": agreements(list(files.values())),
        "test": agreements([test]),
        "out_of_fold_pseudo_labels": agreements(list(files.values()), "pseudo_label_months"),
        "test_pseudo_labels": agreements([test], "pseudo_label_months"),
        "per_fold": [
            {
                "fold": fold,
                "epochs": read_json(run / f"fold-{fold}" / "weights.json").get("epochs"),
                **(agreements([path]) or {}),
            }
            for fold, path in files.items()
        ],
        "test_coverage": coverage(test),
        **more,
    }
    write_json(run / METRICS, metrics)
    draw_figures(run, folds, read_predictions(list(files.values())), data)
    return metrics


def coverage(path: Path) -> float | None:
    """Share of labels within their intervals; None where there are none."""
    rows = [row for row in read_rows(path) if row["low_months"] and row["label_months"]]
    inside = [float(r["low_months"]) <= float(r["label_months"]) <= float(r["high_months"]) for r in rows]
    return round(float(np.mean(inside)), 4) if rows else None
