"""A running child process of the service for the tests that ask one, films for it, and an empty scene."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from KneeBoneAgeLib import process_tree
from KneeBoneAgeLib.bundle import default_bundle_path

sys.path.insert(0, str(Path(__file__).parent))  # for what test files of one topic share

LIBRARY = Path(__file__).parents[2]

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


@pytest.fixture(scope="session")
def bundle_is_there():
    if not (default_bundle_path() / "bundle.json").is_file():
        pytest.skip("the default bundle is not there: make bundle")


@pytest.fixture(scope="session")
def child(bundle_is_there, tmp_path_factory):
    child = Child(tmp_path_factory.mktemp("service"))
    yield child
    child.close()


@pytest.fixture
def other_child(bundle_is_there, tmp_path):
    made = []

    def make(**environment):
        made.append(Child(tmp_path, **environment))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def samples(child, tmp_path_factory):
    """The three sample children as files."""
    folder = str(tmp_path_factory.mktemp("samples"))
    return {
        name: child.done("sample", name=name, folder=folder)["file"]
        for name in ("toddler", "school age", "adolescent")
    }


@pytest.fixture
def in_slicer():
    """A film as a request names it, with Slicer's volume of it in a folder."""
    return _in_slicer


def _in_slicer(file, folder):
    """The film as Slicer's volume has it: a MONOCHROME1 picture with inverted voxels."""
    import pydicom

    dataset = pydicom.dcmread(file)
    values = dataset.pixel_array.astype(np.int32)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = 2**dataset.BitsStored - 1 - values
    path = Path(folder) / "volume.npy"
    np.save(path, values)
    return {"file": file, "name": "film", "pixels": str(path), "typed": []}


@pytest.fixture
def mrml(tmp_path):
    """An empty scene with what the application gives one."""
    from scene_films import new_scene

    return new_scene(tmp_path)
