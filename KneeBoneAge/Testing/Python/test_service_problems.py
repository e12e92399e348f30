"""What the child process says where something is wrong: packages, memory, devices, films and crops."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from KneeBoneAgeLib.problems import KINDS, problem_of
from KneeBoneAgeLib.service import Service, serve

HEAVY = (
    "torch,torchvision,timm,captum,PIL,pillow,pydantic,pydicom,pylibjpeg,pylibjpeg_libjpeg,pylibjpeg_openjpeg,"
    "pylibjpeg_rle,safetensors,scipy,segmentation_models_pytorch,SimpleITK,numpy,typer,rich,skimage,slicer,vtk"
)


def test_check_answers_where_nothing_is_installed(other_child):
    child = other_child(BLOCKED=HEAVY)
    found = child.done("check")
    assert not found["ready"]
    assert {package["state"] for package in found["packages"]} == {"missing"}
    assert found["devices"] == ["cpu"]
    assert found["line"].startswith("Not installed: torch")
    assert child.log == ""


def test_a_film_is_read_without_torch_and_the_estimate_says_what_is_missing(other_child, samples):
    child = other_child(BLOCKED="torch,torchvision,timm,captum,segmentation_models_pytorch")
    assert child.done("read", film={"file": samples["toddler"]})["sex"] == "F"
    assert Path(child.done("sample", name="toddler", folder=str(child.folder))["file"]).is_file()
    error = child.error("missing", "estimate", film={"file": samples["toddler"]}, device="cpu")
    assert error["message"] == "PyTorch is not installed."
    assert "Install" in error["way_out"]


def test_a_missing_package_beside_torch_is_named(other_child, samples):
    child = other_child(BLOCKED="segmentation_models_pytorch")
    error = child.error("missing", "estimate", film={"file": samples["toddler"]}, device="cpu")
    assert "segmentation" in error["message"]


def test_a_torch_that_is_too_old_is_not_even_loaded(other_child, samples):
    child = other_child(VERSIONS="torch=1.13.1+cu117")
    error = child.error("old", "estimate", film={"file": samples["toddler"]}, device="cpu")
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


def test_a_device_that_is_not_there_is_said(child, samples):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a graphics card")
    error = child.error("usage", "find", film={"file": samples["toddler"]}, device="cuda")
    assert "Choose CPU" in error["way_out"]


def test_a_ct_is_no_film_even_when_its_voxels_are_at_hand(child, samples, tmp_path, in_slicer):
    import pydicom

    dataset = pydicom.dcmread(samples["toddler"])
    dataset.Modality = "CT"
    dataset.save_as(tmp_path / "ct.dcm")
    wanted = {**in_slicer(samples["toddler"], tmp_path), "file": str(tmp_path / "ct.dcm")}
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


def test_a_square_off_the_film_is_said_and_spoils_no_other_knee(child, samples):
    film = {"file": samples["toddler"]}
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
