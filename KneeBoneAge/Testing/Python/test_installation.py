"""What is installed, said in one line, and the steps to the rest; and that the light files stay light."""

import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from KneeBoneAgeLib import installation
from KneeBoneAgeLib.installation import Installation, Package, look, plan, release, required
from KneeBoneAgeLib.problems import Problem

ROOT = Path(__file__).parents[3]
COMMAND_ONLY = {"typer", "rich"}
"""Needed by the command, which Slicer does not run."""


def names(*versions):
    """An installation of torch, timm and pydantic in these versions, None where one is missing."""
    least = (("torch", "2.2"), ("timm", "1.0"), ("pydantic", "2.6"))
    return Installation(
        tuple(Package(name, low, found) for (name, low), found in zip(least, versions, strict=True))
    )


def planned(installed, **options):
    return plan(
        installed,
        **{"pytorch_extension": True, "constraints_file": "c.txt", **options},
    )


@pytest.mark.parametrize(
    ("version", "numbers"),
    [
        ("2.10.0+cu128", (2, 10)),
        ("1.0", (1,)),
        ("2.5.0.dev20250101", (2, 5)),
        ("10", (10,)),
        ("0.17.1rc2", (0, 17, 1)),
        ("?", (0,)),
    ],
)
def test_versions_compare_by_their_numbers(version, numbers):
    assert release(version) == numbers


def test_a_version_with_more_digits_is_newer():
    assert [Package("torch", "2.2", found).state for found in ("2.10.0", "2.2", "2.1.9", None)] == [
        "present",
        "present",
        "old",
        "missing",
    ]


def test_the_requirements_are_those_of_the_project_without_what_slicer_owns():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    wanted = dict(item.split(">=") for item in project)
    listed = dict(required())
    owned = set(installation.NEVER_REPLACED)
    assert not owned & set(listed)
    unused = {"scikit-image"} & set(wanted)  # not imported by the library
    assert set(listed) == set(wanted) - owned - COMMAND_ONLY - unused | {"torchvision"}
    assert {name: listed[name] for name in listed if name in wanted} == {
        name: wanted[name] for name in listed if name in wanted
    }


def test_requirements_are_lower_bounds_only(tmp_path):
    assert all(least for _, least in required())
    for line in ("torch==2.2", "torch<3", "torch[cuda]>=2", "-r other.txt"):
        (tmp_path / "r.txt").write_text(line)
        with pytest.raises(ValueError, match="only 'name'"):
            required(tmp_path / "r.txt")


def test_everything_that_the_library_imports_is_listed_or_slicers_own():
    import ast

    listed = {name.lower().replace("-", "_") for name, _ in required()} | {
        "pil",
        "numpy",
        "simpleitk",
        *COMMAND_ONLY,
    }
    brought = {"slicer", "vtk", "kneeboneagelib"}
    for file in (ROOT / "KneeBoneAge" / "KneeBoneAgeLib").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module]
            for module in modules:
                root = module.partition(".")[0]
                if root not in sys.stdlib_module_names:
                    assert root.lower() in listed | brought, f"{file.name} imports {root}"


def test_here_everything_is_installed():
    found = look()
    assert found.ready, found.line
    assert found.line == f"Everything is installed (PyTorch {importlib.metadata.version('torch')})."
    assert found.to_json()["packages"][0]["via"] == "PyTorch extension"
    assert plan(found, pytorch_extension=False, constraints_file="c").steps == ()


def test_the_line_names_what_is_missing_and_what_is_too_old():
    assert names(None, "1.0.3", "2.7").line == "Not installed: torch."
    assert names("1.13.1", None, "2.7").line == "Not installed: timm. Too old: torch 1.13.1 (needs 2.2)."
    assert names("2.3", "0.9", "2.7").line == "Too old: timm 0.9 (needs 1.0)."


def test_what_is_missing_or_old_is_a_problem_of_that_kind():
    names("2.3", "1.0", "2.6").require("torch")
    with pytest.raises(Problem, match="not installed") as caught:
        names(None, None, None).require("torch")
    assert caught.value.kind == "missing"
    with pytest.raises(Problem, match=r"PyTorch 1\.13 is too old; 2\.2") as caught:
        names("1.13", None, None).require("torch")
    assert caught.value.kind == "old"


def runs(plan):
    """The modules that the steps run, and all requirements."""
    modules = [step.arguments[1] for step in plan.steps if step.arguments]
    return modules, [word for step in plan.steps for word in step.arguments if ">=" in word]


def test_torch_comes_first_and_as_its_extension_installs_it():
    modules, wanted = runs(planned(names(None, None, "2.7")))
    assert modules == ["pip", "light_the_torch", "pip"]
    assert wanted == [installation.LIGHT_THE_TORCH, "torch>=2.2", "timm>=1.0"]
    assert runs(planned(names("2.5", None, None))) == (["pip"], ["timm>=1.0", "pydantic>=2.6"])


def test_every_step_holds_what_must_not_be_replaced():
    for step in planned(names(None, None, "2.7")).steps:
        assert step.arguments[step.arguments.index("--constraint") + 1] == "c.txt"


def test_without_the_extension_the_person_is_told_what_to_do_and_nothing_runs():
    done = planned(names(None, None, None), pytorch_extension=False)
    assert [step.arguments for step in done.steps] == [()]
    assert "Extensions Manager" in done.question
    assert runs(planned(names("2.5", None, "2.7"), pytorch_extension=False))[0] == ["pip"]


@pytest.mark.parametrize("extension", [True, False])
def test_a_torch_that_is_too_old_is_not_replaced_behind_its_back(extension):
    done = planned(names("1.13.1", None, None), pytorch_extension=extension)
    assert [step.arguments for step in done.steps] == [()]
    assert "torch 1.13.1 is too old" in done.question
    assert "uninstall" in done.question


def test_a_folder_of_wheels_installs_everything_without_network(tmp_path):
    (step,) = planned(names(None, "0.9", "2.7"), pytorch_extension=False, wheels=tmp_path).steps
    assert step.arguments[:3] == ("-m", "pip", "install")
    after = step.arguments[step.arguments.index("--no-index") :]
    assert after == (
        "--no-index",
        "--find-links",
        str(tmp_path),
        "--constraint",
        "c.txt",
        "torch>=2.2",
        "timm>=1.0",
    )


def test_what_an_interrupted_installation_has_left_is_found_told_and_cleared(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    before = installation.half_installed()
    for name, last in (("half_one", None), ("whole_one", "INSTALLER"), ("whole_two", "RECORD")):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        if last:
            (folder / last).write_text("pip")
    (tmp_path / "wanted.txt").write_text("half-one>=0.5\nwhole-one\nwhole-two\n")
    found = look(tmp_path / "wanted.txt")
    assert [package.state for package in found.packages] == ["half", "present", "present"]
    assert found.line == "Only half installed: half-one."
    with pytest.raises(Problem, match="half-one is only half installed"):
        found.require("half-one")
    assert runs(planned(found))[1] == ["half-one>=0.5"]
    assert installation.forget(installation.half_installed() - before) == ("half_one",)
    assert look(tmp_path / "wanted.txt").line == "Not installed: half-one."
    assert (tmp_path / "whole_one-1.0.dist-info").is_dir()


def test_the_wheels_are_really_what_pip_takes(tmp_path):
    arguments = planned(names(None, "1.0", "2.7"), wheels=tmp_path).steps[0].arguments
    (tmp_path / "c.txt").write_text(installation.constraints())
    arguments = [str(tmp_path / "c.txt") if word == "c.txt" else word for word in arguments]
    arguments[-1] = "kneeboneage-no-such-package>=1"
    ran = subprocess.run(
        [sys.executable, *arguments, "--dry-run"],
        capture_output=True,
        text=True,
        check=False,
    )
    if "No module named pip" in ran.stderr:
        pytest.skip("this environment has no pip")
    assert "No matching distribution" in ran.stderr


def test_numpy_and_simpleitk_are_held_at_their_versions():
    lines = installation.constraints().splitlines()
    assert f"numpy=={importlib.metadata.version('numpy')}" in lines
    assert any(line.startswith("SimpleITK==") for line in lines)
    assert any(line.startswith("torch==") for line in lines)


@pytest.mark.parametrize(
    "module", ["scene", "installation", "service", "process_tree", "problems", "scene_values", "words"]
)
def test_what_slicer_imports_pulls_in_nothing_heavy(module):
    code = (
        "import sys, time; import numpy; t = time.process_time(); "
        f"import KneeBoneAgeLib.{module}; print(time.process_time() - t); "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "KneeBoneAge"
    )
    seconds, modules = ran.stdout.splitlines()
    heavy = {name.replace("-", "_") for name, _ in required()} | {
        "PIL",
        "SimpleITK",
        "skimage",
        "vtk",
        "slicer",
    }
    assert not heavy & set(modules.split())
    assert float(seconds) < 0.3
