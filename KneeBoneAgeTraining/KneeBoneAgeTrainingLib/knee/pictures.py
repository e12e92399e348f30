"""From the knee films of a study to crops: find the knees or take a person's squares, settle sides, cut, keep.

The crops are cut by `KneeBoneAgeLib.crop` with `MARGIN` around them. They are kept in ``FOLDER/KEY``; the key names
everything that they follow from (`facts_of`), so when one of these changes, they are prepared anew.

==================  ============================================================================================
images-0000.npy, …  the crops, as `CropCache` keeps them (what is known of the children is joined when they are used)
knees.csv           one row a crop: film of the study (row from 0), file, patient, side, place on the film
not_prepared.csv    ``file, patient_id, side, reason`` of everything on which there is no crop
prepared.json       what the crops follow from; written last
==================  ============================================================================================
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import shutil
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file

from KneeBoneAgeLib.crop import PREPROCESSING, SIZE_PX, KneeCrop, cut, normalise
from KneeBoneAgeLib.errors import FilmError
from KneeBoneAgeLib.radiograph import Film, read_film
from KneeBoneAgeLib.segmentation import Finding, KneeFinder

from ..cohort.inspection import sha256_of
from ..cohort.records import KNEE, StudyError
from ..cohort.study import Study, StudyFilm
from ..crop_cache import MARGIN
from ..runs.record import read_json, read_rows, write_json, write_table
from .corrections import CorrectedCrops

log = logging.getLogger(__name__)

KEPT_PX = round(SIZE_PX * MARGIN)
PART = 256
"""Crops a file."""
KNEES, NOT_PREPARED, PREPARED = "knees.csv", "not_prepared.csv", "prepared.json"
COLUMNS = (
    "film", "file", "patient_id", "side", "x", "y", "side_px", "angle_deg", "mirrored", "origin", "confidence", "notes",
)  # fmt: skip
LEFT_OUT_COLUMNS = ("file", "patient_id", "side", "reason")


class Finder(Protocol):
    """What finds knees: a `KneeFinder`, or something else in a test."""

    def find(self, film: Film) -> Finding: ...


class FinderSource(Hashable, Protocol):
    """Where a finder comes from; it travels to other processes, the finder does not. `sha256` is of its weights."""

    @property
    def sha256(self) -> str: ...

    def load(self) -> Finder: ...


@dataclass(frozen=True)
class BundleFinder:
    """The finder of a bundle, whatever its age networks were made for: finding comes before cutting."""

    folder: Path

    FILE = "finder.safetensors"

    @property
    def weights(self) -> Path:
        return self.folder / self.FILE

    @property
    def config(self) -> dict[str, Any]:
        """Architecture and thresholds. Raises StudyError where there is no bundle."""
        facts = read_json(self.folder / "bundle.json")
        try:
            return dict(facts["architecture"]["finder"])
        except (KeyError, TypeError, ValueError):
            raise StudyError(f"{self.folder}: holds no bundle with a finder; give another --finder") from None

    @property
    def sha256(self) -> str:
        """Of the weights. Raises StudyError where they are missing or not those that the bundle lists."""
        facts = read_json(self.folder / "bundle.json")
        try:
            listed, found = facts["files"][self.FILE]["sha256"], sha256_of(self.weights)
        except (KeyError, TypeError, OSError):
            raise StudyError(f"{self.folder}: holds no bundle with a finder; give another --finder") from None
        if listed != found:
            raise StudyError(f"{self.weights}: is not the listed file (SHA-256); copy the bundle again")
        return found

    def load(self) -> Finder:
        return KneeFinder(load_file(self.weights), self.config)


@dataclass(frozen=True)
class Knee:
    """A crop of a knee of the study; `film` is the row of its film in the study, from 0."""

    film: int
    file: str
    patient_id: str
    crop: KneeCrop
    notes: str = ""

    @property
    def side(self) -> str:
        return self.crop.side


@dataclass(frozen=True)
class LeftOut:
    """A knee that is not learnt from, and why."""

    file: str
    patient_id: str
    side: str
    reason: str

    @classmethod
    def of(cls, film: StudyFilm, reason: str) -> LeftOut:
        return cls(film.file, film.patient_id, film.side, reason)


@dataclass(frozen=True)
class PreparedKnees:
    """The crops of a study: `pictures` are memory-mapped parts, one row a knee in the order of `knees`."""

    folder: Path
    knees: tuple[Knee, ...]
    left_out: tuple[LeftOut, ...]
    pictures: tuple[NDArray[np.uint8], ...]


def facts_of(study: Study, finder_sha256: str, crops: CorrectedCrops | None) -> dict[str, Any]:
    """Everything that the crops of a study follow from."""
    films = [(film.file, film.sha256, film.side) for film in study.films]
    return {
        "preprocessing": json.loads(json.dumps(PREPROCESSING)),
        "margin": MARGIN,
        "finder": finder_sha256,
        "crops table": crops.sha256 if crops else None,
        "films": hashlib.sha256(json.dumps(films).encode()).hexdigest(),
    }


def prepare(
    study: Study,
    folder: Path,
    finder: FinderSource,
    crops: CorrectedCrops | None = None,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    check: Callable[[], None] | None = None,
) -> PreparedKnees:
    """The crops of a study's knee films; made now unless they are there.

    Parameters
    ----------
    folder : crops of several studies or preprocessings may lie in it side by side.
    crops : a person's squares; a film that the table names gets these and no others.
    workers : processes.
    progress : called with (films done, films in all).
    check : called after each film; what it raises ends the work.

    Raises
    ------
    StudyError
        There is no knee film in the study, or no finder.
    """
    if all(film.part != KNEE for film in study.films):
        raise StudyError(f"{study.folder}: holds no knee film; build a study of knees, or of pairs")
    facts = facts_of(study, finder.sha256, crops)
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    place = folder / key
    if not (place / PREPARED).exists():
        _say_why(folder, facts)
        unfinished = folder / f".{key}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        _prepare(study, unfinished, finder, crops, workers, progress, check)
        write_json(unfinished / PREPARED, facts)
        unfinished.rename(place)
    return load(place)


def load(place: Path) -> PreparedKnees:
    """Crops that were prepared."""
    knees = tuple(
        Knee(
            int(row["film"]),
            row["file"],
            row["patient_id"],
            KneeCrop(
                (float(row["x"]), float(row["y"])),
                float(row["side_px"]),
                float(row["angle_deg"]),
                row["side"],
                row["mirrored"] == "yes",
                row["origin"],
                float(row["confidence"]),
            ),
            row["notes"],
        )
        for row in read_rows(place / KNEES)
    )
    left_out = tuple(
        LeftOut(*(row[name] for name in LEFT_OUT_COLUMNS)) for row in read_rows(place / NOT_PREPARED)
    )
    parts = tuple(np.load(path, mmap_mode="r") for path in sorted(place.glob("images-*.npy")))
    return PreparedKnees(place, knees, left_out, parts)


def _say_why(folder: Path, facts: dict[str, Any]) -> None:
    others = sorted(folder.glob(f"*/{PREPARED}"), key=lambda path: path.stat().st_mtime)
    if others:
        before = read_json(others[-1])
        changed = [name for name in facts if before.get(name) != facts[name]]
        log.info("crops are prepared anew: changed since the last time: %s", ", ".join(changed))


@dataclass(frozen=True)
class _Job:
    """One file: rows of the study that it stands in, their films, and a person's squares for it (None: none)."""

    path: Path
    rows: tuple[int, ...]
    films: tuple[StudyFilm, ...]
    finder: FinderSource
    crops: CorrectedCrops | None


def _jobs(study: Study, finder: FinderSource, crops: CorrectedCrops | None) -> Iterator[_Job]:
    by_file: dict[str, list[int]] = {}
    for row, film in enumerate(study.films):
        if film.part == KNEE:
            by_file.setdefault(film.file, []).append(row)
    for file, rows in by_file.items():
        films = tuple(study.films[row] for row in rows)
        path = study.path(file)
        named = crops.only(path, file) if crops is not None else None
        yield _Job(path, tuple(rows), films, finder, named)


def _prepare(
    study: Study,
    place: Path,
    finder: FinderSource,
    crops: CorrectedCrops | None,
    workers: int,
    progress: Callable[[int, int], None] | None,
    check: Callable[[], None] | None,
) -> None:
    jobs = list(_jobs(study, finder, crops))
    knees: list[Knee] = []
    left_out: list[LeftOut] = []
    pictures: list[NDArray[np.uint8]] = []
    parts = 0
    for done, (found, missing) in enumerate(_made(jobs, workers), start=1):
        for knee, picture in found:
            knees.append(knee)
            pictures.append(picture)
        left_out += missing
        if len(pictures) >= PART:
            np.save(place / f"images-{parts:04d}.npy", np.stack(pictures))
            parts, pictures = parts + 1, []
        if progress:
            progress(done, len(jobs))
        if check:
            check()
    if pictures:
        np.save(place / f"images-{parts:04d}.npy", np.stack(pictures))
    if crops is not None:
        paths = [(job.path, job.films[0].file) for job in jobs]
        left_out += [
            LeftOut(file, "", "", "named in the table of crops only") for file in crops.strange(paths)
        ]
    write_table(place / KNEES, COLUMNS, map(_row_of, knees))
    write_table(
        place / NOT_PREPARED,
        LEFT_OUT_COLUMNS,
        ([getattr(one, name) for name in LEFT_OUT_COLUMNS] for one in left_out),
    )


def _row_of(knee: Knee) -> Sequence[object]:
    crop = knee.crop
    x, y = (round(value, 3) for value in crop.centre_px)
    turned = "yes" if crop.mirrored else "no"
    return (
        knee.film, knee.file, knee.patient_id, crop.side, x, y, round(crop.side_px, 3), round(crop.angle_deg, 3),
        turned, crop.origin, round(crop.confidence, 4), knee.notes,
    )  # fmt: skip


Made = tuple[list[tuple[Knee, NDArray[np.uint8]]], list[LeftOut]]


def _made(jobs: Sequence[_Job], workers: int) -> Iterator[Made]:
    if workers <= 1 or len(jobs) <= 32:
        yield from map(_make, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield from pool.map(_make, jobs, chunksize=2)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@cache
def _loaded(finder: FinderSource) -> Finder:
    return finder.load()


def _make(job: _Job) -> Made:
    """The crops of one film, and those of its rows that have none."""
    try:
        film = read_film(job.path)
    except FilmError as error:
        return [], [LeftOut.of(one, error.reason) for one in job.films]
    sides = [one.side for one in job.films]
    if len(sides) == 1 and sides[0] in ("R", "L"):
        film = replace(film, side=sides[0])  # what the table says wins over the header
    elif "B" in sides or len(sides) > 1:
        film = replace(film, side=None)
    if job.crops is not None:
        finding = Finding(job.crops.of(job.path, job.films[0].file, film))
    else:
        finding = _loaded(job.finder).find(film)
    made: list[tuple[Knee, NDArray[np.uint8]]] = []
    missing: list[LeftOut] = []
    for row, one in zip(job.rows, job.films, strict=True):
        crops, reason = crops_of(one.side, finding)
        for crop in crops:
            patch = cut(film.pixels, crop, KEPT_PX, MARGIN)
            if not np.any(normalise(patch)):
                reason = "the crop shows nothing; correct it"
                continue
            knee = Knee(row, one.file, one.patient_id, crop, "; ".join(finding.notes))
            made.append((knee, (np.clip(patch, 0, 1) * 255 + 0.5).astype(np.uint8)))
        if reason:
            missing.append(LeftOut.of(one, reason))
    return made, missing


def crops_of(side: str, finding: Finding) -> tuple[tuple[KneeCrop, ...], str | None]:
    """Which of the knees on a film a row of the study means (`side` R, L, B or "": both), or why none."""
    if not finding.knees:
        return (), finding.reason or "no knee found"
    if side not in ("R", "L"):
        return finding.knees, None
    own = tuple(crop for crop in finding.knees if crop.side == side)
    if not own and len(finding.knees) == 1:
        # The fibula decides how it is cut; the note of the finder says that the table has another side.
        return finding.knees, None
    return own, None if own else f"no {side} knee found, only {', '.join(c.side for c in finding.knees)}"
