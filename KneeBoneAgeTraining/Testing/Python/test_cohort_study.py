"""Cohort, study: what is written, how it is opened and checked, what the command does, and that nobody is named."""

import csv
import datetime
import importlib.metadata
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from typer.testing import CliRunner

from KneeBoneAgeLib import cli
from KneeBoneAgeLib.folder import film_paths
from KneeBoneAgeTrainingLib.cohort import study as study_files
from KneeBoneAgeTrainingLib.cohort.building import Inputs, Parameters, build
from KneeBoneAgeTrainingLib.cohort.flow import adds_up, flow
from KneeBoneAgeTrainingLib.cohort.picture import draw
from KneeBoneAgeTrainingLib.cohort.records import SplitError, StudyError
from KneeBoneAgeTrainingLib.cohort.study import FILES, findings, open_study, write_study
from KneeBoneAgeTrainingLib.commands import app

ROOT = Path(__file__).resolve().parents[3]
NAME, NUMBER = "DOE^JANE", "MRN-4711"


@pytest.fixture
def no_picture(monkeypatch):
    """Drawing takes most of the time of a build; files of that name stand in."""

    def draw_nothing(numbers, *places):
        for place in places:
            place.write_bytes(b"")

    monkeypatch.setattr("KneeBoneAgeTrainingLib.cohort.picture.draw", draw_nothing)


def table(path, rows):
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), restval="")
        writer.writeheader()
        writer.writerows(rows)


def make_tables(folder, children=40):
    """Children with one or two visits, both knees each, a hand film near each visit; some of them excluded."""
    rng = random.Random(5)
    (folder / "films").mkdir(parents=True)
    people, knees, hands = [], [], []

    def film(name):
        number = len(knees) * 1000 + len(hands)
        grey = np.random.default_rng(number).integers(0, 255, (8, 8), np.uint8)
        Image.fromarray(grey).save(folder / "films" / name)
        return f"films/{name}"

    for number in range(children):
        child = f"C{number:03}"
        born = datetime.date(2005, 1, 1) + datetime.timedelta(days=rng.randrange(2000))
        condition = "yes" if number % 13 == 5 else "no"
        people.append(
            {"patient_id": child, "sex": rng.choice("FM"), "birth_date": born, "endocrinopathy": condition}
        )
        for visit in range(1 + number % 2):
            day = born + datetime.timedelta(days=rng.randrange(800, 6800))
            for side in "RL":
                knees.append(
                    {
                        "patient_id": child,
                        "file": film(f"{child}{visit}{side}.png"),
                        "date": day,
                        "side": side,
                    }
                )
            day += datetime.timedelta(days=rng.randrange(-110, 110))
            hands.append({"patient_id": child, "file": film(f"{child}{visit}hand.png"), "date": day})
    table(folder / "patients.csv", people)
    table(folder / "knees.csv", knees)
    table(folder / "hands.csv", hands)
    return folder


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return make_tables(tmp_path_factory.mktemp("tables") / "data")


@pytest.fixture(scope="module")
def cohort(tables):
    inputs = Inputs((tables / "patients.csv",), (tables / "knees.csv",), (tables / "hands.csv",))
    return build(inputs, Parameters(seed=3), workers=1)


@pytest.fixture
def study(cohort, tmp_path, no_picture):
    return write_study(cohort, tmp_path / "study")


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def options(tables):
    return [f"--{name}={tables / name}.csv" for name in ("patients", "knees", "hands")]


def run(*arguments):
    return CliRunner().invoke(app, ["cohort", *map(str, arguments)])


def test_a_study_holds_its_files_and_one_row_a_knee_film(study, cohort, tables):
    assert sorted(path.name for path in study.iterdir()) == sorted(FILES)
    films, folds = rows(study / "films.csv"), rows(study / "folds.csv")
    assert len(films) == len(folds) == len(cohort.pairs) > 40
    assert list(folds[0]) == ["patient_id", "file", "split", "fold"]
    assert {row["split"] for row in folds} == {"train", "test"}
    assert {row["fold"] for row in folds if row["split"] == "train"} == set("01234")
    assert {row["fold"] for row in folds if row["split"] == "test"} == {""}
    first, pair = films[0], cohort.pairs[0]
    assert (first["file"], first["hand_file"]) == (pair.film.path.name, pair.match.hand.path.name)
    assert (first["part"], first["days_between"]) == ("knee", str(pair.match.days))
    assert max(int(row["days_between"]) for row in films) <= 92
    facts = json.loads((study / "study.json").read_text())
    assert facts["parameters"]["seed"] == 3
    assert facts["root"] == (tables / "films").as_posix()
    assert {Path(one["path"]).name for one in facts["tables"]} == {"patients.csv", "knees.csv", "hands.csv"}
    assert re.fullmatch("[0-9a-f]{64}", facts["data_sha256"])


def test_a_study_opens_with_the_films_and_places_that_were_written(study, cohort):
    opened = open_study(study)
    assert opened.parameters == cohort.parameters
    assert opened.places == cohort.places
    assert [opened.path(film.file) for film in opened.films] == [pair.film.path for pair in cohort.pairs]
    assert all(opened.path(film.hand_file).is_file() for film in opened.films)
    assert opened.films[0].age_months == pytest.approx(cohort.pairs[0].film.age_months, abs=0.001)
    assert findings(study) == []


def test_the_same_tables_and_seed_give_the_same_study(tables, tmp_path):
    for name in ("one", "two"):
        assert run("build", tmp_path / name, *options(tables), "--seed", 3, "--workers", 1).exit_code == 0
    for name in (*FILES,):
        if name != "study.json":
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_counts_of_the_flow_add_up_from_rows_read_to_folds(cohort, tables):
    numbers = flow(cohort)
    assert adds_up(numbers)
    for unit, name in (("patients", "patients"), ("knee_films", "knees"), ("hand_films", "hands")):
        gone = sum(step["removed"][unit] for step in numbers["steps"])
        read = len(rows(tables / f"{name}.csv"))
        assert numbers["read"][unit] == read == gone + numbers["kept"][unit] + numbers["problems"][unit]
    assert {step["rule"] for step in numbers["steps"] if step["removed"]["knee_films"]} == {
        "endocrinopathy",
        "age",
        "no_hand_film",
    }
    numbers["steps"][3]["removed"]["knee_films"] += 1
    assert not adds_up(numbers)


def test_the_picture_shows_each_rule_with_its_numbers_and_is_never_taken_for_a_film(
    cohort, tmp_path, monkeypatch
):
    from matplotlib.axes import Axes

    said = []
    text = Axes.text
    monkeypatch.setattr(
        Axes, "text", lambda self, x, y, s, **look: said.append(s) or text(self, x, y, s, **look)
    )
    numbers = flow(cohort)
    draw(numbers, tmp_path / "flow.svg", tmp_path / "flow.png")
    for step in numbers["steps"]:
        assert step["label"] in said
        assert step["stated"] or "not stated" in said
    assert str(numbers["kept"]["knee_films"]) in said
    assert film_paths([tmp_path]) == []
    assert (tmp_path / "flow.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize("kind", ["hand", "knee"])
def test_studies_of_one_kind_have_a_flow_and_a_picture_too(tables, tmp_path, kind):
    given = [f"--{kind}s={tables / kind}s.csv", f"--patients={tables / 'patients.csv'}"]
    result = run("build", tmp_path / "study", *given, "--kind", kind, "--workers", 1)
    assert result.exit_code == 0, result.output
    assert adds_up(json.loads((tmp_path / "study" / "flow.json").read_text()))
    assert {row["part"] for row in rows(tmp_path / "study" / "films.csv")} == {kind}
    assert run("check", tmp_path / "study").exit_code == 0


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_study_whose_child_crosses_the_split_does_not_open(study):
    row = rows(study / "folds.csv")[0]
    old = ",".join(row.values())
    place = ("train", "0") if row["split"] == "test" else ("test", "")
    change(study / "folds.csv", old, ",".join([row["patient_id"], row["file"], *place]))
    with pytest.raises(SplitError, match=f"leaks: patient {row['patient_id']}"):
        open_study(study)
    assert any("leaks" in line for line in findings(study, films=False))
    result = run("check", study)
    assert result.exit_code == 1
    assert "leaks" in result.output


def test_a_study_whose_films_and_folds_differ_does_not_open(study):
    lines = (study / "folds.csv").read_text().splitlines(keepends=True)
    (study / "folds.csv").write_text("".join(lines[:-1]))
    with pytest.raises(SplitError, match="same films"):
        open_study(study)


@pytest.mark.usefixtures("no_picture")
def test_check_tells_of_tables_and_films_that_changed(tmp_path):
    tables = make_tables(tmp_path / "data")
    assert run("build", tmp_path / "study", *options(tables), "--workers", 1).exit_code == 0
    kept = rows(tmp_path / "study" / "films.csv")
    (tables / "films" / kept[0]["file"]).unlink()
    (tables / "films" / kept[-1]["hand_file"]).write_bytes(b"other")
    change(tmp_path / "study" / "problems.csv", "table,", "tables,")
    found = findings(tmp_path / "study")
    assert len(found) == 3, found
    assert any(kept[0]["file"] in line and "missing" in line for line in found)
    assert any(kept[-1]["hand_file"] in line and "changed" in line for line in found)
    assert findings(tmp_path / "study", films=False) == ["problems.csv was changed after the study was made"]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda folder: (folder / "study.json").unlink(), "no study here"),
        (lambda folder: (folder / "study.json").write_text("{"), "cannot be read"),
        (lambda folder: change(folder / "study.json", '"format": 1', '"format": 9'), "another format"),
        (lambda folder: change(folder / "study.json", '"seed"', '"sow"'), "damaged"),
        (lambda folder: (folder / "films.csv").unlink(), "cannot be read"),
        (lambda folder: change(folder / "films.csv", "sha256", "hash"), "damaged"),
    ],
)
def test_a_damaged_study_is_an_error_that_says_so(study, damage, why):
    damage(study)
    with pytest.raises(StudyError, match=why):
        open_study(study)


@pytest.mark.usefixtures("no_picture")
def test_a_study_that_stands_there_is_only_replaced_when_asked(tables, tmp_path):
    arguments = ("build", tmp_path / "study", *options(tables), "--workers", 1)
    assert run(*arguments).exit_code == 0
    before = (tmp_path / "study" / "study.json").read_bytes()
    refused = run(*arguments, "--seed", 9)
    assert refused.exit_code == 2
    assert "--force" in refused.output
    assert (tmp_path / "study" / "study.json").read_bytes() == before
    assert run(*arguments, "--seed", 9, "--force").exit_code == 0
    assert open_study(tmp_path / "study").parameters.seed == 9
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


def test_force_never_touches_a_folder_with_other_things_in_it(cohort, study, tmp_path):
    (study / "run-1").mkdir()
    with pytest.raises(StudyError, match="run-1"):
        write_study(cohort, study, force=True)
    with pytest.raises(StudyError, match="other things"):
        write_study(cohort, tmp_path, force=True)
    assert (study / "run-1").is_dir()


def test_a_build_that_fails_leaves_the_old_study_and_nothing_half_written(cohort, study, monkeypatch):
    before = {path.name: path.read_bytes() for path in study.iterdir()}
    monkeypatch.setattr(study_files, "flow", lambda cohort: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_study(cohort, study, force=True)
    assert {path.name: path.read_bytes() for path in study.iterdir()} == before
    assert [path.name for path in study.parent.iterdir()] == [study.name]


@pytest.mark.usefixtures("no_picture")
def test_exit_codes_say_whether_rows_were_bad_or_the_call(tables, tmp_path):
    knees = (tables / "knees.csv").read_text() + "C000,films/none.png,2010-01-01,R\n"
    (tables / "more.csv").write_text(knees)
    arguments = (f"--patients={tables / 'patients.csv'}", f"--hands={tables / 'hands.csv'}", "--workers", 1)
    result = run("build", tmp_path / "study", f"--knees={tables / 'more.csv'}", *arguments)
    assert result.exit_code == 1
    assert "1 rows could not be used" in result.output
    (problem,) = rows(tmp_path / "study" / "problems.csv")
    assert (problem["line"], problem["file"], problem["what"]) == (
        str(len(knees.splitlines())),
        "films/none.png",
        "missing file",
    )
    for wrong in (
        ("build", tmp_path / "new", f"--knees={tables / 'none.csv'}", *arguments),
        ("build", tmp_path / "new", *arguments),
        ("build", tmp_path / "new", *options(tables), "--test-share", "0.9"),
        ("check", tmp_path / "none"),
        ("build",),
    ):
        assert run(*wrong).exit_code == 2, wrong
    assert not (tmp_path / "new").exists()


def test_too_few_children_give_a_study_that_says_it_cannot_be_trained_on(tmp_path):
    tables = make_tables(tmp_path / "data", children=3)
    result = run("build", tmp_path / "study", *options(tables), "--workers", 1)
    assert result.exit_code == 1
    assert "cannot be trained on" in result.output
    assert (tmp_path / "study" / "flow.png").is_file()


def dicom(path, number):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    film = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    film.SOPClassUID, film.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    film.PatientName, film.PatientID, film.PatientSex = NAME, f"{NUMBER}-{number // 10}", "F"
    film.PatientBirthDate, film.StudyDate = "20100323", f"2020020{number % 10 + 1}"
    film.OtherPatientIDs, film.InstitutionName = f"{NUMBER}-other", "St. Secret"
    film.BodyPartExamined = "HAND" if number % 10 == 0 else "KNEE"
    film.Modality, film.Rows, film.Columns, film.SamplesPerPixel = "DX", 8, 8, 1
    film.PhotometricInterpretation, film.PixelRepresentation = "MONOCHROME2", 0
    film.BitsAllocated, film.BitsStored, film.HighBit = 16, 12, 11
    film.PixelData = np.random.default_rng(number).integers(0, 4095, (8, 8), np.uint16).tobytes()
    film.save_as(path, enforce_file_format=True)


@pytest.fixture(scope="module")
def headers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("headers")
    for child in range(12):
        for film in range(3):
            dicom(folder / f"{child}_{film}.dcm", 10 * child + film)
    dicom(folder / "again.dcm", 11)
    damaged = (folder / "3_1.dcm").read_bytes()
    (folder / "cut.dcm").write_bytes(damaged[:-40])
    return folder


def everything(folder):
    return "".join(path.read_bytes().decode("latin-1") for path in sorted(folder.iterdir()))


def test_no_name_number_or_date_of_a_header_reaches_the_study_or_the_log(headers, tmp_path):
    result = run("build", tmp_path / "study", "--films", headers, "--workers", 1)
    assert result.exit_code == 1
    assert [row["what"] for row in rows(tmp_path / "study" / "problems.csv")] == [
        "same film twice",
        "unreadable film",
    ]
    for text in (everything(tmp_path / "study"), result.output):
        for secret in (NAME, "DOE", NUMBER, "Secret", "20100323", "2010-03-23", "20200201", "2020-02-0"):
            assert secret not in text
    films = rows(tmp_path / "study" / "films.csv")
    assert len(films) == 24
    assert all(re.fullmatch("h[0-9a-f]{16}", row["patient_id"]) for row in films)
    assert len({row["patient_id"] for row in films}) == 12


@pytest.mark.usefixtures("no_picture")
def test_patient_ids_of_headers_are_hashed_with_the_salt_and_kept_on_request(headers, tmp_path):
    ids = {}
    for name, more in {
        "random": [],
        "one": ["--salt", "pepper"],
        "two": ["--salt", "pepper"],
        "kept": ["--keep-ids"],
    }.items():
        run("build", tmp_path / name, "--films", headers, "--workers", 1, *more)
        films = rows(tmp_path / name / "folds.csv")
        ids[name] = [row["patient_id"] for row in films]
        place = [(row["file"], row["split"], row["fold"]) for row in films]
        ids[f"{name} split"] = place
        assert "pepper" not in everything(tmp_path / name)
    assert ids["one"] == ids["two"] != ids["random"]
    assert ids["random split"] == ids["one split"] == ids["kept split"]
    assert set(ids["kept"]) == {f"{NUMBER}-{child}" for child in range(12)}


@pytest.mark.usefixtures("no_picture")
def test_ids_that_the_users_own_table_holds_are_written_as_they_are(headers, tmp_path):
    table(tmp_path / "patients.csv", [{"patient_id": f"{NUMBER}-{child}", "sex": "F"} for child in range(12)])
    given = ("--films", headers, f"--patients={tmp_path / 'patients.csv'}")
    run("build", tmp_path / "study", *given, "--workers", 1)
    ids = {row["patient_id"] for row in rows(tmp_path / "study" / "films.csv")}
    assert ids == {f"{NUMBER}-{child}" for child in range(12)}


def announce(monkeypatch, value):
    entry = importlib.metadata.EntryPoint("cohort", value, "kneeboneage.commands")
    monkeypatch.setattr(cli, "entry_points", lambda group: [entry] if group == entry.group else [])


def test_kneeboneage_finds_the_command_by_its_entry_point(monkeypatch, tmp_path):
    announce(monkeypatch, "KneeBoneAgeTrainingLib.commands:cohort")
    assert "cohort" in CliRunner().invoke(cli.app, ["--help"]).output
    result = CliRunner().invoke(cli.app, ["cohort", "check", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "no study here" in result.output


@pytest.mark.parametrize("value", [None, "no_such_module.commands:cohort"])
def test_without_the_training_library_the_command_says_how_to_install_it(monkeypatch, value):
    if value:
        announce(monkeypatch, value)
    else:
        monkeypatch.setattr(cli, "entry_points", lambda group: [])
    assert "cohort" in CliRunner().invoke(cli.app, ["--help"]).output
    for arguments in (["cohort"], ["cohort", "build", "out", "--knees", "x"], ["cohort", "--help"]):
        result = CliRunner().invoke(cli.app, arguments)
        assert result.exit_code == 2
        assert "pip install '.[training]'" in result.output


def test_without_matplotlib_build_says_how_to_install_it(monkeypatch, tmp_path, tables):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run("build", tmp_path / "study", *options(tables))
    assert result.exit_code == 2
    assert "pip install '.[training]'" in result.output


def test_help_documents_each_column_and_imports_no_heavy_library():
    code = (
        "import sys; from KneeBoneAgeTrainingLib.commands import app\n"
        "try: app(['cohort', '--help'])\n"
        "except SystemExit: pass\n"
        "print('HEAVY', *({'torch', 'lightning', 'numpy', 'matplotlib', 'pydicom', 'scipy'} & set(sys.modules)))"
    )
    paths = os.pathsep.join(str(ROOT / name) for name in ("KneeBoneAge", "KneeBoneAgeTraining"))
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    from KneeBoneAgeTrainingLib.cohort import __doc__ as documented
    from KneeBoneAgeTrainingLib.cohort.manifest import FILM_COLUMNS, PATIENT_COLUMNS

    assert done.stdout.rstrip().endswith("HEAVY")
    for column in {*PATIENT_COLUMNS, *FILM_COLUMNS}:
        assert column in done.stdout
        assert column in documented
