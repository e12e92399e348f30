"""Sentences of the library: marked, said in the language that was set, and whole when a translation is not."""

import ast
import re
import string
from pathlib import Path

import pytest

import KneeBoneAgeLib
from KneeBoneAgeLib import words
from KneeBoneAgeLib.errors import BundleError, FilmError
from KneeBoneAgeLib.problems import Problem, problem_of

LIBRARY = Path(KneeBoneAgeLib.__file__).parent


@pytest.fixture
def language():
    """Sets the language; English again afterwards."""
    yield words.speak
    words.speak(words.mark)


def marked(file):
    """The sentences of a file that are marked with ``_``."""
    calls = (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call))
    return [
        ast.literal_eval(call.args[0])
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "_"
    ]


def fields(sentence):
    return {name for _text, name, _spec, _conversion in string.Formatter().parse(sentence) if name}


def test_the_list_of_files_is_that_of_the_files_with_marked_sentences():
    there = {
        file for file in LIBRARY.rglob("*.py") if re.search(r"\b_ = mark\b|mark as _\b", file.read_text())
    }
    assert set(words.files()) == there
    assert all(marked(file) for file in there)


def test_sentences_are_whole_literals_with_named_places():
    for file in words.files():
        for sentence in marked(file):
            assert isinstance(sentence, str)
            assert all(name.isidentifier() for name in fields(sentence)), sentence


def test_a_sentence_is_said_in_the_language_that_was_set(language):
    language({"{count} films": "{count} Filme", "none": "keine"}.get)
    assert words.tell("{count} films", count=3) == "3 Filme"
    assert words.tell("none") == "keine"


def test_a_translation_that_spoils_the_places_is_not_used(language):
    language(lambda sentence: sentence.replace("{count}", "{zahl}"))
    assert words.tell("{count} films", count=3) == "3 films"


def test_braces_of_a_value_are_left_alone():
    assert words.tell("{name} is no film", name="{knee}") == "{knee} is no film"
    assert str(Problem("usage", "{knee} as it is")) == "{knee} as it is"


def test_a_problem_is_said_in_the_language_of_who_shows_it(language):
    said = problem_of(FilmError("/films/hand.dcm", "holds 3 frames; give a single film")).to_json()
    assert said["message"] == "hand.dcm: holds 3 frames; give a single film"
    language(lambda sentence: f"«{sentence}»")
    shown = Problem.from_json(said)
    assert shown.message == "«hand.dcm: «holds 3 frames; give a single film»»"
    assert str(shown) == f"{shown.message}. {shown.way_out}"


@pytest.mark.parametrize(
    "error",
    [
        FilmError("", "it is blank"),
        BundleError("no {bundle}"),
        KeyError("x"),
        ImportError("lib{x}"),
        OSError(2, "gone"),
    ],
)
def test_every_problem_comes_back_from_json_as_it_was(error):
    problem = problem_of(error)
    again = Problem.from_json(problem.to_json())
    assert (again.kind, again.message, again.way_out) == (problem.kind, problem.message, problem.way_out)
