"""What came of a run: agreement out of fold and on the test set, beside chronological age alone, and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..agreement import agreement
from ..runs.record import METRICS, read_json, read_rows, write_json, write_table
from .films import HandFilm

PREDICTIONS, TEST_PREDICTIONS = "predictions.csv", "test-predictions.csv"
COLUMNS = ("file", "patient_id", "estimate_months", "label_months", "sd_months", "age_alone_months")
"""`sd_months` is the network's own standard deviation, empty where it gives none."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """Estimates of N films, in months, beside their labels and what chronological age alone says."""

    estimate: Floats
    label: Floats
    age_alone: Floats

    def to_json(self) -> dict[str, Any] | None:
        """Agreement of both; None where there is no film."""
        model, age_alone = agreement(self.estimate, self.label), agreement(self.age_alone, self.label)
        if model is None or age_alone is None:
            return None
        return {"n": model.n, "model": model.to_json(), "age_alone": age_alone.to_json()}


def write_predictions(
    path: Path, films: Sequence[HandFilm], estimate: Floats, sd: Floats, age_alone: Floats
) -> None:
    rows = (
        (
            film.file,
            film.patient_id,
            f"{months:.3f}",
            film.bone_age_months,
            "" if np.isnan(spread) else f"{spread:.3f}",
            f"{other:.3f}",
        )
        for film, months, spread, other in zip(films, estimate, sd, age_alone, strict=True)
    )
    write_table(path, COLUMNS, rows)


def read_predictions(paths: Sequence[Path]) -> Predictions:
    """Predictions of one or more files, one after another."""
    rows = [row for path in paths for row in read_rows(path)]

    def column(name: str) -> Floats:
        return np.array([float(row[name]) for row in rows], float)

    return Predictions(column("estimate_months"), column("label_months"), column("age_alone_months"))


def summarise(run: Path, folds: Sequence[int], data: str) -> dict[str, Any]:
    """Write metrics.json and the figures of a run whose folds are trained; test predictions where there are any.

    Parameters
    ----------
    data : "phantom" when the films are drawn, else "".
    """
    files = {fold: run / f"fold-{fold}" / PREDICTIONS for fold in folds}
    out_of_fold = read_predictions(list(files.values()))
    test = read_predictions([run / TEST_PREDICTIONS])
    metrics = {
        "unit": "months",
        "data": data,
        "label": "a reader's bone age",
        "folds": list(folds),
        "out_of_fold": out_of_fold.to_json(),
        "test": test.to_json(),
        "per_fold": [
            {
                "fold": fold,
                "epochs": read_json(run / f"fold-{fold}" / "weights.json").get("epochs"),
                **(read_predictions([path]).to_json() or {}),
            }
            for fold, path in files.items()
        ],
    }
    write_json(run / METRICS, metrics)
    draw_figures(run, folds, out_of_fold, data)
    return metrics


def draw_figures(run: Path, folds: Sequence[int], out_of_fold: Predictions, data: str) -> None:
    """curves.png: loss and error by epoch; bland-altman.png: errors against the mean of estimate and label."""
    from matplotlib.figure import Figure

    (run / "figures").mkdir(exist_ok=True)
    note = " (phantom)" if data == "phantom" else ""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    loss, error = figure.subplots(1, 2)
    for fold in folds:
        rows = read_rows(run / f"fold-{fold}" / "metrics.csv")
        epochs = [int(row["epoch"]) for row in rows]
        loss.plot(epochs, [float(row["train_loss"]) for row in rows], label=f"fold {fold}")
        seen = [
            (epoch, float(row["val_mae_months"]))
            for epoch, row in zip(epochs, rows, strict=True)
            if row["val_mae_months"]
        ]
        if seen:
            error.plot(*zip(*seen, strict=True), label=f"fold {fold}")
    loss.set(xlabel="epoch", ylabel="training loss")
    error.set(xlabel="epoch", ylabel="MAE of films not learnt from" + note + ", months")
    error.set_ylim(bottom=0)
    for axes in (loss, error):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    loss.legend(frameon=False, fontsize=8)
    _save(figure, run / "figures" / "curves.png")

    found = agreement(out_of_fold.estimate, out_of_fold.label)
    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    if found is not None:
        middle = (out_of_fold.estimate + out_of_fold.label) / 2
        axes.scatter(middle, out_of_fold.estimate - out_of_fold.label, s=9, alpha=0.6, color="#2a6f97", lw=0)
        for level, style in ((found.bias, "-"), (found.lower, "--"), (found.upper, "--")):
            axes.axhline(level, color="#16222c", lw=1, ls=style)
            axes.annotate(
                f"{level:+.1f}",
                (1, level),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                fontsize=8,
            )
    axes.set(
        xlabel="mean of estimate and label, months",
        ylabel="estimate − label, months",
        title=f"Out of fold, n = {len(out_of_fold.label)}{note}",
    )
    _save(figure, run / "figures" / "bland-altman.png")


def _save(figure: Any, path: Path) -> None:
    unfinished = path.with_name(f".{path.name}")
    figure.savefig(unfinished, dpi=110, format="png", metadata={"Software": None})
    unfinished.replace(path)
