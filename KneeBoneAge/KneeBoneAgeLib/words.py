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


_ = mark

MARKED = ("installation", "many_films", "problems", "scene.films", "scene.results", "scene.saliency", "scene.squares",
          "service", "words")  # fmt: skip
"""Modules of this library with marked sentences."""

SAID_ELSEWHERE = (
    _("no frontal knee found on the film: lateral view, another body part, or too little of it"),
    _("lateral view according to the header; only frontal films are used"),
    _("blank film: it shows no contrast"),
    _("most of the crop lies outside of the film; move it onto the knee"),
    _("what is in the crop does not look like a frontal knee without implants"),
    _("what is in the crop is unlike anything the networks were trained on"),
)
"""Reasons that go into records, which stay English there, and are translated where they are shown."""

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

    A value named ``reason`` is a sentence itself.
    """
    if isinstance(values.get("reason"), str):
        values["reason"] = _translate(str(values["reason"]))
    if not values:
        return _translate(sentence)
    try:
        return _translate(sentence).format(**values)
    except (KeyError, IndexError, ValueError):
        return sentence.format(**values)


def files() -> list[Path]:
    """The files of the modules with marked sentences; translations are kept by file."""
    here = Path(__file__).parent
    return [here.joinpath(*name.split(".")).with_suffix(".py") for name in MARKED]
