"""What the networks need, what of it is installed, and the steps that would install the rest.

Facts and plans only: nothing here imports what it looks for, and nothing is installed. The module asks the person
and carries the steps out, each as a child process that can be cancelled.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .problems import INSTALL, Problem
from .words import mark as _
from .words import tell

REQUIREMENTS_FILE = Path(__file__).parent.parent / "Resources" / "requirements.txt"
BY_PYTORCH_EXTENSION = ("torch", "torchvision")
LIGHT_THE_TORCH = "light-the-torch>=0.5"
"""With it the PyTorch extension finds the build for the graphics card (its ``installTorch``)."""
NEVER_REPLACED = ("numpy", "SimpleITK")
"""Slicer's own builds: an installation that wants another version must fail rather than replace them."""


@dataclass(frozen=True)
class Package:
    """A package with the least version that is needed (None: any) and the one that was found.

    Attributes
    ----------
    whole : False when an installation of it was interrupted.
    """

    name: str
    least: str | None
    found: str | None
    whole: bool = True

    @property
    def state(self) -> str:
        """ "present", "missing", "half" or "old"."""
        if self.found is None:
            return "missing"
        if not self.whole:
            return "half"
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
        """Those that are not usable, or those in one state."""
        return tuple(p for p in self.packages if p.state != "present" and state in (None, p.state))

    @cached_property
    def ready(self) -> bool:
        return not self.lacking()

    @property
    def line(self) -> str:
        """The state in one line for the panel."""
        if self.ready:
            torch = next((p.found for p in self.packages if p.name == "torch"), None)
            if torch is None:
                return tell(_("Everything is installed."))
            return tell(_("Everything is installed (PyTorch {version})."), version=torch)
        missing = ", ".join(p.name for p in self.lacking("missing"))
        half = ", ".join(p.name for p in self.lacking("half"))
        old = ", ".join(
            tell(_("{name} {found} (needs {least})"), name=p.name, found=p.found, least=p.least)
            for p in self.lacking("old")
        )
        parts = (
            tell(_("Not installed: {names}."), names=missing) if missing else "",
            tell(_("Only half installed: {names}."), names=half) if half else "",
            tell(_("Too old: {names}."), names=old) if old else "",
        )
        return " ".join(filter(None, parts))

    @property
    def summary(self) -> str:
        """What cannot be used yet in a few words, for a person who has just opened the module; "" when `ready`."""
        lacking = self.lacking()
        if len(lacking) < 2:
            return self.line if lacking else ""
        words = {"torch": "PyTorch"}.get(lacking[0].name, lacking[0].name)
        sentence = _("{name} and {count} other packages must be installed first.")
        return tell(sentence, name=words, count=len(lacking) - 1)

    def has(self, name: str) -> bool:
        """Whether a package is there in a sufficient version."""
        return any(p.name == name and p.state == "present" for p in self.packages)

    def require(self, name: str) -> None:
        """Raise a Problem of kind "missing" or "old" unless `has`."""
        package = next(p for p in self.packages if p.name == name)
        words = "PyTorch" if name == "torch" else name
        if package.state == "missing":
            raise Problem("missing", _("{name} is not installed."), INSTALL, name=words)
        if package.state == "half":
            raise Problem("missing", _("{name} is only half installed."), INSTALL, name=words)
        if package.state == "old":
            raise Problem(
                "old",
                _("{name} {found} is too old; {least} or later is needed."),
                _("Open the Model section and press Install; it says how to renew it."),
                name=words,
                found=package.found,
                least=package.least,
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
    words : what it does, one sentence.
    arguments : of the Python interpreter that runs as a child process; empty where there is nothing to run, the
        words say what the person does, and the steps end there.
    """

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


def is_whole(distribution: importlib.metadata.Distribution) -> bool:
    """Whether an installation went to its end: pip writes who installed it, and the list of files, last of all."""
    return distribution.read_text("INSTALLER") is not None or distribution.read_text("RECORD") is not None


def look(path: Path = REQUIREMENTS_FILE) -> Installation:
    """What is installed now, of what the requirements name."""
    packages = []
    for name, least in required(path):
        version = installed_version(name)
        whole = version is None or is_whole(importlib.metadata.distribution(name))
        packages.append(Package(name, least, version, whole))
    return Installation(tuple(packages), platform.python_version())


def half_installed() -> frozenset[Path]:
    """Folders of metadata (``….dist-info``) that interrupted installations have left."""
    places = {Path(place) for place in sys.path}
    folders = (folder for place in places if place.is_dir() for folder in place.glob("*.dist-info"))
    last = ("INSTALLER", "RECORD")
    return frozenset(folder for folder in folders if not any((folder / name).exists() for name in last))


def forget(folders: Iterable[Path]) -> tuple[str, ...]:
    """Remove such folders, so that pip installs anew what they name; the names."""
    folders = sorted(folders)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return tuple(folder.name.partition("-")[0] for folder in folders)


def constraints() -> str:
    """Lines for pip's ``--constraint`` file that keep what must not be replaced at its version."""
    names = (*NEVER_REPLACED, *BY_PYTORCH_EXTENSION)
    found = ((name, installed_version(name)) for name in names)
    return "".join(f"{name}=={version}\n" for name, version in found if version)


def plan(
    installation: Installation,
    *,
    pytorch_extension: bool,
    constraints_file: str | Path,
    wheels: str | Path | None = None,
) -> Plan:
    """The steps from what is there to everything.

    Parameters
    ----------
    pytorch_extension : whether ``PyTorchUtils`` can be imported.
    constraints_file : a file that holds `constraints`, written by the caller.
    wheels : folder of wheels for an installation without network; pip takes everything from there.
    """
    lacking = installation.lacking()
    if not lacking:
        return Plan("", ())
    names = ", ".join(p.name for p in lacking)
    held = ("--constraint", str(constraints_file))
    if wheels is not None:
        arguments = ("--no-index", "--find-links", str(wheels), *held, *(p.requirement for p in lacking))
        words = tell(_("Installing {names} from {folder}, without network…"), names=names, folder=wheels)
        question = _("Install {names} from the folder {folder}? Nothing is downloaded.")
        return Plan(tell(question, names=names, folder=wheels), (Step(words, _pip(*arguments)),))
    torch = [p for p in lacking if p.name in BY_PYTORCH_EXTENSION]
    others = [p for p in lacking if p.name not in BY_PYTORCH_EXTENSION]
    by_person = _what_the_person_does(torch, pytorch_extension)
    if by_person:
        return Plan(by_person, (Step(by_person),))
    steps: list[Step] = []
    if torch:
        # As the PyTorch extension does it, but in a process that can be watched and cancelled.
        steps.append(Step(tell(_("Installing light-the-torch…")), _pip(*held, LIGHT_THE_TORCH)))
        arguments = ("-m", "light_the_torch", "install", *held, *(p.requirement for p in torch))
        steps.append(Step(tell(_("Installing PyTorch (up to 3 GB)…")), arguments))
    if others:
        listed = ", ".join(p.name for p in others)
        words = tell(_("Installing {names} from the Python package index…"), names=listed)
        steps.append(Step(words, _pip(*held, *(p.requirement for p in others))))
    size = tell(_("up to 3 GB")) if torch else tell(_("about 100 MB"))
    question = _("Download and install {names} ({size})? Slicer's numpy and SimpleITK stay as they are.")
    return Plan(tell(question, names=names, size=size), tuple(steps))


def _what_the_person_does(torch: list[Package], pytorch_extension: bool) -> str:
    """What must be done by hand before PyTorch can be installed; empty when nothing must."""
    old = next((p for p in torch if p.state == "old"), None)
    if old is not None and pytorch_extension:
        sentence = _(
            "{name} {found} is too old, {least} is needed. Open the module PyTorch Util, uninstall PyTorch, restart "
            "Slicer and press Install here again."
        )
    elif old is not None:
        sentence = _(
            "{name} {found} is too old, {least} is needed. Install the extension PyTorch in the Extensions Manager, "
            "restart Slicer, uninstall PyTorch in its module PyTorch Util, restart again and press Install here."
        )
    elif torch and not pytorch_extension:
        return tell(
            _(
                "PyTorch is installed by the extension PyTorch: install it in the Extensions Manager, restart Slicer "
                "and press Install here again. Without network, choose a folder of wheels."
            )
        )
    else:
        return ""
    return tell(sentence, name=old.name, found=old.found, least=old.least)


def _pip(*arguments: str) -> tuple[str, ...]:
    return ("-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments)
