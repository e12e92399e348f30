"""What can go wrong in the child process, by kind, with what a person can do about it."""

from __future__ import annotations

import json
from pathlib import Path

from .errors import BundleError, FilmError

KINDS = ("missing", "old", "bundle", "film", "crop", "memory", "usage", "bug")

INSTALL = "Open the Model section and press Install."
CHOOSE_CPU = "Choose CPU in the Model section."


class Problem(Exception):
    """An expected failure.

    Attributes
    ----------
    kind : one of `KINDS`.
    message : what is wrong, one sentence.
    way_out : what to do, one sentence.
    """

    def __init__(self, kind: str, message: str, way_out: str) -> None:
        super().__init__(message)
        self.kind, self.message, self.way_out = kind, message, way_out

    def to_json(self) -> dict[str, str]:
        """As it stands in an answer."""
        return {"kind": self.kind, "message": self.message, "way_out": self.way_out}


def problem_of(error: BaseException) -> Problem:
    """What an exception means to a person; "bug" when nobody expected it."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, FilmError):
        name = Path(error.path).name or "The film"
        return Problem(
            "film", f"{name}: {error.reason}", "Choose a frontal knee radiograph: one grey picture."
        )
    if isinstance(error, BundleError):
        return Problem("bundle", str(error), "Choose another model or install one in the Model section.")
    if is_memory(error):
        if any(word in str(error).lower() for word in ("cuda", "mps")):
            return Problem("memory", "The graphics card has too little free memory.", CHOOSE_CPU)
        return Problem(
            "memory", "The computer has too little free memory.", "Close other programs and try again."
        )
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("KneeBoneAge"):
        return Problem("missing", f"The Python package {error.name} is not installed.", INSTALL)
    if isinstance(error, ImportError) or (isinstance(error, OSError) and "DLL" in str(error)):
        return Problem("missing", f"A Python package cannot be loaded: {_short(error)}", INSTALL)
    if isinstance(error, json.JSONDecodeError):
        return Problem("usage", f"The request is not JSON: {error}", "Send one JSON object a line.")
    if isinstance(error, OSError):
        return Problem("usage", _short(error), "Check that the file or folder is there and may be used.")
    return Problem(
        "bug", f"Unexpected: {type(error).__name__}: {_short(error)}", "Please report it with the log."
    )


def is_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the card or beside it; torch says so in several ways."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    said = isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or said


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{text[:240]}…" if len(text) > 240 else text or type(error).__name__
