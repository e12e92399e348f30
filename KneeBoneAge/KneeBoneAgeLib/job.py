"""One run of the command over films: reads ahead, writes what was asked for, tells what came of it.

The writing is done film by film, so that whatever was finished when a run is stopped is on disk and valid.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from .errors import FilmError
from .folder import FILM_SUFFIXES, film_paths, read_ahead
from .report.files import JsonLines, Table
from .report.page import Page
from .report.records import Result, Run, error_result, headline, side_name, unknown_facts

if TYPE_CHECKING:
    from .crop import KneeCrop
    from .estimator import Estimator, FilmEstimate
    from .radiograph.film import Film

LONGEST_STEM_BYTES = 200
"""Of the name of a film's pictures; file systems take 255 bytes with what is added."""

messages = Console(stderr=True, highlight=False)


def load_estimator(bundle: Path | None, device: str) -> Estimator:
    """The estimator of a run; imports torch."""
    from .estimator import Estimator

    return Estimator.load(bundle, device=device)


def explain_knee(estimator: Estimator, film: Film, crop: KneeCrop, method: str) -> Any:
    """Saliency of one knee in the film's pixel grid."""
    from .explain import explain

    return explain(estimator, film, crop, method)


def read(path: Path) -> Film:
    """The film of a file; imports pydicom."""
    from .radiograph import read_film

    return read_film(path)


@dataclass(frozen=True)
class Known:
    """What was typed for all films of a run."""

    sex: str | None = None
    age_months: float | None = None
    side: str | None = None


@dataclass
class Job:
    """One run over films: what was asked for, the files it writes, and what it prints in the end."""

    files: Sequence[str]
    known: Known
    json: str | None
    csv: Path | None
    pictures: Path | None
    crop: str | None = None
    run: Run = Run()
    paths: list[Path] = field(default_factory=list)
    page: Page | None = None
    drawn: dict[str, Any] = field(default_factory=dict)
    stems: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.paths = film_paths(self.files)
        if not self.paths:
            usage_error(
                f"no films in {', '.join(self.files)}; taken are DICOM by content, and {' '.join(FILM_SUFFIXES)}"
            )
        self.box = _parse_box(self.crop)
        if self.box is not None and len(self.paths) != 1:
            usage_error(f"--crop is for one film, {len(self.paths)} were given")
        self._check_targets()

    def _check_targets(self) -> None:
        """Usage errors of where results go, before anything is loaded or written."""
        films = {path.resolve() for path in self.paths}
        page = None if self.pictures is None else self.pictures / "report.html"
        taken: dict[Path, Path] = {}
        for target in (Path(name) for name in (self.json, self.csv, page) if name is not None):
            place = target if str(target) == "-" else target.resolve()
            if place in films:
                usage_error(f"{target}: would overwrite a film")
            if place in taken:
                usage_error(f"{target}: named for two results; give each a file of its own")
            if target.is_dir():
                usage_error(f"{target}: is a folder; give the name of a file")
            taken[place] = target
        if self.pictures is not None and self.pictures.exists() and not self.pictures.is_dir():
            usage_error(f"{self.pictures}: is a file; give a folder for the pictures")

    @property
    def talks(self) -> bool:
        """Whether answers for people go to the standard output, which may be wanted for results."""
        return "-" not in (self.json, str(self.csv))

    def load(self, bundle: Path | None, device: str) -> Estimator:
        try:
            estimator = load_estimator(bundle, str(device))
        except ValueError as error:  # BundleError, or a device that this machine lacks
            usage_error(str(error))
        self.estimator = estimator
        self.run = Run.of(estimator.bundle)
        return estimator

    def person_crops(self, film: Film) -> list[KneeCrop] | None:
        if self.box is None:
            return None
        from .crop import crop_from_box

        try:
            return [crop_from_box(self.box, self.known.side, film)]
        except ValueError as error:
            usage_error(str(error))

    def stem(self, file: str) -> str:
        """A name for a film's pictures that no other film of the run has, also where case does not count."""
        stem = Path(file).name
        for suffix in (Path(file).suffix, ".nii"):
            stem = stem.removesuffix(suffix) or stem
        while len(os.fsencode(stem)) > LONGEST_STEM_BYTES:
            stem = stem[:-1]
        free, count = stem, 1
        while free.casefold() in self.stems:
            count += 1
            free = f"{stem}-{count}"
        self.stems.add(free.casefold())
        return free

    def save(self, name: str, content: bytes) -> None:
        """Write a picture whole or not at all."""
        assert self.pictures is not None
        part = self.pictures / ".picture.part"
        try:
            part.write_bytes(content)
            part.replace(self.pictures / name)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def draw(self, found: FilmEstimate, results: list[Result], method: str, over_film: bool = False) -> None:
        """Write the pictures of a film and keep smaller ones for the page.

        ``over_film`` adds, for each knee, the whole film with the heat map laid over it.
        """
        from .report import pictures

        film, knees = found.film, found.knees
        stem = self.stem(results[0].file)
        crops: list[KneeCrop | None] = [knee.crop for knee in knees] or [None]
        whole = pictures.overlay(film.pixels, list(zip(crops, results, strict=True)), self.run)
        self.save(f"{stem}_overlay.png", pictures.png(whole))
        panels = []
        for knee, result in zip(knees, results, strict=bool(knees)):
            shown = result.status == "ok"
            saliency = explain_knee(self.estimator, film, knee.crop, str(method)) if shown else None
            panel = pictures.panel(film.pixels, knee.crop, result, self.run, saliency, knee.probabilities)
            name = f"{stem}_knee{result.knee_index}"
            self.save(f"{name}.png", pictures.png(panel))
            panels.append(pictures.jpeg(panel))
            if over_film and saliency is not None:
                heated = pictures.overlay(film.pixels, [(knee.crop, result)], self.run, saliency)
                self.save(f"{name}_film.png", pictures.png(heated))
        self.drawn = {"film": pictures.jpeg(whole, 700), "knees": panels}

    def go(self, handle: Callable[[Film, str], list[Result]]) -> None:
        """Handle all films, write what was asked for, print the answers, and leave with the exit code."""
        stopped = False
        with ExitStack() as stack:
            try:
                writers: list[JsonLines | Table] = []
                if self.json is not None:
                    writers.append(stack.enter_context(JsonLines(self.json)))
                if self.csv is not None:
                    writers.append(stack.enter_context(Table(self.csv)))
                if self.pictures is not None:
                    self.pictures.mkdir(parents=True, exist_ok=True)
                    self.page = stack.enter_context(Page(self.pictures / "report.html", self.run))
            except OSError as error:
                usage_error(f"{error.filename}: cannot be written ({error.strerror})")
            try:
                for results in self._each(handle):
                    for writer in writers:
                        writer.write(results)
                    if self.page is not None:
                        self.page.write(results, **self.drawn)
                    self._count(results)
            except KeyboardInterrupt:
                stopped = True
            except BrokenPipeError:  # who reads the standard output has seen enough
                raise
            except OSError as error:
                with contextlib.suppress(OSError):
                    stack.close()
                usage_error(
                    f"{error.filename or 'the results'}: cannot be written ({error.strerror}); what was finished "
                    f"before is there, {self.counts.get('films', 0)} of {len(self.paths)} films"
                )
        self._tell(stopped)
        if stopped:
            raise typer.Exit(130)
        if self.counts.get("error"):
            raise typer.Exit(1)

    def _each(self, handle: Callable[[Film, str], list[Result]]) -> Iterator[list[Result]]:
        from .radiograph.film import with_known

        shown = sys.stdout.isatty()
        bar = progress_bar(quiet=shown and not self.talks, above=shown)
        with bar as progress, closing(read_ahead(self.paths, read)) as films:
            task = progress.add_task("films", total=len(self.paths))
            for path, film in films:
                self.drawn = {}
                if isinstance(film, FilmError):
                    yield [error_result(str(path), film.reason, self.run)]
                else:
                    known = self.known
                    film = with_known(film, known.sex, known.age_months, known.side)
                    yield self._handled(handle, film, str(path))
                progress.advance(task)

    def _handled(self, handle: Callable[[Film, str], list[Result]], film: Film, file: str) -> list[Result]:
        """What came of a film; one on which the networks fail (memory, say) does not end a run over a folder."""
        try:
            return handle(film, file)
        except (OSError, typer.Exit):
            raise
        except Exception as error:
            self.drawn = {}
            first = (str(error).splitlines() or [""])[0][:200]
            reason = f"could not be worked on ({type(error).__name__}: {first})"
            return [error_result(file, reason, self.run)]

    def _count(self, results: Sequence[Result]) -> None:
        for result in results:
            self.counts[result.status] = self.counts.get(result.status, 0) + 1
            text = f"{result.file}  {side_name(result)}: {headline(result)}"
            if result.interval_months is not None and not result.mature:
                low, high = result.interval_months
                text += f", {result.interval_level or 0:.0%} interval {low:.0f} to {high:.0f} months"
            elif result.status == "ok" and not result.mature and result.box_px is not None:
                box = ", ".join(f"{value:.0f}" for value in result.box_px)
                text += f", [{box}] px, confidence {result.crop_confidence or 0:.2f}"
            if result.reason:
                text += f": {result.reason}"
            if result.side_conflict:
                text += f"; the header says side {result.side_from_header}"
            if result.crop_uncertain:
                self.counts["uncertain"] = self.counts.get("uncertain", 0) + 1
                text += "; the crop is uncertain, look at it"
            if self.talks:
                code = sys.stdout.encoding or "utf-8"
                print(text.encode(code, "backslashreplace").decode(code), flush=True)
        answered = [one for one in results if one.bone_age_months is not None or one.mature]
        if any(unknown_facts(one) for one in answered):
            self.counts["unknown"] = self.counts.get("unknown", 0) + 1
        self.counts["films"] = self.counts.get("films", 0) + 1

    def _tell(self, stopped: bool) -> None:
        counts = self.counts
        films = len(self.paths)
        parts = [f"{counts.get('films', 0)} of {films} {'film' if films == 1 else 'films'}"]
        parts += [
            f"{counts[status]} {words}"
            for status, words in (
                ("ok", "knee done" if counts.get("ok") == 1 else "knees done"),
                ("refused", "refused"),
                ("error", "could not be handled"),
            )
            if status in counts
        ]
        messages.print(("Stopped. " if stopped else "") + ", ".join(parts) + ".", markup=False)
        if unknown := counts.get("unknown"):
            messages.print(
                f"Sex or chronological age is unknown on {unknown} of them: with both (--sex, --age-months) the "
                "answer is surer.",
                markup=False,
                soft_wrap=True,
            )
        if uncertain := counts.get("uncertain"):
            messages.print(
                f"The crop is uncertain on {uncertain} {'knee' if uncertain == 1 else 'knees'}: look at the pictures"
                f"{'' if self.pictures else ' (--pictures)'}; estimate takes the right square as --crop.",
                markup=False,
                soft_wrap=True,
            )
        messages.print(self.run.caution, markup=False, style="dim", soft_wrap=True)
        if self.pictures is not None:
            messages.print(f"Pictures: {self.pictures}", markup=False)


def _parse_box(text: str | None) -> tuple[float, float, float, float] | None:
    if text is None:
        return None
    try:
        x0, y0, x1, y1 = (float(part) for part in text.split(","))
    except ValueError:
        usage_error(f"--crop takes four numbers, X0,Y0,X1,Y1, not {text!r}")
    return x0, y0, x1, y1


def progress_bar(quiet: bool = False, above: bool = False) -> Progress:
    """A bar on the standard error; ``above`` prints the standard output above it, for where both are one terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=messages,
        transient=True,
        disable=quiet or not messages.is_terminal,
        redirect_stdout=above,
        redirect_stderr=False,
    )


def usage_error(text: str) -> NoReturn:
    messages.print(f"Error: {text}", markup=False, soft_wrap=True)
    raise typer.Exit(2)
