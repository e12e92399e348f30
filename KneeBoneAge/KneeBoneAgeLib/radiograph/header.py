"""Facts in a DICOM header: who, when, which side, which view, and how large a pixel is. No pixels here."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .film import MAX_AGE_MONTHS, FilmFacts, FilmIdentifiers, Spacing

if TYPE_CHECKING:
    from pydicom import Dataset

DAYS_PER_MONTH = 365.25 / 12
MONTHS_PER_UNIT = {"D": 1 / DAYS_PER_MONTH, "W": 7 / DAYS_PER_MONTH, "M": 1.0, "Y": 12.0}
MAX_MAGNIFICATION = 3.0
PLACEHOLDER_BIRTHS = {datetime.date(1900, 1, 1), datetime.date(1800, 1, 1), datetime.date(1, 1, 1)}
"""What de-identification writes when it writes a date at all."""

DESCRIPTIONS = (
    "SeriesDescription",
    "ProtocolName",
    "AcquisitionDeviceProcessingDescription",
    "PerformedProcedureStepDescription",
    "RequestedProcedureDescription",
    "StudyDescription",
)
"""Free text that names view, side and body part, the most specific first."""

SIDE_WORDS = {
    "R": {
        "R",
        "RT",
        "RIGHT",
        "RECHTS",
        "RE",
        "DROIT",
        "DROITE",
        "DERECHA",
        "DERECHO",
        "DESTRA",
        "DESTRO",
        "DIREITO",
    },
    "L": {
        "L",
        "LT",
        "LEFT",
        "LINKS",
        "LI",
        "GAUCHE",
        "IZQUIERDA",
        "IZQUIERDO",
        "SINISTRA",
        "SINISTRO",
        "ESQUERDO",
    },
}
BOTH_WORDS = {
    "BILATERAL",
    "BILAT",
    "BIL",
    "BOTH",
    "BEIDE",
    "BEIDSEITS",
    "BDS",
    "BDS.",
    "STANDING BOTH",
    "LR",
    "RL",
    "B",
}
FRONTAL_WORDS = {
    "AP",
    "PA",
    "FRONTAL",
    "FRONT",
    "ANTEROPOSTERIOR",
    "POSTEROANTERIOR",
    "ANTERO",
    "POSTERO",
    "FACE",
}
LATERAL_WORDS = {
    "LAT",
    "LATERAL",
    "LATERO",
    "MEDIO",
    "MEDIOLATERAL",
    "LATEROMEDIAL",
    "SEITLICH",
    "PROFIL",
    "LL",
    "RL",
}
OTHER_WORDS = {"OBLIQUE", "OBL", "OBLIQ", "TANGENTIAL", "AXIAL", "SKYLINE", "SUNRISE", "MERCHANT", "PATELLA"}
LATERAL_POSITIONS = {"LL", "RL", "LAT", "LATERAL", "ML", "LM", "RLAT", "LLAT"}
FRONTAL_POSITIONS = {"AP", "PA", "FRONTAL"}
KNEE_WORDS = re.compile(r"\b(KNEES?|KNIE|GENOUX?|RODILLAS?|GINOCCHIO|JOELHO)\b")
RIGHT_LEFT_CODES = {
    "24028007": "R",
    "G-A100": "R",
    "7771000": "L",
    "G-A101": "L",
    "51440002": "B",
    "G-A102": "B",
}
"""SNOMED CT and its former SNOMED-RT values in CID 244, Laterality."""


def facts(dataset: Dataset) -> tuple[FilmFacts, list[str]]:
    """What the header says, and notes on what it says badly. Never raises."""
    notes: list[str] = []
    return (
        FilmFacts(
            sex=_sex(dataset),
            age_months=_age(dataset, notes),
            side=_side(dataset),
            view=_view(dataset),
            body_part=_body_part(dataset),
            identifiers=FilmIdentifiers(
                text(dataset, "StudyInstanceUID"),
                text(dataset, "SeriesInstanceUID"),
                text(dataset, "SOPInstanceUID"),
            ),
        ),
        notes,
    )


def get(dataset: Dataset, keyword: str) -> Any:
    """A value, or None when it is missing, empty or unreadable."""
    try:
        value = dataset.get(keyword)
    except Exception:  # a malformed value raises whatever its converter raises
        return None
    if value is None or (hasattr(value, "__len__") and len(value) == 0):
        return None
    return value


def text(dataset: Dataset, keyword: str) -> str | None:
    """A stripped single string, or None."""
    value = get(dataset, keyword)
    if value is None:
        return None
    if not isinstance(value, str) and hasattr(value, "__iter__"):
        value = next(iter(value), "")
    return str(value).strip(" \0\t\r\n") or None


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """Finite numbers of an element, [] when it is missing or malformed."""
    value = get(dataset, keyword)
    if value is None:
        return []
    values = value if not isinstance(value, str) and hasattr(value, "__iter__") else [value]
    found = []
    for item in values:
        try:
            number = float(str(item).replace(",", "."))
        except (TypeError, ValueError):
            return []
        if not math.isfinite(number):
            return []
        found.append(number)
    return found


def age_in_months(spelling: str) -> float | None:
    """Months from a PatientAge as written by the standard ("005Y", "018M", "012W", "030D") or nearly so.

    Accepts missing or extra digits, blanks, lower case, decimals, words ("5 years"), and compounds ("5Y6M").
    A number without a unit means years. None for anything else and for ages nobody reaches.
    """
    cleaned = spelling.strip(" \0").upper().replace(",", ".")
    parts = re.findall(r"(\d+(?:\.\d*)?|\.\d+)\s*([A-Z]*)[\s.;]*", cleaned)
    if not parts or re.sub(r"(\d+(?:\.\d*)?|\.\d+)\s*([A-Z]*)[\s.;]*", "", cleaned):
        return None
    words = {
        "YEAR": "Y",
        "YEARS": "Y",
        "YR": "Y",
        "YRS": "Y",
        "YO": "Y",
        "MONTH": "M",
        "MONTHS": "M",
        "MO": "M",
        "MOS": "M",
    }
    words |= {
        "WEEK": "W",
        "WEEKS": "W",
        "WK": "W",
        "WKS": "W",
        "DAY": "D",
        "DAYS": "D",
        "": "Y" if len(parts) == 1 else "?",
    }
    months = 0.0
    for number, unit in parts:
        unit = words.get(unit, unit)
        if unit not in MONTHS_PER_UNIT:
            return None
        months += float(number) * MONTHS_PER_UNIT[unit]
    return months if months <= MAX_AGE_MONTHS else None


def spacing(dataset: Dataset) -> tuple[Spacing, list[str]]:
    """The pixel pitch that comes nearest to the plane of the knee, as PS3.3 10.7.1.3 reads the attributes.

    1. PixelSpacing that differs from ImagerPixelSpacing, or is called calibrated, is already at the patient.
    2. ImagerPixelSpacing is at the detector: divided by EstimatedRadiographicMagnificationFactor, once.
    3. PixelSpacing alone, then NominalScannedPixelSpacing.
    """
    notes: list[str] = []
    imager = _pitch(dataset, "ImagerPixelSpacing")
    pixel = _pitch(dataset, "PixelSpacing")
    scanned = _pitch(dataset, "NominalScannedPixelSpacing")
    magnification = next(iter(numbers(dataset, "EstimatedRadiographicMagnificationFactor")), None)
    if magnification is not None and not 1.0 <= magnification <= MAX_MAGNIFICATION:
        notes.append(f"magnification factor {magnification:g} ignored")
        magnification = None
    calibrated = text(dataset, "PixelSpacingCalibrationType") in ("GEOMETRY", "FIDUCIAL")
    if pixel and imager:
        differs = any(abs(p / i - 1) > 1e-3 for p, i in zip(pixel, imager, strict=True))
        if differs or calibrated:
            return Spacing(pixel, "PixelSpacing"), notes
    if imager:
        if magnification is not None and magnification > 1.0:
            at_knee = (imager[0] / magnification, imager[1] / magnification)
            return Spacing(at_knee, "ImagerPixelSpacing/magnification", magnification), notes
        return Spacing(imager, "ImagerPixelSpacing"), notes
    if pixel:
        return Spacing(pixel, "PixelSpacing"), notes
    if scanned:
        return Spacing(scanned, "NominalScannedPixelSpacing"), notes
    return Spacing(), notes


def _pitch(dataset: Dataset, keyword: str) -> tuple[float, float] | None:
    values = numbers(dataset, keyword)
    if len(values) == 1:
        values = values * 2
    if len(values) != 2 or not all(1e-3 <= value <= 10.0 for value in values):
        return None
    return values[0], values[1]


def _sex(dataset: Dataset) -> str | None:
    return {"F": "F", "FEMALE": "F", "M": "M", "MALE": "M"}.get((text(dataset, "PatientSex") or "").upper())


def _date(dataset: Dataset, *keywords: str) -> datetime.date | None:
    for keyword in keywords:
        match = re.match(r"(\d{4})[.\-/]?(\d{2})[.\-/]?(\d{2})", text(dataset, keyword) or "")
        if match:
            try:
                return datetime.date(*map(int, match.groups()))
            except ValueError:
                continue
    return None


def _age(dataset: Dataset, notes: list[str]) -> float | None:
    """Chronological age in months: PatientAge, otherwise birth date and date of the study."""
    written = text(dataset, "PatientAge")
    stated = age_in_months(written) if written else None
    if written and stated is None:
        notes.append("PatientAge cannot be understood")
    born = _date(dataset, "PatientBirthDate")
    taken = _date(dataset, "StudyDate", "AcquisitionDate", "AcquisitionDateTime", "SeriesDate", "ContentDate")
    dated = None
    if born and taken and born not in PLACEHOLDER_BIRTHS:
        dated = (taken - born).days / DAYS_PER_MONTH
        if not 0 <= dated <= MAX_AGE_MONTHS:
            notes.append("birth date and study date give no possible age")
            dated = None
    if stated is None:
        return dated
    if dated is not None and abs(dated - stated) >= 1:
        notes.append(f"PatientAge says {stated:g} months, the dates {dated:.1f}; PatientAge is used")
    return stated


def _sequence(dataset: Dataset, keyword: str) -> Iterator[Dataset]:
    value = get(dataset, keyword)
    if value is not None and hasattr(value, "__iter__") and not isinstance(value, str | bytes):
        yield from (item for item in value if hasattr(item, "get"))


def _words(dataset: Dataset) -> Iterator[set[str]]:
    """Upper-case words of each description, the most specific first."""
    for keyword in DESCRIPTIONS:
        described = text(dataset, keyword)
        if described:
            yield set(re.findall(r"[^\W\d_]+", described.upper()))


def _side(dataset: Dataset) -> str | None:
    stated = [text(dataset, "ImageLaterality"), text(dataset, "Laterality"), text(dataset, "FrameLaterality")]
    for group in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for functional in _sequence(dataset, group):
            for anatomy in _sequence(functional, "FrameAnatomySequence"):
                stated.append(text(anatomy, "FrameLaterality"))
    for region in _sequence(dataset, "AnatomicRegionSequence"):
        for modifier in _sequence(region, "AnatomicRegionModifierSequence"):
            stated.append(
                RIGHT_LEFT_CODES.get(text(modifier, "CodeValue") or "") or text(modifier, "CodeMeaning")
            )
    for side in stated:
        letter = {"RIGHT": "R", "LEFT": "L", "BOTH": "B", "BILATERAL": "B"}.get(
            (side or "").upper(), (side or "").upper()
        )
        if letter in ("R", "L"):
            return letter
        if letter == "B":
            return None
    for words in _words(dataset):
        found = {side for side, spellings in SIDE_WORDS.items() if words & spellings}
        if len(found) == 2 or words & BOTH_WORDS:
            return None
        if found:
            return found.pop()
    return None


def _view_of(words: set[str]) -> tuple[bool, str | None]:
    """(whether the words name a view, the view); an oblique or axial view is named and is None."""
    if words & OTHER_WORDS:
        return True, None
    frontal, lateral = bool(words & FRONTAL_WORDS), bool(words & LATERAL_WORDS)
    if {"ANTERO", "POSTERIOR"} <= words or {"POSTERO", "ANTERIOR"} <= words:
        frontal = True
    if frontal and lateral:
        return True, None
    return (frontal or lateral), ("frontal" if frontal else "lateral" if lateral else None)


def _view(dataset: Dataset) -> str | None:
    position = (text(dataset, "ViewPosition") or "").upper()
    if position in FRONTAL_POSITIONS:
        return "frontal"
    if position in LATERAL_POSITIONS:
        return "lateral"
    if position:
        named, view = _view_of(set(re.findall(r"[A-Z]+", position)))
        if named:
            return view
    for item in _sequence(dataset, "ViewCodeSequence"):
        named, view = _view_of(set(re.findall(r"[A-Z]+", (text(item, "CodeMeaning") or "").upper())))
        if named:
            return view
    for words in _words(dataset):
        named, view = _view_of(words)
        if named:
            return view
    return None


def _body_part(dataset: Dataset) -> str | None:
    examined = text(dataset, "BodyPartExamined")
    if examined:
        return examined.upper()
    for region in _sequence(dataset, "AnatomicRegionSequence"):
        meaning = text(region, "CodeMeaning")
        if meaning:
            return meaning.upper()
    if any(KNEE_WORDS.search((text(dataset, keyword) or "").upper()) for keyword in DESCRIPTIONS):
        return "KNEE"
    return None
