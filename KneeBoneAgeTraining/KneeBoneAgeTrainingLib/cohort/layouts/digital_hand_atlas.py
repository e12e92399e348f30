"""Digital Hand Atlas as Deeplasia lists it: hand films of healthy children with patient id, sex and bone age.

A table with the columns ``image_ID, dir, patient_ID, sex, bone_age`` (``la_dha.csv``; months), pictures
``{dir}/{image_ID}`` below the folder, where ``image_ID`` carries the suffix (``la_dha_00000.png``).

Uncertain: the table has no chronological age, although the atlas itself has; so the age rule is not applied.
Deeplasia's ``annotation.csv`` has the same columns and lists films of other sets beside it: only rows whose ``dir``
names the atlas (``dha``) are taken, the others are listed as problems.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from .. import values
from ..records import HAND, FilmRow, Material, Source, StudyError
from ..table import Table, parsed
from .finding import tables_with

COLUMNS = ("image_ID", "dir", "patient_ID", "sex", "bone_age")


def read_digital_hand_atlas(root: Path) -> Material:
    """Rows of a copy of the set. Raises StudyError when there is no such table."""
    tables = tables_with(root, COLUMNS)
    if not tables:
        raise StudyError(
            f"{root}: no table of the Digital Hand Atlas; expected la_dha.csv with the columns "
            f"{','.join(COLUMNS)} and pictures la_dha/la_dha_00000.png"
        )
    return Material.merged(_read(root, table) for table in tables)


def _read(root: Path, table: Table) -> Material:
    def parse(source: Source, row: Mapping[str, str]) -> FilmRow:
        name, folder, patient = (values.cell(row[column]) for column in COLUMNS[:3])
        if not name or not patient:
            raise ValueError("image_ID or patient_ID is empty")
        if "dha" not in folder.lower():
            raise ValueError("dir does not name the Digital Hand Atlas")
        file = f"{folder}/{name}" if Path(name).suffix else f"{folder}/{name}.png"
        near = [base / file for base in (root, table.path.parent, root / "data")]
        path = next((place for place in near if place.is_file()), near[0])
        return FilmRow(
            Source(source.table, source.line, file),
            path,
            HAND,
            f"dha-{patient}",
            sex=values.sex(row["sex"]),
            bone_age_months=values.months(row["bone_age"], "bone_age"),
        )

    films, problems = parsed(table, HAND, parse)
    return Material(
        films=tuple(films),
        problems=tuple(problems),
        read=Counter({HAND: table.count}),
        tables=(table.fact(),),
    )
