"""The commands ``kneeboneage train``, ``runs`` and ``pseudo-label``.

Exit code 0 when all is well, 1 when training failed or films could not be labelled, 2 for a usage error, 130 when it
was stopped; then the same line goes on.
Heavy libraries are imported inside the commands, so that a usage error and ``--help`` answer at once.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from KneeBoneAgeLib.job import messages, progress_bar, usage_error

if TYPE_CHECKING:
    from .runs.loop import StopRequest
    from .runs.progress import Reporter

STOPPED_CODE = 130


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


DeviceOption = Annotated[Device, typer.Option("--device", help="Where the networks run.")]
DevicesOption = Annotated[int, typer.Option("--devices", min=1, help="Devices (CPU: processes) a machine.")]
NodesOption = Annotated[int, typer.Option("--nodes", min=1, help="Machines (torchrun, SLURM).")]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", min=0, help="Processes that prepare films.", show_default="one a core, but one"
    ),
]

ChangeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change the recipe: PLACE=VALUE, for example stages[0].epochs=3 or batch=8; more than once.",
        show_default=False,
    ),
]


def train(
    recipe: Annotated[
        str, typer.Argument(help="Name of a shipped recipe, or a YAML file.", show_default=False)
    ],
    study: Annotated[
        list[Path],
        typer.Option(
            "--study",
            help="Folder of a study; more than once: one for each stage of the recipe, in their order.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run.", show_default="runs/NAME OF THE RECIPE")
    ] = None,
    fold: Annotated[
        list[int] | None,
        typer.Option("--fold", min=0, help="Train this fold only; more than once.", show_default="all"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Epochs of each stage, instead of the recipe's.")
    ] = None,
    change: ChangeOption = None,
    device: DeviceOption = Device.auto,
    devices: DevicesOption = 1,
    nodes: NodesOption = 1,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Learn from so many films, to try things out.")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache", help="Folder for prepared pictures.", show_default="hand-pictures beside the run"
        ),
    ] = None,
    workers: WorkersOption = None,
    json_progress: Annotated[
        bool,
        typer.Option("--json-progress", help="One JSON object a line on standard output, for a program."),
    ] = False,
) -> None:
    """Train a hand model on a study. The same line goes on where a run was stopped.

    The study's split is checked first; one that leaks is not trained on. Written: see `kneeboneage runs --help`.
    """
    from .recipes import RecipeError, load_recipe

    try:
        settled = load_recipe(recipe, change or ())
    except RecipeError as error:
        usage_error(str(error))
    if epochs is not None:
        stages = tuple(stage.model_copy(update={"epochs": epochs}) for stage in settled.stages)
        settled = settled.model_copy(update={"stages": stages})

    from .cohort.records import StudyError
    from .cohort.study import open_study

    try:
        studies = tuple(open_study(folder) for folder in study)
    except StudyError as error:
        usage_error(str(error))

    from .hand.job import Job
    from .hand.training import train as train_hand
    from .runs.machine import Machine

    given = {} if workers is None else {"workers": workers}
    job = Job(
        settled,
        studies,
        out or Path("runs", settled.name),
        Machine(device.value, devices, nodes, **given),
        tuple(sorted(set(fold))) if fold else None,
        limit,
        cache,
    )
    with at_the_terminal(job.folder, json_progress) as (reporter, stop):
        train_hand(job, reporter, stop)


@contextmanager
def at_the_terminal(folder: Path, json_progress: bool) -> Iterator[tuple[Reporter, StopRequest]]:
    """Train inside of it: progress and result are told, errors become messages and exit codes."""
    from KneeBoneAgeLib.errors import FilmError

    from .cohort.records import StudyError
    from .runs.loop import Stopped, StopRequest
    from .runs.machine import is_main_process
    from .runs.progress import Reporter
    from .runs.record import RunError
    from .runs.watch import TrainingError

    main = is_main_process()
    quiet_libraries()
    with StopRequest().listening() as stop, progress_bar(quiet=not main or json_progress) as bar:
        reporter = Reporter(None, bar if main else None, sys.stdout if json_progress and main else None)
        try:
            yield reporter, stop
        except (StudyError, RunError) as error:
            usage_error(str(error))
        except (FilmError, TrainingError) as error:
            messages.print(f"Error: {error}", markup=False, soft_wrap=True)
            raise typer.Exit(1) from None
        except Stopped:
            if main:
                messages.print("Stopped; the same line goes on from here.", markup=False)
            raise typer.Exit(STOPPED_CODE) from None
    if main and not json_progress:
        tell_result(folder)


def quiet_libraries() -> None:
    """Of what Lightning says only errors; what matters stands in train.log."""
    import warnings

    warnings.filterwarnings("ignore", module=r"lightning.*")
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)


def tell_result(folder: Path) -> None:
    from .runs.record import open_run

    run = open_run(folder)
    metrics = run.metrics
    for name, films in (("out of fold", "out_of_fold"), ("test set", "test")):
        found = metrics.get(films)
        if found:
            model, alone = found["model"], found["age_alone"]
            print(
                f"{name}: MAE {model['mae']:.2f} months, within a year {100 * model['within_12']:.0f} %; "
                f"chronological age alone {alone['mae']:.2f}, {100 * alone['within_12']:.0f} % (n = {found['n']})"
            )
    if metrics.get("data") == "phantom":
        print("Made from the phantom: nothing is said about real children.")
    messages.print(f"Run: {folder}", markup=False, soft_wrap=True)


def runs(
    folder: Annotated[Path, typer.Argument(help="A folder of runs, or a run.")] = Path("runs"),
) -> None:
    """List runs: state, folds, error out of fold beside that of chronological age alone.

    \b
    A run is a folder:
      run.json, recipe.yaml       what was trained, with which code, data and seeds; its state
      folds.csv, films.csv        patient_id, file, split, fold; hashes of the films
      train.log, progress.json    what was said; how far it is
      fold-K/                     metrics.csv, tensorboard/, weights.safetensors, weights.json,
                                  predictions.csv (out of fold), last.ckpt while it is trained
      metrics.json, figures/      agreement with the labels beside chronological age alone
    """
    from .runs.record import find_runs

    found = list(find_runs(folder))
    if not found:
        usage_error(f"{folder}: there is no run here")
    width = max(len(run.name) for run in found)
    for run in found:
        print(f"{run.name:<{width}}  {run.state:<11}  {run.recipe:<20}  {_in_short(run)}".rstrip())


def _in_short(run: Any) -> str:
    result = run.metrics.get("out_of_fold")
    if result:
        folds = len(run.metrics["folds"])
        drawn = "  phantom" if run.metrics.get("data") == "phantom" else ""
        return (
            f"{folds} fold{'s' if folds != 1 else ''}, MAE {result['model']['mae']:.2f} months "
            f"(age alone {result['age_alone']['mae']:.2f}, n = {result['n']}){drawn}"
        )
    now = run.progress
    if not now or run.state == "failed":
        return str(run.facts.get("error") or "")
    error = now.get("val_mae_months")
    seen = "" if error is None else f", MAE {error:.2f} months"
    return f"fold {now['fold'] + 1} of {now['folds']}, epoch {now['epoch'] + 1} of {now['epochs']}{seen}"


def pseudo_label(
    run: Annotated[list[Path], typer.Argument(help="Folders of trained runs.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Table of labels (CSV).", show_default=False)],
    study: Annotated[
        Path | None, typer.Option("--study", help="Folder of a study: its hand films, the test set included.")
    ] = None,
    films: Annotated[
        Path | None,
        typer.Option("--films", help="A table (columns as of `cohort build --hands`) or a folder."),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache", help="Folder for prepared pictures.", show_default="hand-pictures beside the run"
        ),
    ] = None,
    device: DeviceOption = Device.auto,
    workers: WorkersOption = None,
) -> None:
    """Bone ages that trained hand models give to films: the mean over folds and runs, with its spread.

    A child that a run learnt from is labelled only by the fold that held it out. The spread is the standard deviation \
    of what the models say together; a model without a distribution counts with its error out of fold.

    Exit code 1 when films could not be labelled; they are named.
    """
    if (study is None) == (films is None):
        usage_error("give either --study or --films")
    from KneeBoneAgeLib.errors import FilmError

    from .cohort.records import Problem, StudyError
    from .cohort.study import open_study
    from .hand.films import hand_films, listed_films
    from .pseudo_label import pseudo_label as label
    from .pseudo_label import write_labels
    from .runs.machine import Machine
    from .runs.record import RunError, open_run

    problems: tuple[Problem, ...] = ()
    try:
        opened = [open_run(folder) for folder in run]
        if study is not None:
            found = hand_films(open_study(study))
        else:
            assert films is not None
            found, problems = listed_films(films)
        given = {} if workers is None else {"workers": workers}
        machine = Machine(device.value, **given)
        with progress_bar() as bar:
            task = bar.add_task("opening", total=None)
            labels = label(
                opened,
                found,
                cache or run[0].resolve().parent / "hand-pictures",
                device=machine.torch_device,
                workers=machine.workers,
                progress=lambda what, done, total: bar.update(
                    task, description=what, completed=done, total=total
                ),
            )
        out.parent.mkdir(parents=True, exist_ok=True)
        write_labels(out, labels, opened)
    except (StudyError, RunError, FilmError) as error:
        usage_error(str(error))
    for problem in problems:
        messages.print(f"{problem.source}: {problem.what}, {problem.reason}", markup=False, soft_wrap=True)
    for film in labels.unlabelled:
        messages.print(
            f"{film.file}: every trained fold learnt from this child; train the others too", markup=False
        )
    print(f"{len(labels.labelled)} hand films labelled: {out}")
    if any(one.facts.get("data") == "phantom" for one in opened):
        print("Learnt from the phantom: nothing is said about real children.")
    if problems or labels.unlabelled:
        raise typer.Exit(1)
