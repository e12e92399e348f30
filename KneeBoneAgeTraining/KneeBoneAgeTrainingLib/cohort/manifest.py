"""One's own tables and folders: the manifest that the package documents, as rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from KneeBoneAgeLib.folder import film_paths

from . import values
from .records import CONDITIONS, PARTS, PATIENT, FilmRow, Material, PatientRow, Source, StudyError
from .table import parsed, read_table

PATIENT_COLUMNS = ("patient_id", "sex", "birth_date", "family_id", *CONDITIONS)
FILM_COLUMNS = (
    *("patient_id", "file", "part", "date", "age_months", "sex", "side", "view", "bone_age_months", "split"),
    *CONDITIONS,
)


def read_patients(path: Path) -> Material:
    """A patients table. Raises StudyError."""
    table = read_table(path, required=["patient_id"])

    def parse(source: Source, row: Mapping[str, str]) -> PatientRow:
        patient_id = values.cell(row["patient_id"])
        if not patient_id:
            raise ValueError("patient_id is empty")
        return PatientRow(
            source,
            patient_id,
            values.sex(row.get("sex", "")),
            values.date(row.get("birth_date", ""), "birth_date"),
            values.cell(row.get("family_id", "")),
            _conditions(row),
        )

    patients, problems = parsed(table, PATIENT, parse)
    return Material(
        patients=tuple(patients),
        problems=tuple(problems),
        read=Counter({PATIENT: table.count}),
        stated=frozenset(CONDITIONS) & set(table.columns),
        tables=(table.fact(PATIENT_COLUMNS),),
    )


def read_films(given: Path, part: str = "", needs_patient: bool = False) -> Material:
    """A table of films, or a folder to walk.

    Parameters
    ----------
    part : "knee", "hand", or "": then the column ``part`` of a table, the header of a film in a folder say it.
    needs_patient : whether each patient must stand in a patients table.

    Raises
    ------
    StudyError
        The table cannot be read, or there is no film in the folder.
    """
    if given.is_dir():
        return _folder(given, part, needs_patient)
    table = read_table(given, required=["file"] if part else ["file", "part"])

    def parse(source: Source, row: Mapping[str, str]) -> FilmRow:
        file = values.cell(row["file"])
        if not file:
            raise ValueError("file is empty")
        this = part or values.cell(row["part"]).lower()
        if this not in PARTS:
            raise ValueError("part must be knee or hand")
        return FilmRow(
            source=Source(source.table, source.line, file),
            path=table.path.parent / file,
            part=this,
            patient_id=values.cell(row.get("patient_id", "")),
            side=values.side(row.get("side", "")),
            view=values.view(row.get("view", "")),
            date=values.date(row.get("date", "")),
            age_months=values.months(row.get("age_months", "")),
            sex=values.sex(row.get("sex", "")),
            bone_age_months=values.months(row.get("bone_age_months", ""), "bone_age_months"),
            split=values.split(row.get("split", "")),
            conditions=_conditions(row),
            needs_patient=needs_patient,
        )

    films, problems = parsed(table, part, parse)
    read = Counter(film.part for film in films) + Counter(problem.kind for problem in problems)
    if sum(read.values()) != table.count:
        raise RuntimeError(f"{given}: {table.count} rows, {sum(read.values())} accounted for")
    return Material(
        films=tuple(films),
        problems=tuple(problems),
        read=read,
        stated=frozenset(CONDITIONS) & set(table.columns),
        tables=(table.fact(FILM_COLUMNS),),
    )


def _folder(folder: Path, part: str, needs_patient: bool) -> Material:
    paths = film_paths([folder])
    if not paths:
        raise StudyError(f"{folder}: there is no film in this folder")
    films = tuple(
        FilmRow(
            Source(str(folder), 0, path.relative_to(folder).as_posix()),
            path,
            part,
            needs_patient=needs_patient,
        )
        for path in paths
    )
    return Material(films=films, read=Counter(film.part for film in films))


def _conditions(row: Mapping[str, str]) -> frozenset[str]:
    return frozenset(name for name in CONDITIONS if values.flag(row.get(name, ""), name))
