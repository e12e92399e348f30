"""Patients and films brought together: who a film belongs to, its sex and age, and which films are one and the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from . import values
from .records import HAND, PATIENT, FilmRow, PatientRow, Problem


@dataclass(frozen=True)
class Joined:
    """Rows that are sound, and those that are not.

    `films` carry patient, sex, age, family and the exclusions of their patient; `patients` those of the tables by id.
    """

    patients: dict[str, PatientRow]
    films: tuple[FilmRow, ...]
    problems: tuple[Problem, ...]


def join(patients: Iterable[PatientRow], films: Sequence[FilmRow], kind: str) -> Joined:
    """Join for a study of ``kind`` (one of `KINDS`)."""
    persons, problems = _unique(patients)
    bad: dict[int, Problem] = {}
    for index, film in enumerate(films):
        if film.needs_patient and film.patient_id not in persons:
            reason = "its patient has no usable row in the patients table"
            bad[index] = Problem(film.part, film.source, "unknown patient", reason)
    _check_doubles(films, bad)
    sexes = _sexes(persons, [film for index, film in enumerate(films) if index not in bad])
    good = []
    for index, film in enumerate(films):
        if index not in bad:
            made = _complete(film, persons.get(film.patient_id), sexes[film.patient_id], kind)
            if isinstance(made, Problem):
                bad[index] = made
            else:
                good.append(made)
    return Joined(persons, tuple(good), (*problems, *(bad[index] for index in sorted(bad))))


def _unique(patients: Iterable[PatientRow]) -> tuple[dict[str, PatientRow], list[Problem]]:
    """One row an id. A row that repeats another is left out; rows that contradict each other all are."""
    rows: defaultdict[str, list[PatientRow]] = defaultdict(list)
    for patient in patients:
        rows[patient.patient_id].append(patient)
    persons: dict[str, PatientRow] = {}
    problems = []
    for patient_id, same in rows.items():
        first = same[0]
        alike = all(replace(other, source=first.source) == first for other in same)
        if alike:
            persons[patient_id] = first
        for row in same[1:] if alike else same:
            others = ", ".join(str(other.source) for other in same if other is not row)
            reason = f"the patient_id stands also in {others}" + ("" if alike else ", with other facts")
            if len(same) > 1:
                problems.append(Problem(PATIENT, row.source, "duplicate id", reason))
    return persons, problems


def _check_doubles(films: Sequence[FilmRow], bad: dict[int, Problem]) -> None:
    """Mark films that are listed twice, or stand under two names.

    Of films that are alike the first of a patient and part is kept. Nobody can say which is right when patients or
    parts differ: then none is. One bilateral film may be listed twice, once for each side.
    """
    alike: defaultdict[str, list[int]] = defaultdict(list)
    for index, film in enumerate(films):
        if index not in bad:
            alike[film.pixels_sha256 or film.sha256].append(index)
    for group in alike.values():
        if len(group) < 2:
            continue
        rows = [films[index] for index in group]
        mixed = len({(row.patient_id, row.part) for row in rows}) > 1
        path = rows[0].path.resolve()
        sides: set[str] = set()
        for index, row in zip(group, rows, strict=True):
            other = next(film for film in rows if film is not row)
            same_name = row.path.resolve() == path
            both_sides = bool(sides) and row.side in ("R", "L") and sides <= {"R", "L"} - {row.side}
            if not mixed and same_name and (not sides or both_sides):
                sides.add(row.side)
                continue
            if mixed:
                reason = (
                    f"is the same film as {other.source}, of another patient or body part; both are left out"
                )
            elif same_name:
                reason = f"is listed also in {rows[0].source}"
            else:
                reason = f"is the same film as {rows[0].source}, under another name"
            bad[index] = Problem(row.part, row.source, "same film twice", reason)


def _sexes(persons: dict[str, PatientRow], films: Iterable[FilmRow]) -> dict[str, set[str]]:
    """What is said about each patient's sex: by the table, otherwise by the films."""
    said: defaultdict[str, set[str]] = defaultdict(set)
    for film in films:
        person = persons.get(film.patient_id)
        said[film.patient_id] |= {sex for sex in [person.sex if person and person.sex else film.sex] if sex}
    return said


def _complete(film: FilmRow, person: PatientRow | None, sexes: set[str], kind: str) -> FilmRow | Problem:
    """The film with sex, age, family and exclusions, or what is missing."""

    def problem(what: str, reason: str) -> Problem:
        return Problem(film.part, film.source, what, reason)

    if len(sexes) != 1:
        said = "the films of its patient say F and M" if sexes else "neither a table nor a header says it"
        return problem("unknown sex", f"the sex is not known: {said}")
    (sex,) = sexes
    notes = list(film.notes)
    if film.sex and film.sex != sex:
        notes.append("sex differs from the patients table")
    age, exact = film.age_months, film.age_exact
    if person and person.birth_date and film.date:
        try:
            dated = values.age_on(film.date, person.birth_date)
        except values.ImpossibleAge as error:
            return problem("impossible age", str(error))
        if age is None or not exact:
            age, exact = dated, True
        elif abs(dated - age) >= 1:
            notes.append(f"age_months differs from birth date and date by {abs(dated - age):.0f} months")
    wanted = kind == "paired" and film.part == HAND
    if wanted and film.date is None and (age is None or not exact):
        return problem("no date", "has neither a date nor an age in months, so it cannot be paired")
    labelled = kind == "hand" and film.bone_age_months is not None
    if not wanted and age is None and not labelled:
        return problem("no age", "neither a table, birth date and date, nor the header gives an age")
    return replace(
        film,
        sex=sex,
        age_months=age,
        age_exact=exact,
        family_id=person.family_id if person else "",
        conditions=film.conditions | (person.conditions if person else frozenset()),
        notes=tuple(notes),
    )
