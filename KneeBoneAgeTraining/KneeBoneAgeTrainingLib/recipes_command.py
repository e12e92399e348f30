"""The command ``kneeboneage recipes``: which recipes ship, for hands and for knees, and what may stand in one.

Exit code 0 when all is well, 2 for a usage error. Heavy libraries are imported inside the commands.
"""

from __future__ import annotations

from typing import Annotated

import typer

from KneeBoneAgeLib.job import usage_error

recipes_app = typer.Typer(help="Recipes: how a model is trained.")


@recipes_app.callback(invoke_without_command=True)
def recipes(context: typer.Context) -> None:
    """List the recipes that ship: of hand models (`kneeboneage train`), then of knee models (`knee-transfer`)."""
    if context.invoked_subcommand is not None:
        return
    from .knee.recipe import load_knee_recipe
    from .recipes import load_recipe, shipped_knee_recipes, shipped_recipes

    hands = [load_recipe(path) for path in shipped_recipes().values()]
    knees = [load_knee_recipe(path) for path in shipped_knee_recipes().values()]
    said = {
        "Hand models (train):": [(one.name, one.description, one.reference) for one in hands],
        "Knee models (knee-transfer):": [(one.name, one.description, one.reference) for one in knees],
    }
    width = max(len(name) for found in said.values() for name, _, _ in found)
    for title, found in said.items():
        print(title)
        for name, description, reference in found:
            print(f"  {name:<{width}}  {description} {reference}".rstrip())


@recipes_app.command()
def show(
    name: Annotated[
        str, typer.Argument(help="Name of a shipped recipe, or a YAML file; none with --fields: all kinds.")
    ] = "",
    fields: Annotated[
        bool, typer.Option("--fields", help="Every field: its default and what it means.")
    ] = False,
) -> None:
    """Print a recipe, to be copied and changed; or with --fields what may stand in one."""
    if not name and not fields:
        usage_error("which recipe? `kneeboneage recipes` lists those that ship")
    from .knee.recipe import KneeRecipe, is_knee_recipe, knee_recipe_path, load_knee_recipe
    from .recipes import RecipeError, documented_fields, load_recipe, recipe_path

    kind, knee = None, bool(name) and is_knee_recipe(name)
    try:
        if knee:
            load_knee_recipe(name)
        elif name:
            kind = load_recipe(name).architecture.kind
    except RecipeError as error:
        usage_error(str(error))
    if not fields:
        print((knee_recipe_path if knee else recipe_path)(name).read_text(encoding="utf-8"), end="")
        return
    wanted = [documented_fields(KneeRecipe)] if knee else [documented_fields(kind=kind)]
    if not name:
        wanted.append(documented_fields(KneeRecipe))
    for title, found in zip(("Hand models:", "Knee models:"), wanted, strict=False):
        if not name:
            print(title)
        for place, default, meaning in found:
            print(f"{place}{f'  [{default}]' if default else ''}\n    {meaning}")
