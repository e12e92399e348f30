"""What the scene keeps of films and knees, as plain values: facts, crops and what a result depends on. No MRML here."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

FACT_NAMES = ("sex", "age_months", "side", "view", "polarity", "spacing_mm")
"""What can be typed."""

CHOICES: dict[str, tuple[str | None, ...]] = {
    "sex": ("F", "M", None),
    "side": ("R", "L", None),
    "view": ("frontal", "lateral", None),
    "polarity": ("normal", "inverted", None),
}
OLDEST_MONTHS = 1320
SPACING_MM = (1e-3, 10.0)

SAME_PX = 0.01
"""An ROI that is nearer than this to its crop has not been moved."""
SAME_MONTHS = 0.005


class Crop(TypedDict, total=False):
    """`crop.KneeCrop` as JSON; ``origin`` is "automatic", "corrected" (was automatic) or "person".

    ``fibula_clear`` says that the fibula decided mirroring; it is then kept when the side is typed.
    """

    centre_px: list[float]
    side_px: float
    angle_deg: float
    side: str
    mirrored: bool
    origin: str
    confidence: float
    fibula_clear: bool


@dataclass(frozen=True)
class Facts:
    """What is known of a film; see `radiograph.film.Film` for the values.

    Attributes
    ----------
    polarity : "normal" when bone is bright in the volume as it is shown, otherwise "inverted".
    typed : names of what a person typed; it wins over what was read.
    source : "database", "file" or "array": where the rest comes from; None before it was read.
    """

    sex: str | None = None
    age_months: float | None = None
    side: str | None = None
    view: str | None = None
    polarity: str | None = None
    spacing_mm: tuple[float, float] | None = None
    spacing_source: str = "uncalibrated"
    body_part: str | None = None
    notes: tuple[str, ...] = ()
    uids: Mapping[str, str] = field(default_factory=dict)
    typed: tuple[str, ...] = ()
    source: str | None = None


READ_NAMES = tuple(f.name for f in dataclasses.fields(Facts) if f.name not in ("typed", "source"))


def merged(stored: Mapping[str, Any]) -> Facts:
    """Facts of ``{"read": {...}, "typed": {...}, "source"}``; typed values in the place of those that were read."""
    known, typed = stored.get("read") or {}, stored.get("typed") or {}
    values = {name: known[name] for name in READ_NAMES if name in known} | typed
    if "spacing_mm" in typed:
        values["spacing_source"] = "uncalibrated" if typed["spacing_mm"] is None else "typed"
    if values.get("spacing_mm") is not None:
        values["spacing_mm"] = tuple(values["spacing_mm"])
    values["notes"] = tuple(values.get("notes") or ())
    values["typed"] = tuple(name for name in FACT_NAMES if name in typed)
    values["source"] = stored.get("source")
    return Facts(**values)


def checked_fact(name: str, value: Any) -> Any:
    """A typed value as it is stored; None says "unknown". Raises ValueError for one that cannot be."""
    if name not in FACT_NAMES:
        raise ValueError(f"{name!r} cannot be typed; {', '.join(FACT_NAMES)} can")
    if name in CHOICES and value not in CHOICES[name]:
        raise ValueError(f"{name} is one of {', '.join(map(str, CHOICES[name]))}, not {value!r}")
    if value is None:
        return None
    if name == "age_months" and not 0 <= value <= OLDEST_MONTHS:
        raise ValueError(f"the chronological age lies between 0 and {OLDEST_MONTHS} months, not {value!r}")
    if name == "spacing_mm":
        value = [float(pitch) for pitch in value]
        if len(value) != 2 or not all(SPACING_MM[0] <= pitch <= SPACING_MM[1] for pitch in value):
            raise ValueError(f"the pixel spacing is two numbers from 0.001 to 10 mm, not {value!r}")
    return value


def whole(crop: Mapping[str, Any]) -> Crop:
    """A crop with every key, numbers as numbers. Raises ValueError for one that is no square."""
    x, y = (float(value) for value in crop["centre_px"])
    side = float(crop["side_px"])
    if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(side) and side > 0):
        raise ValueError(f"a crop has a centre and a positive side in pixels, not {(x, y)} and {side}")
    return {
        "centre_px": [x, y],
        "side_px": side,
        "angle_deg": float(crop.get("angle_deg", 0.0)),
        "side": crop.get("side") or "unknown",
        "mirrored": bool(crop.get("mirrored", False)),
        "origin": crop.get("origin") or "person",
        "confidence": float(crop.get("confidence", 1.0)),
        "fibula_clear": bool(crop.get("fibula_clear", False)),
    }


def dragged(kept: Crop, box: tuple[float, float, float, float]) -> Crop:
    """The crop of an ROI that was put at ``kept`` and covers ``box`` (x0, y0, x1, y1) now.

    ``kept`` itself while nobody has moved it. A box that is no square stands for the side that was dragged more,
    about its middle; lean and mirroring stay.
    """
    x0, y0, x1, y1 = box
    (x, y), half = kept["centre_px"], kept["side_px"] / 2
    moved = max(abs(x0 - x + half), abs(y0 - y + half), abs(x1 - x - half), abs(y1 - y - half))
    sides = (x1 - x0, y1 - y0)
    if moved < SAME_PX or min(sides) <= 0:
        return kept
    return {
        **kept,
        "centre_px": [(x0 + x1) / 2, (y0 + y1) / 2],
        "side_px": max(sides, key=lambda side: abs(side - kept["side_px"])),
        "origin": "person" if kept["origin"] == "person" else "corrected",
        "confidence": 1.0,
    }


def same_knee(one: Crop, other: Crop) -> bool:
    """Whether two crops mean one knee: the middle of one lies in the inner half of the larger one."""
    return math.dist(one["centre_px"], other["centre_px"]) < max(one["side_px"], other["side_px"]) / 4


def key_of(crop: Crop, known: Facts, bundle_sha256: str | None) -> str:
    """What an estimate depends on, as JSON: crop, sex, chronological age, a typed polarity, the bundle."""
    return json.dumps(
        {
            "square": [*crop["centre_px"], crop["side_px"], crop["angle_deg"]],
            "mirrored": crop["mirrored"],
            "sex": known.sex,
            "age_months": known.age_months,
            "polarity": known.polarity if "polarity" in known.typed else None,
            "bundle": bundle_sha256,
        }
    )


def same_key(one: str, other: str) -> bool:
    """Whether two keys mean the same estimate; rounding does not count, and a bundle that is not known neither."""
    a, b = json.loads(one), json.loads(other)
    bundles = {a.pop("bundle"), b.pop("bundle")} - {None}
    ages = a.pop("age_months"), b.pop("age_months")
    squares = zip(a.pop("square"), b.pop("square"), strict=True)
    if (ages[0] is None) != (ages[1] is None):
        return False
    aged = ages[0] is not None and abs(ages[0] - ages[1]) > SAME_MONTHS
    return len(bundles) < 2 and not aged and a == b and all(abs(p - q) < SAME_PX for p, q in squares)
