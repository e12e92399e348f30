"""Squares that a person put around knees, as KneeBoneAge exports them, for training.

A CSV table, one row a knee. Columns ``file, side, x0, y0, x1, y1`` in pixels of the film; optional ``angle_deg`` (or
``crop_angle_deg``) and ``mirrored`` (or ``crop_mirrored``): yes or true when the fibula lies on the viewer's right.
That is what *Export results* of the Slicer module and ``kneeboneage estimate --csv`` write; their other columns are
not read, rows without a square (nothing was found) are passed over.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from KneeBoneAgeLib.crop import Box, KneeCrop, crop_from_box
from KneeBoneAgeLib.radiograph import Film

from ..cohort.records import StudyError

BOX = ("x0", "y0", "x1", "y1")
NEEDED = ("file", "side", *BOX)


@dataclass(frozen=True)
class Square:
    """A row: `box_px` in pixels of the film; `mirrored` None where the side says it."""

    line: int
    box_px: Box
    side: str | None
    angle_deg: float
    mirrored: bool | None


@dataclass(frozen=True)
class CorrectedCrops:
    """A table of squares by the name of the film that stands in it; `sha256` is of the table."""

    table: Path
    sha256: str
    squares: Mapping[str, tuple[Square, ...]]

    @classmethod
    def read(cls, table: Path) -> CorrectedCrops:
        """Raises StudyError, with the line, for a table that cannot be used."""
        try:
            content = table.read_bytes()
            rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise StudyError(f"{table}: cannot be read ({error})") from None
        missing = [name for name in NEEDED if rows and name not in rows[0]]
        if missing or not rows:
            raise StudyError(
                f"{table}: has no {'column ' + missing[0] if missing else 'rows'}; needed are {', '.join(NEEDED)}"
            )
        found: dict[str, tuple[Square, ...]] = {}
        for line, row in enumerate(rows, start=2):
            if any(row[name] for name in BOX):
                square = _square(table, line, row)
                found[row["file"]] = (*found.get(row["file"], ()), square)
        return cls(table, hashlib.sha256(content).hexdigest(), found)

    def only(self, path: Path, file: str) -> CorrectedCrops | None:
        """The rows of one film, to be sent to another process; None where the table has none."""
        names = self._names_of(path, file)
        return replace(self, squares={name: self.squares[name] for name in names}) if names else None

    def of(self, path: Path, file: str, film: Film) -> tuple[KneeCrop, ...]:
        """The crops of a film, viewer's left to right. Raises StudyError for a square that misses the film."""
        crops = []
        for square in self._of(path, file):
            try:
                crop = crop_from_box(square.box_px, square.side, film)
            except ValueError as error:
                raise StudyError(f"{self.table} line {square.line}: {error}") from None
            mirrored = crop.mirrored if square.mirrored is None else square.mirrored
            crops.append(replace(crop, angle_deg=square.angle_deg, mirrored=mirrored))
        return tuple(sorted(crops, key=lambda crop: crop.centre_px[0]))

    def strange(self, films: Iterable[tuple[Path, str]]) -> list[str]:
        """Names in the table that mean none of these films (path, name in the study)."""
        meant = {name for path, file in films for name in self._names_of(path, file)}
        return [name for name in self.squares if name not in meant]

    @cached_property
    def _names_at(self) -> Mapping[Path, tuple[str, ...]]:
        """Names by the paths that they may stand for, as written and beside the table; found once for all films."""
        found: dict[Path, tuple[str, ...]] = {}
        for name in self.squares:
            for path in {Path(name), (self.table.parent / name).resolve()}:
                found[path] = (*found.get(path, ()), name)
        return found

    def _names_of(self, path: Path, file: str) -> list[str]:
        own = (file,) if file in self.squares else ()
        beside = self._names_at.get(path.resolve(), ())
        return list(dict.fromkeys([*own, *self._names_at.get(path, ()), *beside]))

    def _of(self, path: Path, file: str) -> tuple[Square, ...]:
        return tuple(square for name in self._names_of(path, file) for square in self.squares[name])


def _square(table: Path, line: int, row: Mapping[str, str]) -> Square:
    try:
        x0, y0, x1, y1 = (float(row[name]) for name in BOX)
        angle = float(row.get("angle_deg") or row.get("crop_angle_deg") or 0)
    except (TypeError, ValueError):
        raise StudyError(f"{table} line {line}: x0, y0, x1, y1 and the angle must be numbers") from None
    said = (row.get("mirrored") or row.get("crop_mirrored") or "").strip().lower()
    if said not in ("", "yes", "true", "1", "no", "false", "0"):
        raise StudyError(f"{table} line {line}: mirrored is {said!r}; yes or no")
    side = row["side"].strip().upper()
    return Square(
        line,
        (x0, y0, x1, y1),
        side if side in ("R", "L") else None,
        angle,
        said in ("yes", "true", "1") if said else None,
    )
