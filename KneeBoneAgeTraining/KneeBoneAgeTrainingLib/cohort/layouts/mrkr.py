"""MRKR, the Emory knee radiographs: knee films of adults with sex, age and view, in DICOM.

``MRKR_image_metadata.csv`` with ``empi_anon, StudyDate_anon, age_at_exam, laterality, view_position, dicom_path`` and
``MRKR_demographics.csv`` with ``empi_anon, sex``; films ``images/{dicom_path}``, or ``{dicom_path}`` below the
folder. ``laterality`` is R, L, B or -1 (unknown); ``view_position`` F frontal, L lateral, S sunrise, I and E oblique;
both were inferred by a network. ``age_at_exam`` is in whole years, so it serves the age rule but no pairing; dates are
shifted by a constant for each patient, so differences hold.

The patients are 19 years and older: with the default of 18 y all are excluded; give ``--max-age-months``. No column
states the exclusions of a child (``trauma_lower_extremity`` of MRKR_ICD.csv is no physeal trauma), so they are "not
stated". Uncertain: ages over 89 may be capped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from .. import values
from ..records import KNEE, PATIENT, FilmRow, Material, PatientRow, Source, StudyError
from ..table import parsed, read_table

IMAGES = "MRKR_image_metadata.csv"
DEMOGRAPHICS = "MRKR_demographics.csv"
COLUMNS = ("empi_anon", "StudyDate_anon", "age_at_exam", "laterality", "view_position", "dicom_path")
VIEWS = {"F": "frontal", "L": "lateral", "S": "other", "I": "other", "E": "other"}


def read_mrkr(root: Path) -> Material:
    """Rows of a copy of the set, of which only some films need to be there. Raises StudyError."""
    places = [folder for folder in (root, *sorted(root.glob("*/"))) if (folder / IMAGES).is_file()]
    if not places or not (places[0] / DEMOGRAPHICS).is_file():
        raise StudyError(f"{root}: no tables of MRKR; expected {IMAGES} and {DEMOGRAPHICS} side by side")
    people = read_table(places[0] / DEMOGRAPHICS, ["empi_anon", "sex"])
    table = read_table(places[0] / IMAGES, COLUMNS)

    def person(source: Source, row: Mapping[str, str]) -> PatientRow:
        return PatientRow(source, _patient(row), values.sex(row["sex"]))

    def film(source: Source, row: Mapping[str, str]) -> FilmRow:
        given = values.cell(row["dicom_path"])
        if not given:
            raise ValueError("dicom_path is empty")
        choices = (root / "images" / given, places[0] / "images" / given, root / given)
        side, view = values.cell(row["laterality"]), values.cell(row["view_position"]).upper()
        if view and view not in VIEWS:
            raise ValueError(f"view_position is {view!r}; {', '.join(VIEWS)} is possible")
        years = values.months(row["age_at_exam"], "age_at_exam")
        if years is not None and not years <= 110:
            raise values.ImpossibleAge(f"age_at_exam is {years:g}; 0 to 110 years are possible")
        return FilmRow(
            Source(source.table, source.line, given),
            next((place for place in choices if place.is_file()), choices[0]),
            KNEE,
            _patient(row),
            side="" if side == "-1" else values.side(side),
            view=VIEWS.get(view, ""),
            date=values.date(row["StudyDate_anon"], "StudyDate_anon"),
            age_months=None if years is None else 12 * years,
            age_exact=False,
            needs_patient=True,
        )

    patients, bad_patients = parsed(people, PATIENT, person)
    films, bad_films = parsed(table, KNEE, film)
    return Material(
        patients=tuple(patients),
        films=tuple(films),
        problems=(*bad_patients, *bad_films),
        read=Counter({PATIENT: people.count, KNEE: table.count}),
        tables=(people.fact(), table.fact()),
    )


def _patient(row: Mapping[str, str]) -> str:
    number = values.cell(row["empi_anon"])
    if not number:
        raise ValueError("empi_anon is empty")
    return f"mrkr-{number.removesuffix('.0')}"
