"""The command: exit codes, what it writes, what it takes for a film, and what is left when it is stopped."""

import csv
import dataclasses
import json
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from KneeBoneAgeLib import folder, job
from KneeBoneAgeLib.cli import app
from KneeBoneAgeLib.crop import KneeCrop
from KneeBoneAgeLib.errors import BundleError, FilmError
from KneeBoneAgeLib.radiograph.film import Film

CROP = KneeCrop((60.0, 50.0), 60.0, side="R", confidence=0.9)
HEADER = {"sex": "M", "age_months": 120.0, "side": "R"}


@dataclasses.dataclass(frozen=True)
class Knee:
    crop: KneeCrop
    bone_age_months: float | None
    status: str = "ok"
    reason: str | None = None
    refusal_kind: str | None = None
    withheld_bone_age_months: float | None = None
    at_least_months: float | None = None
    interval_months: tuple[float, float] | None = (90.0, 130.0)
    interval_level: float = 0.9
    mature: bool = False
    probabilities: np.ndarray = dataclasses.field(default_factory=lambda: np.full(120, 1 / 120))


class FakeEstimator:
    """Answers the age that arrives as the bone age; on a blank film it finds no knee."""

    bundle = SimpleNamespace(
        name="fake",
        sha256="cd" * 32,
        manifest=SimpleNamespace(
            card_first_line="never seen a real child",
            architecture=SimpleNamespace(months_to=240.0),
            training_data=SimpleNamespace(real_children=0),
        ),
    )

    def find(self, film):
        if film.pixels.max() == film.pixels.min():
            return SimpleNamespace(knees=(), reason="the film is blank", notes=())
        return SimpleNamespace(knees=(CROP,), reason=None, notes=())

    def estimate(self, film, crops=None):
        finding = (
            self.find(film) if crops is None else SimpleNamespace(knees=tuple(crops), reason=None, notes=())
        )
        knees = tuple(Knee(crop, film.age_months) for crop in finding.knees)
        return SimpleNamespace(film=film, finding=finding, knees=knees)


def read_fake(path):
    if not path.exists():
        raise FilmError(path, "there is no such file")
    try:
        pixels = np.asarray(Image.open(path).convert("L"), np.float32) / 255
    except OSError:
        raise FilmError(path, "is no image") from None
    return Film(pixels, str(path), **HEADER)


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    monkeypatch.setattr(job, "load_estimator", lambda bundle, device: FakeEstimator())
    monkeypatch.setattr(job, "read", read_fake)
    monkeypatch.setattr(job, "explain_knee", lambda estimator, film, crop, method: film.pixels)


@pytest.fixture
def films(tmp_path):
    place = tmp_path / "films"
    place.mkdir()
    picture = np.tile(np.arange(120, dtype=np.uint8), (100, 1))
    for name in ("b.png", "a.png"):
        Image.fromarray(picture).save(place / name)
    Image.fromarray(np.zeros((100, 120), np.uint8)).save(place / "blank.png")
    return place


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_a_folder_gives_one_object_a_knee_and_one_for_a_film_without(films, tmp_path):
    result = run("estimate", films, "--json", tmp_path / "out.jsonl", "--csv", tmp_path / "out.csv")
    assert result.exit_code == 0, result.output
    found = lines(tmp_path / "out.jsonl")
    assert [Path(one["file"]).name for one in found] == ["a.png", "b.png", "blank.png"]
    assert [one["status"] for one in found] == ["ok", "ok", "refused"]
    assert found[2]["reason"] == "the film is blank"
    assert [row["status"] for row in csv.DictReader((tmp_path / "out.csv").open())] == ["ok", "ok", "refused"]


def test_what_is_typed_reaches_the_estimator_and_is_recorded(films):
    typed = json.loads(
        run("estimate", films / "a.png", "--age-months", 99, "--sex", "F", "--json", "-").stdout
    )
    assert (typed["bone_age_months"], typed["age_source"]) == (99.0, "typed")
    assert (typed["sex"], typed["sex_source"]) == ("F", "typed")
    header = json.loads(run("estimate", films / "a.png", "--json", "-").stdout)
    assert (header["bone_age_months"], header["age_source"], header["sex"]) == (120.0, "header", "M")


def test_json_on_the_standard_output_is_nothing_but_json(films):
    result = run("estimate", films, "--json", "-")
    assert len([json.loads(line) for line in result.stdout.splitlines()]) == 3
    assert "3 of 3 films" in result.stderr


def test_without_json_the_answer_is_printed_for_people(films):
    text = run("estimate", films / "a.png").stdout
    assert "Right knee: 10 y 0 m (120.0 months), 90% interval 90 to 130 months\n" in text


def test_a_file_that_cannot_be_read_gets_its_object_and_exit_code_one(films, tmp_path):
    (films / "broken.dcm").write_bytes(b"")
    result = run("estimate", films, films / "missing.dcm", "--json", tmp_path / "out.jsonl")
    assert result.exit_code == 1
    found = {Path(one["file"]).name: one for one in lines(tmp_path / "out.jsonl")}
    assert found["broken.dcm"]["status"] == found["missing.dcm"]["status"] == "error"
    assert found["missing.dcm"]["reason"] == "there is no such file"
    assert found["a.png"]["status"] == "ok"


def test_sex_and_side_may_be_typed_small(films):
    result = run("estimate", films / "a.png", "--sex", "f", "--side", "l", "--json", "-")
    assert json.loads(result.stdout)["sex"] == "F"


def test_what_is_unknown_of_a_child_and_a_wrong_side_of_the_header_are_said(films, monkeypatch):
    known = run("estimate", films / "a.png")
    assert "unknown" not in known.stderr
    assert "header says" not in known.stdout
    monkeypatch.setitem(HEADER, "sex", None)
    monkeypatch.setitem(HEADER, "side", "L")
    result = run("estimate", films)
    assert "is unknown on 2 of them" in result.stderr
    assert result.stdout.count("Right knee: 10 y 0 m") == 2
    assert result.stdout.count("; the header says side L\n") == 2


def test_a_file_name_that_is_no_text_reaches_every_result(films, tmp_path):
    name = b"knee\xff.png".decode("utf-8", "surrogateescape")
    try:
        (films / name).write_bytes((films / "a.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes names of text only")
    out = tmp_path / "out"
    arguments = (
        "estimate",
        films / name,
        "--json",
        out / "x.jsonl",
        "--csv",
        out / "x.csv",
        "--pictures",
        out,
    )
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "knee\\udcff.png  Right knee: 10 y 0 m" in result.stdout
    (record,) = lines(out / "x.jsonl")
    assert Path(record["file"]).read_bytes() == (films / "a.png").read_bytes()
    assert "knee\\udcff.png" in (out / "x.csv").read_text()
    assert "knee\\udcff.png" in (out / "report.html").read_text()


def test_answers_for_people_come_film_by_film(films, monkeypatch, capsys):
    told = []

    class Listening(FakeEstimator):
        def estimate(self, film, crops=None):
            told.append(capsys.readouterr().out.count("\n"))
            return super().estimate(film, crops)

    monkeypatch.setattr(job, "load_estimator", lambda bundle, device: Listening())
    with pytest.raises(SystemExit):
        app(["estimate", str(films)])
    assert told == [0, 1, 1]


def test_a_film_on_which_the_networks_fail_gets_its_object_and_the_others_are_done(
    films, tmp_path, monkeypatch
):
    class Fails(FakeEstimator):
        def estimate(self, film, crops=None):
            if film.path.endswith("b.png"):
                raise RuntimeError("out of memory\nwith a long story")
            return super().estimate(film, crops)

    monkeypatch.setattr(job, "load_estimator", lambda bundle, device: Fails())
    out = tmp_path / "out"
    assert run("estimate", films, "--json", out / "x.jsonl", "--pictures", out).exit_code == 1
    found = lines(out / "x.jsonl")
    assert [one["status"] for one in found] == ["ok", "error", "refused"]
    assert found[1]["reason"] == "could not be worked on (RuntimeError: out of memory)"
    assert (out / "report.html").read_text().count('<img class="film"') == 2


def test_a_disk_that_is_full_ends_the_run_with_a_word(films, tmp_path, monkeypatch):
    def full(self, target):
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "replace", full)
    result = run("estimate", films, "--json", tmp_path / "x.jsonl", "--pictures", tmp_path / "out")
    assert result.exit_code == 2
    assert "cannot be written (No space left on device); what was finished before is there" in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--json", "{out}/x", "--csv", "{out}/x"), "named for two results"),
        (("--json", "{out}/report.html", "--pictures", "{out}"), "named for two results"),
        (("--csv", "{out}"), "is a folder"),
        (("--pictures", "{out}/file"), "is a file"),
    ],
)
def test_results_that_cannot_be_kept_are_refused_before_the_networks_are_loaded(
    films, tmp_path, monkeypatch, arguments, word
):
    monkeypatch.setattr(job, "load_estimator", lambda bundle, device: pytest.fail("loaded"))
    (tmp_path / "file").write_text("mine")
    result = run("estimate", films, *(argument.format(out=tmp_path) for argument in arguments))
    assert result.exit_code == 2
    assert word in result.stderr
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--sex", "X"),
        ("--age-months", "241"),
        ("--age-months", "-1"),
        ("--crop", "1,2,3"),
        ("--crop", "10,10,10,40"),
        ("--crop", "500,500,600,600"),
        ("--device", "abacus"),
        ("--nonsense",),
    ],
)
def test_usage_errors_leave_with_two(films, arguments):
    assert run("estimate", films / "a.png", *arguments).exit_code == 2


def test_a_crop_for_several_films_or_an_empty_folder_is_a_usage_error(films, tmp_path):
    assert run("estimate", films, "--crop", "0,0,50,50").exit_code == 2
    (tmp_path / "empty").mkdir()
    result = run("estimate", tmp_path / "empty")
    assert result.exit_code == 2
    assert "no films in" in result.stderr
    assert ".dcm" in result.stderr


def test_a_film_is_never_overwritten_by_the_results(films):
    before = (films / "a.png").read_bytes()
    assert run("estimate", films, "--json", films / "a.png").exit_code == 2
    assert run("estimate", films, "--csv", films / "a.png").exit_code == 2
    assert (films / "a.png").read_bytes() == before


def test_a_bundle_that_is_refused_is_said_and_leaves_with_two(films, monkeypatch):
    def refuse(bundle, device):
        raise BundleError("tiny: damaged, copy it again")

    monkeypatch.setattr(job, "load_estimator", refuse)
    result = run("estimate", films)
    assert result.exit_code == 2
    assert "damaged, copy it again" in result.stderr


def test_a_crop_of_a_person_is_used_as_it_is(films):
    result = run("estimate", films / "a.png", "--crop", "10,20,60,70", "--json", "-")
    record = json.loads(result.stdout)
    assert (record["box_px"], record["crop_origin"]) == ([10.0, 20.0, 60.0, 70.0], "person")


def test_pictures_and_the_page_are_left_and_not_taken_for_films_later(films):
    assert run("estimate", films, "--pictures", films).exit_code == 0
    names = {path.name for path in films.iterdir()}
    assert {"a_overlay.png", "a_knee1.png", "blank_overlay.png", "report.html"} <= names
    assert "blank_knee1.png" not in names
    assert (films / "report.html").read_text().count("<section>") == 3
    assert [path.name for path in folder.film_paths([films])] == ["a.png", "b.png", "blank.png"]


def test_films_of_the_same_name_keep_their_own_pictures(films, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.png").write_bytes((films / "a.png").read_bytes())
    run("estimate", films / "a.png", other / "a.png", "--pictures", tmp_path / "out")
    assert {"a_overlay.png", "a-2_overlay.png"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_no_name_of_a_film_is_too_long_or_too_like_another_for_its_pictures(films, tmp_path):
    picture = (films / "a.png").read_bytes()
    for name in ("A.png", "a-2.png", "k" * 250 + ".png", "ü" * 120 + ".png"):
        (films / name).write_bytes(picture)
    out = tmp_path / "out"
    result = run("estimate", films, "--pictures", out)
    assert result.exit_code == 0, result.stderr
    names = {path.name.casefold() for path in out.glob("*_overlay.png")}
    assert len(names) == len(list(films.iterdir()))


def test_what_was_finished_is_valid_when_the_run_is_stopped(films, tmp_path, monkeypatch):
    class Stopped(FakeEstimator):
        def estimate(self, film, crops=None):
            if film.path.endswith("b.png"):
                raise KeyboardInterrupt
            return super().estimate(film, crops)

    monkeypatch.setattr(job, "load_estimator", lambda bundle, device: Stopped())
    out = tmp_path / "out"
    result = run("estimate", films, "--json", out / "x.jsonl", "--csv", out / "x.csv", "--pictures", out)
    assert result.exit_code == 130
    assert [Path(one["file"]).name for one in lines(out / "x.jsonl")] == ["a.png"]
    assert len(list(csv.DictReader((out / "x.csv").open()))) == 1
    assert (out / "report.html").read_text().rstrip().endswith("</html>")
    assert "Stopped. 1 of 3 films" in result.stderr
    readers = [thread for thread in threading.enumerate() if thread.name == "film reader"]
    for thread in readers:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in readers)


def test_crop_leaves_patches_and_squares(films, tmp_path):
    result = run("crop", films, "--out", tmp_path / "out", "--size", 64, "--json", "-")
    assert result.exit_code == 0, result.stderr
    assert [json.loads(line)["bone_age_months"] for line in result.stdout.splitlines()] == [None] * 3
    assert Image.open(tmp_path / "out" / "a_knee1_crop.png").size == (64, 64)
    assert (tmp_path / "out" / "blank_overlay.png").exists()
    assert folder.film_paths([tmp_path / "out"]) == []
    said = run("crop", films, "--out", tmp_path / "out").stdout
    assert said.count("Right knee: crop only, [30, 20, 90, 80] px, confidence 0.90\n") == 2


def test_an_uncertain_crop_is_told_in_its_line_and_once_in_the_end(films, tmp_path, monkeypatch):
    sure = run("estimate", films / "a.png", "--json", tmp_path / "sure.jsonl")
    assert "crop is uncertain" not in sure.output
    monkeypatch.setattr(sys.modules[__name__], "CROP", dataclasses.replace(CROP, confidence=0.7))
    for command in ("estimate", "crop"):
        out = ["--out", tmp_path / "out"] if command == "crop" else []
        told = run(command, films / "a.png", films / "b.png", *out, "--json", tmp_path / "out.jsonl")
        assert told.exit_code == 0, told.output
        assert told.stdout.count("; the crop is uncertain, look at it\n") == 2
        assert told.stderr.count("The crop is uncertain on 2 knees") == 1
        assert [(one["status"], one["crop_uncertain"]) for one in lines(tmp_path / "out.jsonl")] == [
            ("ok", True)
        ] * 2
    given = run("estimate", films / "a.png", "--crop", "30,20,90,80", "--json", tmp_path / "out.jsonl")
    assert "crop is uncertain" not in given.output


def test_the_bundle_says_what_it_is_in_the_end_of_a_run_and_on_its_page(films, tmp_path):
    result = run("estimate", films / "a.png", "--pictures", tmp_path / "out")
    assert "never seen a real child Research use only" in result.stderr
    assert "never seen a real child Research use only" in (tmp_path / "out" / "report.html").read_text()


def test_explain_lays_the_map_over_the_film_with_the_method_asked_for(films, tmp_path, monkeypatch):
    asked = []

    def explain(estimator, film, crop, method):
        asked.append(method)
        return film.pixels

    monkeypatch.setattr(job, "explain_knee", explain)
    result = run("explain", films / "a.png", "--out", tmp_path / "out", "--method", "integrated-gradients")
    assert result.exit_code == 0, result.stderr
    assert asked == ["integrated-gradients"]
    over = np.asarray(Image.open(tmp_path / "out" / "a_knee1_film.png"), int)
    plain = np.asarray(Image.open(tmp_path / "out" / "a_overlay.png"), int)
    assert abs(over - plain).max() > 50


def test_a_walk_takes_films_by_suffix_or_content_and_leaves_the_rest(tmp_path):
    dicom = b"\0" * 128 + b"DICM" + b"\0" * 100
    contents = {
        "a.dcm": b"",
        "IM0001": dicom,
        "1.2.840.99": dicom,
        "volume.nii.gz": b"x",
        "sub/c.TIF": b"x",
        "cohort.csv": b"file\n",
        "notes.txt": b"x",
        "result.jsonl": b"{}",
        "README": b"text",
        "DICOMDIR": dicom,
        ".hidden.dcm": dicom,
        ".git/x.dcm": dicom,
        "masks/a.png": b"x",
        "a_mask.png": b"x",
        "archive.tar.gz": b"x",
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    names = [path.relative_to(tmp_path).as_posix() for path in folder.film_paths([tmp_path])]
    assert names == ["1.2.840.99", "IM0001", "a.dcm", "volume.nii.gz", "sub/c.TIF"]
    named = tmp_path / "notes.txt"
    assert folder.film_paths([named, tmp_path, named])[0] == named
    assert len(folder.film_paths([named, tmp_path, named])) == 6


def test_films_are_read_ahead_in_order_but_never_more_than_a_few():
    read, done, ahead = [], [], []

    def reader(path):
        read.append(path)
        return path

    for path, film in folder.read_ahead([Path(str(number)) for number in range(40)], reader, ahead=2):
        threading.Event().wait(0.005)
        ahead.append(len(read) - len(done) - 1)
        done.append(path)
        assert film == path
    assert done == [Path(str(number)) for number in range(40)]
    assert max(ahead) == 2


def test_an_unforeseen_failure_of_one_file_does_not_end_the_run():
    def reader(path):
        if path.name == "1":
            raise ZeroDivisionError("of all things")
        return path

    found = [film for _, film in folder.read_ahead([Path("0"), Path("1"), Path("2")], reader)]
    assert isinstance(found[1], FilmError)
    assert "ZeroDivisionError: of all things" in found[1].reason
    assert found[2] == Path("2")


def test_bundle_verify_says_what_is_wrong_and_leaves_with_one(tmp_path):
    result = run("bundle", "verify", tmp_path)
    assert result.exit_code == 1
    assert "not a bundle" in " ".join(result.stderr.split())


def test_the_phantom_command_hands_its_options_on(tmp_path, monkeypatch):
    asked = []

    def write_cohort(out, knees, seed, format, progress, others):
        progress(knees, knees)
        asked.append((out, knees, seed, format, others))

    monkeypatch.setitem(
        sys.modules, "KneeBoneAgeLib.phantom.cohort", SimpleNamespace(write_cohort=write_cohort)
    )
    assert run("phantom", tmp_path, "--knees", 3, "--seed", 7, "--format", "png").exit_code == 0
    assert asked == [(tmp_path, 3, 7, "png", 0)]
    assert run("phantom", tmp_path, "--knees", 0, "--seed", 7).exit_code == 2


def earlier_cohort(out, header="file,patient_id,knee_index,side"):
    (out / "films").mkdir(parents=True)
    (out / "films" / "00007.dcm").write_bytes(b"old")
    (out / "films" / "notes.txt").write_bytes(b"a person's")
    (out / "cohort.csv").write_text(header + "\n")
    (out / "hands.csv").write_text("file\n")


def test_a_cohort_drawn_over_another_leaves_nothing_of_it_but_what_people_put_there(tmp_path, monkeypatch):
    earlier_cohort(tmp_path)
    seen = []

    def write_cohort(out, *_):
        seen.append(sorted(path.name for path in out.rglob("*") if path.is_file()))

    monkeypatch.setitem(
        sys.modules, "KneeBoneAgeLib.phantom.cohort", SimpleNamespace(write_cohort=write_cohort)
    )
    assert run("phantom", tmp_path, "--knees", 3, "--seed", 7).exit_code == 0
    assert seen == [[".drawing", "notes.txt"]]
    assert not (tmp_path / ".drawing").exists()


def test_films_of_a_person_are_never_taken_for_an_earlier_cohort(tmp_path):
    earlier_cohort(tmp_path, header="my,own,table")
    result = run("phantom", tmp_path, "--knees", 3, "--seed", 7)
    assert result.exit_code == 2
    assert "00007.dcm: stands where the cohort would be written" in result.stderr
    assert (tmp_path / "films" / "00007.dcm").read_bytes() == b"old"
    assert (tmp_path / "cohort.csv").exists()


def test_a_stopped_cohort_has_no_table_and_is_drawn_anew_by_the_same_line(tmp_path, monkeypatch):
    earlier_cohort(tmp_path)
    calls = []

    def write_cohort(out, *_):
        calls.append(sorted(path.name for path in (out / "films").glob("*.dcm")))
        (out / "films" / "00000.dcm").write_bytes(b"new")
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setitem(
        sys.modules, "KneeBoneAgeLib.phantom.cohort", SimpleNamespace(write_cohort=write_cohort)
    )
    stopped = run("phantom", tmp_path, "--knees", 3, "--seed", 7)
    assert stopped.exit_code == 130
    assert "draws it anew" in stopped.stderr
    assert not (tmp_path / "cohort.csv").exists()
    assert run("phantom", tmp_path, "--knees", 3, "--seed", 7).exit_code == 0
    assert calls == [[], []]


def test_help_and_usage_errors_import_nothing_heavy():
    library = Path(folder.__file__).parents[1]
    code = (
        "import sys; sys.argv = ['kneeboneage', '--help']\n"
        "try:\n"
        "    from KneeBoneAgeLib.cli import main; main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'timm', 'pydicom', 'skimage', 'scipy', 'PIL', 'SimpleITK', 'pydantic'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=library, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "heavy: []"
