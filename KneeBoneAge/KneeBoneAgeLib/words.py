"""Sentences of the library that a person reads, in the language of the application.

A sentence is marked with ``_`` where it is written, so that tools of translation find it, and is said by `tell`,
which puts its values in last. The application sets the language with `speak`; anywhere else it stays English. The
child process speaks English and sends sentences with their values apart, so that the application can say them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def mark(sentence: str) -> str:
    """The sentence itself; imported as ``_``, it says that the sentence can be translated."""
    return sentence


MARKED = ("installation", "many_films", "model_card", "problems", "reasons", "scene.films", "scene.results",
          "scene.saliency", "scene.squares", "service", "service_actions")  # fmt: skip
"""Modules of this library with marked sentences."""

_translate: Callable[[str], str] = mark


def speak(translate: Callable[[str], str]) -> None:
    """Say every sentence in another language from now on.

    Parameters
    ----------
    translate : gives the sentence with its placeholders, the same one where it is not known.
    """
    global _translate
    _translate = translate


def tell(sentence: str, /, **values: object) -> str:
    """A sentence with its values, ``{name}`` in it; a translation that spoils the placeholders is not used.

    A value named ``reason`` is a sentence itself. One of `reasons.REASONS` may have its values in it already.
    """
    if isinstance(values.get("reason"), str):
        values["reason"] = tell(str(values["reason"]))
    if not values:
        return _tell_whole(sentence)
    try:
        return _translate(sentence).format(**values)
    except (KeyError, IndexError, ValueError):
        return sentence.format(**values)


def _tell_whole(sentence: str) -> str:
    said = _translate(sentence)
    if said != sentence or _translate is mark:
        return said
    from .reasons import known_reason

    found = known_reason(sentence)
    return tell(found[0], **found[1]) if found and found[1] else sentence


def files() -> list[Path]:
    """The files of the modules with marked sentences; translations are kept by file."""
    here = Path(__file__).parent
    return [here.joinpath(*name.split(".")).with_suffix(".py") for name in MARKED]
