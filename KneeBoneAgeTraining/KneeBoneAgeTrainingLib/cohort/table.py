"""CSV tables with line numbers: rows that have as many cells as the header, and problems for those that have not."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from .records import Problem, Source, StudyError, TableFact
from .values import ImpossibleAge

Row = TypeVar("Row")


@dataclass(frozen=True)
class Table:
    """A table as read: (line, cells by column) of each good row, and the bad ones as (line, reason)."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, Mapping[str, str]], ...]
    bad: tuple[tuple[int, str], ...]
    sha256: str

    @property
    def count(self) -> int:
        """Rows in the file, good and bad; empty lines are none."""
        return len(self.rows) + len(self.bad)

    def fact(self, known: Iterable[str] | None = None) -> TableFact:
        """What a study records of it; ``known`` are the columns that were looked at, None for all."""
        looked_at = set(self.columns if known is None else known)
        ignored = tuple(name for name in self.columns if name not in looked_at)
        return TableFact(str(self.path), self.sha256, self.count, ignored)


def read_table(path: Path, required: Iterable[str] = ()) -> Table:
    """Read a CSV file (UTF-8; comma, semicolon or tab).

    Raises
    ------
    StudyError
        No such file, not UTF-8, no header, a column twice, or a required column missing.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise StudyError(f"{path}: is not UTF-8; save the table as CSV UTF-8") from None
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        header = tuple(name.strip() for name in next(reader))
    except StopIteration:
        raise StudyError(f"{path}: is empty; a header line with column names is expected") from None
    if len(set(header)) != len(header):
        raise StudyError(f"{path}: a column name stands twice in the header")
    absent = [name for name in required if name not in header]
    if absent:
        raise StudyError(f"{path}: the column {', '.join(absent)} is missing; it has {', '.join(header)}")
    rows: list[tuple[int, Mapping[str, str]]] = []
    bad: list[tuple[int, str]] = []
    start = reader.line_num + 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                if len(cells) == len(header):
                    rows.append((start, dict(zip(header, cells, strict=True))))
                else:
                    bad.append((start, f"has {len(cells)} cells, the header {len(header)}"))
            start = reader.line_num + 1
    except csv.Error as error:
        raise StudyError(f"{path}: line {start} is no CSV ({error})") from None
    return Table(path, header, tuple(rows), tuple(bad), hashlib.sha256(content).hexdigest())


def parsed(
    table: Table, kind: str, parse: Callable[[Source, Mapping[str, str]], Row]
) -> tuple[list[Row], list[Problem]]:
    """Each row through ``parse``, which raises ValueError for a bad one; and the bad ones."""
    good: list[Row] = []
    problems = [Problem(kind, Source(str(table.path), line), "malformed row", why) for line, why in table.bad]
    for line, cells in table.rows:
        source = Source(str(table.path), line)
        try:
            good.append(parse(source, cells))
        except ImpossibleAge as error:
            problems.append(Problem(kind, source, "impossible age", str(error)))
        except ValueError as error:
            what = "unknown sex" if str(error).startswith(("sex ", "male ")) else "unreadable value"
            problems.append(Problem(kind, source, what, str(error)))
    return good, problems
