"""Conditions that a parameter's value must keep; a value that does not raises ValueError (or TypeError)."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any


class Validator:
    """Base of all conditions."""

    def validate(self, value: Any) -> None:
        """Raise when the value breaks the condition."""
        raise NotImplementedError


class NotNone(Validator):
    """The value is not None."""

    def validate(self, value: Any) -> None:
        if value is None:
            raise ValueError("Value must not be None")


@dataclass
class IsInstance(Validator):
    """The value is None or of this class."""

    classtype: Any

    def validate(self, value: Any) -> None:
        if value is not None and not isinstance(value, self.classtype):
            raise TypeError(f"Value must be of type '{self.classtype}', is '{value!r}'")


@dataclass
class WithinRange(Validator):
    """The value lies between the two, both included."""

    minimum: float
    maximum: float

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within range [{self.minimum}, {self.maximum}], is {value}")


@dataclass
class Minimum(Validator):
    """The value is at least this."""

    minimum: float

    def validate(self, value: Any) -> None:
        if value < self.minimum:
            raise ValueError(f"Value must be at least {self.minimum}, is {value}")


@dataclass
class Maximum(Validator):
    """The value is at most this."""

    maximum: float

    def validate(self, value: Any) -> None:
        if value > self.maximum:
            raise ValueError(f"Value must be at most {self.maximum}, is {value}")


@dataclass
class Choice(Validator):
    """The value is one of these."""

    choices: Collection[Any]

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Value is {value}, but must be one of {self.choices}")


@dataclass
class Exclude(Validator):
    """The value is none of these."""

    excludedValues: Collection[Any]

    def validate(self, value: Any) -> None:
        if value in self.excludedValues:
            raise ValueError(f"Value is {value}, but must not be one of {self.excludedValues}")
