"""The child process: its lines, its answers and every kind of error, asked of a real process."""

import io
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from KneeBoneAgeLib import bundle_store, chosen_film, process_tree
from KneeBoneAgeLib.bundle import default_bundle_path
from KneeBoneAgeLib.errors import BundleError
from KneeBoneAgeLib.problems import KINDS, Problem, problem_of
from KneeBoneAgeLib.service import Service, appended_lines, serve

LIBRARY = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    not (default_bundle_path() / "bundle.json").is_file(),
    reason="the default bundle is not there: make bundle",
)

BLOCKER = """
import importlib.metadata, os, sys
blocked = set(filter(None, os.environ.get("BLOCKED", "").split(",")))
versions = dict(item.split("=") for item in filter(None, os.environ.get("VERSIONS", "").split(",")))
true_version = importlib.metadata.version
def version(name):
    if name in blocked or "-" in name and name.replace("-", "_") in blocked:
        raise importlib.metadata.PackageNotFoundError(name)
    return versions.get(name) or true_version(name)
importlib.metadata.version = version
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Finder())
"""
"""As ``sitecustomize`` of a child: what stands in BLOCKED is not installed, what stands in VERSIONS is another one."""

HEAVY = (
    "torch,torchvision,timm,captum,PIL,pillow,pydantic,pydicom,pylibjpeg,pylibjpeg_libjpeg,pylibjpeg_openjpeg,"
    "pylibjpeg_rle,safetensors,scipy,segmentation_models_pytorch,SimpleITK,numpy,typer,rich,skimage,slicer,vtk"
)


class Child:
    """A running service."""

    def __init__(self, folder, **environment):
        paths = [str(LIBRARY)]
        if environment:
            (folder / "sitecustomize.py").write_text(BLOCKER)
            paths.insert(0, str(folder))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "KneeBoneAgeLib.service"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "log").open("w"),
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", **environment},
        )
        self.folder = folder
        self.said = []

    def line(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        self.said = []
        while True:
            answer = json.loads(self.process.stdout.readline())
            if "done" in answer or "error" in answer:
                return answer
            self.said += [answer["progress"]] if "progress" in answer else []

    def ask(self, do, **request):
        answer = self.line(json.dumps({"id": 7, "do": do, **request}))
        assert answer["id"] == 7
        return answer

    def done(self, do, **request):
        answer = self.ask(do, **request)
        assert "done" in answer, answer
        return answer["done"]

    def error(self, kind, do, **request):
        answer = self.ask(do, **request)
        assert "error" in answer, answer
        error = answer["error"]
        assert error["kind"] == kind, error
        assert error["message"]
        assert error["way_out"]
        assert "Traceback" not in self.log
        return error

    @property
    def log(self):
        return (self.folder / "log").read_text()

    def close(self):
        if self.process.poll() is None:
            process_tree.end(self.process.pid)
        self.process.wait(10)


@pytest.fixture(scope="module")
def child(tmp_path_factory):
    child = Child(tmp_path_factory.mktemp("service"))
    yield child
    child.close()


@pytest.fixture
def other_child(tmp_path):
    made = []

    def make(**environment):
        made.append(Child(tmp_path, **environment))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def films(child, tmp_path_factory):
    """The three sample children as files."""
    folder = str(tmp_path_factory.mktemp("samples"))
    return {
        name: child.done("sample", name=name, folder=folder)["file"]
        for name in ("toddler", "school age", "adolescent")
    }


def stored_values(file):
    import pydicom

    return pydicom.dcmread(file).pixel_array


def in_slicer(file, folder):
    """The film as Slicer's volume has it: a MONOCHROME1 picture with inverted voxels."""
    import pydicom

    dataset = pydicom.dcmread(file)
    values = dataset.pixel_array.astype(np.int32)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = 2**dataset.BitsStored - 1 - values
    path = Path(folder) / "volume.npy"
    np.save(path, values)
    return {"file": file, "name": "film", "pixels": str(path), "typed": []}


def array_only(file, folder):
    return {**in_slicer(file, folder), "file": None}


# --- the lines ----------------------------------------------------------------------------------------------


def test_a_malformed_line_is_answered_and_the_service_lives_on(child):
    assert child.line("this is no JSON")["error"]["kind"] == "usage"
    assert child.line("[1, 2]")["error"]["kind"] == "usage"
    assert child.error("usage", "dance")["message"] == "unknown request 'dance'"
    child.error("usage", "read")
    child.error("usage", "sample", name="grown-up", folder="/tmp")
    assert child.done("check")["ready"]


def test_quit_and_the_end_of_the_input_end_the_process(other_child):
    child = other_child()
    assert child.done("quit") == {}
    assert child.process.wait(10) == 0
    child = other_child()
    child.process.stdin.close()
    assert child.process.wait(10) == 0


def test_what_libraries_print_never_reaches_the_answers():
    code = """
import os
from KneeBoneAgeLib import service
ours = service.own_stdout()
print("python")
os.write(1, b"native\\n")
ours.write("ours\\n")
ours.flush()
"""
    paths = {**os.environ, "PYTHONPATH": str(LIBRARY)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=paths)
    assert ran.stdout == "ours\n"
    assert set(ran.stderr.split()) == {"python", "native"}


def test_an_unexpected_failure_is_a_bug_with_its_traceback_in_the_log(capsys):
    service = Service()
    service.actions["sample"] = lambda request, say: 1 / 0
    out = io.StringIO()
    serve(['{"id": 1, "do": "sample"}\n', '{"id": 2, "do": "quit"}\n'], out, service)
    heard, first, _heard_too, last = map(json.loads, out.getvalue().splitlines())
    assert heard == {"id": 1, "got": True}
    assert first["error"]["kind"] == "bug"
    assert last == {"id": 2, "done": {}}
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_requests_can_come_from_a_file_where_the_standard_input_is_not_handed_on(tmp_path):
    requests = tmp_path / "requests.jsonl"
    requests.write_bytes(b"")
    process = subprocess.Popen(
        [sys.executable, "-m", "KneeBoneAgeLib.service", "--requests", str(requests)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(LIBRARY)},
    )
    try:
        with requests.open("a") as stream:
            stream.write('{"id": 1, "do": "da')
            stream.flush()
            time.sleep(0.1)
            stream.write('nce"}\n')
        assert json.loads(process.stdout.readline()) == {"id": 1, "got": True}
        assert json.loads(process.stdout.readline())["error"]["kind"] == "usage"
        requests.unlink()
        assert process.wait(20) == 0
    finally:
        process.kill()


def test_a_process_that_nobody_asks_for_long_leaves(tmp_path):
    requests = tmp_path / "requests.jsonl"
    requests.write_text('{"id": 1}\n')
    began = time.monotonic()
    assert list(appended_lines(requests, idle_s=0.3)) == ['{"id": 1}']
    assert 0.25 < time.monotonic() - began < 5


def test_a_sentence_comes_with_its_values_apart(child):
    error = child.error("usage", "dance")
    assert error["told"]["message"] == "unknown request {request}"
    assert error["told"]["values"]["request"] == "'dance'"
    again = Problem.from_json(error)
    assert (again.kind, again.message, again.way_out) == ("usage", error["message"], error["way_out"])


# --- installation -------------------------------------------------------------------------------------------


def test_check_answers_where_nothing_is_installed(other_child):
    child = other_child(BLOCKED=HEAVY)
    found = child.done("check")
    assert not found["ready"]
    assert {package["state"] for package in found["packages"]} == {"missing"}
    assert found["devices"] == ["cpu"]
    assert found["line"].startswith("Not installed: torch")
    assert child.log == ""


def test_a_film_is_read_without_torch_and_the_estimate_says_what_is_missing(other_child, films):
    child = other_child(BLOCKED="torch,torchvision,timm,captum,segmentation_models_pytorch")
    assert child.done("read", film={"file": films["toddler"]})["sex"] == "F"
    assert Path(child.done("sample", name="toddler", folder=str(child.folder))["file"]).is_file()
    error = child.error("missing", "estimate", film={"file": films["toddler"]}, device="cpu")
    assert error["message"] == "PyTorch is not installed."
    assert "Install" in error["way_out"]


def test_a_missing_package_beside_torch_is_named(other_child, films):
    child = other_child(BLOCKED="segmentation_models_pytorch")
    error = child.error("missing", "estimate", film={"file": films["toddler"]}, device="cpu")
    assert "segmentation" in error["message"]


def test_a_torch_that_is_too_old_is_not_even_loaded(other_child, films):
    child = other_child(VERSIONS="torch=1.13.1+cu117")
    error = child.error("old", "estimate", film={"file": films["toddler"]}, device="cpu")
    assert "1.13.1" in error["message"]
    assert "2.2" in error["message"]
    assert "torch 1.13.1+cu117 (needs 2.2)" in child.done("check")["line"].lower()


@pytest.mark.parametrize(
    ("error", "way_out"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "Choose CPU"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"), "Choose CPU"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            "Close other programs",
        ),
        (MemoryError(), "Close other programs"),
    ],
)
def test_too_little_memory_is_said_with_the_way_out_and_the_model_is_let_go(error, way_out):
    def fail(request, say):
        service._estimator = "a model"
        raise error

    service = Service()
    service.actions["estimate"] = fail
    out = io.StringIO()
    serve(['{"id": 1, "do": "estimate"}'], out, service)
    said = json.loads(out.getvalue().splitlines()[-1])["error"]
    assert said["kind"] == "memory"
    assert way_out in said["way_out"]
    assert service._estimator is None


def test_torchs_own_memory_error_is_understood():
    torch = pytest.importorskip("torch")
    assert problem_of(torch.OutOfMemoryError("CUDA out of memory")).kind == "memory"
    assert problem_of(ImportError("libcudart.so.12: cannot open shared object file")).kind == "missing"
    assert problem_of(OSError("[WinError 126] Error loading c10.dll: a DLL is missing")).kind == "missing"
    assert all(problem_of(kind()).kind in KINDS for kind in (ValueError, KeyError, OSError, RuntimeError))


def test_a_device_that_is_not_there_is_said(child, films):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a graphics card")
    error = child.error("usage", "find", film={"file": films["toddler"]}, device="cuda")
    assert "Choose CPU" in error["way_out"]


# --- bad films and crops ------------------------------------------------------------------------------------


def test_a_ct_is_no_film_even_when_its_voxels_are_at_hand(child, films, tmp_path):
    import pydicom

    dataset = pydicom.dcmread(films["toddler"])
    dataset.Modality = "CT"
    dataset.save_as(tmp_path / "ct.dcm")
    wanted = {**in_slicer(films["toddler"], tmp_path), "file": str(tmp_path / "ct.dcm")}
    for film in (wanted, {"file": wanted["file"]}):
        assert (
            "no radiograph: modality CT"
            in child.error("film", "estimate", film=film, device="cpu")["message"]
        )


def test_a_photograph_a_colour_array_and_rubbish_are_no_films(child, tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (90, 80, 3)).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "photograph.jpg")
    np.save(tmp_path / "colours.npy", colours)
    (tmp_path / "rubbish.dcm").write_bytes(b"rubbish")
    for film in (
        {"file": "photograph.jpg"},
        {"pixels": "colours.npy"},
        {"file": "rubbish.dcm"},
        {"file": "gone.dcm"},
    ):
        film = {key: str(tmp_path / name) for key, name in film.items()}
        error = child.error("film", "estimate", film=film, device="cpu")
        assert str(tmp_path) not in error["message"]
        assert "knee radiograph" in error["way_out"]


def test_a_blank_film_and_one_without_a_knee_say_why_nothing_was_found(child, tmp_path):
    np.save(tmp_path / "blank.npy", np.full((300, 200), 500, np.int16))
    found = child.done("find", film={"pixels": str(tmp_path / "blank.npy")}, device="cpu")
    assert (found["knees"], "blank film" in found["reason"]) == ([], True)
    gradient = np.add.outer(np.arange(300), np.arange(200)).astype(np.int16)
    np.save(tmp_path / "gradient.npy", gradient)
    found = child.done("estimate", film={"pixels": str(tmp_path / "gradient.npy")}, device="cpu")
    assert found["knees"] == []
    assert (found["records"][0]["status"], found["records"][0]["refusal_kind"]) == ("refused", "no knee")


def test_a_square_off_the_film_is_said_and_spoils_no_other_knee(child, films):
    film = {"file": films["toddler"]}
    (knee,) = child.done("find", film=film, device="cpu")["knees"]
    away = {**knee, "centre_px": [-5000.0, 40.0]}
    error = child.error("crop", "estimate", film=film, crops=[away], device="cpu")
    assert error["message"] == "The square lies outside of the film."
    assert "Drag it onto the knee" in error["way_out"]
    child.error("crop", "explain", film=film, crop=away, device="cpu")
    first, second = child.done("estimate", film=film, crops=[away, knee], device="cpu")["records"]
    assert (first["status"], first["refusal_kind"], second["status"]) == ("refused", "crop", "ok")
    assert "distribution" in first
    child.error("crop", "estimate", film=film, crops=[{**knee, "side_px": 0.0}], device="cpu")
    child.error("usage", "estimate", film=film, crops=[{"side_px": 4}], device="cpu")
    child.error("usage", "explain", film=film, device="cpu")


# --- bundles ------------------------------------------------------------------------------------------------


def packed(folder, path, root=""):
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"{root}{file.name}")
    return path


def test_the_cards_name_the_default_bundle_and_a_damaged_one(child, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "bundle.json").write_text("{}")
    first, second = child.done("bundles", folder=str(tmp_path))["bundles"]
    assert first["is_default"]
    assert "never seen a real child" in first["first_line"]
    assert len(first["sha256"]) == 64
    assert first["metrics"]
    assert "format version" in second["error"]


def test_a_folder_that_is_no_bundle_is_said(child, films, tmp_path):
    error = child.error("bundle", "bundle", path=str(tmp_path))
    assert "not a bundle" in error["message"]
    child.error("bundle", "estimate", film={"file": films["toddler"]}, bundle=str(tmp_path), device="cpu")


def test_a_bundle_is_installed_from_a_zip_file_and_from_a_folder(child, films, tmp_path):
    source = packed(default_bundle_path(), tmp_path / "bundle.zip", "some/folder/")
    card = child.done("install_bundle", file=str(source), into=str(tmp_path / "bundles"))
    assert Path(card["path"]).parent == tmp_path / "bundles"
    assert not card["is_default"]
    again = child.done("install_bundle", folder=str(default_bundle_path()), into=str(tmp_path / "bundles"))
    assert again["path"] == card["path"]
    assert [entry.name for entry in (tmp_path / "bundles").iterdir()] == [Path(card["path"]).name]
    film = {"file": films["toddler"]}
    records = child.done("estimate", film=film, bundle=card["path"], device="cpu")["records"]
    assert records[0]["bundle_sha256"] == card["sha256"]


def test_a_zip_file_cannot_write_outside_of_its_place(tmp_path):
    into = tmp_path / "bundles"
    for name in ("../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:evil.txt"):
        bad = tmp_path / "bad.zip"
        packed(default_bundle_path(), bad)
        with zipfile.ZipFile(bad, "a") as archive:
            archive.writestr(name, "evil")
        with pytest.raises(BundleError, match="outside of itself"):
            bundle_store.install(bad, into)
    link = zipfile.ZipInfo("fold-9.safetensors")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(packed(default_bundle_path(), tmp_path / "bad.zip"), "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(BundleError, match="outside of itself"):
        bundle_store.install(tmp_path / "bad.zip", into)
    assert not list(tmp_path.rglob("evil*"))
    assert list(into.iterdir()) == []


def test_a_damaged_bundle_leaves_nothing_behind(tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in default_bundle_path().iterdir():
        content = file.read_bytes()
        (folder / file.name).write_bytes(content[:-1] + b"x" if file.name == "gate.safetensors" else content)
    for source in (folder, packed(folder, tmp_path / "copy.zip")):
        with pytest.raises(BundleError, match="SHA-256") as caught:
            bundle_store.install(source, tmp_path / "bundles")
        assert str(source) in str(caught.value)
    for content in (b"no zip", zipfile_of_nothing()):
        (tmp_path / "odd.zip").write_bytes(content)
        with pytest.raises(BundleError, match=r"not a zip file|holds 0 bundles"):
            bundle_store.install(tmp_path / "odd.zip", tmp_path / "bundles")
    assert list((tmp_path / "bundles").iterdir()) == []


def zipfile_of_nothing():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    return stream.getvalue()


# --- the film of a request ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["toddler", "adolescent"])  # the second is MONOCHROME1
def test_the_file_is_used_where_it_shows_what_slicer_shows(child, films, tmp_path, name):
    by_file = child.done("read", film={"file": films[name]})
    both = child.done("read", film=in_slicer(films[name], tmp_path))
    assert both["used"] == "file"
    assert both["polarity"] == "normal"  # bone is bright in Slicer, whatever the file stores
    assert by_file["polarity"] == ("inverted" if name == "adolescent" else "normal")
    assert {**both, "polarity": None} == {**by_file, "polarity": None}
    alone = child.done("read", film=array_only(films[name], tmp_path))
    assert (alone["used"], alone["polarity"], alone["sex"]) == ("array", "normal", None)


@pytest.mark.parametrize("name", ["toddler", "adolescent"])
def test_module_and_command_give_the_same_number_and_the_array_nearly_so(child, films, tmp_path, name):
    from KneeBoneAgeLib.estimator import Estimator
    from KneeBoneAgeLib.radiograph import read_film
    from KneeBoneAgeLib.report.records import Run, estimate_results

    estimator = Estimator.load(device="cpu")
    film = read_film(films[name])
    (expected,) = estimate_results(films[name], estimator.estimate(film), Run.of(estimator.bundle))
    (record,) = child.done("estimate", film=in_slicer(films[name], tmp_path), device="cpu")["records"]
    wanted = json.loads(expected.json_line())
    for key, value in wanted.items():  # the last digit of what was rounded may differ between processes
        numeric = isinstance(value, float) or (
            isinstance(value, list) and value and isinstance(value[0], float)
        )
        assert record[key] == (pytest.approx(value, abs=0.02) if numeric else value), key
    known = {"sex": film.sex, "age_months": film.age_months}
    (alone,) = child.done("estimate", film={**array_only(films[name], tmp_path), **known}, device="cpu")[
        "records"
    ]
    assert alone["bone_age_months"] == pytest.approx(record["bone_age_months"], abs=6)
    assert (alone["sex"], alone["sex_source"]) == (film.sex, "header")


def test_a_volume_that_was_changed_is_used_instead_of_its_file(child, films, tmp_path):
    wanted = in_slicer(films["toddler"], tmp_path)
    values = np.load(wanted["pixels"])
    np.save(wanted["pixels"], values[::-1])
    found = child.done("read", film=wanted)
    assert found["used"] == "array"
    assert any("another picture" in note for note in found["notes"])


def test_a_bent_grey_scale_is_the_same_picture_and_another_child_is_not():
    rng = np.random.default_rng(3)
    film = np.cumsum(rng.standard_normal((200, 150)), axis=1).astype(np.float32)
    film = (film - film.min()) / np.ptp(film)
    windowed = np.clip((film - 0.3) * 4, 0, 1)
    assert np.corrcoef(windowed.ravel(), film.ravel())[0, 1] < 0.95
    alike, sign = chosen_film.likeness(windowed, film * 4095)
    assert alike > chosen_film.EXPLAINED
    assert sign > 0
    assert chosen_film.likeness(windowed, 4095 - film * 4095)[1] < 0
    assert chosen_film.likeness(windowed, film[:, ::-1] * 4095)[0] < 0.9
    assert chosen_film.likeness(windowed, film[:-1])[0] == 0


def test_what_was_typed_wins_is_recorded_and_unknown_can_be_typed(child, films, tmp_path):
    film = {
        **in_slicer(films["toddler"], tmp_path),
        "sex": "M",
        "age_months": None,
        "spacing_mm": [0.3, 0.3],
        "typed": ["sex", "age_months", "spacing_mm"],
    }
    (record,) = child.done("estimate", film=film, device="cpu")["records"]
    assert (record["sex"], record["sex_source"], record["chronological_age_months"]) == ("M", "typed", None)
    assert (record["spacing_mm"], record["spacing_source"]) == ([0.3, 0.3], "typed")
    assert "sex typed as M, the file says F" in record["notes"]
    assert child.done("read", film=film)["sex"] == "F"
    error = child.error("usage", "estimate", film={**film, "sex": "Q"}, device="cpu")
    assert "sex must be F or M" in error["message"]


@pytest.mark.parametrize("name", ["toddler", "adolescent"])
def test_a_typed_polarity_is_about_what_slicer_shows(child, films, tmp_path, name):
    film = in_slicer(films[name], tmp_path)
    right = child.done("estimate", film={**film, "polarity": "normal", "typed": ["polarity"]}, device="cpu")
    plain = child.done("estimate", film=film, device="cpu")
    assert right["records"][0]["bone_age_months"] == plain["records"][0]["bone_age_months"]
    wrong = child.done(
        "estimate",
        film={**film, "polarity": "inverted", "typed": ["polarity"]},
        crops=plain["knees"],
        device="cpu",
    )
    assert wrong["records"][0]["polarity"] != plain["records"][0]["polarity"]
    assert wrong["records"][0]["distribution"] != plain["records"][0]["distribution"]


def test_an_inverted_volume_is_understood_and_turned_once(child, films, tmp_path):
    film = in_slicer(films["toddler"], tmp_path)
    values = np.load(film["pixels"])
    np.save(film["pixels"], values.max() - values)
    found = child.done("read", film=film)
    assert (found["used"], found["polarity"]) == ("file", "inverted")
    found = child.done("read", film={**film, "file": None})
    assert (found["used"], found["polarity"]) == ("array", "inverted")


# --- answers ------------------------------------------------------------------------------------------------


def test_an_estimate_finds_both_knees_and_gives_their_distributions(child, films, tmp_path):
    found = child.done("estimate", film={"file": films["school age"]}, device="cpu")
    assert [knee["side"] for knee in found["knees"]] == ["R", "L"]
    assert [knee["mirrored"] for knee in found["knees"]] == [False, True]
    assert all(knee["fibula_clear"] for knee in found["knees"])
    for record in found["records"]:
        assert sum(record["distribution"]["probabilities"]) == pytest.approx(1, abs=1e-3)
        assert record["distribution"]["months_to"] == 240
        assert len(record["fold_months"]) == 5
    again = child.done("estimate", film={"file": films["school age"]}, crops=found["knees"], device="cpu")
    assert [r["bone_age_months"] for r in again["records"]] == [
        r["bone_age_months"] for r in found["records"]
    ]
    assert child.said == ["Estimating…"]  # film and model are kept


def test_a_film_that_changed_on_disk_is_read_again(child, films, tmp_path):
    film = in_slicer(films["toddler"], tmp_path)
    child.done("read", film=film)
    child.done("read", film=film)
    assert child.said == []
    time.sleep(0.01)
    Path(film["pixels"]).touch()
    child.done("read", film=film)
    assert child.said == ["Reading the film…"]


def test_saliency_comes_as_a_map_of_the_film(child, films, tmp_path):
    film = {"file": films["toddler"]}
    found = child.done("find", film=film, device="cpu")
    for method in ("gradcam", "integrated-gradients"):
        answer = child.done(
            "explain", film=film, crop=found["knees"][0], method=method, device="cpu", folder=str(tmp_path)
        )
        values = np.load(answer["map"])
        assert values.shape == stored_values(films["toddler"]).shape
        assert values.dtype == np.float32
        assert (values.min(), values.max()) == (0, pytest.approx(1, abs=0.2))
    child.error("usage", "explain", film=film, crop=found["knees"][0], method="guess", device="cpu")


def test_the_samples_are_the_same_each_time_and_say_who_they_are(child, films, tmp_path):
    expected = {"toddler": ("F", 30, "L"), "school age": ("M", 102, None), "adolescent": ("F", 157, "R")}
    for name, facts in expected.items():
        again = Path(child.done("sample", name=name, folder=str(tmp_path))["file"])
        assert again.read_bytes() == Path(films[name]).read_bytes()
        read = child.done("read", film={"file": films[name]})
        assert (read["sex"], read["age_months"], read["side"]) == facts
        assert read["view"] == "frontal"


# --- many films ---------------------------------------------------------------------------------------------


def many(folder, **wanted):
    (folder / "list.json").write_text(json.dumps(wanted))
    return subprocess.Popen(
        [sys.executable, "-m", "KneeBoneAgeLib.service", "--films", str(folder / "list.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(LIBRARY), "OMP_NUM_THREADS": "1"},
    )


def test_many_films_come_one_line_each_and_a_bad_one_does_not_stop_them(films, tmp_path):
    bad = tmp_path / "bad.dcm"
    bad.write_bytes(b"rubbish")
    process = many(
        tmp_path,
        films=[films["toddler"], str(bad), {"file": films["adolescent"], "sex": "M", "age_months": 160}],
        device="cpu",
    )
    out, log = process.communicate(timeout=120)
    lines = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 0
    assert log == ""
    assert lines[0] == {"of": 3}
    assert lines[-1] == {"finished": True, "films": 3}
    first, second, third = (line for line in lines if "records" in line)
    assert [line["film"] for line in (first, second, third)] == [1, 2, 3]
    assert (first["records"][0]["status"], second["records"][0]["status"]) == ("ok", "error")
    assert third["records"][0]["sex_source"] == "typed"


@pytest.mark.parametrize(
    ("wanted", "kind"), [({"films": []}, "usage"), ({"films": ["/nowhere"]}, None), ({}, "usage")]
)
def test_a_list_without_films_says_so(tmp_path, wanted, kind):
    out, log = many(tmp_path, **wanted).communicate(timeout=120)
    lines = [json.loads(line) for line in out.splitlines()]
    if kind is None:  # a named file is tried, and its line says that it is not there
        assert "no such file" in lines[-2]["records"][0]["reason"]
    else:
        assert lines[-1]["error"]["kind"] == kind
    assert log == ""


def test_what_was_finished_before_a_cancel_is_whole(films, tmp_path):
    process = many(tmp_path, films=[str(Path(films["toddler"]).parent)] + [films["school age"]], device="cpu")
    lines = []
    while not any('"records"' in line for line in lines):
        lines.append(process.stdout.readline())
    process_tree.end(process.pid)
    assert process.wait(10) != 0
    for line in lines:
        json.loads(line)


# --- process tree -------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="taskkill does the same there")
def test_a_launcher_is_ended_with_the_child_that_it_started(tmp_path):
    grandchild = "import time; print('up', flush=True); time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    launcher = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout.readline() == "up\n"
    (inner,) = process_tree.descendants(launcher.pid)
    assert process_tree.is_alive(inner)
    threading.Thread(target=launcher.wait).start()
    process_tree.end(launcher.pid)
    launcher.wait(5)
    deadline = time.monotonic() + 5
    while process_tree.is_alive(inner) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not process_tree.is_alive(inner)
    process_tree.end(launcher.pid)  # one that is gone is no error


@pytest.mark.skipif(sys.platform == "win32", reason="there is no polite end on Windows")
def test_a_process_that_ignores_the_polite_end_is_killed():
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    process_tree.end(process.pid, grace_s=0.2)
    assert process.wait(5) == -9


@pytest.mark.parametrize("pid", [0, -1, os.getpid()])
def test_the_own_process_and_groups_are_left_alone(pid):
    with pytest.raises(ValueError, match="cannot be ended"):
        process_tree.end(pid)
