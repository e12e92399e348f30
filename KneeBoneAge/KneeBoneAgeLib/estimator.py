"""From a film to bone ages: find the knees, crop, run the folds, calibrate, refuse.

`Estimator` holds the networks of one bundle. Five folds see each crop once; their distributions over bone age are
averaged. Whether what is in the crop is a knee that the bundle knows is asked of their features (`refusal`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from .bundle import Bundle, fold_file, load_bundle
from .closure import YOUNGEST_MONTHS, PhysisClosure
from .crop import KneeCrop, cut, inside_fraction, normalise
from .ensemble import Ensemble
from .errors import BundleError
from .intervals import MONTHS_MAX, Calibration, mean_months
from .network import AgeNetwork, AgeNetworkConfig, encode_sex
from .refusal import GateAnswer, KneeGate
from .segmentation import Finding, KneeFinder

if TYPE_CHECKING:
    from .radiograph.film import Film

FINDER_FILE = "finder.safetensors"
GATE_FILE = "gate.safetensors"
CLOSURE_FILE = "closure.safetensors"

LEAST_ON_FILM = 0.4
"""Share of a crop that must lie on the film; with less of the knee nothing is estimated."""


@dataclass(frozen=True)
class KneeEstimate:
    """What is known of one knee.

    Attributes
    ----------
    status : "ok" or "refused"; ``reason`` and ``refusal_kind`` ("content", "crop") say why.
    bone_age_months : mean of the distribution; None when refused or mature.
    withheld_bone_age_months : the number of a refused knee.
    at_least_months : what a mature knee's bone age is not below.
    interval_months : low and high end at ``interval_level``; a mature knee's reaches to the end of the scale.
    mature : the physes of femur and tibia are more likely closed than not (``closed_probability``, None where the
        bundle cannot tell) and the bone age is ten years or more, or it lies beyond the bundle's
        ``mature_from_months``.
    probabilities : (bins,) over ``bin_months``, the middles of the bins.
    fold_months : mean of each fold.
    """

    crop: KneeCrop
    status: str
    reason: str | None
    refusal_kind: str | None
    bone_age_months: float | None
    withheld_bone_age_months: float | None
    at_least_months: float | None
    interval_months: tuple[float, float] | None
    interval_level: float
    mature: bool
    closed_probability: float | None
    probabilities: NDArray[np.float64]
    bin_months: NDArray[np.float64]
    fold_months: tuple[float, ...]


@dataclass(frozen=True)
class FilmEstimate:
    """A film with what was found on it and what was estimated, knee by knee."""

    film: Film
    finding: Finding
    knees: tuple[KneeEstimate, ...]


class Estimator:
    """The networks of one bundle on one device.

    >>> estimator = Estimator.load()                      # doctest: +SKIP
    >>> estimator.estimate(read_film("knee.dcm")).knees   # doctest: +SKIP
    """

    def __init__(self, bundle: Bundle, device: str = "auto") -> None:
        self.bundle = bundle
        self.device = choose_device(device)
        manifest = bundle.manifest
        config = self._network_config()
        self.folds = [self._network(config, fold).eval() for fold in range(manifest.architecture.folds)]
        self.ensemble = Ensemble(self.folds)
        self.config = config
        self.finder = KneeFinder(
            bundle.load_tensors(FINDER_FILE), dict(manifest.architecture.finder), device=self.device
        )
        self.calibrations = {
            case: Calibration.from_json(getattr(manifest.calibration, case).model_dump())
            for case in ("sex_age", "sex", "age", "none")
        }
        self.mature_from = manifest.calibration.mature_from_months or {}
        self.gate = None
        if manifest.refusal_file:
            tensors = bundle.load_tensors(manifest.refusal_file)
            self.gate = KneeGate.from_tensors({name: value.numpy() for name, value in tensors.items()})
        self.closure = None
        if manifest.closure_file:
            tensors = bundle.load_tensors(manifest.closure_file)
            self.closure = PhysisClosure.from_tensors(
                {name: value.numpy() for name, value in tensors.items()}
            )
        self.bin_months = (np.arange(config.bins) + 0.5) * MONTHS_MAX / config.bins

    @classmethod
    def load(cls, path: str | Path | None = None, device: str = "auto") -> Estimator:
        """Verify and load a bundle (None: the default one). Raises BundleError."""
        return cls(load_bundle(path), device)

    def find(self, film: Film) -> Finding:
        """The frontal knees of a film, or the reason why there is none. What the finder is unsure of must look more
        like a knee than not to the gate too."""
        gate = self.gate
        if gate is None:
            return self.finder.find(film)
        return self.finder.find(film, lambda crops: gate.confirms(self.look(film, crops)[1]))

    def estimate(self, film: Film, crops: Sequence[KneeCrop] | None = None) -> FilmEstimate:
        """Bone age of each knee.

        Parameters
        ----------
        film : its ``sex`` and ``age_months`` are used; either may be None.
        crops : a person's or earlier crops; None finds them.
        """
        finding = self.find(film) if crops is None else Finding(tuple(crops))
        if not finding.knees:
            return FilmEstimate(film, finding, ())
        fold_probabilities, features = self.look(film, finding.knees)
        probabilities = fold_probabilities.mean(0)
        low, high = self.calibration_of(film).interval(probabilities)
        answers = self.gate.answer(features) if self.gate is not None else [None] * len(finding.knees)
        closed = np.zeros(len(finding.knees)) if self.closure is None else self.closure.probability(features)
        knees = tuple(
            self._knee(
                film,
                crop,
                fold_probabilities[:, i],
                probabilities[i],
                (float(low[i]), float(high[i])),
                answers[i],
                float(closed[i]),
            )
            for i, crop in enumerate(finding.knees)
        )
        return FilmEstimate(film, finding, knees)

    def patches(self, film: Film, crops: Sequence[KneeCrop]) -> torch.Tensor:
        """Crops as the networks see them: (knees, 1, S, S) float32 on the estimator's device."""
        cuts = [normalise(cut(film.pixels, crop, self.config.image_size)) for crop in crops]
        return torch.from_numpy(np.stack(cuts))[:, None].to(self.device)

    def look(self, film: Film, crops: Sequence[KneeCrop]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Distributions (folds, knees, bins) and pooled features (folds, knees, F)."""
        images = self.patches(film, crops).contiguous(memory_format=torch.channels_last)
        sex = torch.full((len(crops),), encode_sex(film.sex), device=self.device)
        months = math.nan if film.age_months is None else film.age_months
        age = torch.full((len(crops),), months, dtype=torch.float32, device=self.device)

        probabilities, features = self.ensemble.look(images, sex, age)
        return probabilities.double().cpu().numpy(), features.float().cpu().numpy()

    def _knee(
        self,
        film: Film,
        crop: KneeCrop,
        fold_probabilities: NDArray[np.float64],
        probabilities: NDArray[np.float64],
        interval: tuple[float, float],
        answer: GateAnswer | None,
        closed: float,
    ) -> KneeEstimate:
        months = float(mean_months(probabilities))
        reason, kind = None, None
        if inside_fraction(crop.box_px, film.pixels.shape) < LEAST_ON_FILM:
            reason, kind = "most of the crop lies outside of the film; move it onto the knee", "crop"
        elif answer is not None and not answer.accepted:
            reason, kind = answer.reason, "content"
        looks_closed = closed > 0.5 and months >= YOUNGEST_MONTHS
        mature = reason is None and (looks_closed or self._is_mature(film.sex, probabilities))
        if mature:
            interval = (interval[0], MONTHS_MAX)
        return KneeEstimate(
            crop=crop,
            status="ok" if reason is None else "refused",
            reason=reason,
            refusal_kind=kind,
            bone_age_months=months if reason is None and not mature else None,
            withheld_bone_age_months=months if reason is not None else None,
            at_least_months=interval[0] if mature else None,
            interval_months=interval if reason is None else None,
            interval_level=self.calibration_of(film).level,
            mature=mature,
            closed_probability=closed if self.closure is not None else None,
            probabilities=probabilities,
            bin_months=self.bin_months,
            fold_months=tuple(float(m) for m in mean_months(fold_probabilities)),
        )

    def calibration_of(self, film: Film) -> Calibration:
        """The calibration for what is known of the child beside the picture."""
        known = ("sex", film.sex), ("age", film.age_months)
        return self.calibrations["_".join(name for name, value in known if value is not None) or "none"]

    def _is_mature(self, sex: str | None, probabilities: NDArray[np.float64]) -> bool:
        """More likely than not beyond the age from which the knee of this sex no longer changes."""
        if not self.mature_from:
            return False
        threshold = self.mature_from[sex] if sex in self.mature_from else max(self.mature_from.values())
        return float(probabilities[self.bin_months >= threshold].sum()) > 0.5

    def _network_config(self) -> AgeNetworkConfig:
        try:
            return AgeNetworkConfig.from_json(self.bundle.manifest.architecture.network.model_dump())
        except (TypeError, ValueError) as error:
            raise self._unknown_network(error) from None

    def _unknown_network(self, error: Exception) -> BundleError:
        return BundleError(
            f"{self.bundle.folder}: a network that this version does not know ({error}); update KneeBoneAge, or "
            "export the bundle again"
        )

    def _network(self, config: AgeNetworkConfig, fold: int) -> AgeNetwork:
        try:
            network = AgeNetwork(config)
        except (TypeError, ValueError) as error:
            raise self._unknown_network(error) from None
        tensors = {
            k: v.float() if v.is_floating_point() else v for k, v in self.bundle.load_fold(fold).items()
        }
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:
            raise BundleError(
                f"{self.bundle.path(fold_file(fold))}: not weights of this architecture ({error})"
            ) from None
        network.to(self.device)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def choose_device(name: str) -> torch.device:
    """ "auto", "cpu", "cuda" or "mps" as a torch device; ValueError where there is none of that kind."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    if name not in available:
        raise ValueError(f"device {name!r}: choose auto, cpu, cuda or mps")
    if not available[name]:
        raise ValueError(f"device {name!r} is not available on this machine; use --device auto or cpu")
    return torch.device(name)
