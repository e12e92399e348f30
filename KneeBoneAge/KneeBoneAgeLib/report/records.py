"""One record a knee: what was found, the answer, and what is needed to point back to the film.

Records carry no patient name or number; the DICOM UIDs identify the film.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..version import VERSION

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..crop import KneeCrop
    from ..estimator import FilmEstimate, KneeEstimate
    from ..radiograph.film import Film
    from ..segmentation import Finding

RESEARCH_ONLY = "Research use only. Not for diagnosis."

SURE_CONFIDENCE = 0.8
"""Confidence from which an automatic crop needs no look of a person.

Measured on phantom films: with the finder that ships none of 945 knees lies below; of its four finds on 1,800 films
without a knee two do, among them the only one that the gate does not turn down (it is asked below a higher confidence,
`confirm_threshold`). With an earlier finder, on spoilt films (turned, cut off, partly hidden, coarse, wrongly windowed)
19 % of the 63 crops below overlap the knee by less than 0.75, of the 439 above 3 %.
It tells what hardly looks like a frontal knee, not how well the square lies: on good films the overlap does not
follow it (rank correlation 0.03).
"""

PICTURE_MARK = "KneeBoneAge picture"
"""Stands in the PNG header of a report's pictures, so that a walk over folders takes none for a film."""


@dataclass(frozen=True)
class Run:
    """What all records of a run share; ``first_line`` is what the bundle's card says first of it."""

    bundle: str | None = None
    bundle_sha256: str | None = None
    scale_end_months: float | None = None
    first_line: str = ""

    @classmethod
    def of(cls, bundle: Bundle) -> Run:
        facts = bundle.manifest
        return cls(bundle.name, bundle.sha256, facts.architecture.months_to, facts.card_first_line)

    @property
    def caution(self) -> str:
        """What must stand wherever a picture or page of the run is seen alone."""
        return f"{self.first_line} {RESEARCH_ONLY}".lstrip()


@dataclass(frozen=True)
class Result:
    """One knee, or a film without one (``knee_index`` 0); the order of the fields is that of the JSON.

    Attributes
    ----------
    status : "ok", "refused" or "error".
    knee_index : 1, 2, ... on the film from the viewer's left; 0 for the film itself.
    box_px : [x0, y0, x1, y1] in continuous pixels of the original, pixel (0, 0) covering [0, 1) x [0, 1).
    interval_months : [low, high]; of a mature knee from ``at_least_months`` to the end of the scale.
    withheld_bone_age_months : the number of a refused knee, which is not to be used.
    crop_uncertain : True for an automatic crop that a person should look at; the estimate stands all the same.
    sex_source, age_source : "typed", "header" or None.
    side_conflict : True when the fibula and the header name different sides.
    """

    file: str
    status: str
    reason: str | None = None
    knee_index: int = 0
    side: str = "unknown"
    box_px: list[float] | None = None
    crop_confidence: float | None = None
    sex: str | None = None
    chronological_age_months: float | None = None
    bone_age_months: float | None = None
    interval_months: list[float] | None = None
    interval_level: float | None = None
    mature: bool = False
    bundle: str | None = None
    bundle_sha256: str | None = None
    refusal_kind: str | None = None
    withheld_bone_age_months: float | None = None
    at_least_months: float | None = None
    crop_origin: str | None = None
    crop_angle_deg: float | None = None
    crop_uncertain: bool = False
    sex_source: str | None = None
    age_source: str | None = None
    spacing_mm: list[float] | None = None
    spacing_source: str | None = None
    polarity: str | None = None
    view: str | None = None
    body_part: str | None = None
    side_from_header: str | None = None
    side_conflict: bool = False
    study_uid: str | None = None
    series_uid: str | None = None
    instance_uid: str | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    version: str = VERSION
    note: str = RESEARCH_ONLY

    def json_line(self) -> bytes:
        """The record as one line of JSON, UTF-8, with its line end.

        Bytes of a file name that are no UTF-8 are written as JSON's own escape, so that Python's ``json`` gives
        back the name that opens the file.
        """
        return utf8(json.dumps(dataclasses.asdict(self), allow_nan=False, ensure_ascii=False) + "\n")


def utf8(text: str) -> bytes:
    """Text as UTF-8; what cannot be said in it (a file name of other bytes) as an escape like ``\\udcff``."""
    return text.encode("utf-8", "backslashreplace")


def error_result(file: str, reason: str, run: Run) -> Result:
    """The record of a file that could not be read."""
    return Result(
        file=file,
        status="error",
        reason=reason,
        bundle=run.bundle,
        bundle_sha256=run.bundle_sha256,
    )


def crop_results(file: str, film: Film, finding: Finding, run: Run) -> list[Result]:
    """Records of crops without estimates; of a film without knees one that says why."""
    facts = _film_facts(file, film, finding, run)
    if not finding.knees:
        return [Result(status="refused", reason=finding.reason, refusal_kind="no knee", **facts)]
    return [
        Result(status="ok", **{**facts, **_crop_facts(index, crop, film, facts["notes"])})
        for index, crop in enumerate(finding.knees, start=1)
    ]


def estimate_results(file: str, estimate: FilmEstimate, run: Run) -> list[Result]:
    """Records of all knees of a film; of a film without knees one that says why."""
    film = estimate.film
    facts = _film_facts(file, film, estimate.finding, run)
    if not estimate.knees:
        return [Result(status="refused", reason=estimate.finding.reason, refusal_kind="no knee", **facts)]
    return [
        Result(
            status=knee.status,
            reason=knee.reason,
            **{**facts, **_crop_facts(index, knee.crop, film, facts["notes"])},
            **_age_facts(knee, run),
        )
        for index, knee in enumerate(estimate.knees, start=1)
    ]


def _film_facts(file: str, film: Film, finding: Finding, run: Run) -> dict[str, Any]:
    return {
        "file": file,
        "sex": film.sex,
        "sex_source": _source(film, "sex"),
        "chronological_age_months": _number(film.age_months, 2),
        "age_source": _source(film, "age_months"),
        "spacing_mm": _numbers(film.spacing_mm, 6),
        "spacing_source": film.spacing_source,
        "polarity": film.polarity,
        "view": film.view,
        "body_part": film.body_part,
        "side_from_header": _header_side(film),
        "study_uid": film.identifiers.study_uid,
        "series_uid": film.identifiers.series_uid,
        "instance_uid": film.identifiers.instance_uid,
        "notes": [*film.notes, *finding.notes],
        "bundle": run.bundle,
        "bundle_sha256": run.bundle_sha256,
    }


def _crop_facts(index: int, crop: KneeCrop, film: Film, notes: list[str]) -> dict[str, Any]:
    doubt = crop_doubt(crop.origin, crop.confidence)
    return {
        "knee_index": index,
        "side": crop.side,
        "box_px": _numbers(crop.box_px, 2),
        "crop_confidence": _number(crop.confidence, 4),
        "crop_origin": crop.origin,
        "crop_angle_deg": _number(crop.angle_deg, 2),
        "crop_uncertain": bool(doubt),
        "notes": [*notes, *filter(None, [doubt])],
        "side_conflict": {crop.side, _header_side(film)} == {"R", "L"},
    }


def _age_facts(knee: KneeEstimate, run: Run) -> dict[str, Any]:
    interval = knee.interval_months
    if knee.mature and knee.at_least_months is not None and run.scale_end_months is not None:
        interval = (knee.at_least_months, run.scale_end_months)
    usable = knee.status == "ok"
    return {
        "refusal_kind": knee.refusal_kind,
        "bone_age_months": _number(knee.bone_age_months, 2) if usable and not knee.mature else None,
        "withheld_bone_age_months": _number(knee.withheld_bone_age_months, 2),
        "interval_months": _numbers(interval, 2) if usable else None,
        "interval_level": _number(knee.interval_level, 4) if usable else None,
        "mature": bool(knee.mature) and usable,
        "at_least_months": _number(knee.at_least_months, 2) if usable else None,
    }


def _source(film: Film, fact: str) -> str | None:
    if fact in film.typed:
        return "typed"
    return None if getattr(film, fact) is None else "header"


def _header_side(film: Film) -> str | None:
    return None if "side" in film.typed else film.side


def _number(value: float | None, digits: int) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), digits)


def _numbers(values: Iterable[float] | None, digits: int) -> list[Any] | None:
    return None if values is None else [_number(value, digits) for value in values]


def crop_doubt(origin: str | None, confidence: float | None) -> str:
    """Why a person should look at a crop, as one of `reasons.REASONS`; empty for a sure one and for a person's own.

    What counts is the confidence as it is shown, to two decimals, so that no crop is called uncertain at 0.80."""
    if origin != "automatic" or confidence is None:
        return ""
    shown = round(round(confidence, 4), 2)  # records keep four
    if shown >= SURE_CONFIDENCE:
        return ""
    hint = f"the crop is uncertain (confidence {shown:.2f}): look whether the square lies on the knee"
    return hint  # the tests find reasons by the names that they are given


def format_age(months: float) -> str:
    """Months as a clinic says them: ``"9 y 7 m"``."""
    years, rest = divmod(round(months), 12)
    return f"{years} y {rest} m"


def headline(result: Result) -> str:
    """The answer for one knee in a few words."""
    if result.status != "ok":
        return "not read" if result.status == "error" else "refused"
    if result.mature and result.at_least_months is not None:
        return f"mature, at least {format_age(result.at_least_months)} ({result.at_least_months:.0f} months)"
    if result.bone_age_months is None:
        return "crop only"
    return f"{format_age(result.bone_age_months)} ({result.bone_age_months:.1f} months)"


def unknown_facts(result: Result) -> str:
    """What the answer had to do without: ``"sex and chronological age"``, one of them, or ``""``."""
    if result.status == "error" or result.knee_index == 0:
        return ""
    facts = (("sex", result.sex), ("chronological age", result.chronological_age_months))
    return " and ".join(name for name, value in facts if value is None)


def side_name(result: Result) -> str:
    """``"Right knee"``, ``"Left knee"``, ``"Knee"`` or, of a film without one, ``"Film"``."""
    if result.knee_index == 0:
        return "Film"
    return {"R": "Right knee", "L": "Left knee"}.get(result.side, "Knee")
