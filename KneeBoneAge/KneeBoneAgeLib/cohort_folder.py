"""The folder of a drawn cohort: never another's files, and never a table that speaks of other films.

While a cohort is drawn, a mark stands in its folder and no table does, so that what a stopped run leaves cannot be
taken for a whole cohort.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TABLES = ("cohort.csv", "patients.csv", "knees.csv", "hands.csv")
FOLDERS = ("films", "masks", "landmarks", "hands/films", "hands/masks", "hands/truth")
MARK = ".drawing"
TABLE_BEGINS = b"file,patient_id,knee_index,"

_DRAWN = re.compile(r"\d{5,}\.(dcm|png|json|csv)")


class FolderTakenError(ValueError):
    """A folder holds files that no cohort left there."""


@contextmanager
def cohort_folder(out: Path) -> Iterator[None]:
    """Hold a folder while a cohort is drawn into it; an earlier cohort there is removed first.

    Raises
    ------
    FolderTakenError : files stand where films would be written, and they are not an earlier cohort's.
    OSError : the folder cannot be written.
    """
    there = [
        path for folder in FOLDERS if (out / folder).is_dir() for path in sorted((out / folder).iterdir())
    ]
    files = [path for path in there if not path.is_dir()]
    tables = [out / name for name in TABLES if (out / name).exists()]
    if (files or tables) and not _is_cohort(out):
        raise FolderTakenError(
            f"{(files or tables)[0]}: stands where the cohort would be written, and is not of one; "
            "give another folder"
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()
    for path in (*tables, *(path for path in files if _DRAWN.fullmatch(path.name))):
        path.unlink()
    yield
    (out / MARK).unlink()


def _is_cohort(out: Path) -> bool:
    if (out / MARK).exists():
        return True
    try:
        with (out / TABLES[0]).open("rb") as stream:
            return stream.read(len(TABLE_BEGINS)) == TABLE_BEGINS
    except OSError:
        return False
