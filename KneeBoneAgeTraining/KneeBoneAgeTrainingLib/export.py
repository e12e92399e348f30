"""From a finished run to a bundle that the estimator opens."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from safetensors.torch import load_file

from KneeBoneAgeLib.bundle import (
    Architecture,
    Bundle,
    Calibrations,
    IntervalCalibration,
    Manifest,
    Metric,
    NetworkConfig,
    TrainingData,
    current_preprocessing,
    write_bundle,
)
from KneeBoneAgeLib.estimator import FINDER_FILE, GATE_FILE, fold_file
from KneeBoneAgeLib.network import MONTHS_MAX

from .age_training import load_module
from .calibration import KNOWN
from .folds import FOLDS

if TYPE_CHECKING:
    from .default_bundle import Plan

MATURE_FROM_MONTHS: dict[Literal["F", "M"], float] = {"F": 192.0, "M": 213.0}
"""Bone age from which the phantom's knee no longer changes but for a fading line: nothing tells later ages apart."""

INTENDED_USE = (
    "Demonstration and tests of KneeBoneAge. Research use only; not a medical device, not for any patient."
)


def export(run: Path, out: Path, plan: Plan) -> Bundle:
    """Gather finder, folds, gate and calibrations of a run into a bundle; weights become float16.

    Raises
    ------
    FileNotFoundError
        When a stage of the run is missing.
    """
    age, finder = run / "age", run / "finder"
    folds = [load_module(age / f"fold-{k}").averaged for k in range(FOLDS)]
    calibrations = json.loads((age / "calibration.json").read_text())
    metrics = json.loads((age / "metrics.json").read_text())
    tensors = {
        fold_file(k): {n: _half(v) for n, v in net.state_dict().items()} for k, net in enumerate(folds)
    }
    tensors[FINDER_FILE] = {name: _half(v) for name, v in load_file(finder / "finder.safetensors").items()}
    tensors[GATE_FILE] = load_file(age / "gate.safetensors")
    manifest = Manifest(
        name="phantom-demo",
        created=datetime.date.today().isoformat(),
        architecture=Architecture(
            network=NetworkConfig(**folds[0].config.to_json()),
            finder=json.loads((finder / "finder.json").read_text()),
            folds=FOLDS,
            months_to=MONTHS_MAX,
        ),
        preprocessing=current_preprocessing(),
        training_data=TrainingData(
            description="virtual children drawn by KneeBoneAgeLib.phantom, no real child",
            phantom_seeds=plan.seeds,
            children=plan.children,
            real_children=0,
            films=plan.films,
        ),
        metrics=_metrics(metrics),
        calibration=Calibrations(
            **{case: IntervalCalibration(**calibrations[case]) for case in KNOWN},
            mature_from_months=MATURE_FROM_MONTHS,
        ),
        refusal_file=GATE_FILE,
        intended_use=INTENDED_USE,
        licence="Apache-2.0",
    )
    return write_bundle(out, manifest, tensors)


def _half(value):
    return value.half() if value.is_floating_point() else value


def _metrics(metrics: dict[str, dict[str, float]]) -> tuple[Metric, ...]:
    data = f"{metrics['sex_age']['crops']:.0f} phantom knees, out of fold, true bone age"
    found = [
        Metric(name="MAE", value=round(metrics["sex_age"]["mae_true"], 3), data=data),
        Metric(name="bias", value=round(metrics["sex_age"]["bias_true"], 3), data=data),
        Metric(name="coverage", value=round(metrics["sex_age"]["coverage_true"], 3), unit="", data=data),
        Metric(name="MAE without chronological age", value=round(metrics["sex"]["mae_true"], 3), data=data),
    ]
    for name, value in metrics["references"].items():
        found.append(Metric(name=f"MAE of {name.replace('_', ' ')} alone", value=round(value, 3), data=data))
    return tuple(found)
