"""Finding tables by their columns and pictures by their names, since copies of public sets differ in their folders."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path

from ..records import StudyError
from ..table import Table, read_table

PICTURES = (".png", ".jpg", ".jpeg", ".dcm")
DEPTH = 3
"""Folders below the given one that are searched for tables."""


def tables_with(root: Path, columns: Iterable[str]) -> list[Table]:
    """All CSV files at most `DEPTH` folders below ``root`` whose header has these columns, sorted by path.

    Raises
    ------
    StudyError
        There is no such folder.
    """
    if not root.is_dir():
        raise StudyError(f"{root}: there is no such folder")
    wanted = set(columns)
    found = []
    for path in sorted(root.rglob("*.csv")):
        if len(path.relative_to(root).parts) <= DEPTH + 1 and wanted <= set(_header(path)):
            found.append(read_table(path))
    return found


def _header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return [name.strip() for name in next(csv.reader(stream), [])]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


class Pictures:
    """The pictures below a folder, by their name without suffix; of several with one name the nearest to a table."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._places: dict[str, list[Path]] = {}
        for folder, folders, files in os.walk(root):
            folders.sort()
            for name in sorted(files):
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in PICTURES:
                    self._places.setdefault(stem, []).append(Path(folder, name))

    def of(self, stem: str, hint: str = "") -> Path:
        """The picture of a name, in a folder whose path contains ``hint`` if there is one; a path that does not
        exist when there is no such picture."""
        places = self._places.get(stem, [])
        hinted = [place for place in places if hint in place.relative_to(self.root).parent.as_posix().lower()]
        return next(iter(hinted or places), self.root / f"{stem}.png")
