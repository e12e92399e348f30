"""What the networks need, what of it is installed, and the steps that would install the rest.

Facts and plans only: nothing here imports what it looks for, and nothing is installed. The module asks the person
and carries the steps out.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .problems import INSTALL, Problem

REQUIREMENTS_FILE = Path(__file__).parent.parent / "Resources" / "requirements.txt"
BY_PYTORCH_EXTENSION = ("torch", "torchvision")
NEVER_REPLACED = ("numpy", "SimpleITK")
"""Slicer's own builds: an installation that wants another version must fail rather than replace them."""


@dataclass(frozen=True)
class Package:
    """A package with the least version that is needed (None: any) and the one that was found."""

    name: str
    least: str | None
    found: str | None

    @property
    def state(self) -> str:
        """ "present", "missing" or "old"."""
        if self.found is None:
            return "missing"
        return "old" if self.least and release(self.found) < release(self.least) else "present"

    @property
    def requirement(self) -> str:
        """As pip takes it: ``name>=version``."""
        return f"{self.name}>={self.least}" if self.least else self.name

    def to_json(self) -> dict[str, Any]:
        """As it stands in the answer of ``check``."""
        via = "PyTorch extension" if self.name in BY_PYTORCH_EXTENSION else "pip"
        return {"name": self.name, "least": self.least, "found": self.found, "state": self.state, "via": via}


@dataclass(frozen=True)
class Installation:
    """All packages in the order in which they are installed."""

    packages: tuple[Package, ...]
    python: str = ""

    def lacking(self, state: str | None = None) -> tuple[Package, ...]:
        """Those that are missing or too old, or one of the two."""
        return tuple(p for p in self.packages if p.state != "present" and state in (None, p.state))

    @cached_property
    def ready(self) -> bool:
        return not self.lacking()

    @property
    def line(self) -> str:
        """The state in one line for the panel."""
        if self.ready:
            torch = next((p.found for p in self.packages if p.name == "torch"), None)
            return f"Everything is installed (PyTorch {torch})." if torch else "Everything is installed."
        missing = [p.name for p in self.lacking("missing")]
        old = [f"{p.name} {p.found} (needs {p.least})" for p in self.lacking("old")]
        parts = [
            f"Not installed: {', '.join(missing)}" if missing else "",
            f"too old: {', '.join(old)}" if old else "",
        ]
        text = "; ".join(part for part in parts if part)
        return f"{text[0].upper()}{text[1:]}."

    def has(self, name: str) -> bool:
        """Whether a package is there in a sufficient version."""
        return any(p.name == name and p.state == "present" for p in self.packages)

    def require(self, name: str) -> None:
        """Raise a Problem of kind "missing" or "old" unless `has`."""
        package = next(p for p in self.packages if p.name == name)
        words = "PyTorch" if name == "torch" else name
        if package.state == "missing":
            raise Problem("missing", f"{words} is not installed.", INSTALL)
        if package.state == "old":
            raise Problem(
                "old",
                f"{words} {package.found} is too old; {package.least} or later is needed.",
                "Open the Model section and press Install; it says how to renew it.",
            )

    def to_json(self) -> dict[str, Any]:
        """The answer of ``check`` without devices."""
        return {
            "python": self.python,
            "packages": [package.to_json() for package in self.packages],
            "ready": self.ready,
            "line": self.line,
        }


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Attributes
    ----------
    what : "pytorch": ``PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=False)``;
        "packaging": ``slicer.packaging.pip_ensure(slicer.packaging.load_requirements(requirements),
        skip_packages=["torch", "torchvision"], constraints=..., requester="KneeBoneAge")``;
        "pip": ``slicer.util.pip_install(arguments)``;
        "person": nothing to run, the words say what the person does; the steps end there.
    words : what it does, one sentence.
    arguments : of pip, one word each.
    """

    what: str
    words: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Steps in order, and the question to ask before; no steps when everything is there."""

    question: str
    steps: tuple[Step, ...]


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version's release: "2.10.0+cu128" is (2, 10, 0). Trailing zeros do not count."""
    match = re.match(r"\s*v?(\d+(?:\.\d+)*)", version)
    numbers = [int(part) for part in match.group(1).split(".")] if match else [0]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def required(path: Path = REQUIREMENTS_FILE) -> list[tuple[str, str | None]]:
    """(name, least version) of each line of a requirements file of ``name`` and ``name>=version`` lines.

    Raises
    ------
    ValueError : another kind of line.
    """
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)\s*(?:>=\s*([0-9][0-9A-Za-z.]*))?", text)
        if match is None:
            raise ValueError(f"{path}: {text!r}: only 'name' and 'name>=version' are understood")
        found.append((match.group(1), match.group(2)))
    return found


def installed_version(name: str) -> str | None:
    """The version of an installed distribution, without importing it."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def look(path: Path = REQUIREMENTS_FILE) -> Installation:
    """What is installed now, of what the requirements name."""
    packages = tuple(Package(name, least, installed_version(name)) for name, least in required(path))
    return Installation(packages, platform.python_version())


def constraints() -> str:
    """Lines for pip's ``--constraint`` file that keep what must not be replaced at its version."""
    names = (*NEVER_REPLACED, *BY_PYTORCH_EXTENSION)
    found = ((name, installed_version(name)) for name in names)
    return "".join(f"{name}=={version}\n" for name, version in found if version)


def plan(
    installation: Installation,
    *,
    pytorch_extension: bool,
    slicer_packaging: bool,
    constraints_file: str | Path,
    wheels: str | Path | None = None,
) -> Plan:
    """The steps from what is there to everything.

    Parameters
    ----------
    pytorch_extension : whether ``PyTorchUtils`` can be imported.
    slicer_packaging : whether ``slicer.packaging`` exists (Slicer 5.12 and later).
    constraints_file : a file that holds `constraints`, written by the caller.
    wheels : folder of wheels for an installation without network; pip takes everything from there.
    """
    lacking = installation.lacking()
    if not lacking:
        return Plan("", ())
    torch = [p for p in lacking if p.name in BY_PYTORCH_EXTENSION]
    others = [p for p in lacking if p.name not in BY_PYTORCH_EXTENSION]
    names = ", ".join(p.name for p in lacking)
    if wheels is not None:
        arguments = ("--no-index", "--find-links", str(wheels), *_pip_arguments(lacking, constraints_file))
        step = Step("pip", f"Install {names} from {wheels}, without network.", arguments)
        return Plan(f"Install {names} from the folder {wheels}? Nothing is downloaded.", (step,))
    steps: list[Step] = []
    old = next((p for p in torch if p.state == "old"), None)
    if old is not None:
        how = (
            "Open the module PyTorch Util, uninstall PyTorch, restart Slicer and press Install here again."
            if pytorch_extension
            else "Install the extension PyTorch in the Extensions Manager, restart Slicer, uninstall PyTorch in its "
            "module PyTorch Util, restart again and press Install here."
        )
        words = f"{old.name} {old.found} is too old, {old.least} is needed. {how}"
        return Plan(words, (Step("person", words),))
    if torch and not pytorch_extension:
        words = (
            "PyTorch is installed by the extension PyTorch: install it in the Extensions Manager, restart Slicer and "
            "press Install here again. Without network, choose a folder of wheels."
        )
        return Plan(words, (Step("person", words),))
    if torch:
        steps.append(Step("pytorch", "Install PyTorch through the PyTorch extension (up to 3 GB)."))
    if others:
        words = f"Install {', '.join(p.name for p in others)} from the Python package index."
        what = "packaging" if slicer_packaging else "pip"
        steps.append(Step(what, words, _pip_arguments(tuple(others), constraints_file)))
    size = "up to 3 GB" if torch else "about 100 MB"
    return Plan(
        f"Download and install {names} ({size})? Slicer's numpy and SimpleITK stay as they are.", tuple(steps)
    )


def _pip_arguments(packages: tuple[Package, ...], constraints_file: str | Path) -> tuple[str, ...]:
    return ("--constraint", str(constraints_file), *(package.requirement for package in packages))
