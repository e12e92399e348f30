"""RSNA Pediatric Bone Age Challenge 2017: hand films with bone age and sex, no chronological age.

Tables, found by their columns, wherever they lie below the folder:

- training ``id, boneage, male`` (``boneage-training-dataset.csv``, in other copies ``train.csv``), pictures
  ``boneage-training-dataset/boneage-training-dataset/{id}.png``;
- validation ``Image ID, male, Bone Age (months)`` (``Validation Dataset.csv``); trained on, in folds;
- test ``Case ID, Sex``, with ``Ground truth bone age (months)`` where the truth was added; the original is an
  Excel file, which must be saved as CSV. Given as the test set.

Uncertain: the set has no patient ids, so each film counts as a child of its own; which folder the pictures of
validation and test lie in differs between copies, so pictures are found by name, preferring a folder named after the
set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from .. import values
from ..records import HAND, TEST, TRAIN, FilmRow, Material, Source, StudyError
from ..table import Table, parsed
from .finding import Pictures, tables_with

TRAINING = ("id", "boneage", "male")
VALIDATION = ("Image ID", "male", "Bone Age (months)")
TESTING = ("Case ID", "Sex")
TRUTH = "Ground truth bone age (months)"


def read_rsna(root: Path) -> Material:
    """Rows of a copy of the set. Raises StudyError when no table of the set is there."""
    sets = [(columns, tables_with(root, columns)) for columns in (TRAINING, VALIDATION, TESTING)]
    if not any(tables for _, tables in sets):
        raise StudyError(
            f"{root}: no table of the RSNA set; expected boneage-training-dataset.csv with the columns "
            f"{','.join(TRAINING)} and pictures boneage-training-dataset/boneage-training-dataset/{{id}}.png"
        )
    pictures = Pictures(root)
    return Material.merged(_read(table, columns, pictures) for columns, tables in sets for table in tables)


def _read(table: Table, columns: tuple[str, ...], pictures: Pictures) -> Material:
    hint = {TRAINING: "train", VALIDATION: "valid", TESTING: "test"}[columns]

    def parse(source: Source, row: Mapping[str, str]) -> FilmRow:
        name = values.cell(row[columns[0]]).removesuffix(".png")
        if not name:
            raise ValueError(f"{columns[0]} is empty")
        age = {TRAINING: "boneage", VALIDATION: "Bone Age (months)", TESTING: TRUTH}[columns]
        sex = values.sex(row["Sex"]) if columns == TESTING else values.sex_of_male(row["male"])
        path = pictures.of(name, hint)
        return FilmRow(
            Source(source.table, source.line, path.name),
            path,
            HAND,
            f"rsna-{name}",
            sex=sex,
            bone_age_months=values.months(row.get(age, ""), "bone age"),
            split=TEST if columns == TESTING else TRAIN,
        )

    films, problems = parsed(table, HAND, parse)
    return Material(
        films=tuple(films),
        problems=tuple(problems),
        read=Counter({HAND: table.count}),
        tables=(table.fact(),),
    )
