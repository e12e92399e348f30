"""Knees as the estimator gives them, a film, and the records of both."""

import dataclasses

import numpy as np

from KneeBoneAgeLib.crop import KneeCrop
from KneeBoneAgeLib.radiograph.film import Film
from KneeBoneAgeLib.report.records import SURE_CONFIDENCE, Run, estimate_results

RUN = Run("tiny", "ab" * 32, 240.0, "This bundle has never seen a real child.")
CROP = KneeCrop((150.0, 120.0), 100.0, angle_deg=5.0, side="R", confidence=0.875)


@dataclasses.dataclass(frozen=True)
class Knee:
    """What `estimator.KneeEstimate` looks like."""

    crop: KneeCrop = CROP
    status: str = "ok"
    reason: str | None = None
    refusal_kind: str | None = None
    bone_age_months: float | None = 115.34
    withheld_bone_age_months: float | None = None
    at_least_months: float | None = None
    interval_months: tuple[float, float] | None = (104.0, 127.0)
    interval_level: float = 0.9
    mature: bool = False


@dataclasses.dataclass(frozen=True)
class Found:
    knees: tuple = ()
    reason: str | None = None
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Estimate:
    film: Film
    knees: tuple
    finding: Found = Found()


def make_film(**facts):
    pixels = np.linspace(0, 1, 240 * 300, dtype=np.float32).reshape(240, 300)
    return Film(pixels, "a.dcm", **{"sex": "F", "age_months": 110.0, "side": "R", **facts})


def records(film, *knees, **finding):
    return estimate_results("a.dcm", Estimate(film, knees, Found(**finding)), RUN)


def unsure(**facts):
    return Knee(crop=dataclasses.replace(CROP, confidence=SURE_CONFIDENCE - 0.01), **facts)
