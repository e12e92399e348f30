"""Hand films to learn from or to label: those of a study, of a table or of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from KneeBoneAgeLib.network import encode_sex

from ..cohort.inspection import inspect
from ..cohort.manifest import read_films
from ..cohort.records import HAND, TEST, FilmRow, Problem
from ..cohort.split import Place
from ..cohort.study import Study


@dataclass(frozen=True)
class HandFilm:
    """One film of a hand.

    `file` is what a study or a table calls it, `path` where it lies; `sex` F, M or None; ages in months, None where
    unknown; `place` its fold or the test set of a study, None outside of one; `side` R, L, B or "".
    """

    file: str
    path: Path
    sha256: str
    patient_id: str = ""
    sex: str | None = None
    age_months: float | None = None
    bone_age_months: float | None = None
    place: Place | None = None
    side: str = ""

    @property
    def fold(self) -> int | None:
        """The fold that holds it; None for the test set and outside of a study."""
        return self.place.fold if self.place else None

    @property
    def is_test(self) -> bool:
        return self.place is not None and self.place.split == TEST


def hand_films(study: Study) -> tuple[HandFilm, ...]:
    """The hand films of a study, once each: its own, or those that its knee films are paired with."""
    found: dict[str, HandFilm] = {}
    for film, place in zip(study.films, study.places, strict=True):
        person = {"patient_id": film.patient_id, "sex": film.sex or None, "place": place}
        if film.part == HAND:
            one = HandFilm(
                film.file,
                study.path(film.file),
                film.sha256,
                age_months=film.age_months,
                bone_age_months=film.bone_age_months,
                side=film.side,
                **person,  # type: ignore[arg-type]
            )
        elif film.hand_file:
            one = HandFilm(
                film.hand_file,
                study.path(film.hand_file),
                film.hand_sha256,
                age_months=film.hand_age_months,
                bone_age_months=film.hand_bone_age_months,
                side=film.hand_side,
                **person,  # type: ignore[arg-type]
            )
        else:
            continue
        found.setdefault(one.file, one)
    return tuple(found.values())


def listed_films(given: Path) -> tuple[tuple[HandFilm, ...], tuple[Problem, ...]]:
    """The hand films of a table (the manifest's columns) or a folder, and the rows that cannot be used.

    Raises
    ------
    StudyError
        The table cannot be read, or the folder holds no film.
    """
    material = read_films(given, HAND)
    films: list[HandFilm] = []
    problems = list(material.problems)
    for row in material.films:
        nameless = not row.patient_id
        found = inspect(_named(row))
        if isinstance(found, Problem):
            problems.append(found)
            continue
        films.append(
            HandFilm(
                row.source.file or row.path.name,
                found.path,
                found.sha256,
                "" if nameless else found.patient_id,
                found.sex,
                found.age_months,
                found.bone_age_months,
                side=found.side,
            )
        )
    return tuple(films), tuple(problems)


def _named(row: FilmRow) -> FilmRow:
    """With a patient, so that a film that nobody named is read all the same."""
    return row if row.patient_id else replace(row, patient_id=str(row.path))


@dataclass(frozen=True)
class Numbers:
    """What is known about N films, as arrays: sex 0 F, 1 M, 2 unknown; months, NaN where unknown."""

    sex: NDArray[np.int64]
    age_months: NDArray[np.float32]
    bone_age_months: NDArray[np.float32]

    @classmethod
    def of(cls, films: Sequence[HandFilm]) -> Numbers:
        def months(values: Sequence[float | None]) -> NDArray[np.float32]:
            return np.array([np.nan if value is None else value for value in values], np.float32)

        return cls(
            np.array([encode_sex(film.sex) for film in films], np.int64),
            months([film.age_months for film in films]),
            months([film.bone_age_months for film in films]),
        )

    def take(self, rows: NDArray[np.intp]) -> Numbers:
        return Numbers(self.sex[rows], self.age_months[rows], self.bone_age_months[rows])
