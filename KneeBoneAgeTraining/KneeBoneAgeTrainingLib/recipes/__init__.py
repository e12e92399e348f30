"""Recipes: how a network is trained, as a YAML file that is checked before anything runs.

`schema` says what may stand in one. The shipped ones lie beside it and are known by name.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .reading import (
    RecipeError,
    changed,
    checked,
    kind_of,
    load_values,
    members_of,
    names_of_shipped,
    shipped_knee_recipes,
    shipped_recipes,
)
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


def recipe_path(name_or_path: str | Path) -> Path:
    """The file of a recipe that ships, or the path that was given."""
    return shipped_recipes().get(str(name_or_path), Path(name_or_path))


def load_recipe(name_or_path: str | Path, changes: Sequence[str] = ()) -> HandRecipe:
    """A recipe that ships, by name, or a file, with changes as `reading.changed` takes them.

    Raises
    ------
    RecipeError
        There is none, it is no YAML, a key is unknown or a value impossible.
    """
    path = recipe_path(name_or_path)
    values = load_values(name_or_path, path, shipped_knee_recipes(), "knees")
    return checked(HandRecipe, changed(values, changes), path)


def dump_recipe(recipe: HandRecipe) -> str:
    """The whole recipe as YAML, defaults included; `load_recipe` gives it back."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def documented_fields(
    model: type[BaseModel] = HandRecipe, prefix: str = "", kind: str | None = None
) -> Iterator[tuple[str, str, str]]:
    """Every field as (place, default, description); of the architectures only `kind`, where one is given."""
    for name, field in model.model_fields.items():
        members = members_of(field.annotation)
        many = "[]" if typing.get_origin(field.annotation) is tuple and members else ""
        place = f"{prefix}{name}{many}"
        yield place, _default(field), field.description or ""
        if kind is not None and len(members) > 1:
            members = [one for one in members if kind_of(one) == kind]
        for member in members:
            own = f"({kind_of(member)})" if len(members) > 1 else ""
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
