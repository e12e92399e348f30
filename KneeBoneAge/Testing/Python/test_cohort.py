"""Cohorts of films on disk."""

import csv
import hashlib

import numpy as np
import pytest
from PIL import Image

from KneeBoneAgeLib.phantom.cohort import COLUMNS, write_cohort
from KneeBoneAgeLib.radiograph import read_film


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    out = tmp_path_factory.mktemp("cohort")
    write_cohort(out, 4, seed=21, others=1, workers=1)
    return out


def rows_of(folder):
    with (folder / "cohort.csv").open() as stream:
        return list(csv.DictReader(stream))


def digests(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_same_seed_gives_the_same_bytes_whatever_the_number_of_workers(cohort, tmp_path):
    write_cohort(tmp_path / "again", 4, seed=21, others=1, workers=2)
    assert digests(tmp_path / "again") == digests(cohort)


def test_another_seed_gives_other_children(cohort, tmp_path):
    write_cohort(tmp_path / "other", 1, seed=22, workers=1)
    ages = {row["true_bone_age_months"] for row in rows_of(cohort)}
    assert ages.isdisjoint(row["true_bone_age_months"] for row in rows_of(tmp_path / "other"))


def test_every_knee_has_a_row_and_a_negative_film_has_an_empty_one(cohort):
    rows = rows_of(cohort)
    assert tuple(rows[0]) == COLUMNS
    assert sum(int(row["knee_index"]) > 0 for row in rows) == 4
    empty = [row for row in rows if row["knee_index"] == "0"]
    assert len(empty) == 1
    assert empty[0]["x0"] == ""


def test_the_header_tells_the_readers_what_the_table_tells(cohort):
    for row in rows_of(cohort):
        film = read_film(cohort / row["file"])
        assert film.sex == row["sex"]
        assert film.age_months == pytest.approx(float(row["chronological_age_months"]), abs=0.6)
        assert film.spacing_mm is not None
        if row["knee_index"] == "1":
            assert film.side in (row["side"], None)


def test_masks_lie_on_the_knees(cohort):
    for row in rows_of(cohort):
        if row["knee_index"] == "0":
            continue
        labels = np.asarray(Image.open(cohort / row["mask"]))
        film = read_film(cohort / row["file"])
        assert labels.shape == film.pixels.shape
        x0, y0, x1, y1 = (max(0, int(float(row[k]))) for k in ("x0", "y0", "x1", "y1"))
        box = labels[y0:y1, x0:x1]
        assert {1, 2} <= set(np.unique(box))
        bone, air = film.pixels[y0:y1, x0:x1][box > 0], film.pixels[y0:y1, x0:x1][box == 0]
        assert np.median(bone) > np.median(air)


def test_an_unknown_format_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="'jpeg'"):
        write_cohort(tmp_path, 1, 1, "jpeg")
