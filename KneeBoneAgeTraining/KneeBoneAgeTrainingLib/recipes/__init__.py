"""Recipes: how a network is trained, as a YAML file that is checked before anything runs.

`schema` says what may stand in one. The shipped ones lie beside it and are known by name.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from .schema import HandRecipe

__all__ = [
    "HandRecipe",
    "RecipeError",
    "documented_fields",
    "dump_recipe",
    "load_recipe",
    "names_of_shipped",
    "recipe_path",
    "shipped_knee_recipes",
    "shipped_recipes",
]

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


def recipe_path(name_or_path: str | Path) -> Path:
    """The file of a recipe that ships, or the path that was given."""
    return shipped_recipes().get(str(name_or_path), Path(name_or_path))


def load_recipe(name_or_path: str | Path) -> HandRecipe:
    """A recipe that ships, by name, or a file.

    Raises
    ------
    RecipeError
        There is none, it is no YAML, a key is unknown or a value impossible.
    """
    path = recipe_path(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = f"no recipe ({getattr(error, 'strerror', None) or error})"
        if str(name_or_path) in shipped_knee_recipes():
            reason = "is a recipe for knees"
        raise RecipeError(f"{name_or_path}: {reason}; shipped are {names_of_shipped()}") from None
    try:
        values = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: holds no keys; `kneeboneage recipes show --fields` names them")
    try:
        return HandRecipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"{path}: " + "; ".join(_explained(error, values))) from None


def dump_recipe(recipe: HandRecipe) -> str:
    """The whole recipe as YAML, defaults included; `load_recipe` gives it back."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def _explained(error: ValidationError, values: dict[str, Any]) -> Iterator[str]:
    """One sentence a mistake."""
    for one in error.errors():
        place = _place(one["loc"], values)
        if one["type"] == "extra_forbidden":
            known = sorted(_fields_at(HandRecipe, place[:-1], values))
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


def _members(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field's type holds, through tuples, unions and annotations."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, types.GenericAlias) or typing.get_origin(annotation) is not None:
        return [model for inner in typing.get_args(annotation) for model in _members(inner)]
    return []


def _kind_of(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("kind")
    kinds = typing.get_args(field.annotation) if field is not None else ()
    return kinds[0] if len(kinds) == 1 else None


def _fields_at(model: type[BaseModel], place: Sequence[str | int], values: Any) -> dict[str, FieldInfo]:
    """The fields that may stand at a place of the file."""
    for step in place:
        values = values[step]
        if isinstance(step, str):
            models = _members(model.model_fields[step].annotation)
            if len(models) > 1:
                kind = values.get("kind") if isinstance(values, dict) else None
                models = [one for one in models if _kind_of(one) == kind] or models
            model = models[0]
    return dict(model.model_fields)


def documented_fields(
    model: type[BaseModel] = HandRecipe, prefix: str = "", kind: str | None = None
) -> Iterator[tuple[str, str, str]]:
    """Every field as (place, default, description); of the architectures only `kind`, where one is given."""
    for name, field in model.model_fields.items():
        members = _members(field.annotation)
        many = "[]" if typing.get_origin(field.annotation) is tuple and members else ""
        place = f"{prefix}{name}{many}"
        yield place, _default(field), field.description or ""
        if kind is not None and len(members) > 1:
            members = [one for one in members if _kind_of(one) == kind]
        for member in members:
            own = f"({_kind_of(member)})" if len(members) > 1 else ""
            yield from documented_fields(member, f"{place}{own}.", kind)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return ""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(list(value) if isinstance(value, tuple) else value)
