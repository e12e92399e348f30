"""The class decorator that turns annotated names into parameters of a node."""

import typing
from collections.abc import Callable
from typing import Any

import qt
import slicer
import vtk

from .connectors import Connector, createGuiConnector
from .serializers import Default, Serializer, serializer_for, split
from .validators import Validator

SlicerParameterNamePropertyName = "SlicerParameterName"


class _Parameter:
    def __init__(self, name: str, datatype: Any, owner: type) -> None:
        kind, notes = split(datatype)
        self.name, self.datatype = name, datatype
        self.serializer: Serializer = serializer_for(kind)
        self.validators = [*self.serializer.validators, *(n for n in notes if isinstance(n, Validator))]
        if hasattr(owner, name):
            self.default = getattr(owner, name)
        else:
            given = next((note for note in notes if isinstance(note, Default)), None)
            self.default = given.value if given is not None else self.serializer.default

    def read(self, node: Any) -> Any:
        if not self.serializer.is_in(node, self.name):
            self.write(node, self.default)
        return self.serializer.read(node, self.name)

    def write(self, node: Any, value: Any) -> None:
        for validator in self.validators:
            validator.validate(value)
        with slicer.util.NodeModify(node):
            self.serializer.write(node, self.name, value)


class _Wrapper:
    """What every parameter node wrapper can do."""

    allParameters: dict[str, _Parameter]
    _is_parameter_node_wrapper = True

    def __init__(self, parameterNode: Any, prefix: str | None = None) -> None:
        self.parameterNode = parameterNode
        self._guis: dict[int, dict[str, Connector]] = {}
        self._next_tag = 0
        self._showing = False
        for parameter in self.allParameters.values():
            parameter.read(parameterNode)

    def getValue(self, name: str) -> Any:
        return self._parameter(name).read(self.parameterNode)

    def setValue(self, name: str, value: Any) -> None:
        self._parameter(name).write(self.parameterNode, value)

    def default(self, name: str) -> Default:
        return Default(self._parameter(name).default)

    @classmethod
    def dataType(cls, name: str) -> Any:
        return cls._parameter(name).datatype

    @classmethod
    def _parameter(cls, name: str) -> _Parameter:
        if name not in cls.allParameters:
            raise ValueError(
                f"Cannot find a param with the given name: {name}. There are {list(cls.allParameters)}."
            )
        return cls.allParameters[name]

    def connectGui(self, gui: Any) -> int:
        """Bind every widget that has the property SlicerParameterName; gives the tag for disconnectGui."""
        widgets = gui.findChildren(qt.QWidget) if isinstance(gui, qt.QWidget) else vars(gui).values()
        named = {w.property(SlicerParameterNamePropertyName): w for w in widgets if hasattr(w, "property")}
        return self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        connectors = {
            name: createGuiConnector(widget, self.dataType(name)) for name, widget in mapping.items()
        }
        tag, self._next_tag = self._next_tag, self._next_tag + 1
        self._guis[tag] = connectors
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.onChanged(self._reader(name, connector))
        self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._show())
        return tag

    def disconnectGui(self, guiTag: int) -> None:
        for connector in self._guis.pop(guiTag, {}).values():
            connector.onChanged(None)

    def _reader(self, name: str, connector: Connector) -> Callable[[], None]:
        def take() -> None:
            if not self._showing:
                self.setValue(name, connector.read())

        return take

    def _show(self) -> None:
        if self._showing:
            return
        self._showing = True
        try:
            for connectors in self._guis.values():
                for name, connector in connectors.items():
                    connector.write(self.getValue(name))
        finally:
            self._showing = False

    def StartModify(self) -> Any:
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified: Any) -> Any:
        return self.parameterNode.EndModify(wasModified)

    def Modified(self) -> None:
        self.parameterNode.Modified()

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)


def parameterNodeWrapper(classtype: type | None = None) -> Any:
    """Make a class of annotated names a typed view of a parameter node."""
    if classtype is None:
        return parameterNodeWrapper
    hints = typing.get_type_hints(classtype, include_extras=True)
    reserved = sorted(name for name in hints if hasattr(_Wrapper, name))
    if reserved:
        raise ValueError(f"Cannot use reserved name '{reserved[0]}' in a parameterNodeWrapper")
    parameters = {name: _Parameter(name, datatype, classtype) for name, datatype in hints.items()}
    members = {name: _property(name) for name in hints}
    members |= {"allParameters": parameters, "__doc__": classtype.__doc__, "__module__": classtype.__module__}
    return type(classtype.__name__, (_Wrapper, classtype), members)


def _property(name: str) -> property:
    return property(lambda self: self.getValue(name), lambda self, value: self.setValue(name, value))


def isParameterNodeWrapper(classOrObj: Any) -> bool:
    """Whether a class or an object is a parameter node wrapper."""
    return getattr(classOrObj, "_is_parameter_node_wrapper", False)


def findChildWidgetForParameter(widget: Any, parameter: str) -> Any:
    """The widget inside that shows the parameter, or None."""
    children = widget.findChildren(qt.QWidget)
    return next(
        (child for child in children if child.property(SlicerParameterNamePropertyName) == parameter), None
    )
