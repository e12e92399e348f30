"""What the panels say: ages, answers and problems in words."""

from __future__ import annotations

from html import escape
from typing import Any

import qt
import slicer
from slicer import i18n
from slicer.i18n import tr as _

from KneeBoneAgeLib import words
from KneeBoneAgeLib.words import tell

REPOSITORY = "https://github.com/KneeBoneAge/SlicerKneeBoneAge"


def speak() -> None:
    """Let the library say its sentences in the application's language; translations are kept by source file."""
    contexts = [i18n.getContext(str(file)) for file in words.files()]

    def translate(sentence: str) -> str:
        found = (i18n.translate(context, sentence) for context in contexts)
        return next((text for text in found if text and text != sentence), sentence)

    words.speak(translate)


def is_dark() -> bool:
    """Whether the application shows light letters on a dark ground."""
    return bool(slicer.app.palette().color(qt.QPalette.Window).lightness() < 128)


def amber() -> str:
    """The colour of what a user should act on, legible on the application's ground."""
    return "#f0a04b" if is_dark() else "#b45f06"


def say(label: Any, text: str = "", problem: bool = False) -> None:
    """Write a line of a section, or hide it when there is nothing to say.

    Parameters
    ----------
    problem : with a sign, for what a user should act on; plain otherwise.
    """
    said = text
    if problem and text:
        lines = escape(text).replace("\n", "<br>")
        said = f'<span style="color:{amber()}">⚠</span> {lines}'
    if label.text != said:
        # Left to itself a label shows "&gt;" of a text without tags as it stands.
        label.textFormat = qt.Qt.RichText if problem else qt.Qt.PlainText
        label.text = said
    if label.isHidden() == bool(text):
        label.visible = bool(text)


def age(months: float) -> str:
    """``"8 y 7 m (103 months)"``."""
    return _("{age} ({months:.0f} months)").format(age=years_and_months(months), months=months)


def years_and_months(months: float) -> str:
    """``"8 y 7 m"``."""
    years, rest = divmod(round(months), 12)
    return _("{years} y {months} m").format(years=years, months=rest)


def knee_name(side: str | None) -> str:
    return {"R": _("Right knee"), "L": _("Left knee")}.get(side or "", _("Knee"))


def side_name(side: str | None) -> str:
    return {"R": _("right"), "L": _("left")}.get(side or "", _("unknown"))


def origin_name(origin: str | None) -> str:
    return {
        "automatic": _("automatic"),
        "corrected": _("corrected"),
        "person": _("added by hand"),
    }.get(origin or "", origin or "")


def headline(record: dict[str, Any]) -> str:
    """The answer for one knee."""
    if record.get("status") != "ok":
        return _("No bone age")
    if record.get("mature") and record.get("at_least_months") is not None:
        return _("Mature, at least {age}").format(age=age(record["at_least_months"]))
    if record.get("bone_age_months") is None:
        return _("No bone age")
    return age(record["bone_age_months"])


def details(record: dict[str, Any]) -> list[str]:
    """What stands below the headline: interval and difference, or the reason of a refusal."""
    if record.get("status") != "ok":
        reason = tell(record["reason"]) if record.get("reason") else _("no reason was given")
        return [_("Refused: {reason}").format(reason=reason), *_crop_doubt(record)]
    lines = []
    low, high = record.get("interval_months") or (None, None)
    if low is not None and high is not None and not record.get("mature"):
        lines.append(
            _("{level:.0%} interval: {low} to {high}").format(
                level=record.get("interval_level") or 0.9,
                low=years_and_months(low),
                high=years_and_months(high),
            )
        )
    if record.get("mature"):
        lines.append(_("The knee no longer changes beyond this age."))
    lines.append(_difference(record))
    if record.get("sex") is None:
        lines.append(_("The sex is not known: it would make the answer surer."))
    if record.get("side_conflict"):
        lines.append(_("The header of the film names the other side: check it."))
    return [*lines, *_crop_doubt(record)]


def _crop_doubt(record: dict[str, Any]) -> list[str]:
    uncertain = record.get("crop_uncertain")
    return [_("The square is uncertain: look whether it lies on the knee.")] if uncertain else []


def _difference(record: dict[str, Any]) -> str:
    chronological, bone = record.get("chronological_age_months"), record.get("bone_age_months")
    if chronological is None:
        return _("The chronological age is not known.")
    known = _("chronological age, {age}").format(age=years_and_months(chronological))
    if bone is None or record.get("mature"):
        return _("Chronological age: {age}").format(age=years_and_months(chronological))
    months = round(bone) - round(chronological)  # what stands above, so that a reader gets the same
    if months == 0:
        return _("Equal to the {known}").format(known=known)
    way = _("{difference} ahead of the {known}") if months > 0 else _("{difference} behind the {known}")
    return way.format(difference=_span(abs(months)), known=known)


def _span(months: int) -> str:
    if months == 1:
        return _("1 month")
    return _("{months} months").format(months=months) if months < 24 else years_and_months(months)
