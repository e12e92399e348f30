"""The command ``kneeboneage``: the one file that knows the command line.

Exit code 0 when every file was handled (refusals included), 1 when a file could not be read or a bundle does
not verify, 2 for a usage error, 130 when it was stopped; what was finished by then is on disk and valid.
Heavy libraries are imported inside the commands, so that a usage error and ``--help`` answer at once.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from .errors import BundleError
from .job import Job, Known, messages, progress_bar, usage_error
from .report.records import RESEARCH_ONLY, Result, crop_results, estimate_results
from .version import VERSION

if TYPE_CHECKING:
    from .bundle import Bundle
    from .radiograph.film import Film

TRAINING_COMMANDS = ("cohort", "train", "runs", "recipes", "pseudo-label", "knee-transfer", "export")
"""Commands of the training library, which announces them as entry points of the group "kneeboneage.commands"."""


def _announced() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="kneeboneage.commands")}


class Commands(TyperGroup):
    """The commands of this file, and those that other packages announce; only what is asked for is imported."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *sorted({*TRAINING_COMMANDS, *_announced()} - {*self.commands})]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = None if cmd_name in self.commands else _announced().get(cmd_name)
        try:
            if entry is not None:
                return typer.main.get_command(entry.load())
        except ImportError:
            return _not_installed(cmd_name)
        return super().get_command(ctx, cmd_name) or (
            _not_installed(cmd_name) if cmd_name in TRAINING_COMMANDS else None
        )


def _not_installed(name: str) -> Any:
    missing = typer.Typer(add_completion=False)

    @missing.command(
        name,
        help="Needs the training extra of KneeBoneAge; type the command to see how to install it.",
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def explain_what_to_install() -> None:
        usage_error(
            f"{name} needs the training library. In the folder of the project's source, type:  "
            f"{sys.executable} -m pip install '.[training]'"
        )

    return typer.main.get_command(missing)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Bone age from knee radiographs. " + RESEARCH_ONLY,
)
bundle_app = typer.Typer(no_args_is_help=True, help="Look at a model bundle.")
app.add_typer(bundle_app, name="bundle")


class Sex(StrEnum):
    F = "F"
    M = "M"


class Side(StrEnum):
    R = "R"
    L = "L"


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Method(StrEnum):
    gradcam = "gradcam"
    integrated_gradients = "integrated-gradients"


class Format(StrEnum):
    dicom = "dicom"
    png = "png"


Files = Annotated[list[str], typer.Argument(help="Films, or folders to walk.", show_default=False)]
SexOption = Annotated[
    Sex | None,
    typer.Option("--sex", case_sensitive=False, help="Sex of the child; wins over the header."),
]
AgeOption = Annotated[
    float | None,
    typer.Option("--age-months", min=0, max=240, help="Chronological age in months; wins over the header."),
]
SideOption = Annotated[
    Side | None,
    typer.Option("--side", case_sensitive=False, help="Side of the child; wins over the header."),
]
BundleOption = Annotated[
    Path | None, typer.Option("--bundle", help="Folder of the bundle.", show_default="the one that ships")
]
CropOption = Annotated[
    str | None,
    typer.Option(
        "--crop", metavar="X0,Y0,X1,Y1", help="The knee, in pixels of the film; used as it is. One film only."
    ),
]
JsonOption = Annotated[
    str | None,
    typer.Option("--json", metavar="OUT|-", help="JSON lines, one object a knee; - is standard output."),
]
CsvOption = Annotated[Path | None, typer.Option("--csv", metavar="OUT", help="The same as a table.")]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where the networks run.")]


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        print(f"kneeboneage {VERSION}")
        raise typer.Exit


@app.command()
def estimate(
    files: Files,
    sex: SexOption = None,
    age_months: AgeOption = None,
    side: SideOption = None,
    bundle: BundleOption = None,
    crop: CropOption = None,
    json: JsonOption = None,
    csv: CsvOption = None,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", help="Folder for pictures with explanations, and report.html."),
    ] = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Bone age of each knee, with an interval."""
    job = Job(files, Known(sex, age_months, side), json, csv, pictures, crop)
    estimator = job.load(bundle, device)

    def handle(film: Film, file: str) -> list[Result]:
        found = estimator.estimate(film, job.person_crops(film))
        results = estimate_results(file, found, job.run)
        if pictures is not None:
            job.draw(found, results, Method.integrated_gradients)
        return results

    job.go(handle)


@app.command()
def crop(
    files: Files,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the crops and the films with their squares.")
    ],
    size: Annotated[int, typer.Option("--size", min=16, max=4096, help="Side of a crop in pixels.")] = 512,
    side: SideOption = None,
    bundle: BundleOption = None,
    json: JsonOption = None,
    csv: CsvOption = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Find the knees and cut them: upright, fibula on the viewer's left, 16-bit grey PNG."""
    job = Job(files, Known(side=side), json, csv, out)
    estimator = job.load(bundle, device)

    def handle(film: Film, file: str) -> list[Result]:
        from .crop import cut
        from .report import pictures

        finding = estimator.find(film)
        results = crop_results(file, film, finding, job.run)
        stem = job.stem(file)
        squares = list(zip(finding.knees or [None], results, strict=True))
        picture = pictures.overlay(film.pixels, squares, job.run)
        job.save(f"{stem}_overlay.png", pictures.png(picture))
        for index, knee in enumerate(finding.knees, start=1):
            job.save(f"{stem}_knee{index}_crop.png", pictures.png_patch(cut(film.pixels, knee, size)))
        return results

    job.go(handle)


@app.command()
def explain(
    files: Files,
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures and report.html.")],
    method: Annotated[
        Method,
        typer.Option("--method", help="How the map is computed; gradcam (by cell: HiResCAM) is coarse."),
    ] = Method.integrated_gradients,
    sex: SexOption = None,
    age_months: AgeOption = None,
    side: SideOption = None,
    bundle: BundleOption = None,
    crop: CropOption = None,
    json: JsonOption = None,
    csv: CsvOption = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Show what the estimate of each knee rests on, laid over the film."""
    job = Job(files, Known(sex, age_months, side), json, csv, out, crop)
    estimator = job.load(bundle, device)

    def handle(film: Film, file: str) -> list[Result]:
        found = estimator.estimate(film, job.person_crops(film))
        results = estimate_results(file, found, job.run)
        job.draw(found, results, method, over_film=True)
        return results

    job.go(handle)


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder for films, masks and cohort.csv.")],
    knees: Annotated[
        int, typer.Option("--knees", min=1, max=1_000_000, help="Knees to draw; some films show two.")
    ],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Any number; another one gives other children.")],
    format: Annotated[Format, typer.Option("--format", help="Of the films.")] = Format.dicom,
    others: Annotated[
        int, typer.Option("--others", min=0, help="Further films on which there is nothing to crop.")
    ] = 0,
    hands: Annotated[
        bool,
        typer.Option("--hands", help="Hand films of the same children too, and tables for cohort build."),
    ] = False,
) -> None:
    """Films of virtual children, with the truth about them in cohort.csv. Same seed, same bytes.

    An earlier cohort in the folder is replaced.
    """
    from .cohort_folder import FolderTakenError, cohort_folder
    from .phantom.cohort import write_cohort
    from .phantom.study import write_study

    with progress_bar() as progress:
        task = progress.add_task("drawing", total=knees)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        hand_task = progress.add_task("drawing hands", total=None, visible=False)

        def show_hands(done: int, total: int) -> None:
            progress.update(hand_task, completed=done, total=total, visible=True)

        try:
            with cohort_folder(out):
                if hands:
                    write_study(out, knees, seed, format.value, show, others, hand_progress=show_hands)
                else:
                    write_cohort(out, knees, seed, format.value, show, others)
        except FolderTakenError as error:
            usage_error(str(error))
        except OSError as error:
            usage_error(f"{out}: cannot write there ({error.strerror or error})")
        except KeyboardInterrupt:
            messages.print(
                f"Stopped. {out} is no cohort yet, it has no cohort.csv; the same line draws it anew.",
                markup=False,
                soft_wrap=True,
            )
            raise typer.Exit(130) from None
    messages.print(f"{knees} {'knee' if knees == 1 else 'knees'} in {out}", markup=False)
    if hands:
        tables = " ".join(f"--{name} {out / name}.csv" for name in ("patients", "knees", "hands"))
        messages.print(
            f"A study of them:  kneeboneage cohort build STUDY {tables}", markup=False, soft_wrap=True
        )


@bundle_app.command("show")
def bundle_show(
    folder: Annotated[Path | None, typer.Argument(show_default="the one that ships")] = None,
) -> None:
    """What a bundle was made of, what it is worth, and what it is for."""
    from .bundle import card

    print(card(_verified(folder)))


@bundle_app.command("verify")
def bundle_verify(
    folder: Annotated[Path | None, typer.Argument(show_default="the one that ships")] = None,
) -> None:
    """Check version, preprocessing, and the SHA-256 of each file."""
    bundle = _verified(folder)
    print(
        f"{bundle.folder}: {bundle.name}, {len(bundle.manifest.files)} files as listed, "
        f"SHA-256 {bundle.sha256}"
    )


def main() -> None:
    """Entry point of the command."""
    app()


def _verified(folder: Path | None) -> Bundle:
    from .bundle import load_bundle

    try:
        return load_bundle(folder)
    except BundleError as error:
        messages.print(f"Error: {error}", markup=False)
        raise typer.Exit(1) from None
