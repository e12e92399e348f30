"""The child process that holds the networks: requests and answers are lines of JSON.

Started as ``python -m KneeBoneAgeLib.service`` by the Slicer module, which never imports torch itself. A request
``{"id": 3, "do": "estimate", ...}`` is answered by any number of ``{"id": 3, "progress": "..."}`` and then by
``{"id": 3, "done": {...}}`` or ``{"id": 3, "error": {"kind", "message", "way_out"}}``. Requests are handled one
at a time, cancelling is ending the process, and the end of the input ends it too. As soon as a request has come,
``{"id": 3, "got": true}`` says so. Only these lines go to the standard output; whatever libraries print goes to the
standard error, which is the log.

Where a launcher does not hand its standard input on, ``--requests FILE`` reads the requests from the lines that
are appended to a file.

``python -m KneeBoneAgeLib.service --films LIST.json`` runs over many films instead, one line a finished film.

Nothing heavy is imported at file scope: ``check`` answers where nothing is installed.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from .problems import Problem, problem_of
from .service_actions import Say, Service
from .words import mark as _

IDLE_S = 15 * 60.0
"""After so long without a request, a process that reads them from a file leaves."""
LOOK_AGAIN_S = 0.02


def serve(requests: Iterable[str], out: TextIO, service: Service | None = None) -> None:
    """Answer requests, one JSON object a line, until ``quit`` or the end."""
    service = service or Service()

    def send(number: Any, **content: Any) -> None:
        out.write(json.dumps({"id": number, **content}, allow_nan=False) + "\n")
        out.flush()

    def telling(number: Any) -> Say:
        return lambda text: send(number, progress=text)

    for line in requests:
        if not line.strip():
            continue
        number = None
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise Problem("usage", _("a request is a JSON object"), _("Send one object a line."))
            number = request.get("id")
            send(number, got=True)
            if request.get("do") == "quit":
                send(number, done={})
                return
            done = service.answer(request, telling(number))
            send(number, done=done)
        except Exception as error:  # whatever it is, the caller gets an answer and the service lives on
            problem = problem_of(error)
            if problem.kind == "bug":
                traceback.print_exc()
            if problem.kind == "memory":
                service.forget()
            send(number, error=problem.to_json())


def own_stdout() -> TextIO:
    """The standard output for our lines alone; what anybody prints goes to the standard error from now on."""
    sys.stdout.flush()
    private = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return private


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the child process; the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    out = own_stdout()
    if arguments[:1] == ["--films"] and len(arguments) == 2:
        from .many_films import run

        return run(arguments[1], out)
    if arguments[:1] == ["--requests"] and len(arguments) == 2:
        serve(appended_lines(Path(arguments[1])), out)
    else:
        serve(iter(sys.stdin.readline, ""), out)
    return 0


def appended_lines(path: Path, idle_s: float = IDLE_S) -> Iterator[str]:
    """Whole lines of a file as they are appended, until it is gone or nothing has come for ``idle_s`` seconds.

    Nobody ends a process whose input is a file, so it has to leave by itself.
    """
    rest, last = b"", time.monotonic()
    with path.open("rb") as stream:
        while path.exists() and time.monotonic() - last < idle_s:
            new = stream.read()
            if not new:
                time.sleep(LOOK_AGAIN_S)
                continue
            *lines, rest = (rest + new).split(b"\n")
            for line in lines:
                yield line.decode("utf-8", "replace")
            last = time.monotonic()


if __name__ == "__main__":
    sys.exit(main())
