"""The whole way from tables and folders to a cohort, with the account that no row was lost on it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..folds import FOLDS
from .inspection import inspected
from .joining import join
from .layouts import LAYOUTS
from .manifest import read_films, read_patients
from .records import (
    HAND,
    KINDS,
    KNEE,
    PATIENT,
    Exclusion,
    FilmRow,
    Material,
    Problem,
    StudyError,
    TableFact,
)
from .rules import Pair, Step, apply_rules
from .split import TEST_SHARE, Member, Place, split_films

DRAWN, GIVEN = "drawn", "given"


@dataclass(frozen=True)
class Parameters:
    """What a person chose; written to study.json. Raises StudyError for a value that is none.

    Attributes
    ----------
    kind : one of `KINDS`: "paired" (each knee film with a hand film), "knee" or "hand" (films of one kind alone).
    within_months : calendar months between a knee film and its hand film, at most.
    max_age_months : chronological age, at most.
    test_share : share of children in the test set, 0 to 0.5.
    test_split : "drawn", or "given" by the tables.
    pixels : whether each film was decoded; otherwise only files and headers were looked at.
    keep_ids : whether PatientIDs of DICOM headers are written as they are instead of as a salted hash.
    """

    kind: str = "paired"
    within_months: int = 3
    max_age_months: float = 216.0
    test_share: float = TEST_SHARE
    test_split: str = DRAWN
    folds: int = FOLDS
    seed: int = 0
    pixels: bool = True
    keep_ids: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise StudyError(f"kind {self.kind!r}: one of {', '.join(KINDS)}")
        if self.test_split not in (DRAWN, GIVEN):
            raise StudyError(f"test split {self.test_split!r}: {DRAWN} or {GIVEN}")
        if not 0 <= self.test_share <= 0.5:
            raise StudyError(f"test share {self.test_share:g}: 0 to 0.5 is possible")
        if self.folds < 2:
            raise StudyError(f"{self.folds} folds: at least 2 are needed")
        if self.within_months < 0 or self.max_age_months <= 0 or self.seed < 0:
            raise StudyError("months, ages and seeds are not negative")

    @property
    def needs_test(self) -> bool:
        """Whether there must be a test set."""
        return self.test_split == GIVEN or self.test_share > 0


@dataclass(frozen=True)
class Inputs:
    """Tables and folders: patients; knee films; hand films; films that say themselves what they show; public sets."""

    patients: tuple[Path, ...] = ()
    knees: tuple[Path, ...] = ()
    hands: tuple[Path, ...] = ()
    films: tuple[Path, ...] = ()
    layouts: tuple[tuple[str, Path], ...] = ()  # (name in `LAYOUTS`, folder)

    def __post_init__(self) -> None:
        given = [path.resolve() for path in (*self.patients, *self.knees, *self.hands, *self.films)]
        twice = [str(path) for path, count in Counter(given).items() if count > 1]
        if twice:
            raise StudyError(f"{twice[0]} is given twice; a folder of knees and hands goes to --films")


@dataclass(frozen=True)
class Cohort:
    """A study before it is written. ``read`` counts the rows of tables and folders by kind."""

    parameters: Parameters
    pairs: tuple[Pair, ...]
    places: tuple[Place, ...]
    steps: tuple[Step, ...]
    exclusions: tuple[Exclusion, ...]
    problems: tuple[Problem, ...]
    read: Counter[str]
    tables: tuple[TableFact, ...] = ()
    patient_rows: frozenset[str] = frozenset()  # ids with a sound row in a patients table
    table_ids: frozenset[str] = frozenset()  # ids that some table holds


def build(
    inputs: Inputs,
    parameters: Parameters,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Cohort:
    """Read, inspect, join, apply the rules, pair and split.

    Parameters
    ----------
    workers : processes that read films; None takes as many as there are cores.
    progress : called with (films read, films in all).

    Raises
    ------
    StudyError
        An input cannot be used at all. Single bad rows are `problems` of the result instead.
    """
    material = Material.merged(_materials(inputs))
    part = HAND if parameters.kind == "hand" else KNEE
    needed = {KNEE, HAND} if parameters.kind == "paired" else {part}
    parts = {film.part for film in material.films} | {problem.kind for problem in material.problems}
    absent = needed - parts if "" not in parts else set()
    if absent:
        raise StudyError(
            f"no {' and no '.join(sorted(absent))} films are given; a study of kind {parameters.kind} needs them "
            "(--knees, --hands, --films, or another --kind)"
        )
    films: list[FilmRow] = []
    problems = list(material.problems)
    read = Counter(material.read)
    workers = workers or os.cpu_count() or 1
    looked_at = inspected(material.films, pixels=parameters.pixels, workers=workers, progress=progress)
    for before, found in zip(material.films, looked_at, strict=True):
        kind = found.kind if isinstance(found, Problem) else found.part
        if kind != before.part:
            read[before.part] -= 1
            read[kind] += 1
        if isinstance(found, Problem):
            problems.append(found)
        else:
            films.append(found)
    joined = join(material.patients, films, parameters.kind)
    ruled = apply_rules(
        joined,
        parameters.kind,
        max_age_months=parameters.max_age_months,
        within_months=parameters.within_months,
        stated=material.stated,
    )
    places = split_films(
        [_member(pair.film) for pair in ruled.pairs],
        test_share=parameters.test_share,
        folds=parameters.folds,
        seed=parameters.seed,
        given=parameters.test_split == GIVEN,
    )
    cohort = Cohort(
        parameters,
        ruled.pairs,
        tuple(places),
        ruled.steps,
        ruled.exclusions,
        tuple(sorted((*problems, *joined.problems, *ruled.problems), key=lambda problem: problem.source)),
        +read,
        material.tables,
        frozenset(joined.patients),
        frozenset(row.patient_id for row in material.patients)
        | frozenset(row.patient_id for row in material.films if row.patient_id),
    )
    _check_account(cohort)
    return cohort


def _materials(inputs: Inputs) -> Iterator[Material]:
    for path in inputs.patients:
        yield read_patients(path)
    for part, paths in ((KNEE, inputs.knees), (HAND, inputs.hands), ("", inputs.films)):
        for path in paths:
            yield read_films(path, part, needs_patient=bool(inputs.patients))
    for name, folder in inputs.layouts:
        yield LAYOUTS[name](folder)


def _member(film: FilmRow) -> Member:
    age = film.age_months if film.age_months is not None else film.bone_age_months
    return Member(film.patient_id, film.sex or "", age or 0.0, film.family_id, film.split, str(film.path))


def used_hands(cohort: Cohort) -> set[FilmRow]:
    """Hand films that some knee film is paired with."""
    return {pair.match.hand for pair in cohort.pairs if pair.match}


def kept(cohort: Cohort) -> Counter[str]:
    """Rows that are in the study, by kind."""
    count = Counter(pair.film.part for pair in cohort.pairs)
    count[HAND] += len(used_hands(cohort))
    count[PATIENT] = len({pair.film.patient_id for pair in cohort.pairs} & cohort.patient_rows)
    return count


def _check_account(cohort: Cohort) -> None:
    """Every row that was read is kept, excluded or a problem, and only one of them."""
    excluded = Counter(exclusion.kind for exclusion in cohort.exclusions)
    problems = Counter(problem.kind for problem in cohort.problems)
    accounted = kept(cohort) + excluded + problems
    if +accounted != +cohort.read:
        raise RuntimeError(
            f"rows were lost: read {dict(cohort.read)}, accounted for {dict(accounted)}; please report"
        )


def with_hashed_ids(cohort: Cohort, hashed: Callable[[str], str]) -> Cohort:
    """The cohort with patient ids that only DICOM headers hold replaced; those of the user's tables stay."""
    if cohort.parameters.keep_ids:
        return cohort

    def film(row: FilmRow) -> FilmRow:
        return row if row.patient_id in cohort.table_ids else replace(row, patient_id=hashed(row.patient_id))

    def pair(one: Pair) -> Pair:
        match = replace(one.match, hand=film(one.match.hand)) if one.match else None
        return Pair(film(one.film), match)

    exclusions = [
        one if one.patient_id in cohort.table_ids else replace(one, patient_id=hashed(one.patient_id))
        for one in cohort.exclusions
    ]
    return replace(cohort, pairs=tuple(map(pair, cohort.pairs)), exclusions=tuple(exclusions))
