"""The commands ``kneeboneage knee-transfer`` and ``export``.

Exit code 0 when all is well, 1 when training failed, 2 for a usage error, 130 when it was stopped; then the same line
goes on. Heavy libraries are imported inside the commands.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from KneeBoneAgeLib.job import usage_error

from .train_command import (
    ChangeOption,
    Device,
    DeviceOption,
    DevicesOption,
    NodesOption,
    WorkersOption,
    at_the_terminal,
)


class Label(StrEnum):
    readers = "readers"
    pseudo = "pseudo"
    both = "both"


def knee_transfer(
    study: Annotated[
        Path, typer.Option("--study", help="Folder of a study with knee films.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.", show_default=False)],
    label: Annotated[
        Label,
        typer.Option(
            "--label",
            help="Learn from readers' bone ages, pseudo-labels, or both: the reader's where there is one.",
        ),
    ] = Label.readers,
    teacher: Annotated[
        Path | None, typer.Option("--teacher", help="Start from the weights of this run of a hand teacher.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Start from the age networks of this bundle.")
    ] = None,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Start from first weights.")] = False,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Table that `kneeboneage pseudo-label` wrote.")
    ] = None,
    recipe: Annotated[
        str, typer.Option("--recipe", help="Name of a shipped knee recipe, or a YAML file.")
    ] = "knee-transfer",
    crops: Annotated[
        Path | None,
        typer.Option(
            "--crops",
            help="Table of corrected crops (CSV): file, side, x0, y0, x1, y1 and, optional, angle_deg.",
        ),
    ] = None,
    finder: Annotated[
        Path | None,
        typer.Option(
            "--finder", help="Bundle whose finder finds the knees.", show_default="the one that ships"
        ),
    ] = None,
    fold: Annotated[
        list[int] | None,
        typer.Option("--fold", min=0, help="Train this fold only; more than once.", show_default="all"),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Instead of the recipe's.")] = None,
    change: ChangeOption = None,
    share: Annotated[
        float,
        typer.Option("--share", min=0.01, max=1.0, help="Learn from this share of the training children."),
    ] = 1.0,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="Folder for prepared crops.", show_default="prepared beside the run"),
    ] = None,
    device: DeviceOption = Device.auto,
    devices: DevicesOption = 1,
    nodes: NodesOption = 1,
    workers: WorkersOption = None,
    json_progress: Annotated[
        bool,
        typer.Option("--json-progress", help="One JSON object a line on standard output, for a program."),
    ] = False,
) -> None:
    """Train the knee model of a study, in its folds, from a hand teacher, a bundle or scratch.

    Crops are prepared once and kept. The same line goes on where a run was stopped.
    """
    if sum((teacher is not None, bundle is not None, from_scratch)) != 1:
        usage_error("give one of --teacher RUN, --bundle FOLDER and --from-scratch")
    if label != Label.readers and labels is None:
        usage_error(f"--label {label.value} needs --labels, the table that `kneeboneage pseudo-label` writes")
    from .knee.recipe import load_knee_recipe
    from .recipes import RecipeError

    try:
        settled = load_knee_recipe(recipe, change or ())
    except RecipeError as error:
        usage_error(str(error))
    if epochs is not None:
        settled = settled.model_copy(update={"epochs": epochs})

    from KneeBoneAgeLib.bundle import default_bundle_path

    from .cohort.study import open_study
    from .knee.pictures import BundleFinder
    from .knee.start import BUNDLE, SCRATCH, TEACHER, Start
    from .knee.transfer import KneeJob, transfer
    from .runs.machine import Machine

    kind = TEACHER if teacher else BUNDLE if bundle else SCRATCH
    given = {} if workers is None else {"workers": workers}
    with at_the_terminal(out, json_progress) as (reporter, stop):
        job = KneeJob(
            settled,
            open_study(study),
            out,
            Start(kind, teacher or bundle),
            label.value,
            labels,
            crops,
            BundleFinder(finder or default_bundle_path()),
            Machine(device.value, devices, nodes, **given),
            tuple(sorted(set(fold))) if fold else None,
            cache,
            share,
        )
        transfer(job, reporter, stop)


def export(
    run: Annotated[
        Path, typer.Argument(help="Folder of a finished run of knee-transfer.", show_default=False)
    ],
    out: Annotated[Path, typer.Argument(help="Folder of the bundle.", show_default=False)],
    name: Annotated[str, typer.Option("--name", help="Name of the bundle.", show_default="the run's")] = "",
    licence: Annotated[
        str, typer.Option("--licence", help="Under which the bundle may be used.")
    ] = "not stated by who made it",
) -> None:
    """Make a bundle of a trained knee model; its card says what really happened."""
    from KneeBoneAgeLib.bundle import card

    from .export import export_run
    from .runs.record import RunError, open_run

    try:
        bundle = export_run(open_run(run), out, name=name, licence=licence)
    except RunError as error:
        usage_error(str(error))
    print(card(bundle))


app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command("knee-transfer")(knee_transfer)
app.command("export")(export)

if __name__ == "__main__":
    app()
