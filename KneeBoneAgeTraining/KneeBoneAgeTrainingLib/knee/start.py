"""Where a knee student starts: the weights of a hand teacher, of a bundle, or first weights."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from KneeBoneAgeLib.bundle import fold_file, load_bundle
from KneeBoneAgeLib.errors import BundleError
from KneeBoneAgeLib.network import AgeNetworkConfig

from ..hand.weights import load_fold
from ..pseudo_label import runs_sha256
from ..runs.record import FILMS_CSV, RunError, open_run, read_rows
from ..teachers.age_network import AgeNetworkTeacher

log = logging.getLogger(__name__)

TEACHER, BUNDLE, SCRATCH = "teacher", "bundle", "scratch"


@dataclass(frozen=True)
class Taken:
    """How many of a network's tensors were taken over, and the names of those that were not."""

    taken: int
    left_out: tuple[str, ...]

    @property
    def of(self) -> int:
        return self.taken + len(self.left_out)

    def __str__(self) -> str:
        names = ", ".join(self.left_out[:6]) + (", …" if len(self.left_out) > 6 else "")
        return f"{self.taken} of {self.of} tensors taken over" + (f"; not: {names}" if names else "")


def take_over(network: nn.Module, weights: Mapping[str, Tensor]) -> Taken:
    """Take each tensor whose name and shape agree, of the likelihood's layers all or none: they are added up.

    A teacher's network may be a part of it called ``network``."""
    given = {name.removeprefix("network."): value for name, value in weights.items()}
    own = network.state_dict()
    first, second = (f"map_reader.linear.{part}.weight" for part in (0, 1))
    if {first, second} <= given.keys() and "map_reader.linear.weight" in own:  # stored with a lower rank
        given["map_reader.linear.weight"] = given[second].float() @ given[first].float()
        given["map_reader.linear.bias"] = given["map_reader.linear.1.bias"]
    fitting = {
        name: given[name].to(value)
        for name, value in own.items()
        if name in given and given[name].shape == value.shape
    }
    likelihood = {name for name in own.keys() | given.keys() if name.startswith("head.")}
    if not likelihood <= fitting.keys():
        fitting = {name: value for name, value in fitting.items() if name not in likelihood}
    network.load_state_dict(fitting, strict=False)
    return Taken(len(fitting), tuple(name for name in own if name not in fitting))


def backbone_of(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's tensors alone: what reads its maps has learnt places in a hand, which mislead on a knee."""
    return {name: value for name, value in weights.items() if "backbone" in name.split(".")}


@dataclass(frozen=True)
class Given:
    """What a fold starts from: tensors by name, where they are from, and the network that they are of; None where that
    is no age network."""

    weights: Mapping[str, Tensor]
    source: str
    network: AgeNetworkConfig | None = None


@dataclass(frozen=True)
class Start:
    """What the student starts from; `folder` is a run of a hand teacher or a bundle, None from first weights."""

    kind: str
    folder: Path | None = None

    @property
    def sha256(self) -> str:
        """Of the teacher's weights or the bundle. Raises RunError where there is none."""
        if self.folder is None:
            return ""
        if self.kind == TEACHER:
            run = open_run(self.folder)
            if not run.fold_folders:
                raise RunError(f"{self.folder}: no fold is trained; train it first")
            return runs_sha256([run])
        try:
            return load_bundle(self.folder).sha256
        except BundleError as error:
            raise RunError(str(error)) from None

    def given(self, fold: int, held_out: Iterable[str]) -> Given:
        """What a fold of the student starts from.

        Parameters
        ----------
        held_out : patient ids of the children that this fold must not know: its own and the test set's.

        Raises
        ------
        RunError
            Every trained fold of the teacher has learnt from one of these children.
        """
        if self.folder is None:
            return Given({}, "first weights")
        if self.kind == BUNDLE:
            bundle = load_bundle(self.folder)
            architecture = bundle.manifest.architecture
            number = fold % architecture.folds
            try:
                network = AgeNetworkConfig.from_json(architecture.network.model_dump())
            except (TypeError, ValueError) as error:
                raise RunError(
                    f"{self.folder}: a network that this version does not know ({error}); choose another bundle"
                ) from None
            return Given(bundle.load_fold(number), f"{fold_file(number)} of {bundle.name}", network)
        run = open_run(self.folder)
        trained = {int(folder.name.partition("-")[2]): folder for folder in run.fold_folders}
        held_out_by = {row["patient_id"]: int(row["fold"]) for row in read_rows(run.folder / FILMS_CSV)}
        known = {held_out_by[patient] for patient in held_out if patient in held_out_by}
        usable = [number for number in trained if known <= {number}]
        if not usable:
            needed = ", ".join(map(str, sorted(known)))
            raise RunError(
                f"{self.folder}: every trained fold has learnt from hand films of children that fold {fold} of the "
                f"knees holds out (they are held out by fold {needed}); train that fold, or take a teacher of others"
            )
        number = fold if fold in usable else usable[0]
        teacher = load_fold(trained[number]).teacher
        own = teacher.network.config if isinstance(teacher, AgeNetworkTeacher) else None
        return Given(teacher.state_dict(), f"fold {number} of {run.name}", own)
