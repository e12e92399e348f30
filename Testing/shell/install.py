"""Putting the stand-in in its place, and taking it away again without a trace.

``slicer`` is the real package of slicer-core: it is extended, not shadowed. ``qt``, ``ctk``, ``SampleData`` and the
missing parts of ``slicer`` lie in ``packages``, which is on ``sys.path`` only while an application runs.
"""

import contextlib
import importlib
import sys
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import slicer

from . import app as app_module
from . import mrml_widgets, pythonqt
from .hook import USES, Hook

__all__ = ["HOOK", "PIP_CALLS", "SLOT_ERRORS", "USES", "installed", "on_path", "packaging"]

PACKAGES = Path(__file__).parent / "packages"
HOOK = Hook()
PIP_CALLS: list[tuple[str, Any]] = []
"""What modules asked pip for: ("install" | "uninstall" | "ensure", requirements). Nothing was done."""
SLOT_ERRORS: list[str] = []
"""Tracebacks of exceptions in slots and observers."""
_kept_modules: dict[str, Any] = {}


@contextlib.contextmanager
def on_path(folder: Path) -> Iterator[None]:
    """A folder at the front of ``sys.path`` for the time of a ``with`` block."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


@contextlib.contextmanager
def installed(app: Any, session: Any, modules: Any) -> Iterator[None]:
    """The stand-in in its place for the time of a ``with`` block."""
    from .dicom import Database

    attributes = {
        "app": app,
        "mrmlScene": session.scene,
        "modules": modules,
        "dicomDatabase": Database(),
        "selfTests": {},
        "qSlicerScriptedLoadableModule": app_module.Module,
        "qSlicerScriptedLoadableModuleWidget": app_module.ModuleWidget,
        **{cls.__name__: cls for cls in mrml_widgets.CLASSES},
    }
    before = {name: slicer.__dict__.get(name) for name in attributes}
    slicer.__dict__.update(attributes)
    slicer.__path__.append(str(PACKAGES / "slicer"))
    sys.meta_path.insert(0, HOOK)
    sys.modules.update(_kept_modules)
    try:
        with on_path(PACKAGES), _recorded_installs(), _noted_errors():
            for name in ("qt", "ctk", "SampleData"):
                importlib.import_module(name)
            for part in parts_of_slicer():
                setattr(slicer, part, importlib.import_module(f"slicer.{part}"))
            _kept_modules.update({name: module for name, module in sys.modules.items() if _is_ours(module)})
            for name in [name for name in sys.modules if name.startswith("shell.") or name in _kept_modules]:
                pythonqt.keep_plain(name)
            modules.sampledata = type("SampleDataModule", (), {"widgetRepresentation": lambda self: None})()
            modules.sampleDataSources = {}
            yield
    finally:
        HOOK.forget()
        sys.meta_path.remove(HOOK)
        slicer.__path__.remove(str(PACKAGES / "slicer"))
        for name in _kept_modules:
            sys.modules.pop(name, None)
        for name in (*parts_of_slicer(), "packaging"):
            slicer.__dict__.pop(name, None)
        sys.modules.pop("slicer.packaging", None)
        for name, value in before.items():
            if value is None:
                slicer.__dict__.pop(name, None)
            else:
                setattr(slicer, name, value)


def parts_of_slicer() -> list[str]:
    """Names of what the stand-in adds to ``slicer`` as modules."""
    return sorted(path.stem for path in (PACKAGES / "slicer").iterdir() if path.stem[0].isalpha())


def _is_ours(module: Any) -> bool:
    return str(getattr(module, "__file__", None) or "").startswith(str(PACKAGES))


@contextlib.contextmanager
def _recorded_installs() -> Iterator[None]:
    """``slicer.util.pip_install`` only notes in `PIP_CALLS` what it was asked for."""
    PIP_CALLS.clear()
    kept = slicer.util.pip_install, slicer.util.pip_uninstall
    slicer.util.pip_install = lambda requirements: PIP_CALLS.append(("install", requirements))
    slicer.util.pip_uninstall = lambda requirements: PIP_CALLS.append(("uninstall", requirements))
    try:
        yield
    finally:
        slicer.util.pip_install, slicer.util.pip_uninstall = kept


@contextlib.contextmanager
def _noted_errors() -> Iterator[None]:
    """An exception in a slot or an observer goes to ``sys.excepthook``, where a test would never see it."""
    SLOT_ERRORS.clear()
    kept = sys.excepthook
    sys.excepthook = lambda kind, error, trace: SLOT_ERRORS.append(
        "".join(traceback.format_exception(kind, error, trace))
    )
    try:
        yield
    finally:
        sys.excepthook = kept


def packaging() -> types.ModuleType:
    """``slicer.packaging`` of 5.12 and later, which notes in `PIP_CALLS` what it was asked for."""
    module = types.ModuleType("slicer.packaging")

    def load_requirements(path: Any) -> list[str]:
        lines = (
            line.partition("#")[0].strip() for line in Path(path).read_text(encoding="utf-8").splitlines()
        )
        return [line for line in lines if line]

    def pip_ensure(requirements: list[str], **options: Any) -> None:
        PIP_CALLS.append(("ensure", requirements))

    def pip_install(requirements: Any, **options: Any) -> None:
        PIP_CALLS.append(("install", requirements))

    module.__dict__.update(
        load_requirements=load_requirements, pip_ensure=pip_ensure, pip_install=pip_install
    )
    return module
