"""Every reason that the library gives has a sentence that a translator finds, and is recognised with its values."""

import ast
import re
import string
from pathlib import Path

import pytest

import KneeBoneAgeLib
from KneeBoneAgeLib import words
from KneeBoneAgeLib.bundle_store import install
from KneeBoneAgeLib.errors import BundleError, FilmError
from KneeBoneAgeLib.problems import problem_of
from KneeBoneAgeLib.radiograph import film_from_array, read_film
from KneeBoneAgeLib.reasons import REASONS, known_reason

LIBRARY = Path(KneeBoneAgeLib.__file__).parent
FOLDERS = ("phantom",)  # draws; nothing of it refuses a person's film
RAISED = {"FilmError": 1, "BundleError": 0}
NAMES = {"reason", "notes", "hint"}
SAYS = {"_unsuitable", "_levels"}
TYPED = {"with_known", "__post_init__"}
"""Functions of `film.py` and `crop.py` whose ValueErrors a person can cause in the panel."""


def sources():
    """The library's files that give reasons."""
    return [
        file for file in sorted(LIBRARY.rglob("*.py")) if file.relative_to(LIBRARY).parts[0] not in FOLDERS
    ]


def constants(tree):
    """String constants of a module, by name."""
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    return {
        node.targets[0].id: node.value.value
        for node in assigned
        if isinstance(node.value, ast.Constant) and isinstance(node.targets[0], ast.Name)
    }


def given(tree, name):
    """The expressions of a file that say a reason."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            place = RAISED.get(called, 1 if called == "Finding" else 0 if called == "notes.append" else None)
            if place is not None and len(node.args) > place:
                yield node.args[place]
        elif isinstance(node, ast.Assign):
            names = {one.id for one in ast.walk(node.targets[0]) if isinstance(one, ast.Name)}
            if names & NAMES:
                yield node.value
        elif isinstance(node, ast.FunctionDef) and node.name in SAYS:
            yield from (one.value for one in ast.walk(node) if isinstance(one, ast.Return) and one.value)
        elif isinstance(node, ast.FunctionDef) and node.name in TYPED and name in ("film.py", "crop.py"):
            yield from (one.exc.args[0] for one in ast.walk(node) if isinstance(one, ast.Raise) and one.exc)


def sentences(expression, known):
    """The sentences of an expression, ``{}`` in the place of values."""
    if isinstance(expression, ast.JoinedStr):
        text = ""
        for part in expression.values:
            if isinstance(part, ast.Constant):
                text += part.value
            elif isinstance(part.value, ast.Name) and isinstance(known.get(part.value.id), str):
                text += known[part.value.id]
            else:
                text += "{}"
                yield from sentences(part.value, known)
        yield text
    elif isinstance(expression, ast.Constant):
        if isinstance(expression.value, str):
            yield expression.value
    elif isinstance(expression, ast.IfExp):
        yield from (*sentences(expression.body, known), *sentences(expression.orelse, known))
    elif isinstance(expression, ast.Tuple | ast.List | ast.BoolOp):
        parts = expression.values if isinstance(expression, ast.BoolOp) else expression.elts
        yield from (sentence for part in parts for sentence in sentences(part, known))


def said_in_the_library():
    """{sentence: file} of what reads as words."""
    found = {}
    for file in sources():
        tree = ast.parse(file.read_text())
        known = constants(tree)
        for expression in given(tree, file.name):
            for sentence in sentences(expression, known):
                if " " in re.sub(r"[^A-Za-z ]", "", sentence).strip():
                    found[sentence] = file.name
    return found


def without_names(sentence):
    return "".join(
        words + ("" if name is None else "{}") for words, name, *_ in string.Formatter().parse(sentence)
    )


def test_every_reason_of_the_library_has_a_sentence_that_can_be_translated():
    known = {without_names(sentence) for sentence in REASONS}
    missing = {sentence: file for sentence, file in said_in_the_library().items() if sentence not in known}
    assert missing == {}


def test_no_sentence_is_left_over_that_the_library_no_longer_says():
    said = set(said_in_the_library())
    assert [sentence for sentence in REASONS if without_names(sentence) not in said] == []


@pytest.mark.parametrize("sentence", REASONS)
def test_a_reason_is_recognised_with_its_values(sentence):
    names = [name for _text, name, _spec, _conversion in string.Formatter().parse(sentence) if name]
    values = {name: f"{index} of '{name}'" for index, name in enumerate(names)}
    found = known_reason(sentence.format(**values))
    assert found == (sentence, values)


def test_what_is_no_reason_is_left_alone():
    assert known_reason("knee.dcm") is None


@pytest.fixture
def french():
    """A language with three sentences."""
    known = {
        "{file}: there is no such file or folder": "{file} n'existe pas",
        "has the shape {size}; a film has one slice of rows and columns": "forme {size}",
        "the file could not be read ({reason}); the volume in the scene was used": "fichier illisible : {reason}",
        "the file is empty": "fichier vide",
    }
    words.speak(lambda sentence: known.get(sentence, sentence))
    yield
    words.speak(words.mark)


def test_reasons_with_values_are_said_in_another_language(french, tmp_path):
    with pytest.raises(FilmError) as refused:
        film_from_array([[[[1.0]]]], path="knee.dcm")
    assert problem_of(refused.value).message == "knee.dcm: forme (1, 1, 1, 1)"
    with pytest.raises(BundleError) as absent:
        install(tmp_path / "model.zip", tmp_path)
    assert problem_of(absent.value).message == f"{tmp_path / 'model.zip'} n'existe pas"


def test_a_reason_within_a_reason_is_said_in_another_language_too(french, tmp_path):
    empty = tmp_path / "knee.dcm"
    empty.touch()
    with pytest.raises(FilmError) as refused:
        read_film(empty)
    note = f"the file could not be read ({refused.value.reason}); the volume in the scene was used"
    assert words.tell(note) == "fichier illisible : fichier vide"
