"""The weights of a trained fold on disk: safetensors, and a JSON file that says what they belong to."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load

from KneeBoneAgeLib.version import VERSION

from ..recipes import HandRecipe
from ..runs.record import RunError, read_json, write_json
from ..runs.weights import POWER, WEIGHTS, WEIGHTS_JSON, save_state
from ..teachers import Inputs, Teacher, build_teacher, parse_architecture
from ..teachers.age_network import AgeNetworkTeacher
from ..teachers.architecture import AgeNetworkArchitecture
from ..tempering import tempered
from .pictures import PREPROCESSING


@dataclass(frozen=True)
class FoldModel:
    """A trained network with what it needs to be used: `mirrored` says whether estimates are averaged over the mirror
    image; `sha256` is of the weights."""

    teacher: Teacher
    mirrored: bool
    sha256: str


def save_fold(folder: Path, teacher: Teacher, recipe: HandRecipe, more: dict[str, Any]) -> None:
    """Write the weights of a fold, then the file that makes them a finished fold."""
    architecture = recipe.architecture
    if isinstance(architecture, AgeNetworkArchitecture):
        architecture = architecture.spelled_out(teacher.inputs.image_size)
    sha256 = save_state(folder / WEIGHTS, teacher)
    write_json(
        folder / WEIGHTS_JSON,
        {
            "format": 1,
            "kind": recipe.task,
            "recipe": recipe.name,
            "version": VERSION,
            "sha256": sha256,
            "architecture": architecture.model_dump(mode="json"),
            "inputs": asdict(teacher.inputs),
            "mirrored_average": recipe.mirrored_average,
            "preprocessing": PREPROCESSING,
            **more,
        },
    )


def load_fold(folder: Path, *, power: float | None = None) -> FoldModel:
    """The network of a finished fold, its likelihood to the `power` that the run has settled, or to another one.

    Raises
    ------
    RunError
        There is none, its weights were changed, or it wants another preprocessing than this version has.
    """
    facts = read_json(folder / WEIGHTS_JSON)
    try:
        content = (folder / WEIGHTS).read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 != facts["sha256"]:
            raise RunError(f"{folder / WEIGHTS}: is not what {WEIGHTS_JSON} names (SHA-256 differs)")
        if facts["preprocessing"] != PREPROCESSING:
            raise RunError(f"{folder}: was trained with another preprocessing of films; train it again")
        said = facts["inputs"]
        inputs = Inputs(tuple(said["image_size"]), said["sex"], said["chronological_age"])
        teacher = build_teacher(parse_architecture(facts["architecture"]), inputs, fetch=False)
        teacher.load_state_dict(load(content))
        power = float(facts.get(POWER, 1.0)) if power is None else power
    except RunError:
        raise
    except (OSError, KeyError, TypeError, ValueError, SafetensorError, RuntimeError) as error:
        raise RunError(f"{folder}: holds no trained network that can be read ({error})") from None
    if isinstance(teacher, AgeNetworkTeacher):
        teacher.network = tempered(teacher.network, power)
    return FoldModel(teacher.eval(), bool(facts.get("mirrored_average", True)), sha256)
