"""What is packaged is what is in the tree, and importing the libraries costs nothing."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("KneeBoneAge", "KneeBoneAgeTraining")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def listed(module, variable):
    text = (ROOT / module / "CMakeLists.txt").read_text()
    (block,) = re.findall(rf"set\({variable}\s(.*?)\)", text, re.DOTALL)
    return block.split()


def tree(module):
    """What a module's folder holds that Slicer must be given: all but its tests and its CMake file."""
    folder = ROOT / module
    files = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return [
        file.as_posix()
        for file in files
        if file.parts[0] != "Testing"
        and file.name != "CMakeLists.txt"
        and "__pycache__" not in file.parts
        and not any(part.startswith(".") for part in file.parts)
    ]


def library(module):
    return [name for name in tree(module) if name.startswith(f"{module}Lib/")]


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("variable", ["MODULE_PYTHON_SCRIPTS", "MODULE_PYTHON_RESOURCES"])
def test_cmake_lists_every_file_of_the_module_and_no_other(module, variable):
    scripts = variable == "MODULE_PYTHON_SCRIPTS"
    files = [name for name in tree(module) if name.endswith(".py") == scripts]
    stated = listed(module, variable)
    differing = sorted({*files} ^ {*stated})
    assert not differing, f"{module}/CMakeLists.txt, {variable}: it should be\n  " + "\n  ".join(files)
    assert len(stated) == len({*stated})


@pytest.mark.parametrize("module", MODULES)
def test_every_folder_with_python_is_a_package_that_pip_takes(module):
    patterns = PROJECT["tool"]["setuptools"]["package-data"].get(f"{module}Lib", [])
    for name in library(module):
        inside = Path(name).relative_to(f"{module}Lib")
        if name.endswith(".py"):
            assert (ROOT / module / name).with_name("__init__.py").exists(), f"no __init__.py beside {name}"
        else:
            assert any(inside.match(pattern.replace("**", "*")) for pattern in patterns), (
                f"{name} is in no package data"
            )


@pytest.mark.parametrize("module", MODULES)
def test_importing_a_library_imports_nothing_but_itself(module):
    code = (
        "import sys; before = set(sys.modules)\n"
        f"import {module}Lib\n"
        "print(*sorted(name.split('.')[0] for name in set(sys.modules) - before))"
    )
    paths = [str(ROOT / name) for name in MODULES]
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{code}"]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert {*loaded} <= {f"{module}Lib", "__future__"}


def test_estimating_never_imports_training():
    for path in (ROOT / "KneeBoneAge" / "KneeBoneAgeLib").rglob("*.py"):
        assert "KneeBoneAgeTrainingLib" not in path.read_text(), path


def test_numpy_and_simpleitk_are_never_pinned_so_that_those_of_slicer_stay():
    for requirement in PROJECT["project"]["dependencies"]:
        assert re.fullmatch(r"[A-Za-z0-9-]+>=[0-9.]+", requirement), requirement


def test_constraints_pin_each_requirement_and_name_no_machine():
    text = (ROOT / "constraints.txt").read_text()
    assert "file:" not in text
    assert "/" not in "".join(line for line in text.splitlines() if not line.startswith("#"))
    pinned = {
        re.sub("[-_.]+", "-", line.split("==")[0]).lower() for line in text.splitlines() if "==" in line
    }
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = [*PROJECT["project"]["dependencies"], *(one for extra in extras for one in extra)]
    names = {re.sub("[-_.]+", "-", re.split("[>=<]", one)[0]).lower() for one in wanted}
    assert names <= pinned, names - pinned


def test_the_extension_says_what_the_index_asks_for():
    text = (ROOT / "CMakeLists.txt").read_text()
    for name in ("HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"):
        assert re.search(rf'set\(EXTENSION_{name} "[^"]+"\)', text), name
    assert PROJECT["project"]["urls"]["Homepage"] in text
    for module in MODULES:
        assert f"add_subdirectory({module})" in text
    (icon,) = re.findall(r'EXTENSION_ICONURL "[^"]+/(Resources/[^"]+)"', text)
    assert Image.open(ROOT / icon).size == (128, 128)
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_the_makefile_has_every_command_that_the_readme_names():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test", "check", "bundle", "bench", "clean"} <= targets
