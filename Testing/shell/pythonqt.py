"""PythonQt's way with Qt objects, laid over PySide6 for chosen modules only.

PySide6 can switch a module to *true properties* (``label.text = "x"``). PythonQt has those and, beside them, the
setters and ``is…`` getters that PySide6 then hides, ``name``, ``className()`` and ``connect("clicked()", f)``. What
is added here is added to the switched view of the classes, so a module that was not chosen sees plain PySide6.
"""

import contextlib
import ctypes
import inspect
import sys
from collections.abc import Callable, Iterator
from html import escape
from types import ModuleType
from typing import Any

import shibokensupport.feature as feature
from PySide6 import QtCore, QtGui, QtWidgets

TRUE_PROPERTY = 0x02

# PySide6 looks at the __name__ of the calling frame. These functions are made twice, once for either view.
_ACCESS = """
def members(cls): return dict(cls.__dict__)
def put(cls, name, value): setattr(cls, name, value)
def get(obj, name): return getattr(obj, name)
"""


def choose(module_name: str) -> None:
    """Let the module of this name see Qt as PythonQt shows it. May be called before or after its import."""
    _patch_classes()
    feature.set_selection(TRUE_PROPERTY, module_name)


def keep_plain(module_name: str) -> None:
    """Let the module of this name see plain PySide6. One that is not named sees what its caller sees."""
    feature.set_selection(0, module_name)


@contextlib.contextmanager
def _plain_modules_only() -> Iterator[None]:
    """Hide what is in sys.modules but answers no question, as torch.classes: PySide6 looks at every module once."""

    def answers(module: Any) -> bool:
        try:
            inspect.unwrap(module)
        except Exception:
            return False
        return True

    odd = {name: module for name, module in sys.modules.items() if not answers(module)}
    for name in odd:
        del sys.modules[name]
    try:
        yield
    finally:
        sys.modules.update(odd)


def _view(name: str, selection: int) -> dict[str, Callable[..., Any]]:
    space: dict[str, Any] = {"__name__": name}
    exec(_ACCESS, space)
    feature.set_selection(selection, name)
    return space


with _plain_modules_only():
    _PLAIN = _view("shell_plain_view", 0)
    _SWITCHED = _view("shell_switched_view", TRUE_PROPERTY)
get_as_pythonqt = _SWITCHED["get"]
_patched: list[bool] = []


def _patch_classes() -> None:
    if _patched:
        return
    _patched.append(True)
    # With true properties PySide6 gives back one reference to None too many at each call: before Python 3.12, where
    # None cannot die, the interpreter would stop after some ten thousand calls.
    if sys.version_info < (3, 12):
        ctypes.c_ssize_t.from_address(id(None)).value += 1 << 40
    for cls in qt_object_classes():
        plain, switched = _PLAIN["members"](cls), _SWITCHED["members"](cls)
        for name in plain.keys() - switched.keys():
            _SWITCHED["put"](cls, name, plain[name])
    additions = {
        "name": property(lambda self: self.objectName(), lambda self, name: self.setObjectName(name)),
        "className": lambda self: self.metaObject().className(),
        "delete": lambda self: self.deleteLater(),
        "connect": _connect,
        "disconnect": _disconnect,
    }
    for name, value in additions.items():
        _SWITCHED["put"](QtCore.QObject, name, value)
    # Where PySide6's true properties and PythonQt disagree.
    _SWITCHED["put"](QtWidgets.QComboBox, "currentData", property(lambda self: self.currentData()))
    _SWITCHED["put"](
        QtWidgets.QLayout, "contentsMargins", _PLAIN["members"](QtWidgets.QLayout)["contentsMargins"]
    )
    _SWITCHED["put"](QtWidgets.QWidget, "toolTip", property(lambda self: self.toolTip(), set_tool_tip))
    _SWITCHED["put"](QtWidgets.QWidget, "setToolTip", set_tool_tip)


def qt_object_classes() -> list[type]:
    """Every QObject class of the three modules that ``qt`` is made of."""
    modules: tuple[ModuleType, ...] = (QtCore, QtGui, QtWidgets)
    found = [getattr(module, name) for module in modules for name in dir(module)]
    return [cls for cls in found if isinstance(cls, type) and issubclass(cls, QtCore.QObject)]


def set_tool_tip(widget: QtWidgets.QWidget, text: str) -> None:
    """Set a tooltip as the application does: plain text comes back wrapped in ``<p>``, so that it is folded."""
    plain = bool(text) and not text.lstrip().startswith("<")
    QtWidgets.QWidget.setToolTip(widget, f"<p>{escape(text, quote=False)}</p>" if plain else text)


def _connect(source: QtCore.QObject, signature: str, slot: Callable[..., Any]) -> bool:
    """``button.connect("clicked(bool)", f)``, PythonQt's older way."""
    getattr(source, signature.partition("(")[0]).connect(slot)
    return True


def _disconnect(source: QtCore.QObject, signature: str, slot: Callable[..., Any]) -> bool:
    return bool(getattr(source, signature.partition("(")[0]).disconnect(slot))
