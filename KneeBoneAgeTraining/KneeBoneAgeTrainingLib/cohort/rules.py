"""The rules of a cohort, in their order, each counted before and after."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from .joining import Joined
from .pairing import Match, comparable, nearest
from .records import HAND, KNEE, PATIENT, Exclusion, FilmRow, Problem

NO_FILM, VIEW, AGE, NO_HAND, SPARE_HAND = "no_film", "not_frontal", "age", "no_hand_film", "hand_not_nearest"
BY_CONDITION = {
    "physeal_trauma": ("physeal_trauma",),
    "dysplasia_or_genetic_disorder": ("skeletal_dysplasia", "genetic_disorder"),
    "endocrinopathy": ("endocrinopathy",),
}
LABELS = {
    NO_FILM: "no usable film of the part studied",
    VIEW: "not a frontal view",
    "physeal_trauma": "previous physeal trauma about the knee",
    "dysplasia_or_genetic_disorder": "skeletal dysplasia or genetic disorder",
    "endocrinopathy": "endocrinopathy",
}


@dataclass(frozen=True)
class Counts:
    """Patients, knee films and hand films."""

    patients: int
    knee_films: int
    hand_films: int

    def __sub__(self, other: Counts) -> Counts:
        return Counts(
            self.patients - other.patients,
            self.knee_films - other.knee_films,
            self.hand_films - other.hand_films,
        )


@dataclass(frozen=True)
class Step:
    """One rule with what it removed. ``stated`` is False where no table says anything about it."""

    rule: str
    label: str
    stated: bool
    before: Counts
    removed: Counts
    after: Counts


@dataclass(frozen=True)
class Pair:
    """A film of the study, with its hand film where films are paired."""

    film: FilmRow
    match: Match | None = None


@dataclass(frozen=True)
class Ruled:
    """What the rules left, what they removed, and films that turned out to be unusable."""

    pairs: tuple[Pair, ...]
    steps: tuple[Step, ...]
    exclusions: tuple[Exclusion, ...]
    problems: tuple[Problem, ...]


def apply_rules(
    joined: Joined, kind: str, *, max_age_months: float, within_months: int, stated: frozenset[str]
) -> Ruled:
    """Apply all rules for a study of ``kind`` (one of `KINDS`).

    A patient leaves with the last of the films that are studied, and takes the hand films along.
    """
    part = HAND if kind == "hand" else KNEE
    problems = _incomparable(joined) if kind == "paired" else []
    unusable = {problem.source for problem in problems}
    roll = _Roll(joined, [film for film in joined.films if film.source not in unusable], part)
    roll.remove(NO_FILM, LABELS[NO_FILM], lambda film: kind != "paired" and film.part != part)
    roll.remove(VIEW, LABELS[VIEW], lambda film: film.part == KNEE and film.view not in ("", "frontal"))
    for rule, conditions in BY_CONDITION.items():
        named = frozenset(conditions)
        roll.remove(rule, LABELS[rule], partial(_has, named), stated=bool(stated & named))
    years = f"{max_age_months / 12:g}"
    aged = any(film.age_months is not None for film in roll.films if film.part == part)
    roll.remove(
        AGE,
        f"older than {years} years",
        lambda film: film.part == part and (film.age_months or 0.0) > max_age_months,
        stated=aged,
    )
    if kind != "paired":
        return Ruled(tuple(Pair(film) for film in roll.films), *roll.done(), tuple(problems))
    hands: defaultdict[str, list[FilmRow]] = defaultdict(list)
    for film in roll.films:
        if film.part == HAND:
            hands[film.patient_id].append(film)
    matches = {
        film.source: nearest(film, hands[film.patient_id], within_months)
        for film in roll.films
        if film.part == KNEE
    }
    roll.remove(
        NO_HAND,
        f"no hand film within {within_months} months",
        lambda film: film.part == KNEE and matches[film.source] is None,
    )
    used = {match.hand.source for match in matches.values() if match}
    roll.remove(
        SPARE_HAND,
        "hand film that is the nearest to no knee film",
        lambda film: film.part == HAND and film.source not in used,
    )
    pairs = tuple(Pair(film, matches[film.source]) for film in roll.films if film.part == KNEE)
    return Ruled(pairs, *roll.done(), tuple(problems))


def _has(named: frozenset[str], film: FilmRow) -> bool:
    return bool(film.conditions & named)


def _incomparable(joined: Joined) -> list[Problem]:
    """Knee films that no hand film of the patient can be compared with: one has dates only, the other ages only."""
    hands: defaultdict[str, list[FilmRow]] = defaultdict(list)
    for film in joined.films:
        if film.part == HAND:
            hands[film.patient_id].append(film)
    reason = "the hand films of its patient have dates or ages where it has none, so it cannot be paired"
    return [
        Problem(KNEE, film.source, "no date", reason)
        for film in joined.films
        if film.part == KNEE
        and hands[film.patient_id]
        and not any(comparable(film, hand) for hand in hands[film.patient_id])
    ]


class _Roll:
    """Who is still in; `remove` applies a rule and counts."""

    def __init__(self, joined: Joined, films: Iterable[FilmRow], part: str) -> None:
        self.part = part
        self.films = list(films)
        self.rows = {patient_id: row.source for patient_id, row in joined.patients.items()}
        self.patients = set(self.rows) | {film.patient_id for film in self.films}
        self.steps: list[Step] = []
        self.exclusions: list[Exclusion] = []

    def counts(self) -> Counts:
        parts = [film.part for film in self.films]
        return Counts(len(self.patients), parts.count(KNEE), parts.count(HAND))

    def remove(self, rule: str, label: str, out: Callable[[FilmRow], bool], stated: bool = True) -> None:
        before = self.counts()
        gone = [film for film in self.films if out(film)]
        self._drop(rule, gone)
        studied = {film.patient_id for film in self.films if film.part == self.part}
        self._drop(rule, [film for film in self.films if film.patient_id not in studied])
        for patient_id in sorted(self.patients - studied):
            if patient_id in self.rows:
                self.exclusions.append(Exclusion(PATIENT, self.rows[patient_id], patient_id, rule))
        self.patients &= studied
        after = self.counts()
        self.steps.append(Step(rule, label, stated, before, before - after, after))

    def _drop(self, rule: str, gone: list[FilmRow]) -> None:
        self.exclusions += [Exclusion(film.part, film.source, film.patient_id, rule) for film in gone]
        left = {film.source for film in gone}
        self.films = [film for film in self.films if film.source not in left]

    def done(self) -> tuple[tuple[Step, ...], tuple[Exclusion, ...]]:
        return tuple(self.steps), tuple(self.exclusions)
