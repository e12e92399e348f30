"""Cohort, reading: tables with line numbers, films and their headers, bad rows that are listed and never dropped."""

import csv
import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from KneeBoneAgeTrainingLib.cohort import building, joining
from KneeBoneAgeTrainingLib.cohort.building import Inputs, Parameters, build, kept
from KneeBoneAgeTrainingLib.cohort.inspection import inspect
from KneeBoneAgeTrainingLib.cohort.manifest import read_films, read_patients
from KneeBoneAgeTrainingLib.cohort.records import FilmRow, Problem, Source, StudyError

DATA = Path("/work/shared/data")
SECRET = "DOE^JANE"


def picture(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(number).integers(0, 255, (8, 8), np.uint8)).save(path)


def dicom(path, number, **facts):
    """A DX film of 8 x 8 pixels; ``facts`` are further elements, None leaves one out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    film = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    film.SOPClassUID, film.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    film.Modality, film.Rows, film.Columns, film.SamplesPerPixel = "DX", 8, 8, 1
    film.PhotometricInterpretation, film.PixelRepresentation = "MONOCHROME2", 0
    film.BitsAllocated, film.BitsStored, film.HighBit = 16, 12, 11
    said = {
        "PatientName": SECRET,
        "PatientID": f"MRN{number // 10}",
        "PatientSex": "F",
        "PatientBirthDate": "20100101",
        "StudyDate": "20200101",
        "BodyPartExamined": "KNEE",
    } | facts
    for name, value in said.items():
        if value is not None:
            setattr(film, name, value)
    film.PixelData = np.random.default_rng(number).integers(0, 4095, (8, 8), np.uint16).tobytes()
    film.save_as(path, enforce_file_format=True)


def table(path, rows):
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in rows for name in row)), restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def small_study(folder):
    """Three children with a knee and a hand film each, as tables."""
    people, knees, hands = [], [], []
    for number, sex in enumerate("FMF"):
        child = f"C{number}"
        people.append({"patient_id": child, "sex": sex, "birth_date": "2010-01-01"})
        for rows, part, day in ((knees, "knee", "2020-01-01"), (hands, "hand", "2020-02-01")):
            picture(folder / f"{child}_{part}.png", 10 * number + (part == "hand"))
            rows.append({"patient_id": child, "file": f"{child}_{part}.png", "date": day, "side": "L"})
    return people, knees, hands


def built(folder, people, knees, hands, **chosen):
    inputs = Inputs(
        patients=(table(folder / "patients.csv", people),),
        knees=(table(folder / "knees.csv", knees),),
        hands=(table(folder / "hands.csv", hands),),
    )
    return build(inputs, Parameters(**chosen), workers=1)


def listed(cohort):
    return {
        (Path(problem.source.table).name, problem.source.line): (problem.what, problem.reason)
        for problem in cohort.problems
    }


def test_sound_tables_give_one_pair_a_knee_and_no_problem(tmp_path):
    cohort = built(tmp_path, *small_study(tmp_path))
    assert not cohort.problems
    assert [pair.film.patient_id for pair in cohort.pairs] == ["C0", "C1", "C2"]
    assert [pair.match.days for pair in cohort.pairs] == [31, 31, 31]
    assert cohort.pairs[0].film.age_months == pytest.approx(120, abs=0.1)


def test_each_bad_row_is_listed_with_its_line_and_its_reason(tmp_path):
    people, knees, hands = small_study(tmp_path)
    people += [
        {"patient_id": "C3", "sex": "unknown", "birth_date": "2010-01-01"},
        {"patient_id": "", "sex": "F"},
        {"patient_id": "C4", "sex": "M", "birth_date": "31.12.2010"},
        {"patient_id": "C5", "sex": "M", "physeal_trauma": "perhaps"},
        {"patient_id": "C6", "birth_date": "2010-01-01"},
    ]
    picture(tmp_path / "six.png", 60)
    picture(tmp_path / "stranger.png", 61)
    picture(tmp_path / "seven.png", 70)
    Image.new("L", (8, 8), 7).save(tmp_path / "blank.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "six.png").read_bytes()[:60])
    day = "2020-01-01"
    knees += [
        {"patient_id": "C0", "file": "none.png", "date": day},
        {"patient_id": "C0", "file": "cut.png", "date": day},
        {"patient_id": "C0", "file": "blank.png", "date": day},
        {"patient_id": "C0", "file": "six.png", "date": "2009-12-31"},
        {"patient_id": "C0", "file": "six.png", "age_months": "-3"},
        {"patient_id": "C0", "file": "six.png", "age_months": "2000"},
        {"patient_id": "C0", "file": "", "date": day},
        {"patient_id": "X9", "file": "stranger.png", "date": day},
        {"patient_id": "C6", "file": "seven.png", "date": day},
        {"patient_id": "", "file": "C1_knee.png", "date": day},
        {"patient_id": "C0", "file": "six.png", "side": "up"},
    ]
    cohort = built(tmp_path, people, knees, hands)
    found = listed(cohort)
    assert {place: what for place, (what, _) in found.items()} == {
        ("patients.csv", 5): "unknown sex",
        ("patients.csv", 6): "unreadable value",
        ("patients.csv", 7): "unreadable value",
        ("patients.csv", 8): "unreadable value",
        ("knees.csv", 5): "missing file",
        ("knees.csv", 6): "unreadable film",
        ("knees.csv", 7): "blank film",
        ("knees.csv", 8): "impossible age",
        ("knees.csv", 9): "impossible age",
        ("knees.csv", 10): "impossible age",
        ("knees.csv", 11): "unreadable value",
        ("knees.csv", 12): "unknown patient",
        ("knees.csv", 13): "unknown sex",
        ("knees.csv", 14): "unknown patient",
        ("knees.csv", 15): "unreadable value",
    }
    assert "'unknown'" in found["patients.csv", 5][1]
    assert len(cohort.pairs) == 3


def test_rows_kept_excluded_and_listed_add_up_to_the_rows_read(tmp_path):
    people, knees, hands = small_study(tmp_path)
    people[1]["endocrinopathy"] = "yes"
    people.append({"patient_id": "C9", "sex": "F"})
    knees.append({"patient_id": "C0", "file": "none.png", "date": "2020-01-01"})
    hands[2]["date"] = "2021-01-01"
    cohort = built(tmp_path, people, knees, hands)
    assert cohort.read == {"patient": 4, "knee": 4, "hand": 3}
    for kind, read in cohort.read.items():
        excluded = sum(exclusion.kind == kind for exclusion in cohort.exclusions)
        problems = sum(problem.kind == kind for problem in cohort.problems)
        assert kept(cohort)[kind] + excluded + problems == read
    assert kept(cohort) == {"patient": 1, "knee": 1, "hand": 1}
    assert len({exclusion.source for exclusion in cohort.exclusions}) == len(cohort.exclusions)


def test_a_row_that_gets_lost_on_the_way_ends_the_build(tmp_path, monkeypatch):
    def careless(patients, films, kind):
        return joining.join(patients, films[1:], kind)

    monkeypatch.setattr(building, "join", careless)
    with pytest.raises(RuntimeError, match="rows were lost"):
        built(tmp_path, *small_study(tmp_path))


def test_line_numbers_count_quoted_line_breaks_and_empty_lines(tmp_path):
    path = tmp_path / "patients.csv"
    path.write_text('patient_id,sex,remark\nA,F,"two\nlines"\n\nB,?,x\nC,M\n')
    found = read_patients(path)
    assert [(row.patient_id, row.source.line) for row in found.patients] == [("A", 2)]
    assert sorted((problem.source.line, problem.what) for problem in found.problems) == [
        (5, "unknown sex"),
        (6, "malformed row"),
    ]
    assert found.read["patient"] == 3
    assert found.tables[0].ignored_columns == ("remark",)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"id,sex\n1,F\n", "patient_id is missing; it has id, sex"),
        (b"patient_id,sex,sex\n", "twice"),
        ("patient_id,sex\nJosé,F\n".encode("latin-1"), "UTF-8"),
    ],
)
def test_a_table_that_is_none_is_an_error_that_says_what_was_expected(tmp_path, content, why):
    path = tmp_path / "patients.csv"
    path.write_bytes(content)
    with pytest.raises(StudyError, match=why):
        read_patients(path)


def test_tables_from_a_spreadsheet_with_semicolons_and_a_byte_order_mark_are_read(tmp_path):
    path = tmp_path / "patients.csv"
    path.write_bytes("\ufeffpatient_id;sex\r\nA;female\r\n".encode())
    assert read_patients(path).patients[0].sex == "F"


def test_ids_that_contradict_each_other_are_all_listed_and_repeats_once(tmp_path):
    people, knees, hands = small_study(tmp_path)
    people += [dict(people[0]), dict(people[1], sex="F")]
    cohort = built(tmp_path, people, knees, hands)
    found = listed(cohort)
    assert found["patients.csv", 5][0] == "duplicate id"
    assert "line 2" in found["patients.csv", 5][1]
    assert {line for (name, line) in found if name == "patients.csv"} == {3, 5, 6}
    assert found["knees.csv", 3][0] == found["hands.csv", 3][0] == "unknown patient"
    assert [pair.film.patient_id for pair in cohort.pairs] == ["C0", "C2"]


def test_the_same_film_under_two_names_is_kept_once_for_a_child_and_never_for_two(tmp_path):
    people, knees, hands = small_study(tmp_path)
    Image.open(tmp_path / "C0_knee.png").save(tmp_path / "again.png", compress_level=0)
    assert (tmp_path / "again.png").read_bytes() != (tmp_path / "C0_knee.png").read_bytes()
    (tmp_path / "copy.png").write_bytes((tmp_path / "C1_knee.png").read_bytes())
    knees += [
        {"patient_id": "C0", "file": "again.png", "date": "2020-01-01", "side": "R"},
        {"patient_id": "C2", "file": "copy.png", "date": "2020-01-01"},
    ]
    cohort = built(tmp_path, people, knees, hands)
    found = listed(cohort)
    assert {place: what for place, (what, _) in found.items()} == dict.fromkeys(
        [("knees.csv", 5), ("knees.csv", 3), ("knees.csv", 6)], "same film twice"
    )
    assert "knees.csv line 2" in found["knees.csv", 5][1]
    assert "another patient" in found["knees.csv", 3][1]
    only_bytes = built(tmp_path, people, knees, hands, pixels=False)
    assert ("knees.csv", 6) in listed(only_bytes)
    assert ("knees.csv", 5) not in listed(only_bytes)


def test_a_bilateral_film_may_be_listed_for_each_side_but_not_twice_for_one(tmp_path):
    people, knees, hands = small_study(tmp_path)
    knees += [dict(knees[0], side="R"), dict(knees[0], side="L"), dict(knees[1], side="")]
    cohort = built(tmp_path, people, knees, hands)
    assert [pair.film.side for pair in cohort.pairs if pair.film.patient_id == "C0"] == ["L", "R"]
    assert set(listed(cohort)) == {("knees.csv", 6), ("knees.csv", 7)}


def test_dicom_folders_are_grouped_by_patient_id_and_take_age_and_side_from_the_header(tmp_path):
    dicom(tmp_path / "knees" / "a.dcm", 10, ImageLaterality="L", ViewPosition="AP")
    dicom(tmp_path / "knees" / "b.dcm", 11, ImageLaterality="R", PatientAge="010Y")
    dicom(tmp_path / "hands" / "c.dcm", 12, BodyPartExamined="HAND", StudyDate="20200215")
    dicom(tmp_path / "hands" / "d.dcm", 13, BodyPartExamined="HAND", PatientID=None)
    dicom(tmp_path / "hands" / "e.dcm", 14, StudyDate="20200214")
    (tmp_path / "hands" / "f.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"rubbish")
    cohort = build(Inputs(knees=(tmp_path / "knees",), hands=(tmp_path / "hands",)), Parameters(), workers=1)
    assert [(pair.film.side, pair.match.days) for pair in cohort.pairs] == [("L", 45), ("R", 45)]
    assert {pair.film.patient_id for pair in cohort.pairs} == {"MRN1"}
    assert all(pair.film.age_months == pytest.approx(120, abs=0.1) for pair in cohort.pairs)
    assert {problem.source.file: problem.what for problem in cohort.problems} == {
        "d.dcm": "unknown patient",
        "e.dcm": "other body part",
        "f.dcm": "unreadable film",
    }


def test_a_folder_of_all_films_is_sorted_by_body_part(tmp_path):
    dicom(tmp_path / "1.dcm", 10)
    dicom(tmp_path / "2.dcm", 11, BodyPartExamined="HAND")
    dicom(tmp_path / "3.dcm", 12, BodyPartExamined=None)
    cohort = build(Inputs(films=(tmp_path,)), Parameters(), workers=1)
    assert [(pair.film.source.file, pair.match.hand.source.file) for pair in cohort.pairs] == [
        ("1.dcm", "2.dcm")
    ]
    assert cohort.read == {"knee": 1, "hand": 1, "": 1}
    assert [problem.what for problem in cohort.problems] == ["unknown part"]


def test_an_age_in_whole_years_serves_the_age_rule_but_no_pairing(tmp_path):
    facts = {"PatientAge": "010Y", "StudyDate": None, "PatientBirthDate": None}
    dicom(tmp_path / "1.dcm", 10, **facts)
    dicom(tmp_path / "2.dcm", 11, BodyPartExamined="HAND", **facts)
    cohort = build(Inputs(films=(tmp_path,)), Parameters(), workers=1)
    assert [problem.what for problem in cohort.problems] == ["no date"]
    alone = build(Inputs(films=(tmp_path,)), Parameters(kind="knee"), workers=1)
    assert [pair.film.age_months for pair in alone.pairs] == [120]


def test_a_table_wins_over_the_header_and_the_contradiction_is_noted(tmp_path):
    dicom(tmp_path / "1.dcm", 10, ImageLaterality="R")
    row = FilmRow(
        Source("t", 2), tmp_path / "1.dcm", "knee", "C1", "L", date=datetime.date(2019, 1, 1), sex="M"
    )
    found = inspect(row)
    assert (found.patient_id, found.side, found.sex, found.date.year) == ("C1", "L", "M", 2019)
    assert not found.id_from_header
    assert len(found.notes) == 3
    assert SECRET not in str(found)


def test_films_of_one_patient_that_name_both_sexes_are_listed(tmp_path):
    dicom(tmp_path / "1.dcm", 10)
    dicom(tmp_path / "2.dcm", 11, BodyPartExamined="HAND", PatientSex="M")
    cohort = build(Inputs(films=(tmp_path,)), Parameters(), workers=1)
    assert [problem.what for problem in cohort.problems] == ["unknown sex"] * 2


def test_inputs_that_cannot_make_the_study_are_errors(tmp_path):
    people, knees, _ = small_study(tmp_path)
    knees_csv = table(tmp_path / "knees.csv", knees)
    with pytest.raises(StudyError, match="no hand films are given"):
        build(Inputs(knees=(knees_csv,)), Parameters(), workers=1)
    with pytest.raises(StudyError, match="given twice"):
        Inputs(knees=(knees_csv,), hands=(knees_csv,))
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match="no film in this folder"):
        read_films(tmp_path / "empty", "knee")
    with pytest.raises(StudyError, match="0 to 0.5"):
        Parameters(test_share=0.9)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} with real DICOM files is not here")
def test_real_dicom_files_that_are_hard_to_read_are_all_accounted_for():
    found = read_films(DATA / "dicom", "knee")
    made = [inspect(row) for row in found.films]
    assert len(made) == len(found.films) >= 10
    for row, result in zip(found.films, made, strict=True):
        name = pydicom.dcmread(row.path, force=True, stop_before_pixels=True).get("PatientName")
        assert not name or str(name) not in str(result)
    assert any(isinstance(result, Problem) for result in made)
    assert any(isinstance(result, FilmRow) and len(result.pixels_sha256) == 64 for result in made)
