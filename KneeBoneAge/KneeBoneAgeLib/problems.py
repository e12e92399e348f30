"""What can go wrong in the child process, by kind, with what a person can do about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import BundleError, FilmError
from .words import mark as _
from .words import tell

KINDS = ("missing", "old", "bundle", "film", "crop", "memory", "usage", "bug", "ended", "cancelled")
"""The last two are said by the application, of a child process that died or that a person has ended."""

INSTALL = _("Open the Model section and press Install.")
CHOOSE_CPU = _("Choose CPU in the Model section.")


class Problem(Exception):
    """An expected failure. Its text is what is wrong and the way out, in the language of the application.

    Parameters
    ----------
    kind : one of `KINDS`.
    message : what is wrong, one sentence.
    way_out : what to do, one sentence.
    values : what stands in the place of ``{name}`` in both.
    """

    def __init__(self, kind: str, message: str, way_out: str = "", **values: object) -> None:
        super().__init__(message)
        self.kind, self._message, self._way_out, self._values = kind, message, way_out, values

    @property
    def message(self) -> str:
        return tell(self._message, **self._values)

    @property
    def way_out(self) -> str:
        return tell(self._way_out, **self._values)

    def __str__(self) -> str:
        return ". ".join(part.rstrip(".") for part in (self.message, self.way_out) if part)

    def to_json(self) -> dict[str, Any]:
        """As it stands in an answer; ``told`` has the sentences with their values apart."""
        told = {"message": self._message, "way_out": self._way_out, "values": self._values}
        return {"kind": self.kind, "message": self.message, "way_out": self.way_out, "told": told}

    @classmethod
    def from_json(cls, error: Mapping[str, Any]) -> Problem:
        """What another process has said."""
        told = error.get("told") or error
        values = told.get("values") or {}
        return cls(
            str(error.get("kind", "bug")),
            str(told.get("message", "")),
            str(told.get("way_out") or ""),
            **values,
        )


def problem_of(error: BaseException) -> Problem:
    """What an exception means to a person; "bug" when nobody expected it."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, FilmError):
        name = Path(error.path).name
        choose = _("Choose a frontal knee radiograph: one grey picture.")
        if name:
            return Problem("film", _("{film}: {reason}"), choose, film=name, reason=error.reason)
        return Problem("film", _("The film: {reason}"), choose, reason=error.reason)
    if isinstance(error, BundleError):
        install = _("Choose another model or install one in the Model section.")
        return Problem("bundle", "{reason}", install, reason=str(error))
    if is_memory(error):
        if any(word in str(error).lower() for word in ("cuda", "mps")):
            return Problem("memory", _("The graphics card has too little free memory."), CHOOSE_CPU)
        return Problem(
            "memory", _("The computer has too little free memory."), _("Close other programs and try again.")
        )
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("KneeBoneAge"):
        return Problem("missing", _("The Python package {name} is not installed."), INSTALL, name=error.name)
    if isinstance(error, ImportError) or (isinstance(error, OSError) and "DLL" in str(error)):
        return Problem(
            "missing", _("A Python package cannot be loaded: {error}"), INSTALL, error=_short(error)
        )
    if isinstance(error, json.JSONDecodeError):
        return Problem(
            "usage",
            _("The request is not JSON: {error}"),
            _("Send one JSON object a line."),
            error=str(error),
        )
    if isinstance(error, OSError):
        return Problem(
            "usage",
            "{error}",
            _("Check that the file or folder is there and may be used."),
            error=_short(error),
        )
    return Problem(
        "bug",
        _("Unexpected: {what}: {error}"),
        _("Please report it with the log."),
        what=type(error).__name__,
        error=_short(error),
    )


def is_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the card or beside it; torch says so in several ways."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    said = isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or said


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{text[:240]}…" if len(text) > 240 else text or type(error).__name__
