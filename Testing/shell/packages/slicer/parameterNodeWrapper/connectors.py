"""Which widget shows which type. As in the application the class must be the very one, not one derived from it."""

import enum
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ctk
import qt
import slicer

from .serializers import OptionalSerializer, serializer_for, split
from .validators import Choice, Maximum, Minimum, WithinRange


@dataclass
class Decimals:
    """Digits after the point in the widget."""

    value: int


@dataclass
class SingleStep:
    """Step of the widget."""

    value: float


@dataclass
class Connector:
    """Reads and writes one widget, and tells when it changed."""

    read: Callable[[], Any]
    write: Callable[[Any], None]
    signal: Any
    _slot: Callable[[], None] | None = None

    def onChanged(self, callback: Callable[[], None] | None) -> None:
        """Call this at each change; None ends it."""
        if self._slot is not None:
            self.signal.disconnect(self._slot)
        self._slot = (lambda *_: callback()) if callback is not None else None
        if self._slot is not None:
            self.signal.connect(self._slot)


def createGuiConnector(widget: Any, datatype: Any) -> Connector:
    """Bind a widget to a (possibly annotated) type.

    Raises
    ------
    RuntimeError
        The application has no connector from this type to this class of widget.
    """
    kind, notes = split(datatype)
    serializer = serializer_for(kind)
    if isinstance(serializer, OptionalSerializer) and not issubclass(serializer.kind, slicer.vtkMRMLNode):
        raise RuntimeError(f"Unable to create GUI connector from datatype '{datatype}' to '{type(widget)}'")
    connect = _find(type(widget), serializer.kind)
    if connect is None:
        raise RuntimeError(f"Unable to create GUI connector from datatype '{datatype}' to '{type(widget)}'")
    return connect(widget, serializer.kind, notes)


def _find(widget: type, kind: type) -> Callable[[Any, type, list[Any]], Connector] | None:
    if widget in (qt.QCheckBox, qt.QPushButton) and kind is bool:
        return _checked
    if widget in (qt.QSlider, qt.QSpinBox) and kind is int:
        return _number
    if widget in (qt.QDoubleSpinBox, ctk.ctkSliderWidget) and kind is float:
        return _number
    if widget is qt.QComboBox and kind in (int, float, str, bool):
        return _choice
    if widget is qt.QComboBox and issubclass(kind, enum.Enum):
        return _enum
    if widget is qt.QLineEdit and kind is str:
        return lambda w, *_: Connector(w.text, w.setText, w.textChanged)
    if widget is qt.QTextEdit and kind is str:
        return lambda w, *_: Connector(w.toPlainText, w.setPlainText, w.textChanged)
    if widget is ctk.ctkPathLineEdit and issubclass(kind, pathlib.PurePath):
        return _property("currentPath", "currentPathChanged")
    if widget is ctk.ctkDirectoryButton and issubclass(kind, pathlib.PurePath):
        return _property("directory", "directoryChanged")
    if widget is slicer.qMRMLNodeComboBox and issubclass(kind, slicer.vtkMRMLNode):
        return _node
    return None


def _first(notes: list[Any], *kinds: type) -> Any:
    return next((note for note in notes if isinstance(note, kinds)), None)


def _checked(widget: Any, kind: type, notes: list[Any]) -> Connector:
    widget.setCheckable(True)
    return Connector(widget.isChecked, widget.setChecked, widget.toggled)


def _number(widget: Any, kind: type, notes: list[Any]) -> Connector:
    for note, name in ((_first(notes, Decimals), "decimals"), (_first(notes, SingleStep), "singleStep")):
        if note is not None:
            widget.setProperty(name, note.value)
    span = _first(notes, WithinRange)
    low, high = span or _first(notes, Minimum), span or _first(notes, Maximum)
    if isinstance(widget, qt.QSlider | ctk.ctkSliderWidget) and (low is None or high is None):
        raise RuntimeError("A slider cannot show a number without bounds.")
    widest = (-(2**31), 2**31 - 1) if kind is int else (float("-inf"), float("inf"))
    widget.setProperty("minimum", low.minimum if low is not None else widest[0])
    widget.setProperty("maximum", high.maximum if high is not None else widest[1])
    return Connector(lambda: kind(widget.property("value")), widget.setValue, widget.valueChanged)


def _choice(widget: Any, kind: type, notes: list[Any]) -> Connector:
    choice = _first(notes, Choice)
    if choice is None:
        raise RuntimeError("A combo box needs the Choice annotation.")
    choices = list(choice.choices)
    return _items(widget, [(str(one), one) for one in choices])


def _enum(widget: Any, kind: type, notes: list[Any]) -> Connector:
    label = getattr(kind, "label", lambda one: one.name)
    return _items(widget, [(label(one), one) for one in kind])


def _items(widget: Any, labelled: list[tuple[str, Any]]) -> Connector:
    values = [value for _, value in labelled]
    widget.clear()
    widget.addItems([label for label, _ in labelled])
    return Connector(
        lambda: values[widget.currentIndex()],
        lambda value: widget.setCurrentIndex(values.index(value)),
        widget.currentIndexChanged,
    )


def _property(name: str, signal: str) -> Callable[[Any, type, list[Any]], Connector]:
    def connect(widget: Any, kind: type, notes: list[Any]) -> Connector:
        return Connector(
            lambda: kind(widget.property(name)),
            lambda value: widget.setProperty(name, str(value)),
            getattr(widget, signal),
        )

    return connect


def _node(widget: Any, kind: type, notes: list[Any]) -> Connector:
    widget.setProperty("nodeTypes", [kind.__name__])
    return Connector(widget.currentNode, widget.setCurrentNode, widget.currentNodeChanged)
