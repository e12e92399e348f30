"""RHPE: hand films with bone age, sex and chronological age in months.

Tables ``RHPE_Annotations/RHPE_Boneage_{train,val}.csv`` with ``ID, Male, Boneage, Chronological``, test without
labels ``RHPE_Gender_Chronological_test.csv`` with ``ID, Male, Chronological``; pictures
``RHPE_{train,val,test}/{ID:05d}.png``. The folder of the tables is also found under another name (``annotations``).

Uncertain: whether two films may be of one child; the set has no patient ids, so each film counts as a child of its own.
Whether IDs of train, val and test may coincide: they are kept apart by the name of the set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from .. import values
from ..records import HAND, TEST, TRAIN, FilmRow, Material, Source, StudyError
from ..table import Table, parsed, read_table

NAMES = {
    "train": "RHPE_Boneage_train.csv",
    "val": "RHPE_Boneage_val.csv",
    "test": "RHPE_Gender_Chronological_test.csv",
}
DIGITS = 5


def read_rhpe(root: Path) -> Material:
    """Rows of a copy of the set; a part of the three sets is enough. Raises StudyError when none is there."""
    if not root.is_dir():
        raise StudyError(f"{root}: there is no such folder")
    found = []
    for which, name in NAMES.items():
        places = [root / name, *sorted(root.glob(f"*/{name}"))]
        found += [(which, place) for place in places if place.is_file()][:1]
    if not found:
        raise StudyError(
            f"{root}: no table of RHPE; expected RHPE_Annotations/{NAMES['train']} with the columns "
            "ID,Male,Boneage,Chronological and pictures RHPE_train/00001.png"
        )
    return Material.merged(_read(root, which, place) for which, place in found)


def _read(root: Path, which: str, place: Path) -> Material:
    table: Table = read_table(
        place, ["ID", "Male", "Chronological", *(["Boneage"] if which != "test" else [])]
    )

    def parse(source: Source, row: Mapping[str, str]) -> FilmRow:
        name = values.cell(row["ID"]).removesuffix(".png").removesuffix(".0")
        if not name:
            raise ValueError("ID is empty")
        name = name.zfill(DIGITS)
        path = root / f"RHPE_{which}" / f"{name}.png"
        return FilmRow(
            Source(source.table, source.line, path.relative_to(root).as_posix()),
            path,
            HAND,
            f"rhpe-{which}-{name}",
            age_months=values.months(row["Chronological"], "Chronological"),
            sex=values.sex_of_male(row["Male"]),
            bone_age_months=values.months(row.get("Boneage", ""), "Boneage"),
            split=TEST if which == "test" else TRAIN,
        )

    films, problems = parsed(table, HAND, parse)
    return Material(
        films=tuple(films),
        problems=tuple(problems),
        read=Counter({HAND: table.count}),
        tables=(table.fact(),),
    )
