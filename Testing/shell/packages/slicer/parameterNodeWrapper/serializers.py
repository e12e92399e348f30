"""How values of the known types are kept in a parameter node."""

import enum
import json
import pathlib
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import slicer

from .validators import IsInstance, NotNone, Validator


@dataclass
class Default:
    """The value of a parameter that was not set yet."""

    value: Any


class Serializer:
    """A value as text in a parameter of the node."""

    def __init__(
        self, kind: Any, write: Callable[[Any], str], read: Callable[[str], Any], default: Any
    ) -> None:
        self.kind, self._write, self._read, self.default = kind, write, read, default
        self.validators: list[Validator] = [NotNone(), IsInstance((int, float) if kind is float else kind)]

    def is_in(self, node: Any, name: str) -> bool:
        """Whether the node has a value."""
        return node.HasParameter(name)

    def write(self, node: Any, name: str, value: Any) -> None:
        """Put the value into the node."""
        node.SetParameter(name, self._write(value))

    def read(self, node: Any, name: str) -> Any:
        """Take the value out of the node."""
        return self._read(node.GetParameter(name))


class NodeSerializer(Serializer):
    """A node, as a node reference: it survives renaming, saving and loading."""

    def __init__(self, kind: Any) -> None:
        super().__init__(kind, str, str, None)
        self.validators = [IsInstance(kind)]

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)


class OptionalSerializer(Serializer):
    """A value or None."""

    def __init__(self, inner: Serializer) -> None:
        self.kind, self.inner, self.default = inner.kind, inner, None
        self.validators = [check for check in inner.validators if not isinstance(check, NotNone)]

    def write(self, node: Any, name: str, value: Any) -> None:
        if isinstance(self.inner, NodeSerializer):
            self.inner.write(node, name, value)
        elif value is None:
            node.SetParameter(name, "None")
        else:
            self.inner.write(node, f"{name}.value", value)
            node.SetParameter(name, "value")

    def read(self, node: Any, name: str) -> Any:
        if isinstance(self.inner, NodeSerializer):
            return self.inner.read(node, name)
        return self.inner.read(node, f"{name}.value") if node.GetParameter(name) == "value" else None


def split(annotated: Any) -> tuple[Any, list[Any]]:
    """``Annotated[int, a, b]`` → ``int, [a, b]``."""
    if typing.get_origin(annotated) is typing.Annotated:
        kind, *notes = typing.get_args(annotated)
        return kind, notes
    return annotated, []


def serializer_for(kind: Any) -> Serializer:
    """The serializer of a type.

    Raises
    ------
    TypeError
        The type is none of those known here.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType) and type(None) in arguments and len(arguments) == 2:
        return OptionalSerializer(serializer_for(next(one for one in arguments if one is not type(None))))
    if origin is list:
        inner = serializer_for(arguments[0])
        return Serializer(
            list,
            lambda values: json.dumps([inner._write(value) for value in values]),
            lambda text: [inner._read(one) for one in json.loads(text)],
            [],
        )
    if kind is bool:
        return Serializer(bool, str, lambda text: text == "True", False)
    if kind in (int, float):
        return Serializer(kind, str, kind, 0)
    if kind is str:
        return Serializer(str, str, str, "")
    if isinstance(kind, type) and issubclass(kind, pathlib.PurePath):
        return Serializer(kind, str, kind, kind())
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return Serializer(kind, lambda value: value.name, lambda text: kind[text], next(iter(kind)))
    if isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode):
        return NodeSerializer(kind)
    raise TypeError(f"The shell keeps no parameters of type {kind}.")
