"""Cells of tables as values: None (or "") for an empty cell, ValueError with the reason for one that is none."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from typing import TypeVar

from KneeBoneAgeLib.radiograph.film import MAX_AGE_MONTHS
from KneeBoneAgeLib.radiograph.header import DAYS_PER_MONTH

from .records import TEST, TRAIN

T = TypeVar("T")

MISSING = {"", "na", "n/a", "nan", "none", "null", "nat"}

_SEXES = {"f": "F", "female": "F", "m": "M", "male": "M"}
_FLAGS = {
    "yes": True,
    "y": True,
    "true": True,
    "1": True,
    "no": False,
    "n": False,
    "false": False,
    "0": False,
}
_SIDES = {"r": "R", "right": "R", "l": "L", "left": "L", "b": "B", "both": "B", "bilateral": "B"}
_VIEWS = {"frontal": "frontal", "ap": "frontal", "pa": "frontal", "lateral": "lateral", "other": "other"}
_SPLITS = {"train": TRAIN, "training": TRAIN, "val": TRAIN, "validation": TRAIN, "test": TEST}


def cell(text: str | None) -> str:
    """The text without blanks around it, "" for a missing value."""
    text = (text or "").strip()
    return "" if text.lower() in MISSING else text


def _choice(text: str, choices: Mapping[str, T], name: str, allowed: str) -> T | None:
    text = cell(text)
    if not text:
        return None
    try:
        return choices[re.sub(r"\.0$", "", text.lower())]
    except KeyError:
        raise ValueError(f"{name} is {text!r}; {allowed} is possible") from None


def sex(text: str) -> str | None:
    """F or M."""
    return _choice(text, _SEXES, "sex", "F or M")


def sex_of_male(text: str) -> str | None:
    """F or M from a column that says whether a child is male."""
    male = _choice(text, _FLAGS, "male", "True or False")
    return None if male is None else "M" if male else "F"


def flag(text: str, name: str) -> bool:
    """A yes or no; an empty cell is a no."""
    return bool(_choice(text, _FLAGS, name, "yes or no"))


def side(text: str) -> str:
    """R, L or B."""
    return _choice(text, _SIDES, "side", "R, L or B") or ""


def view(text: str) -> str:
    """frontal, lateral or other."""
    return _choice(text, _VIEWS, "view", "frontal, lateral or other") or ""


def split(text: str) -> str:
    """train or test; validation sets are trained on, in folds."""
    return _choice(text, _SPLITS, "split", "train or test") or ""


def months(text: str, name: str = "age_months") -> float | None:
    """Months from 0 to 1,320."""
    text = cell(text)
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{name} is {text!r}, not a number") from None
    if not (math.isfinite(number) and 0 <= number <= MAX_AGE_MONTHS):
        raise ImpossibleAge(f"{name} is {text}; 0 to {MAX_AGE_MONTHS} months are possible")
    return number


class ImpossibleAge(ValueError):
    """An age that nobody has."""


def date(text: str, name: str = "date") -> datetime.date | None:
    """A date written year first: 2024-05-31, 20240531, 2024/05/31; a time behind it is dropped."""
    text = cell(text)
    if not text:
        return None
    match = re.fullmatch(r"(\d{4})[-/.]?(\d{2})[-/.]?(\d{2})(?:[T ].*)?", text)
    if match:
        try:
            return datetime.date(*map(int, match.groups()))
        except ValueError:
            pass
    raise ValueError(f"{name} is not a date written YYYY-MM-DD")


def age_on(day: datetime.date, born: datetime.date) -> float:
    """Chronological age in months on a day. Raises ImpossibleAge."""
    age = (day - born).days / DAYS_PER_MONTH
    if not 0 <= age <= MAX_AGE_MONTHS:
        raise ImpossibleAge("birth date and date of the film give no possible age")
    return age
