"""The values that travel through a cohort: rows as read, what is wrong with them, what is counted."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

KNEE, HAND, PATIENT = "knee", "hand", "patient"
PARTS = (KNEE, HAND)
KINDS = ("paired", "knee", "hand")
"""What a study is of: knee films with their hand films, knee films alone, hand films alone."""

CONDITIONS = ("physeal_trauma", "skeletal_dysplasia", "genetic_disorder", "endocrinopathy")
"""Columns that state a reason for exclusion."""

TRAIN, TEST = "train", "test"


class StudyError(ValueError):
    """An input or a study cannot be used: what was wrong, with which file, and the way out."""


class SplitError(StudyError):
    """A split leaks, or is no split; nothing may be trained on it."""


@dataclass(frozen=True, order=True)
class Source:
    """Where a row stands: the table and its line (from 1), or a folder, line 0 and the file in it."""

    table: str
    line: int
    file: str = ""

    def __str__(self) -> str:
        if self.line:
            return f"{Path(self.table).name} line {self.line}"
        return Path(self.file).name


@dataclass(frozen=True)
class PatientRow:
    """One child, as a patients table says."""

    source: Source
    patient_id: str
    sex: str | None = None  # F, M
    birth_date: datetime.date | None = None
    family_id: str = ""
    conditions: frozenset[str] = frozenset()  # of `CONDITIONS`


@dataclass(frozen=True)
class FilmRow:
    """One film (or one side of a bilateral film), filled up step by step.

    Attributes
    ----------
    part : "knee", "hand", or "" as long as only the header can say.
    patient_id : the grouping key, "" until the header was read.
    age_months : chronological age; `age_exact` is False where it is known to the year only.
    needs_patient : whether a patients table must hold its patient.
    id_from_header : whether the patient id came from DICOM, so that it is not written as it is.
    sha256, pixels_sha256 : of the file's bytes, and of its decoded grey values ("" when not decoded).
    """

    source: Source
    path: Path
    part: str = ""
    patient_id: str = ""
    side: str = ""  # R, L, B
    view: str = ""  # frontal, lateral, other
    date: datetime.date | None = None
    age_months: float | None = None
    age_exact: bool = True
    sex: str | None = None
    bone_age_months: float | None = None
    split: str = ""  # as a data set gives it
    conditions: frozenset[str] = frozenset()
    family_id: str = ""
    needs_patient: bool = False
    id_from_header: bool = False
    sha256: str = ""
    pixels_sha256: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """A row that cannot be used. ``what`` is its short kind, for counting; ``reason`` one sentence without identity."""

    kind: str  # patient, knee, hand, or "" where even that is unknown
    source: Source
    what: str
    reason: str


@dataclass(frozen=True)
class Exclusion:
    """A good row that a rule removed."""

    kind: str
    source: Source
    patient_id: str
    rule: str


@dataclass(frozen=True)
class TableFact:
    """A table that was read, so that a study says what it was made of."""

    path: str
    sha256: str
    rows: int
    ignored_columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Material:
    """All rows that were read; ``read`` counts them by kind as they stood in the tables and folders."""

    patients: tuple[PatientRow, ...] = ()
    films: tuple[FilmRow, ...] = ()
    problems: tuple[Problem, ...] = ()
    read: Counter[str] = field(default_factory=Counter)
    stated: frozenset[str] = frozenset()  # condition columns that some table has
    tables: tuple[TableFact, ...] = ()

    @staticmethod
    def merged(parts: Iterable[Material]) -> Material:
        """All of them as one."""
        parts = list(parts)
        return Material(
            patients=tuple(row for part in parts for row in part.patients),
            films=tuple(row for part in parts for row in part.films),
            problems=tuple(row for part in parts for row in part.problems),
            read=sum((part.read for part in parts), Counter()),
            stated=frozenset().union(*(part.stated for part in parts)),
            tables=tuple(fact for part in parts for fact in part.tables),
        )
