"""The warm child process that holds the networks, asked in JSON lines, one request at a time; nothing blocks.

`ServiceProcess` is the process itself (a test hands in another), `Worker` what is asked of it.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from KneeBoneAgeLib.problems import Problem
from KneeBoneAgeLib.words import tell

MODULE_FOLDER = Path(__file__).resolve().parents[1]
SERVICE = ("-m", "KneeBoneAgeLib.service")
SILENT_MS = 30_000
"""A process that has said nothing for so long after the first request does not hear; the second way gets as long."""
WRITE_MS = 100
IDLE_MS = 10 * 60_000
"""A process without requests for so long ends, so that the memory of the graphics card is free for others."""


def message_of(line: str) -> dict[str, Any] | None:
    """What a line of the service says; None when it is none of its messages, and so belongs to the log."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


class ServiceProcess:
    """A Python child of the application; each line it writes goes to ``on_line``, its log to ``on_log``.

    Requests go to its standard input. Where nothing comes back, since a launcher does not hand the input on, it is
    started a second time with ``--requests FILE`` and reads them from there.

    Parameters
    ----------
    arguments : of the Python interpreter.
    """

    def __init__(self, arguments: tuple[str, ...] = SERVICE) -> None:
        self.arguments = arguments
        self.on_line: Callable[[str], None] = _ignore
        self.on_log: Callable[[str], None] = _ignore
        self.on_end: Callable[[], None] = _ignore
        self.silent = False
        self.exit_code: int | None = None
        self._process: Any = None
        self._ended: Any = None
        self._rest = b""
        self._unheard: list[str] = []
        self._heard = False
        self._file: Path | None = None
        self._folder: Any = None
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._said_nothing)

    @property
    def running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        environment = qt.QProcessEnvironment.systemEnvironment()
        paths = [str(MODULE_FOLDER), environment.value("PYTHONPATH", "")]
        environment.insert("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        environment.insert("PYTHONIOENCODING", "utf-8")
        environment.insert("PYTHONUNBUFFERED", "1")
        process = qt.QProcess()
        process.setProcessEnvironment(environment)
        process.readyReadStandardOutput.connect(self._read)
        process.readyReadStandardError.connect(self._read_log)
        process.finished.connect(self._finished)
        process.errorOccurred.connect(self._failed)
        self._process, self._rest = process, b""
        self._unheard, self._heard, self.silent, self.exit_code = [], False, False, None
        asks = ("--requests", str(self._file)) if self._file is not None else ()
        if self._file is not None:
            self._file.write_bytes(b"")
        process.start(python_executable(), [*self.arguments, *asks])

    def send(self, line: str) -> None:
        """Write a line; nothing where the process could not be started, which ``on_end`` has told already."""
        if self._process is None:
            return
        if not self._heard:
            self._unheard.append(line)
            self._timer.start(SILENT_MS)
        if self._file is None:
            self._process.write(line.encode() + b"\n")
            if self._heard:
                self._process.waitForBytesWritten(WRITE_MS)  # now, and not after the panel is painted
        else:
            with self._file.open("ab") as stream:
                stream.write(line.encode() + b"\n")

    def kill(self) -> None:
        """End the process and all that it started: PythonSlicer is a launcher, its child does the work."""
        self._timer.stop()
        process, self._process = self._process, None
        if process is None:
            return
        from KneeBoneAgeLib import process_tree

        process.blockSignals(True)
        if process.processId():
            process_tree.end(int(process.processId()))
        process.kill()
        process.waitForFinished(2000)

    def _read(self) -> None:
        if self._process is None:
            return
        *lines, self._rest = (self._rest + bytes(self._process.readAllStandardOutput().data())).split(b"\n")
        if lines and not self._heard:
            self._heard, self._unheard = True, []
            self._timer.stop()
        for line in lines:
            if line.strip():
                self.on_line(line.decode("utf-8", "replace"))

    def _read_log(self) -> None:
        if self._process is not None:
            text = bytes(self._process.readAllStandardError().data()).decode("utf-8", "replace")
            for line in filter(None, text.splitlines()):
                self.on_log(line)

    def _finished(self, *_status: Any) -> None:
        if self._process is None:
            return  # a crash is told twice
        self._read()
        # Kept until the next one ends: without a reference it would be deleted in the midst of its own signal.
        self._ended, self._process = self._process, None
        self.exit_code = int(self._ended.exitCode())
        if self.exit_code == 0 and self._unheard and self._file is None:
            self._ask_by_file()  # it met the end of its input at once
            return
        self._timer.stop()
        self.on_end()

    def _failed(self, *_error: Any) -> None:
        if self._process is not None and self._process.state() == qt.QProcess.NotRunning:
            self._unheard = []  # nothing would hear a file either
            self._finished()
            self.exit_code = None

    def _said_nothing(self) -> None:
        unheard = self._unheard
        self.kill()
        if self._file is None:
            self._unheard = unheard
            self._ask_by_file()
        else:
            self.silent = True
            self.on_end()

    def _ask_by_file(self) -> None:
        logging.info("KneeBoneAge: the process does not hear its standard input; requests go through a file")
        unheard = self._unheard
        self._folder = tempfile.TemporaryDirectory(prefix="KneeBoneAge-")
        self._file = Path(self._folder.name, "requests.jsonl")
        self.start()
        for line in unheard:
            self.send(line)


class Request:
    """One question to the process; ``answer`` or ``problem`` is there once it is ``finished``."""

    def __init__(self, do: str, what: dict[str, Any]) -> None:
        self.do, self.what = do, what
        self.progress = ""
        self.answer: dict[str, Any] | None = None
        self.problem: Problem | None = None
        self.finished = False
        self._then: list[Callable[[Request], None]] = []
        self._progressed: list[Callable[[Request], None]] = []

    def then(
        self, function: Callable[[Request], None], progress: Callable[[Request], None] | None = None
    ) -> Request:
        """Call ``function`` when it is finished, after those that were given before."""
        if progress:
            self._progressed.append(progress)
        if self.finished:
            function(self)
        else:
            self._then.append(function)
        return self

    def tell(self, progress: str) -> None:
        self.progress = progress
        for function in self._progressed:
            function(self)

    def finish(self, answer: dict[str, Any] | None = None, problem: Problem | None = None) -> None:
        if self.finished:
            return
        self.answer, self.problem, self.finished = answer, problem, True
        for function in self._then:
            function(self)


class Worker:
    """Asks a process, in order; starts it when it is needed and again when it died.

    Parameters
    ----------
    process : a `ServiceProcess` or what behaves like one.
    """

    def __init__(self, process: Any = None) -> None:
        self.process = ServiceProcess() if process is None else process
        self.process.on_line, self.process.on_log, self.process.on_end = self._line, self._log, self._end
        self.log: list[str] = []
        self._waiting: list[Request] = []
        self._current: Request | None = None
        self._number = 0
        self._idle = qt.QTimer()
        self._idle.setSingleShot(True)
        self._idle.setInterval(IDLE_MS)
        self._idle.timeout.connect(self.rest)

    @property
    def busy(self) -> bool:
        return self._current is not None

    def ask(self, do: str, **what: Any) -> Request:
        request = Request(do, what)
        self._waiting.append(request)
        self._next()
        return request

    def drop(self, request: Request) -> None:
        """Forget a request that has not begun; one that has begun goes on."""
        if request in self._waiting:
            self._waiting.remove(request)
            request.finish(problem=Problem("cancelled", _("Superseded")))

    def cancel(self) -> None:
        """End the process tree and with it all that was asked; the next request starts it again."""
        self.process.kill()
        self._fail_all(Problem("cancelled", _("Cancelled")))

    def rest(self) -> None:
        """End the process when nothing was asked for a while; the next request starts it again."""
        if not self.busy:
            self.process.kill()

    def wait(self, request: Request, seconds: float = 600) -> dict[str, Any]:
        """Process events until the answer is there, for scripts and tests.

        Raises
        ------
        Problem : what the service said, or that it took longer than ``seconds``.
        """
        end = time.monotonic() + seconds
        while not request.finished:
            if time.monotonic() > end:
                raise Problem("ended", _("No answer in time"), _("Cancel and try again"))
            slicer.app.processEvents()
            time.sleep(0.002)
        if request.problem is not None:
            raise request.problem
        return request.answer or {}

    def _next(self) -> None:
        if self._current is not None:
            return
        if not self._waiting:
            self._idle.start()
            return
        self._idle.stop()
        self._current = self._waiting.pop(0)
        self._number += 1
        if not self.process.running:
            self.process.start()
        self.process.send(json.dumps({"id": self._number, "do": self._current.do, **self._current.what}))

    def _line(self, line: str) -> None:
        message = message_of(line)
        if message is None:
            self._log(line)
            return
        request = self._current
        if message.get("id") != self._number or request is None:
            return
        if "progress" in message:
            request.tell(tell(str(message["progress"])))
        if "done" not in message and "error" not in message:
            return
        self._current = None
        error = message.get("error")
        if error is None:
            request.finish(answer=message.get("done") or {})
        else:
            if error.get("kind") == "bug":
                self._tell_error_log()
            request.finish(problem=Problem.from_json(error))
        self._next()

    def _log(self, line: str) -> None:
        self.log = [*self.log[-499:], line]

    def _tell_error_log(self) -> None:
        """Put the last words of the process where the application keeps its log."""
        logging.error("KneeBoneAge process:\n%s", "\n".join(self.log[-40:]))

    def _end(self) -> None:
        last = self.log[-1] if self.log else ""
        self._tell_error_log()
        again = _("Try again; if it happens again, look at the Error Log")
        if getattr(self.process, "silent", False):
            way_out = _("Restart Slicer; if it happens again, let the antivirus software allow PythonSlicer")
            problem = Problem("ended", _("The estimating process was started, but does not answer"), way_out)
        elif last:
            words = _("The estimating process ended unexpectedly ({reason})")
            problem = Problem("ended", words, again, reason=last)
        else:
            problem = Problem("ended", _("The estimating process ended unexpectedly"), again)
        self._fail_all(problem)

    def _fail_all(self, problem: Problem) -> None:
        requests = [request for request in (self._current, *self._waiting) if request is not None]
        self._current, self._waiting = None, []
        for request in requests:
            request.finish(problem=problem)


def python_executable() -> str:
    """The application's Python, or the interpreter that runs."""
    return shutil.which("PythonSlicer") or sys.executable


def _ignore(*_arguments: Any) -> None:
    pass
