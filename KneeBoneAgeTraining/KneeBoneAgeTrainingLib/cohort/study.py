"""A study on disk: written whole or not at all, opened only when its split holds, checked in depth on request.

==============  =================================================================================================
study.json      parameters, seed, version, tables and their SHA-256, one SHA-256 over all films
films.csv       one row a film of the study with its paired hand film; ages in months (`StudyFilm`)
folds.csv       ``patient_id, file, split, fold``; fold from 0, empty for the test set
problems.csv    rows that cannot be used: table, line (empty for a walked folder), kind, file, what, reason
excluded.csv    good rows that a rule removed: table, line, kind, patient_id, file, rule
flow.json/.svg/.png   counts before and after each rule
==============  =================================================================================================

No dates, no birth dates, no names. Paths are relative to ``root`` of study.json, so films may move with it.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from KneeBoneAgeLib.version import VERSION

from .building import Cohort, Parameters, with_hashed_ids
from .flow import adds_up, flow
from .inspection import sha256_of
from .pairing import Match
from .records import FilmRow, SplitError, StudyError
from .split import Place, PlacedFilm, check_split

FORMAT = 1
STUDY, FILMS, FOLDS_CSV, PROBLEMS, EXCLUDED = (
    "study.json",
    "films.csv",
    "folds.csv",
    "problems.csv",
    "excluded.csv",
)
FLOW, FLOW_SVG, FLOW_PNG = "flow.json", "flow.svg", "flow.png"
FILES = (STUDY, FILMS, FOLDS_CSV, PROBLEMS, EXCLUDED, FLOW, FLOW_SVG, FLOW_PNG)
ID_DIGITS = 16


@dataclass(frozen=True)
class StudyFilm:
    """A row of films.csv. Ages in months; None and "" where unknown.

    `file` and `hand_file` are relative to the study's root; `side` is R, L, B or ""; `days_between` knee and hand film,
    counted from "dates" or "ages". ``split`` and ``fold`` stand in folds.csv.
    """

    patient_id: str
    family_id: str
    file: str
    part: str
    side: str
    sex: str
    age_months: float | None
    bone_age_months: float | None
    hand_file: str
    hand_side: str
    hand_age_months: float | None
    hand_bone_age_months: float | None
    days_between: int | None
    days_counted_from: str
    sha256: str
    hand_sha256: str
    notes: str


@dataclass(frozen=True)
class Study:
    """A study that was opened: `films` and their `places` in the same order."""

    folder: Path
    root: Path
    parameters: Parameters
    films: tuple[StudyFilm, ...]
    places: tuple[Place, ...]
    data_sha256: str

    def path(self, file: str) -> Path:
        """Where a `file` or `hand_file` lies."""
        return self.root / file


def write_study(cohort: Cohort, out: Path, *, force: bool = False, salt: bytes | None = None) -> Path:
    """Write a study; it appears under its name only when it is complete.

    Parameters
    ----------
    force : replace a study that stands there. A folder with anything else in it is never touched.
    salt : for the hashes of PatientIDs; None draws one that is not kept, so that ids differ from study to study.

    Raises
    ------
    StudyError
        Something stands in the way.
    """
    out = Path(os.path.abspath(out))
    _check_free(out, force)
    salt = salt or secrets.token_bytes(32)
    cohort = with_hashed_ids(
        cohort, lambda name: "h" + hmac.new(salt, name.encode(), "sha256").hexdigest()[:ID_DIGITS]
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as room:
        new = Path(room, "study")
        new.mkdir()
        _write(cohort, new)
        if out.exists():
            out.rename(Path(room, "old"))
        new.rename(out)
    return out


def _check_free(out: Path, force: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise StudyError(f"{out}: is a file, not a folder for a study")
    there = {place.name for place in out.iterdir()}
    if there and STUDY not in there:
        raise StudyError(f"{out}: is a folder with other things in it; choose a new one")
    if there - set(FILES):
        raise StudyError(f"{out}: holds {sorted(there - set(FILES))[0]} beside a study; choose a new folder")
    if there and not force:
        raise StudyError(f"{out}: there is a study already; --force replaces it")


def _write(cohort: Cohort, folder: Path) -> None:
    from .picture import draw

    root = _root(cohort)
    films = [_study_film(pair.film, pair.match, root) for pair in cohort.pairs]
    _table(folder / FILMS, [field.name for field in fields(StudyFilm)], (asdict(f).values() for f in films))
    _table(
        folder / FOLDS_CSV,
        ["patient_id", "file", "split", "fold"],
        ((f.patient_id, f.file, p.split, p.fold) for f, p in zip(films, cohort.places, strict=True)),
    )
    _table(
        folder / PROBLEMS,
        ["table", "line", "kind", "file", "what", "reason"],
        (
            (p.source.table, p.source.line or None, p.kind, p.source.file, p.what, p.reason)
            for p in cohort.problems
        ),
    )
    _table(
        folder / EXCLUDED,
        ["table", "line", "kind", "patient_id", "file", "rule"],
        (
            (e.source.table, e.source.line or None, e.kind, e.patient_id, e.source.file, e.rule)
            for e in cohort.exclusions
        ),
    )
    numbers = flow(cohort)
    _json(folder / FLOW, numbers)
    draw(numbers, folder / FLOW_SVG, folder / FLOW_PNG)
    _json(
        folder / STUDY,
        {
            "format": FORMAT,
            "made_by": f"kneeboneage {VERSION}",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "parameters": asdict(cohort.parameters),
            "patient_ids": "as in headers and tables"
            if cohort.parameters.keep_ids
            else "of tables as they are, of headers as salted hashes",
            "root": root.as_posix() if root else "",
            "tables": [asdict(table) for table in cohort.tables],
            "films": len(films),
            "patients": len({film.patient_id for film in films}),
            "data_sha256": _data_sha256(films),
            "files": {
                name: sha256_of(folder / name) for name in (FILMS, FOLDS_CSV, PROBLEMS, EXCLUDED, FLOW)
            },
        },
    )


def _study_film(film: FilmRow, match: Match | None, root: Path | None) -> StudyFilm:
    hand = match.hand if match else None
    return StudyFilm(
        film.patient_id,
        film.family_id,
        _relative(film.path, root),
        film.part,
        film.side,
        film.sex or "",
        _rounded(film.age_months),
        _rounded(film.bone_age_months),
        _relative(hand.path, root) if hand else "",
        hand.side if hand else "",
        _rounded(hand.age_months) if hand else None,
        _rounded(hand.bone_age_months) if hand else None,
        match.days if match else None,
        match.counted_from if match else "",
        film.sha256,
        hand.sha256 if hand else "",
        "; ".join(film.notes),
    )


def _rounded(months: float | None) -> float | None:
    return None if months is None else round(months, 3)


def _root(cohort: Cohort) -> Path | None:
    """The deepest folder that holds all films; None where there is none (no film, or several drives)."""
    folders = [os.path.abspath(pair.film.path.parent) for pair in cohort.pairs]
    folders += [os.path.abspath(pair.match.hand.path.parent) for pair in cohort.pairs if pair.match]
    try:
        return Path(os.path.commonpath(folders))
    except ValueError:
        return None


def _relative(path: Path, root: Path | None) -> str:
    whole = Path(os.path.abspath(path))
    return (whole.relative_to(root) if root else whole).as_posix()


def _data_sha256(films: Iterable[StudyFilm]) -> str:
    hashes = sorted(f"{film.sha256} {film.hand_sha256}" for film in films)
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _table(path: Path, header: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    path.write_bytes(text.getvalue().encode())


def _json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def open_study(folder: str | Path) -> Study:
    """Open a study for training: the split is checked first.

    Raises
    ------
    SplitError
        The split leaks or is none (`check_split`), or films.csv and folds.csv name different films.
    StudyError
        There is no study, or it is of another format or damaged.
    """
    folder = Path(folder)
    facts = _facts(folder)
    try:
        parameters = Parameters(**facts["parameters"])
        films = tuple(_film_of(row) for row in _rows(folder / FILMS))
        placed = [
            (row["patient_id"], row["file"], Place(row["split"], int(row["fold"]) if row["fold"] else None))
            for row in _rows(folder / FOLDS_CSV)
        ]
        root, data_sha256 = Path(facts["root"]), str(facts["data_sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise StudyError(f"{folder}: the study is damaged ({error}); build it again") from error
    if [(film.patient_id, film.file) for film in films] != [entry[:2] for entry in placed]:
        raise SplitError(
            f"{folder}: {FILMS} and {FOLDS_CSV} do not name the same films; build the study again"
        )
    places = tuple(place for _, _, place in placed)
    check_split(
        (_placed(film, place) for film, place in zip(films, places, strict=True)),
        folds=parameters.folds,
        needs_test=parameters.needs_test,
    )
    return Study(folder, root, parameters, films, places, data_sha256)


def _placed(film: StudyFilm, place: Place) -> PlacedFilm:
    same = [f"film {film.sha256}"]
    same += [f"family {film.family_id}"] if film.family_id else []
    same += [f"hand film {film.hand_file}", f"film {film.hand_sha256}"] if film.hand_file else []
    return PlacedFilm(film.patient_id, film.file, place, tuple(same))


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts = json.loads((folder / STUDY).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{folder}: there is no study here (no {STUDY})") from None
    except (OSError, ValueError) as error:
        raise StudyError(f"{folder}: {STUDY} cannot be read ({error})") from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise StudyError(f"{folder}: the study is of another format than {FORMAT}; build it again")
    return facts


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror or error})") from None


def _film_of(row: dict[str, str]) -> StudyFilm:
    values: dict[str, Any] = {field.name: row[field.name] for field in fields(StudyFilm)}
    for name, value in values.items():
        if name.endswith("_months") or name == "days_between":
            number = int if name == "days_between" else float
            values[name] = number(value) if value else None
    return StudyFilm(**values)


def findings(folder: str | Path, *, films: bool = True) -> list[str]:
    """What is wrong with a study, one line each; [] when it is sound.

    Looks at the split, at tables that were changed after the study was made, at the sums of the flow, and with
    ``films`` at each film: there, and the same bytes.

    Raises
    ------
    StudyError
        There is no study, or it is damaged. A split that leaks is a finding.
    """
    folder = Path(folder)
    facts = _facts(folder)
    found = []
    for name, sha256 in facts.get("files", {}).items():
        if not (folder / name).is_file():
            found.append(f"{name} is missing")
        elif sha256_of(folder / name) != sha256:
            found.append(f"{name} was changed after the study was made")
    if (folder / FLOW).is_file() and not adds_up(json.loads((folder / FLOW).read_text(encoding="utf-8"))):
        found.append(f"the counts of {FLOW} do not add up")
    try:
        study = open_study(folder)
    except SplitError as error:
        return [*found, str(error)]
    if films:
        wanted = {film.file: film.sha256 for film in study.films}
        wanted |= {film.hand_file: film.hand_sha256 for film in study.films if film.hand_file}
        for file, sha256 in sorted(wanted.items()):
            path = study.path(file)
            if not path.is_file():
                found.append(f"{file} is missing below {study.root}")
            elif sha256_of(path) != sha256:
                found.append(f"{file} was changed after the study was made")
    return found
