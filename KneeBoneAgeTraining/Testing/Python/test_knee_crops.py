"""Crops of a study's knees: prepared once, cut alike, a person's corrections kept, and what is left out named."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from knee_study import MiddleFinder, make_study, prepared

from KneeBoneAgeLib.crop import KneeCrop
from KneeBoneAgeLib.radiograph import read_film
from KneeBoneAgeLib.segmentation import Finding
from KneeBoneAgeTrainingLib.cohort.records import StudyError
from KneeBoneAgeTrainingLib.cohort.study import open_study
from KneeBoneAgeTrainingLib.knee import pictures as knee_pictures
from KneeBoneAgeTrainingLib.knee.corrections import CorrectedCrops
from KneeBoneAgeTrainingLib.knee.pictures import crops_of, prepare
from KneeBoneAgeTrainingLib.runs.loop import Stopped
from KneeBoneAgeTrainingLib.runs.record import write_table


def test_crops_are_prepared_once_and_anew_when_the_preprocessing_changes(study, tmp_path, monkeypatch):
    first = prepared(study, tmp_path)
    assert len(first.knees) == len(study.films)
    assert first.pictures[0].shape[1:] == (knee_pictures.KEPT_PX,) * 2
    monkeypatch.setattr(knee_pictures, "read_film", lambda path: pytest.fail("prepared again"))
    assert prepared(study, tmp_path).folder == first.folder
    monkeypatch.undo()
    monkeypatch.setitem(knee_pictures.PREPROCESSING, "width_factor", 2.5)
    again = prepared(study, tmp_path)
    assert again.folder != first.folder
    assert json.loads((again.folder / "prepared.json").read_text())["preprocessing"]["width_factor"] == 2.5


def test_a_left_knee_is_cut_as_the_mirror_image_of_a_right_one(study, tmp_path):
    found = prepared(study, tmp_path)
    left = next(row for row, knee in enumerate(found.knees) if knee.side == "L")
    knee = found.knees[left]
    film = read_film(study.path(knee.file)).pixels
    straight = knee_pictures.cut(
        film, replace(knee.crop, mirrored=False), knee_pictures.KEPT_PX, knee_pictures.MARGIN
    )
    assert np.abs(found.pictures[0][left] / 255 - straight[:, ::-1]).max() < 0.01


def test_a_film_without_a_knee_is_listed_with_the_reason(tmp_path):
    study = open_study(make_study(tmp_path / "data", children=10, empty=3))
    found = prepared(study, tmp_path / "crops")
    assert [(one.file, one.reason) for one in found.left_out] == [("knee-003-R.png", "there is no knee")]
    assert len(found.knees) == len(study.films) - 1


def test_a_stopped_preparation_leaves_nothing_that_is_taken_for_complete(study, tmp_path):
    def stop():
        raise Stopped

    with pytest.raises(Stopped):
        prepare(study, tmp_path, MiddleFinder(), check=stop)
    assert not list(tmp_path.glob("*/prepared.json"))
    assert len(prepared(study, tmp_path).knees) == len(study.films)


def test_corrected_crops_are_used_as_a_person_put_them(study, tmp_path):
    file = study.films[0].file
    table = tmp_path / "corrected.csv"
    write_table(
        table,
        ["file", "side", "x0", "y0", "x1", "y1", "crop_angle_deg", "crop_mirrored"],
        [
            (study.path(file), "R", 10, 20, 60, 70, 5, "true"),
            ("elsewhere.png", "R", 0, 0, 9, 9, "", ""),
            ("e", *[""] * 7),
        ],
    )
    crops = CorrectedCrops.read(table)
    found = prepare(study, tmp_path / "crops", MiddleFinder(), crops)
    crop = next(knee.crop for knee in found.knees if knee.file == file)
    assert crop == KneeCrop((35, 45), 50, 5, "R", True, "person")
    assert all(knee.crop.origin == "automatic" for knee in found.knees if knee.file != file)
    assert [one.file for one in found.left_out] == ["elsewhere.png"]
    assert found.folder != prepared(study, tmp_path / "crops").folder


def test_a_wrong_row_of_corrected_crops_is_named_with_its_line(tmp_path):
    table = tmp_path / "corrected.csv"
    table.write_text("file,side,x0,y0,x1,y1\na.png,R,1,2,3,4\nb.png,R,1,two,3,4\n")
    with pytest.raises(StudyError, match="line 3"):
        CorrectedCrops.read(table)
    table.write_text("file,x0,y0,x1,y1\na.png,1,2,3,4\n")
    with pytest.raises(StudyError, match="column side"):
        CorrectedCrops.read(table)


def test_a_row_of_a_bilateral_film_means_the_knee_of_its_side():
    right, left = KneeCrop((10, 10), 5, side="R"), KneeCrop((30, 10), 5, side="L", mirrored=True)
    both = Finding((right, left))
    assert crops_of("L", both) == ((left,), None)
    assert crops_of("", both) == crops_of("B", both) == ((right, left), None)
    none, reason = crops_of("L", Finding((right, replace(left, side="R"))))
    assert (none, reason) == ((), "no L knee found, only R, R")


def test_a_long_table_is_compared_with_its_films_once(tmp_path, monkeypatch):
    names = [f"films/{k:03d}.png" for k in range(60)]
    table = tmp_path / "crops.csv"
    write_table(table, ("file", "side", "x0", "y0", "x1", "y1"), ([name, "R", 0, 0, 9, 9] for name in names))
    crops = CorrectedCrops.read(table)
    looked_up, resolve = [], Path.resolve
    monkeypatch.setattr(
        Path, "resolve", lambda self, strict=False: looked_up.append(self) or resolve(self, strict)
    )
    films = [(tmp_path / name, name.upper()) for name in names[1:]]
    assert crops.strange(films) == names[:1]
    of_each = [crops.only(path, file) for path, file in films]
    assert [list(one.squares) for one in of_each] == [[name] for name in names[1:]]
    assert len(looked_up) <= 3 * len(names)
    assert crops.only(tmp_path / "other.png", "other.png") is None
