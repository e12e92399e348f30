"""Which hand film belongs to a knee film: the nearest in time of the same child, within a number of months."""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Iterable
from dataclasses import dataclass

from KneeBoneAgeLib.radiograph.header import DAYS_PER_MONTH

from .records import FilmRow

SLACK_MONTHS = 1e-6


@dataclass(frozen=True)
class Match:
    """A hand film with the days between it and the knee film, counted from dates or from ages."""

    hand: FilmRow
    days: int
    counted_from: str  # "dates" or "ages"


def nearest(knee: FilmRow, hands: Iterable[FilmRow], months: int) -> Match | None:
    """The nearest hand film at most ``months`` calendar months before or after the knee film, or None.

    Exactly that many months (15 January to 15 April) is within. Of two that are equally near a left hand is taken,
    which is what atlases of bone age show, then the earlier film.
    """
    within = [match for match in (compare(knee, hand, months) for hand in hands) if match]
    return min(within, key=_order, default=None)


def comparable(knee: FilmRow, hand: FilmRow) -> bool:
    """Whether both have a date, or both an age in months."""
    return bool(knee.date and hand.date) or _aged(knee, hand)


def compare(knee: FilmRow, hand: FilmRow, months: int) -> Match | None:
    """The pair when it lies within ``months``, otherwise None."""
    if knee.date and hand.date:
        earlier, later = sorted((knee.date, hand.date))
        if later > months_after(earlier, months):
            return None
        return Match(hand, (later - earlier).days, "dates")
    if _aged(knee, hand):
        apart = abs((knee.age_months or 0.0) - (hand.age_months or 0.0))
        if apart > months + SLACK_MONTHS:
            return None
        return Match(hand, round(apart * DAYS_PER_MONTH), "ages")
    return None


def months_after(day: datetime.date, months: int) -> datetime.date:
    """The same day so many calendar months later, or the last of a shorter month."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    if year > datetime.MAXYEAR:
        return datetime.date.max
    return datetime.date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def _aged(knee: FilmRow, hand: FilmRow) -> bool:
    ages = knee.age_months is not None and hand.age_months is not None
    return ages and knee.age_exact and hand.age_exact


def _order(match: Match) -> tuple[int, bool, datetime.date, float, str]:
    hand = match.hand
    return (
        match.days,
        hand.side != "L",
        hand.date or datetime.date.min,
        hand.age_months or 0.0,
        str(hand.path),
    )
