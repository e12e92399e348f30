"""The command ``kneeboneage cohort``.

Exit code 0 when all is well, 1 when rows could not be used or a study is not sound, 2 for a usage error.
"""

from __future__ import annotations

import importlib.util
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from KneeBoneAgeLib.job import messages, progress_bar, usage_error

if TYPE_CHECKING:
    from .building import Cohort, Inputs, Parameters

MANIFEST = """Studies: patients, knee films and hand films, from tables (CSV), folders (DICOM) and public sets.

\b
Columns of --patients, one row a child:
  patient_id            required
  sex                   F or M
  birth_date            YYYY-MM-DD
  family_id             children of one family never cross a split
  physeal_trauma, skeletal_dysplasia, genetic_disorder, endocrinopathy
                        yes or no; such children are excluded

\b
Columns of --knees, --hands and --films, one row a film:
  file                  required; relative to the table
  patient_id            required unless the file is DICOM
  part                  knee or hand; only with --films
  date                  YYYY-MM-DD
  age_months            chronological age; or from dates, or from the header
  sex                   F or M, where there is no patients table
  side                  R, L or B (both)
  view                  frontal, lateral or other
  bone_age_months       a reader's bone age
  split                 train or test, with --test-split given
  physeal_trauma, ...   the exclusions, of this film alone

Each of the three takes a folder too, which is walked for films. Their PatientID binds the films of a child \
together and is written as a salted hash. What a table says wins over a header.
"""

app = typer.Typer(no_args_is_help=True, help=MANIFEST)


class Kind(StrEnum):
    paired = "paired"
    knee = "knee"
    hand = "hand"


class TestSplit(StrEnum):
    drawn = "drawn"
    given = "given"


Paths = list[Path]


@app.command()
def build(
    out: Annotated[Path, typer.Argument(help="Folder of the study; must not exist.", show_default=False)],
    patients: Annotated[Paths, typer.Option("--patients", help="Table of patients.")] = [],  # noqa: B006
    knees: Annotated[Paths, typer.Option("--knees", help="Table or folder of knee films.")] = [],  # noqa: B006
    hands: Annotated[Paths, typer.Option("--hands", help="Table or folder of hand films.")] = [],  # noqa: B006
    films: Annotated[
        Paths, typer.Option("--films", help="Table or folder that says itself which film is which.")
    ] = [],  # noqa: B006
    rsna: Annotated[Path | None, typer.Option("--rsna", help="Folder of the RSNA bone age set.")] = None,
    rhpe: Annotated[Path | None, typer.Option("--rhpe", help="Folder of RHPE.")] = None,
    hand_atlas: Annotated[
        Path | None, typer.Option("--hand-atlas", help="Folder of the Digital Hand Atlas.")
    ] = None,
    mrkr: Annotated[Path | None, typer.Option("--mrkr", help="Folder of MRKR (adults).")] = None,
    kind: Annotated[
        Kind, typer.Option("--kind", help="Knee films paired with hand films, or one kind alone.")
    ] = Kind.paired,
    within_months: Annotated[
        int, typer.Option("--within-months", min=0, help="Between a knee film and its hand film.")
    ] = 3,
    max_age_months: Annotated[
        float, typer.Option("--max-age-months", min=1, help="Older is excluded.")
    ] = 216,
    test_share: Annotated[float, typer.Option("--test-share", min=0, max=0.5)] = 0.2,
    test_split: Annotated[
        TestSplit, typer.Option("--test-split", help="Draw the test set, or take it as given.")
    ] = TestSplit.drawn,
    folds: Annotated[int, typer.Option("--folds", min=2, max=20)] = 5,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    decode: Annotated[
        bool,
        typer.Option("--decode/--headers-only", help="Decode each film, to find damaged and double ones."),
    ] = True,
    keep_ids: Annotated[
        bool, typer.Option("--keep-ids", help="Write PatientIDs of headers as they are.")
    ] = False,
    salt: Annotated[
        str | None,
        typer.Option(
            "--salt",
            envvar="KNEEBONEAGE_SALT",
            help="Secret for the hashes; the same gives the same ids.",
            show_default="random, not kept",
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, show_default="one a core")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a study that stands there.")] = False,
) -> None:
    """Build a study; see `kneeboneage cohort --help` for the columns of tables.

    Written: study.json, films.csv, folds.csv, problems.csv, excluded.csv, flow.json, flow.svg, flow.png.

    Exit code 0: all rows were used or excluded by a rule. 1: the study is written, with rows in problems.csv, or it \
    cannot be trained on. 2: usage error, nothing is written.
    """
    if importlib.util.find_spec("matplotlib") is None:
        usage_error(
            "the flow diagram needs matplotlib. In the folder of the project's source, type:  "
            "pip install '.[training]'"
        )
    from .building import Inputs, Parameters
    from .records import StudyError
    from .study import STUDY

    sets = {"rsna": rsna, "rhpe": rhpe, "digital-hand-atlas": hand_atlas, "mrkr": mrkr}
    try:
        inputs = Inputs(
            tuple(patients),
            tuple(knees),
            tuple(hands),
            tuple(films),
            tuple((name, folder) for name, folder in sets.items() if folder is not None),
        )
        parameters = Parameters(
            kind.value,
            within_months,
            max_age_months,
            test_share,
            test_split.value,
            folds,
            seed,
            decode,
            keep_ids,
        )
        if (out / STUDY).exists() and not force:
            raise StudyError(f"{out}: there is a study already; --force replaces it")
        cohort = _built(inputs, parameters, workers)
        problem = _written(cohort, out, force, salt)
    except StudyError as error:
        usage_error(str(error))
    except OSError as error:
        usage_error(f"{error.filename or out}: cannot be written ({error.strerror or error})")
    _tell(cohort, out)
    if problem:
        messages.print(f"Error: {problem}", markup=False, soft_wrap=True)
    if problem or cohort.problems:
        raise typer.Exit(1)


def _built(inputs: Inputs, parameters: Parameters, workers: int | None) -> Cohort:
    from .building import build as build_cohort

    with progress_bar() as progress:
        task = progress.add_task("reading films", total=None)
        return build_cohort(
            inputs,
            parameters,
            workers=workers,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )


def _written(cohort: Cohort, out: Path, force: bool, salt: str | None) -> str:
    """Write the study; why it cannot be trained on, "" when it can."""
    from .records import SplitError
    from .study import open_study, write_study

    write_study(cohort, out, force=force, salt=salt.encode() if salt else None)
    try:
        open_study(out)
    except SplitError as error:
        return f"{out} cannot be trained on: {error}"
    return ""


def _tell(cohort: Cohort, out: Path) -> None:
    for step in cohort.steps:
        gone = step.removed
        if not step.stated:
            print(f"{step.label}: not stated in the tables")
        elif gone.patients or gone.knee_films or gone.hand_films:
            print(
                f"{step.label}: −{gone.patients} patients, −{gone.knee_films} knee, −{gone.hand_films} hand films"
            )
    left = cohort.steps[-1].after
    print(
        f"In the study: {left.patients} patients, {left.knee_films} knee films, {left.hand_films} hand films"
    )
    for table in cohort.tables:
        if table.ignored_columns:
            names = ", ".join(table.ignored_columns)
            messages.print(f"{table.path}: columns ignored: {names}", markup=False, soft_wrap=True)
    if cohort.problems:
        messages.print(
            f"{len(cohort.problems)} rows could not be used: see {out / 'problems.csv'}",
            markup=False,
            soft_wrap=True,
        )
    messages.print(f"Study: {out}", markup=False, soft_wrap=True)


@app.command()
def check(
    study: Annotated[Path, typer.Argument(help="Folder of the study.", show_default=False)],
    films: Annotated[bool, typer.Option("--films/--no-films", help="Look at each film's bytes too.")] = True,
) -> None:
    """Check a study: no child crosses a split, tables and films unchanged, counts that add up."""
    from .records import StudyError
    from .study import findings

    try:
        found = findings(study, films=films)
    except StudyError as error:
        usage_error(str(error))
    for line in found:
        print(line)
    if found:
        raise typer.Exit(1)
    print(f"{study}: sound")
