"""Many films in a child process: one line of JSON a finished film, so that what is finished survives a cancel.

The list is a JSON file: ``{"films": [...], "bundle", "device", "sex", "age_months", "side"}``. A film is a path (of
a file or a folder) or ``{"file", "sex", "age_months", "side"}``; what is said here counts as typed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

from .errors import FilmError
from .problems import Problem, problem_of
from .words import mark as _

TYPED = ("sex", "age_months", "side")


def run(list_file: str, out: TextIO) -> int:
    """Estimate all films of a list; the exit code: 0, or 1 when it could not begin.

    Lines: ``{"of": n}``, ``{"progress": "..."}``, ``{"film": i, "of": n, "file", "records"}`` with i from 1,
    ``{"finished": true, "films": n}``, or ``{"error": ...}`` as in the service.
    """

    def send(**content: Any) -> None:
        out.write(json.dumps(content, allow_nan=False) + "\n")
        out.flush()

    try:
        wanted = _read_list(list_file)
        films = _films(wanted)
        send(of=len(films))
        send(progress=_("Loading PyTorch…"))
        _estimate_all(films, wanted, send)
    except Exception as error:  # the caller gets words, not a traceback
        problem = problem_of(error)
        if problem.kind == "bug":
            import traceback

            traceback.print_exc()
        send(error=problem.to_json())
        return 1
    send(finished=True, films=len(films))
    return 0


def _read_list(list_file: str) -> Mapping[str, Any]:
    choose = _("Choose a folder of films.")
    try:
        wanted = json.loads(Path(list_file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        no_list = _("{file}: no list of films ({error})")
        raise Problem("usage", no_list, choose, file=list_file, error=str(error)) from None
    if not isinstance(wanted, dict) or not isinstance(wanted.get("films"), list):
        raise Problem("usage", _("{file}: no list of films"), choose, file=list_file)
    return wanted


def _films(wanted: Mapping[str, Any]) -> list[tuple[Path, Mapping[str, Any]]]:
    """Each film once, with what was said of it."""
    from .folder import film_paths

    films: dict[Path, Mapping[str, Any]] = {}
    for item in wanted["films"]:
        given = item if isinstance(item, Mapping) else {"file": item}
        for path in film_paths([given["file"]]):
            films.setdefault(path, given)
    if not films:
        raise Problem(
            "usage", _("No film was found."), _("Choose a folder with DICOM, PNG, JPEG or TIFF films.")
        )
    return list(films.items())


def _estimate_all(films: list[tuple[Path, Mapping[str, Any]]], wanted: Mapping[str, Any], send: Any) -> None:
    from .installation import look

    look().require("torch")
    from .bundle_store import folder_of
    from .estimator import Estimator
    from .folder import read_ahead
    from .radiograph import read_film, with_known
    from .report.records import Run, error_result, estimate_results

    send(progress=_("Loading the model…"))
    estimator = Estimator.load(folder_of(wanted.get("bundle")), wanted.get("device") or "auto")
    run_facts = Run.of(estimator.bundle)
    said = dict(films)
    with closing(read_ahead([path for path, _known in films], read_film)) as read:
        for number, (path, film) in enumerate(read, start=1):
            if isinstance(film, FilmError):
                results = [error_result(str(path), film.reason, run_facts)]
            else:
                known = {name: said[path].get(name, wanted.get(name)) for name in TYPED}
                results = estimate_results(
                    str(path), estimator.estimate(with_known(film, **known)), run_facts
                )
            records = [dataclasses.asdict(result) for result in results]
            send(film=number, of=len(films), file=str(path), records=records)
