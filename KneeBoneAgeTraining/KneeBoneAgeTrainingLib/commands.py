"""The commands that training adds to ``kneeboneage``, which finds them by the entry points of the package.

Without an installed package (a source tree, 3D Slicer): ``python -m KneeBoneAgeTrainingLib.commands cohort ...``
"""

from __future__ import annotations

import typer

from .cohort.command import app as cohort

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(cohort, name="cohort")

__all__ = ["app", "cohort"]

if __name__ == "__main__":
    app()
