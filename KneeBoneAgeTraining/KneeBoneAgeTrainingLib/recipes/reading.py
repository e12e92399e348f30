"""Recipes as files: which ship, what stands in one, what a command line changes in it, and what is wrong with it."""

from __future__ import annotations

import copy
import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

Model = TypeVar("Model", bound=BaseModel)
FOLDER = Path(__file__).parent
KNEE_FOLDER = FOLDER / "knee"


class RecipeError(ValueError):
    """A recipe cannot be used: which file, which key, and what would be right."""


class _Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {twice!r} stands twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def shipped_recipes() -> dict[str, Path]:
    """Name → file of the hand recipes that ship."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def shipped_knee_recipes() -> dict[str, Path]:
    """Name → file of the knee recipes that ship."""
    return {path.stem: path for path in sorted(KNEE_FOLDER.glob("*.yaml"))}


def names_of_shipped() -> str:
    """All recipes that ship and the commands that take them, in words."""
    hands, knees = (", ".join(names) for names in (shipped_recipes(), shipped_knee_recipes()))
    return f"for hands (train): {hands}; for knees (knee-transfer): {knees}"


def load_values(
    name_or_path: str | Path, path: Path, others: Mapping[str, Path], kind: str
) -> dict[str, Any]:
    """What stands in a recipe's file, not checked yet; `others` ship too, but are recipes for `kind`.

    Raises
    ------
    RecipeError
        There is none, or it is no YAML that holds keys.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = f"no recipe ({getattr(error, 'strerror', None) or error})"
        if str(name_or_path) in others:
            reason = f"is a recipe for {kind}"
        raise RecipeError(f"{name_or_path}: {reason}; shipped are {names_of_shipped()}") from None
    try:
        values = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: holds no keys; `kneeboneage recipes show --fields` names them")
    return values


def checked(model: type[Model], values: dict[str, Any], path: Path) -> Model:
    """The recipe that the values make. Raises RecipeError that names every mistake."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"{path}: " + "; ".join(_explained(error, values, model))) from None


def changed(values: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """A copy with changes such as ``batch=8``, ``augmentation.noise=0`` or ``stages[0].epochs=3``; values are YAML.

    Raises
    ------
    RecipeError
        A change is no such line, or its place is not there.

    >>> changed({"stages": [{"epochs": 9}]}, ["stages[0].epochs=3", "optimiser.kind=sgd"])
    {'stages': [{'epochs': 3}], 'optimiser': {'kind': 'sgd'}}
    """
    found = copy.deepcopy(values)
    for change in changes:
        place, equals, text = change.partition("=")
        if not equals or not re.fullmatch(r"\w+(\[\d+\])*(\.\w+(\[\d+\])*)*", place):
            raise RecipeError(f"--set {change}: write PLACE=VALUE, for example stages[0].epochs=3 or batch=8")
        steps: list[str | int] = [int(step) if step.isdigit() else step for step in re.findall(r"\w+", place)]
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise RecipeError(f"--set {change}: the value is no YAML") from None
        here: Any = found
        try:
            for step in steps[:-1]:
                if isinstance(here, dict) and here.get(step) is None:
                    here[step] = {}
                here = here[step]
            if isinstance(steps[-1], int):
                here[steps[-1]]  # a list is not made longer
            elif not isinstance(here, dict):
                raise TypeError
            here[steps[-1]] = value
        except (KeyError, IndexError, TypeError, AttributeError):
            raise RecipeError(f"--set {change}: the recipe has no such place") from None
    return found


def _explained(error: ValidationError, values: dict[str, Any], model: type[BaseModel]) -> Iterator[str]:
    """One sentence a mistake."""
    for one in error.errors():
        place = _place(one["loc"], values)
        if one["type"] == "extra_forbidden":
            known = sorted(_fields_at(model, place[:-1], values))
            near = difflib.get_close_matches(str(place[-1]), known, 1, cutoff=0.0)
            inside = f" in {dotted(place[:-1])}" if place[:-1] else ""
            yield f"unknown key {str(place[-1])!r}{inside}; the nearest known one is {near[0]!r}"
        elif one["type"] == "missing":
            yield f"{dotted(place)} is missing"
        else:
            reason = one["msg"].removeprefix("Value error, ")
            given = one.get("input")
            shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool | None) else ""
            yield f"{dotted(place) or 'recipe'}: {reason}{shown}"


def _place(loc: Sequence[str | int], values: Any) -> tuple[str | int, ...]:
    """Where in the file an error is: pydantic's place without the names of the union's members."""
    found: list[str | int] = []
    here = values
    for index, step in enumerate(loc):
        if isinstance(here, dict) and isinstance(step, str) and step == here.get("kind") and index < len(loc):
            continue
        found.append(step)
        try:
            here = here[step]
        except (KeyError, IndexError, TypeError):
            here = None
    return tuple(found)


def dotted(place: Sequence[str | int]) -> str:
    """``("stages", 0, "epochs")`` as ``stages[0].epochs``."""
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def members_of(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field's type holds, through tuples, unions and annotations."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, types.GenericAlias) or typing.get_origin(annotation) is not None:
        return [model for inner in typing.get_args(annotation) for model in members_of(inner)]
    return []


def kind_of(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("kind")
    kinds = typing.get_args(field.annotation) if field is not None else ()
    return kinds[0] if len(kinds) == 1 else None


def _fields_at(model: type[BaseModel], place: Sequence[str | int], values: Any) -> dict[str, FieldInfo]:
    """The fields that may stand at a place of the file."""
    for step in place:
        values = values[step]
        if isinstance(step, str):
            models = members_of(model.model_fields[step].annotation)
            if len(models) > 1:
                kind = values.get("kind") if isinstance(values, dict) else None
                models = [one for one in models if kind_of(one) == kind] or models
            model = models[0]
    return dict(model.model_fields)
