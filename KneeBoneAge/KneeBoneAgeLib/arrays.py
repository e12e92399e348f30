"""Classes whose fields are float arrays, as a bundle keeps them: to named tensors and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


class KeptArrays:
    """Base of a dataclass of arrays; `WHAT` names it in errors."""

    WHAT: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def tensors(self) -> dict[str, Floats]:
        """Arrays by name, as a safetensors file holds them."""
        return {one.name: np.ascontiguousarray(getattr(self, one.name), np.float32) for one in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Floats]) -> Self:
        """The inverse of `tensors`; raises ValueError when an array is missing or one too many."""
        names = {one.name for one in fields(cls)}
        if set(tensors) != names:
            raise ValueError(f"a {cls.WHAT} has the arrays {sorted(names)}, not {sorted(tensors)}")
        return cls(**{name: np.asarray(tensors[name], np.float32) for name in names})
