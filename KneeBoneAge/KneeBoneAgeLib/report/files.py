"""Results as JSON lines and CSV, written film by film.

Each film is one write of whole lines, so that a run that is stopped leaves nothing half-written.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from .records import Result, utf8

_LISTS = {
    "box_px": ("x0", "y0", "x1", "y1"),
    "interval_months": ("interval_low_months", "interval_high_months"),
    "spacing_mm": ("row_spacing_mm", "column_spacing_mm"),
}
"""Fields that become several columns of the CSV."""


class Sink:
    """A file that takes whole pieces, one write each; ``-`` is the standard output."""

    def __init__(self, target: str | os.PathLike[str]) -> None:
        self._own = os.fspath(target) != "-"
        if self._own:
            path = Path(target)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream: BinaryIO = path.open("wb", buffering=0)
        else:
            self._stream = sys.stdout.buffer

    def put(self, piece: bytes) -> None:
        self._stream.write(piece)
        self._stream.flush()

    def close(self) -> None:
        if self._own:
            self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class JsonLines(Sink):
    """One JSON object a line, a film's lines with one write."""

    def write(self, results: Sequence[Result]) -> None:
        self.put(b"".join(result.json_line() for result in results))


class Table(Sink):
    """The records as CSV; lists become columns, a missing value an empty cell."""

    def __init__(self, target: str | os.PathLike[str]) -> None:
        super().__init__(target)
        self._put_rows([column_names()])

    def write(self, results: Sequence[Result]) -> None:
        self._put_rows([cells(result) for result in results])

    def _put_rows(self, rows: Sequence[Sequence[object]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self.put(utf8(text.getvalue()))


def column_names() -> list[str]:
    """Names of the columns of a table of records, in order."""
    names: list[str] = []
    for field in dataclasses.fields(Result):
        names.extend(_LISTS.get(field.name, (field.name,)))
    return names


def cells(result: Result) -> list[object]:
    """One record as a row under `column_names`; None where a value is missing."""
    row: list[object] = []
    for field in dataclasses.fields(result):
        value = getattr(result, field.name)
        if field.name in _LISTS:
            row.extend(value or [None] * len(_LISTS[field.name]))
        elif field.name == "notes":
            row.append("; ".join(value))
        elif isinstance(value, bool):
            row.append(str(value).lower())
        else:
            row.append(value)
    return row
