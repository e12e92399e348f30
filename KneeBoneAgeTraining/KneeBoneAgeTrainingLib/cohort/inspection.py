"""Opening each film once: is it there, can it be read, what does its header say, and what are its hashes.

Names of patients are never read. A header's values never enter a reason.
"""

from __future__ import annotations

import datetime
import hashlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from KneeBoneAgeLib.errors import FilmError
from KneeBoneAgeLib.radiograph import header, read_film
from KneeBoneAgeLib.radiograph.dicom import is_dicom, quiet_pydicom
from KneeBoneAgeLib.radiograph.film import Film
from KneeBoneAgeLib.radiograph.limits import check_file

from . import values
from .records import HAND, KNEE, FilmRow, Problem

DATES = ("StudyDate", "AcquisitionDate", "SeriesDate", "ContentDate")
TAGS = ("PatientID", "PatientAge", "PatientSex", "PatientBirthDate", "BodyPartExamined", *DATES)
HAND_WORDS, KNEE_WORDS = ("HAND", "WRIST", "FINGER"), ("KNEE", "LEG", "EXTREMITY", "FEMUR", "TIBIA")
FEW = 64
"""Films up to this number are read by one process: starting more would take longer."""


@dataclass(frozen=True)
class Header:
    """What a DICOM header adds to the facts that `read_film` gives."""

    patient_id: str = ""
    sex: str | None = None
    date: datetime.date | None = None
    birth_date: datetime.date | None = None
    age_months: float | None = None
    age_exact: bool = True
    side: str = ""
    view: str = ""
    body_part: str = ""


def inspected(
    films: Sequence[FilmRow],
    *,
    pixels: bool = True,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[FilmRow | Problem]:
    """Each film filled up from its file, or the problem with it, in the order given.

    Parameters
    ----------
    pixels : decode each film; otherwise only the header is read, and a damaged picture is not noticed.
    workers : processes.
    progress : called with (films done, films in all).
    """
    look = partial(inspect, pixels=pixels)
    if workers > 1 and len(films) > FEW:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield from _counted(pool.map(look, films, chunksize=8), len(films), progress)
    else:
        yield from _counted(map(look, films), len(films), progress)


def _counted(
    found: Iterator[FilmRow | Problem], total: int, progress: Callable[[int, int], None] | None
) -> Iterator[FilmRow | Problem]:
    for done, item in enumerate(found, start=1):
        if progress:
            progress(done, total)
        yield item


def inspect(row: FilmRow, pixels: bool = True) -> FilmRow | Problem:
    """The row with hashes and with what the header adds; what the table says wins."""
    if not row.path.is_file():
        return Problem(row.part, row.source, "missing file", "there is no such file")
    try:
        check_file(str(row.path))
        content = row.path.read_bytes()
        film = read_film(row.path) if pixels else None
        said = read_header(content) if is_dicom(content[:132]) else None
    except FilmError as error:
        return Problem(row.part, row.source, "unreadable film", error.reason)
    except ValueError as error:
        return Problem(row.part, row.source, "unreadable film", str(error))
    except Exception as error:  # one unforeseen file must not end a build
        return Problem(row.part, row.source, "unreadable film", f"could not be read ({type(error).__name__})")
    if film is not None and film.pixels.max() == film.pixels.min():
        return Problem(row.part, row.source, "blank film", "all its pixels are alike")
    if said is not None:
        problem = _part_problem(row, said)
        if problem is not None:
            return problem
        row = _filled(row, said)
    if not row.patient_id:
        reason = "the header has no PatientID" if said else "is no DICOM, so a table must say whose it is"
        return Problem(row.part, row.source, "unknown patient", reason)
    if row.part not in (KNEE, HAND):
        reason = "neither a table nor BodyPartExamined says whether it is a knee or a hand"
        return Problem("", row.source, "unknown part", reason)
    return replace(
        row, sha256=hashlib.sha256(content).hexdigest(), pixels_sha256=_pixels_sha256(film) if film else ""
    )


def read_header(content: bytes) -> Header:
    """The facts of a DICOM file, its pixels left out. Raises ValueError when it cannot be parsed."""
    import io

    import pydicom

    with quiet_pydicom():
        try:
            dataset = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
        except Exception as error:
            raise ValueError(f"the DICOM header cannot be read ({type(error).__name__})") from error
        facts, _ = header.facts(dataset)
        text = {tag: header.text(dataset, tag) or "" for tag in TAGS}
    taken = next((day for day in (_date(text[tag]) for tag in DATES) if day), None)
    born = _date(text["PatientBirthDate"])
    if born in header.PLACEHOLDER_BIRTHS:
        born = None
    return Header(
        patient_id=text["PatientID"],
        sex=facts.sex,
        date=taken,
        birth_date=born,
        age_months=facts.age_months,
        age_exact=not text["PatientAge"].upper().endswith("Y"),
        side=facts.side or "",
        view=facts.view or "",
        body_part=text["BodyPartExamined"].upper(),
    )


def _date(text: str) -> datetime.date | None:
    try:
        return values.date(text)
    except ValueError:
        return None


def _part_problem(row: FilmRow, said: Header) -> Problem | None:
    shows = _part_of(said.body_part)
    if row.part and shows and shows != row.part:
        return Problem(
            row.part, row.source, "other body part", f"is listed as a {row.part}, its header says {shows}"
        )
    return None


def _part_of(body_part: str) -> str:
    if any(word in body_part for word in HAND_WORDS):
        return HAND
    return KNEE if any(word in body_part for word in KNEE_WORDS) else ""


def _filled(row: FilmRow, said: Header) -> FilmRow:
    """The row with the header's facts where it has none, and notes where they contradict each other."""
    notes = list(row.notes)
    if row.sex and said.sex and row.sex != said.sex:
        notes.append("sex differs from the header")
    if row.side and said.side and row.side != said.side and row.side != "B":
        notes.append("side differs from the header")
    if row.date and said.date and row.date != said.date:
        notes.append("date differs from the header")
    age, exact = row.age_months, row.age_exact
    if age is None:
        age, exact = said.age_months, said.age_exact
        dated = _dated_age(row.date or said.date, said.birth_date)
        if dated is not None and (age is None or abs(dated - age) <= 12):
            age, exact = dated, True
    return replace(
        row,
        part=row.part or _part_of(said.body_part),
        patient_id=row.patient_id or said.patient_id,
        id_from_header=not row.patient_id,
        side=row.side or said.side,
        view=row.view or said.view,
        date=row.date or said.date,
        age_months=age,
        age_exact=exact,
        sex=row.sex or said.sex,
        notes=tuple(notes),
    )


def _dated_age(day: datetime.date | None, born: datetime.date | None) -> float | None:
    if day is None or born is None:
        return None
    try:
        return values.age_on(day, born)
    except values.ImpossibleAge:
        return None


def _pixels_sha256(film: Film) -> str:
    """SHA-256 of size and grey values to 16 bits: the same for a film saved again without loss."""
    grey = np.round(film.pixels * 65535).astype("<u2")
    return hashlib.sha256(repr(grey.shape).encode() + grey.tobytes()).hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
