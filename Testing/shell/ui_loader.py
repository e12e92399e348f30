"""Loading of ``.ui`` files with the stand-ins for CTK and MRML widgets."""

import functools
import importlib
import operator
from xml.etree import ElementTree

from PySide6 import QtCore, QtUiTools, QtWidgets

from . import pythonqt


class UiLoader(QtUiTools.QUiLoader):
    """A ``QUiLoader`` that knows the application's widgets, and complains about those it does not."""

    def load(self, device: QtCore.QIODevice, parent: QtWidgets.QWidget | None = None) -> QtWidgets.QWidget:
        """Build the widget from an open file.

        Raises
        ------
        LookupError
            The file names a custom widget for which there is no stand-in.
        """
        root = ElementTree.fromstring(bytes(device.readAll().data()))
        names = [element.text or "" for element in root.iterfind(".//customwidget/class")]
        unknown = [name for name in names if custom_class(name) is None]
        if unknown:
            raise LookupError(f"The shell has no stand-in for {', '.join(unknown)}, which the .ui file uses.")
        wires = [{part.tag: part.text or "" for part in wire} for wire in root.iter("connection")]
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(adapted(root)))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        widget = super().load(buffer, parent)
        connect(widget, wires)
        for child in [widget, *widget.findChildren(QtWidgets.QWidget)]:
            if child.toolTip():
                pythonqt.set_tool_tip(child, child.toolTip())
        return widget

    def createWidget(
        self, class_name: str, parent: QtWidgets.QWidget | None = None, name: str = ""
    ) -> QtWidgets.QWidget:
        cls = custom_class(class_name)
        if cls is None:
            return super().createWidget(class_name, parent, name)
        widget = cls(parent)
        widget.setObjectName(name)
        return widget


def connect(widget: QtWidgets.QWidget, wires: list[dict[str, str]]) -> None:
    """Make a file's connections; ``mrmlSceneChanged(vtkMRMLScene*)`` has no form that Qt's own way could use."""
    children = {child.objectName(): child for child in [widget, *widget.findChildren(QtCore.QObject)]}
    for wire in wires:
        signal = getattr(children[wire["sender"]], wire["signal"].partition("(")[0])
        signal.connect(getattr(children[wire["receiver"]], wire["slot"].partition("(")[0]))


def adapted(root: ElementTree.Element) -> ElementTree.Element:
    """The same form without connections, and with numbers for the enumerations of stand-ins."""
    for connections in root.findall("connections"):
        root.remove(connections)
    for prop in root.iter("property"):
        for value in [*prop.findall("set"), *prop.findall("enum")]:
            parts = [part.strip().split("::") for part in (value.text or "").split("|")]
            if all(len(part) == 2 and custom_class(part[0]) is not None for part in parts):
                numbers = (int(getattr(custom_class(name), member)) for name, member in parts)
                value.tag, value.text = "number", str(functools.reduce(operator.or_, numbers))
    return root


def custom_class(name: str) -> type[QtWidgets.QWidget] | None:
    """The stand-in for a CTK or MRML widget of that name."""
    where = {"ctk": "ctk", "qMR": "slicer", "qSl": "slicer"}.get(name[:3])
    return getattr(importlib.import_module(where), name, None) if where else None
