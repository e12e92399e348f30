"""The commands that training adds to ``kneeboneage``, which finds them by the entry points of the package.

Without an installed package (a source tree, 3D Slicer): ``python -m KneeBoneAgeTrainingLib.commands cohort ...``
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from . import recipes_command, train_command, transfer_command
from .cohort.command import app as cohort


def _alone(command: Callable[..., Any]) -> typer.Typer:
    """A command as the entry points announce it."""
    one = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    one.command()(command)
    return one


recipes = recipes_command.recipes_app
train, runs = _alone(train_command.train), _alone(train_command.runs)
pseudo_label = _alone(train_command.pseudo_label)
knee_transfer, export = _alone(transfer_command.knee_transfer), _alone(transfer_command.export)

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(cohort, name="cohort")
app.add_typer(recipes, name="recipes")
app.command("train")(train_command.train)
app.command("runs")(train_command.runs)
app.command("pseudo-label")(train_command.pseudo_label)
app.command("knee-transfer")(transfer_command.knee_transfer)
app.command("export")(transfer_command.export)

__all__ = ["app", "cohort", "export", "knee_transfer", "pseudo_label", "recipes", "runs", "train"]

if __name__ == "__main__":
    app()
