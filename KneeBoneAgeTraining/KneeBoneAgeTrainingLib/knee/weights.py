"""The weights of a trained fold of a knee run on disk: safetensors, and a JSON file that says what they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from KneeBoneAgeLib.bundle import current_preprocessing
from KneeBoneAgeLib.network import AgeNetwork, AgeNetworkConfig
from KneeBoneAgeLib.version import VERSION

from ..cohort.inspection import sha256_of
from ..hand.results import PREDICTIONS
from ..runs.record import RunError, read_json, read_rows, write_json
from ..runs.watch import METRICS_CSV
from ..runs.weights import POWER, WEIGHTS, WEIGHTS_JSON, load_state, save_state
from ..tempering import tempered
from .job import KIND, KneeJob

UNNAMED = f".{PREDICTIONS}"
"""Predictions until the fold is complete."""


def save_fold(job: KneeJob, folder: Path, network: AgeNetwork, more: dict[str, Any]) -> None:
    """The fold's weights; its predictions get their name last, so that a fold with predictions is complete."""
    sha256 = save_state(folder / WEIGHTS, network)
    rows = read_rows(folder / METRICS_CSV)
    write_json(
        folder / WEIGHTS_JSON,
        {
            "format": 1,
            "kind": KIND,
            "recipe": job.recipe.name,
            "version": VERSION,
            "sha256": sha256,
            "architecture": network.config.to_json(),
            "preprocessing": current_preprocessing(),
            "epochs": int(rows[-1]["epoch"]) if rows else 0,
            **more,
        },
    )
    (folder / UNNAMED).replace(folder / PREDICTIONS)


def load_networks(run: Path, folds: Sequence[int]) -> list[AgeNetwork]:
    """The networks of finished folds, each likelihood to the power that the run has settled.

    Raises RunError for one that was changed or made for another preprocessing.
    """
    networks = []
    for fold in folds:
        folder = run / f"fold-{fold}"
        facts = read_json(folder / WEIGHTS_JSON)
        if not facts or not (folder / WEIGHTS).is_file():
            raise RunError(f"{folder}: is not trained; type the line of the training again")
        if sha256_of(folder / WEIGHTS) != facts["sha256"]:
            raise RunError(f"{folder / WEIGHTS}: is not what {WEIGHTS_JSON} names (SHA-256 differs)")
        if facts["preprocessing"] != current_preprocessing():
            raise RunError(f"{folder}: was trained with another preprocessing of films; train it again")
        try:
            network = AgeNetwork(AgeNetworkConfig.from_json(facts["architecture"]))
        except (TypeError, ValueError) as error:
            raise RunError(
                f"{folder}: a network that this version does not know ({error}); train it again"
            ) from None
        load_state(folder / WEIGHTS, network)
        networks.append(tempered(network, float(facts.get(POWER, 1.0))).eval())
    return networks
