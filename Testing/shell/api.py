"""The recorded application (``api.json``): what exists there, and what the modules used that does not.

The record lies beside the repository, not in it; ``missing()`` tells when it is not there.
"""

import ast
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

from .hook import Use

RECORD = Path(__file__).resolve().parents[3] / "shared" / "slicer-api" / "api.json"
ALWAYS = {"name", "exec_", "__init__", "__class__", "__name__", "__dict__"}
"""What every PythonQt object has, and a directory of its members does not list."""
SIGNAL = {"connect", "disconnect", "emit"}
MODULE_OBJECT = {
    "path",
    "name",
    "title",
    "logic",
    "widgetRepresentation",
    "index",
    "icon",
    "categories",
    "hidden",
}
MODULE_DESCRIPTION = {
    "contributors",
    "dependencies",
    "helpText",
    "acknowledgementText",
    "associatedNodeTypes",
}
NOT_RECORDED = {
    "qt": {"Qt", "QApplication", "QImage", "QPainter", "QPen", "QPoint", "QPointF", "QRect", "QRectF", "QByteArray",
           "QSizePolicy", "QAbstractItemView", "QSpacerItem", "QFontMetrics", "QPalette", "QEvent", "QObject",
           "QDialog", "QDialogButtonBox", "QFile", "QLayout", "QMimeData", "QSignalBlocker", "Signal"},
    "slicer": {"app", "util", "modules", "mrmlScene", "dicomDatabase", "i18n", "parameterNodeWrapper", "selfTests",
               "ScriptedLoadableModule", "packaging", "testing"},
}  # fmt: skip
"""Documented names of these modules of which the record says nothing. ``packaging`` came with 5.12."""
OBJECTS = {
    "App": "slicer.app",
    "LayoutManager": "layoutManager",
    "SliceWidget": "sliceWidget",
    "Database": "dicomDatabase",
    "MainWindow": "mainWindow",
    "vtkMRMLSliceLogic": "sliceLogic",
    "SampleDataLogic": "SampleData",
}
"""Classes of the stand-in and where the record has their members."""


def missing() -> str | None:
    """Why nothing can be compared, or None."""
    return None if RECORD.exists() else f"the record of the real application is not here: {RECORD}"


@cache
def record() -> dict[str, Any]:
    """The record."""
    return json.loads(RECORD.read_text())


@cache
def members(class_name: str) -> dict[str, str] | None:
    """Members of a recorded class, or of a recorded object, and their kinds; None when it was not recorded."""
    if class_name in record()["widgets"]:
        own = dict(record()["widgets"][class_name])
        base = own.pop("+", None)
        return {**(members(base) or {}), **own} if base else own
    found = record().get(OBJECTS.get(class_name, class_name))
    if class_name == "SampleDataLogic":
        found = record()["SampleData"]["SampleDataLogic"]
    return dict.fromkeys(found, "") if isinstance(found, list) else found


def unknown_uses(uses: Iterable[Use]) -> list[str]:
    """Uses of members that the real application does not have, as lines for a person."""
    found = sorted({(use.file, use.line, complaint) for use in uses if (complaint := complain(use))})
    return [f"{Path(file).name}:{line}: {complaint}" for file, line, complaint in found]


def complain(use: Use) -> str | None:
    """What is wrong with a use, or None."""
    if isinstance(use.owner, ModuleType):
        known = module_members(use.owner)
        name = use.owner.__name__
    else:
        cls = use.owner if isinstance(use.owner, type) else type(use.owner)
        known, name = class_members(cls), cls.__name__
    if known is None or use.member in known or use.member in ALWAYS:
        return None
    return f"{name} has no {use.member} in the application"


def module_members(module: ModuleType) -> set[str] | None:
    """Names that a module of the application has; None for a module that is not of the application."""
    name = module.__name__
    if name in ("qt", "ctk"):
        return {one for one in record()["widgets"] if not one.startswith("qMRML")} | NOT_RECORDED.get(
            name, set()
        )
    if name == "slicer":
        native = {one for one in vars(module) if one.startswith("vtk")}
        return native | NOT_RECORDED["slicer"] | {one for one in record()["widgets"] if one.startswith("q")}
    if name in ("slicer.util", "slicer.i18n", "slicer.parameterNodeWrapper", "SampleData"):
        return set(record()[name])
    return None


def class_members(cls: type) -> set[str] | None:
    """Members that objects of a class have in the application; None where nothing is known."""
    if cls.__name__ == "SignalInstance":
        return SIGNAL
    if cls.__name__ == "Module" and cls.__module__ == "shell.app":
        return MODULE_OBJECT | MODULE_DESCRIPTION | {"instance"}
    if cls.__name__ == "SimpleNamespace":
        return None
    if not cls.__module__.startswith(("PySide6", "shell", "slicer", "qt", "SampleData")):
        return None
    for ancestor in cls.__mro__:
        found = members(ancestor.__name__)
        if found is not None:
            return set(found)
        if ancestor.__name__ in ("vtkMRMLNode", "vtkObject"):
            return None
    return None


def unknown_names(files: Iterable[Path], forms: Iterable[Path] = ()) -> list[str]:
    """What the source of modules names that the real application does not have, whether or not a test runs it.

    Read are ``qt.X``, ``qt.X.Y``, ``ctk.X``, ``slicer.util.X``, ``slicer.app.X``…, imports from these, and
    ``….ui.NAME.X``, where NAME is a widget of one of the ``.ui`` files.
    """
    widgets = {name: kind for form in forms for name, kind in widgets_of(form).items()}
    lines = []
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
        for node in ast.walk(tree):
            complaint = None
            if isinstance(node, ast.Attribute):
                complaint = _wrong_chain(ast.unparse(node).split("."), widgets)
            elif isinstance(node, ast.ImportFrom) and node.module in ("qt", "ctk", "slicer", "slicer.util"):
                known = _known(node.module, widgets)
                wrong = [alias.name for alias in node.names if known is not None and alias.name not in known]
                complaint = f"{node.module} has no {', '.join(wrong)} in the application" if wrong else None
            if complaint:
                lines.append(f"{file.name}:{node.lineno}: {complaint}")
    return sorted(set(lines))


def widgets_of(form: Path) -> dict[str, str]:
    """Names and classes of the widgets of a ``.ui`` file."""
    root = ElementTree.parse(form).getroot()
    return {element.get("name", ""): element.get("class", "") for element in root.iter("widget")}


def _wrong_chain(chain: list[str], widgets: dict[str, str]) -> str | None:
    *owner, member = chain
    known = _known(".".join(owner), widgets)
    if known is None or member in known or member in ALWAYS:
        return None
    return f"{'.'.join(owner)} has no {member} in the application"


def _known(owner: str, widgets: dict[str, str]) -> set[str] | None:
    """Members of what a dotted name stands for; None when that is not known."""
    if owner in ("qt", "ctk"):
        return {one for one in record()["widgets"] if not one.startswith("qMRML")} | NOT_RECORDED.get(
            owner, set()
        )
    if owner in ("slicer.util", "slicer.app", "slicer.dicomDatabase"):
        return set(record()[{"slicer.dicomDatabase": "dicomDatabase"}.get(owner, owner)])
    if owner == "slicer.app.layoutManager()":
        return set(record()["layoutManager"])
    head, _, last = owner.rpartition(".")
    kind = last if head in ("qt", "ctk") else widgets.get(last, "") if head.split(".")[-1] == "ui" else ""
    found = members(kind) if kind else None
    return set(found) if found is not None else None
