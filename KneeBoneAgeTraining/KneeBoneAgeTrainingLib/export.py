"""From a finished run to a bundle that the estimator opens."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from KneeBoneAgeLib.bundle import (
    PHANTOM_FIRST_LINE,
    SHARED_FILE,
    Architecture,
    Bundle,
    Calibrations,
    IntervalCalibration,
    Manifest,
    Metric,
    NetworkConfig,
    TrainingData,
    current_preprocessing,
    fold_file,
    write_bundle,
)
from KneeBoneAgeLib.estimator import CLOSURE_FILE, FINDER_FILE, GATE_FILE
from KneeBoneAgeLib.network import MONTHS_MAX, AgeNetwork, with_map_rank

from .age_module import load_module
from .calibration import KNOWN
from .folds import FOLDS
from .runs.record import FINISHED, Run, RunError, read_json

if TYPE_CHECKING:
    from .default_bundle import Plan

MATURE_FROM_MONTHS: dict[Literal["F", "M"], float] = {"F": 192.0, "M": 213.0}
"""Bone age from which the phantom's knee no longer changes but for a fading line: nothing tells later ages apart."""

MAP_RANK = 64
"""Rank of the stored map readers: 0.2 MB less where folds share theirs, 1 MB where they do not; on 250 crops the error
stayed the same to 0.001 months."""

INTENDED_USE = (
    "Demonstration and tests of KneeBoneAge. Research use only; not a medical device, not for any patient."
)
STUDY_USE = "Research use only; not a medical device. Made by whoever trained it, who answers for what it is used for."
PHANTOM_DESCRIPTION = "virtual children drawn by KneeBoneAgeLib.phantom, no real child"
REFERENCES = {
    "oracle": "the oracle",
    "oracle_no_age": "the oracle without chronological age",
    "chronological_age": "chronological age alone",
}
LABELS = {
    "readers": "readers' bone ages",
    "pseudo": "pseudo-labels of a hand model",
    "both": "readers' bone ages, where there were none pseudo-labels of a hand model",
}


def export(run: Path, out: Path, plan: Plan) -> Bundle:
    """Gather finder, folds, gate and calibrations of the run that makes the shipped bundle.

    Raises
    ------
    FileNotFoundError
        When a stage of the run is missing.
    """
    age, finder = run / "age", run / "finder"
    calibrations = json.loads((age / "calibration.json").read_text())
    metrics = json.loads((age / "metrics.json").read_text())
    return _write(
        out,
        name="phantom-demo",
        networks=[load_module(age / f"fold-{k}").averaged for k in range(FOLDS)],
        finder=(load_file(finder / "finder.safetensors"), json.loads((finder / "finder.json").read_text())),
        gate=load_file(age / "gate.safetensors"),
        closure=load_file(age / "closure.safetensors") if (age / "closure.safetensors").is_file() else None,
        calibrations=calibrations,
        training_data=TrainingData(
            description=PHANTOM_DESCRIPTION,
            phantom_seeds=plan.seeds,
            children=plan.children,
            real_children=0,
            films=plan.films,
        ),
        metrics=_metrics(metrics),
        first_line=PHANTOM_FIRST_LINE,
        intended_use=INTENDED_USE,
        licence="Apache-2.0",
        mature=True,
    )


def export_run(run: Run, out: Path, *, name: str = "", licence: str = "") -> Bundle:
    """Make a bundle of a finished run of ``kneeboneage knee-transfer``.

    What the card says comes from the run's own files. The knees of a phantom study are called mature as the phantom's
    are; how a study's own knees mature is not known, so its bundle gives every knee a number.

    Raises
    ------
    RunError
        The run is not finished, is of another kind, or files of it are missing or were changed.
    """
    from .knee.job import KIND
    from .knee.results import CALIBRATION, GATE
    from .knee.transfer import FINDER, FINDER_JSON
    from .knee.weights import load_networks

    if run.facts.get("kind") != KIND:
        raise RunError(
            f"{run.folder}: is a run of kind {run.facts.get('kind')!r}; only those of knee-transfer make bundles"
        )
    if run.state != FINISHED:
        raise RunError(
            f"{run.folder}: is {run.state}; type the line of its training again until it is finished"
        )
    calibrations, metrics = read_json(run.folder / CALIBRATION), run.metrics
    if not calibrations or not metrics or not (run.folder / FINDER).is_file():
        raise RunError(
            f"{run.folder}: calibration, metrics or finder are missing; type the line of its training again"
        )
    phantom = run.facts.get("data") == "phantom"
    counts, study = run.facts["counts"], run.facts["study"]["name"]
    gate = run.folder / GATE
    return _write(
        out,
        name=name or run.name,
        networks=load_networks(run.folder, metrics["folds"]),
        finder=(load_file(run.folder / FINDER), read_json(run.folder / FINDER_JSON)),
        gate=load_file(gate) if gate.is_file() else None,
        calibrations=calibrations,
        training_data=TrainingData(
            description=_description(run),
            children=counts["training_children"],
            real_children=0 if phantom else counts["training_children"],
            films=counts["films"],
        ),
        metrics=_run_metrics(metrics, study),
        first_line=PHANTOM_FIRST_LINE
        if phantom
        else f"This bundle was trained on films of the study {study}, {counts['training_children']} children; it was "
        "not tested on others.",
        intended_use=INTENDED_USE if phantom else STUDY_USE,
        licence=licence or "not stated by who made it",
        mature=phantom,
    )


def _description(run: Run) -> str:
    """What really happened, in a few sentences."""
    facts, counts, metrics = run.facts, run.facts["counts"], run.metrics
    label = LABELS[facts["label"]]
    if facts["label"] == "both":
        label += f" ({counts['readers_labels']} and {counts['pseudo_labels']})"
    parts = [
        f"study {facts['study']['name']} (data SHA-256 {facts['study']['data_sha256'][:12]})"
        + (", virtual children drawn by KneeBoneAgeLib.phantom" if facts.get("data") == "phantom" else ""),
        f"{counts['training_crops']} crops to learn from",
        f"{counts['crops_by_a_person']} of all {counts['crops']} crops put by a person",
        f"labels: {label}",
    ]
    if facts.get("labels"):
        parts.append(f"hand model of the labels: {facts['labels']['model']}")
    start = read_json(run.folder / "fold-0" / "weights.json").get("start") or {}
    kind = facts["start"]["kind"]
    if kind == "scratch":
        parts.append("started from first weights")
    else:
        name = Path(facts.get("start_folder") or "").name
        parts.append(
            f"started from the {'hand teacher' if kind == 'teacher' else 'bundle'} {name}, "
            f"{start.get('taken')} of {int(start.get('taken', 0)) + len(start.get('left_out', ()))} tensors"
        )
    if facts.get("share", 1.0) < 1:
        parts.append(f"{100 * facts['share']:.0f} % of the training children learnt from")
    parts.append(
        f"recipe {facts['recipe']}, seed {facts['seed']}, folds {', '.join(map(str, metrics['folds']))}"
    )
    parts.append(f"KneeBoneAge {facts['code']['version']}, commit {facts['code']['commit'] or 'unknown'}")
    parts.append(metrics["gate"])
    return "; ".join(parts)


def _write(
    out: Path,
    *,
    name: str,
    networks: Sequence[AgeNetwork],
    finder: tuple[Mapping[str, Tensor], Mapping[str, Any]],
    gate: Mapping[str, Tensor] | None,
    closure: Mapping[str, Tensor] | None = None,
    calibrations: Mapping[str, Any],
    training_data: TrainingData,
    metrics: tuple[Metric, ...],
    first_line: str,
    intended_use: str,
    licence: str,
    mature: bool,
) -> Bundle:
    """Write the bundle; weights become float16, the map readers of lower rank, and what all folds have alike is
    written once."""
    if networks[0].config.map_features > MAP_RANK:
        networks = [with_map_rank(network, MAP_RANK) for network in networks]
    shared, folds = apart([{n: _half(v) for n, v in net.state_dict().items()} for net in networks])
    tensors: dict[str, Mapping[str, Tensor]] = {fold_file(k): fold for k, fold in enumerate(folds)}
    if shared:
        tensors[SHARED_FILE] = shared
    tensors[FINDER_FILE] = {key: _half(value) for key, value in finder[0].items()}
    if gate is not None:
        tensors[GATE_FILE] = gate
    if closure is not None:
        tensors[CLOSURE_FILE] = closure
    manifest = Manifest(
        name=name,
        created=datetime.date.today().isoformat(),
        card_first_line=first_line,
        architecture=Architecture(
            network=NetworkConfig(**networks[0].config.to_json()),
            finder=dict(finder[1]),
            folds=len(networks),
            months_to=MONTHS_MAX,
        ),
        preprocessing=current_preprocessing(),
        training_data=training_data,
        metrics=metrics,
        calibration=Calibrations(
            **{case: IntervalCalibration(**calibrations[case]) for case in KNOWN},
            mature_from_months=MATURE_FROM_MONTHS if mature else None,
        ),
        shared_file=SHARED_FILE if shared else None,
        refusal_file=GATE_FILE if gate is not None else None,
        closure_file=CLOSURE_FILE if closure is not None else None,
        intended_use=intended_use,
        licence=licence,
    )
    return write_bundle(out, manifest, tensors)


def apart(states: Sequence[Mapping[str, Tensor]]) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """What several networks have alike, bit for bit, and what each has of its own."""
    first, *others = states
    alike = {name for name in first if others and all(torch.equal(first[name], one[name]) for one in others)}
    own = [{name: value for name, value in one.items() if name not in alike} for one in states]
    return {name: first[name] for name in sorted(alike)}, own


def _half(value: Tensor) -> Tensor:
    return value.half() if value.is_floating_point() else value


def _metrics(metrics: dict[str, dict[str, float]]) -> tuple[Metric, ...]:
    data = f"{metrics['sex_age']['crops']:.0f} phantom knees, out of fold, true bone age"
    found = [
        Metric(name="MAE", value=round(metrics["sex_age"]["mae_true"], 3), data=data),
        Metric(name="bias", value=round(metrics["sex_age"]["bias_true"], 3), data=data),
        Metric(name="coverage", value=round(metrics["sex_age"]["coverage_true"], 3), unit="", data=data),
        Metric(name="MAE without chronological age", value=round(metrics["sex"]["mae_true"], 3), data=data),
    ]
    for name, value in metrics.get("closure", {}).items():
        found.append(Metric(name=name, value=round(value, 3), unit="", data="phantom knees from 10 years on"))
    for name, value in metrics["references"].items():
        found.append(Metric(name=f"MAE of {REFERENCES[name]}", value=round(value, 3), data=data))
    return tuple(found)


def _run_metrics(metrics: Mapping[str, Any], study: str) -> tuple[Metric, ...]:
    """Errors out of fold and on the test set, against labels and pseudo-labels, beside chronological age alone."""
    drawn = "phantom knees" if metrics["data"] == "phantom" else "knees"
    found: list[Metric] = []
    for part, where in (("out_of_fold", "out of fold"), ("test", "test set")):
        for ending, label in (("", metrics["label"]), ("_pseudo_labels", "pseudo-labels of a hand model")):
            one = metrics.get(part + ending)
            if not one or (ending and label == metrics["label"]):
                continue
            data = f"{one['n']} {drawn} of {study}, {where}, against {label}"
            for name, key, what in (
                ("MAE", "model", "mae"),
                ("bias", "model", "bias"),
                ("MAE without chronological age", "without_age", "mae"),
                ("MAE of chronological age alone", "age_alone", "mae"),
            ):
                found.append(Metric(name=name, value=round(one[key][what], 3), data=data))
    if metrics.get("test_coverage") is not None:
        found.append(
            Metric(
                name=f"coverage of {metrics['interval_level']:.0%} intervals",
                value=metrics["test_coverage"],
                unit="",
                data=f"{drawn} of {study}, test set",
            )
        )
    return tuple(found)
