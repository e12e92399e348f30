"""Carrying out the plan of `KneeBoneAgeLib.installation`: after asking, step by step, with the log in view."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from KneeBoneAgeLib import installation

from .worker import ServiceProcess

LINE_CHARACTERS = 160


class Installer:
    """Asks, installs, and tells how it went.

    Every step is a child process, PyTorch's too, so that the application stays usable, its lines and the time are
    seen, and it can be cancelled. What a cancelled step has left half installed is told and installed again later.

    Parameters
    ----------
    process : a `ServiceProcess` or what behaves like one.
    tell : is told the state in words, and whether it is a problem.
    done : is called when it is over.
    """

    def __init__(
        self, tell: Callable[[str, bool], None], done: Callable[[], None], process: Any = None
    ) -> None:
        self.process = ServiceProcess() if process is None else process
        self.process.on_line = self.process.on_log = self._line
        self.process.on_end = self._step_ended
        self._tell, self._done = tell, done
        self._steps: list[installation.Step] = []
        self._folder: Any = None
        self._lines: list[str] = []
        self._began = 0.0
        self._half_before: frozenset[Path] = frozenset()
        self._clock = qt.QTimer()
        self._clock.setInterval(1000)
        self._clock.timeout.connect(self._tell_state)
        self.running = False

    def plan(self, wheels: str | None = None) -> installation.Plan:
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="KneeBoneAge-")
        constraints = Path(self._folder.name, "constraints.txt")
        constraints.write_text(installation.constraints(), encoding="utf-8")
        return installation.plan(
            self.look(),
            pytorch_extension=importlib.util.find_spec("PyTorchUtils") is not None,
            constraints_file=constraints,
            wheels=wheels or None,
        )

    def look(self) -> installation.Installation:
        """What is installed now, of all that is needed."""
        return installation.look()

    def start(self, wheels: str | None = None) -> None:
        """Ask, then install what is missing."""
        plan = self.plan(wheels)
        if not plan.steps:
            self._end(_("Everything is installed."))
            return
        if not plan.steps[0].arguments:
            self._end(plan.steps[0].words, problem=True)
            return
        if not slicer.util.confirmOkCancelDisplay(plan.question, _("Install")):
            return
        self.running = True
        self._steps = list(plan.steps)
        self._began = time.monotonic()
        # What an earlier installation has left is in the way: pip takes it for installed.
        lacking = {package.name.replace("-", "_").lower() for package in self.look().lacking("half")}
        half = installation.half_installed()
        installation.forget(one for one in half if one.name.partition("-")[0].lower() in lacking)
        self._half_before = installation.half_installed()
        self._next()

    def cancel(self) -> None:
        """End the step that runs; what it was in the midst of is installed again next time."""
        self.process.kill()
        self._steps = []
        self._end(_("Cancelled. {left}").format(left=self._left_behind()))

    def _left_behind(self) -> str:
        """Clear what was left half installed, and say how it stands."""
        half = installation.forget(installation.half_installed() - self._half_before)
        importlib.invalidate_caches()
        words = [self.look().line]
        if half:
            words.append(_("{names} will be installed anew.").format(names=", ".join(half)))
        return " ".join([*words, _("Press Install to go on.")])

    def _next(self) -> None:
        if self._steps:
            self._lines = []
            self.process.arguments = self._steps[0].arguments
            self.process.start()
            self._clock.start()
            self._tell_state()
            return
        importlib.invalidate_caches()
        now = self.look()
        if now.ready:
            self._end(now.line)
        else:
            again = _("{state} Press Install again, or restart Slicer first.")
            self._end(again.format(state=now.line), problem=True)

    def _line(self, line: str) -> None:
        if line.strip():
            self._lines = [*self._lines[-199:], line.strip()]
            logging.info(line)
            self._tell_state()

    def _tell_state(self) -> None:
        """The step, how long it has taken so far, and the last line."""
        if not self._steps or not self.process.running:
            self._clock.stop()
            return
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        last = self._lines[-1][:LINE_CHARACTERS] if self._lines else ""
        state = _("{step} ({minutes}:{seconds:02d})").format(
            step=self._steps[0].words, minutes=minutes, seconds=seconds
        )
        self._tell(f"{state}\n{last}".strip(), False)

    def _step_ended(self) -> None:
        if not self._steps:
            return
        self._steps.pop(0)
        errors = [line for line in self._lines if line.upper().startswith("ERROR")]
        failed = bool(getattr(self.process, "exit_code", 0))
        if errors or failed:
            reason = errors[-1].partition(" ")[2] if errors else " ".join(self._lines[-1:])
            self._steps = []
            words = _("Installing failed: {reason}. Check the network, or the folder of wheels. {left}")
            self._end(words.format(reason=reason.rstrip("."), left=self._left_behind()), problem=True)
        else:
            self._next()

    def _end(self, text: str, problem: bool = False) -> None:
        self.running = False
        self._clock.stop()
        self._tell(text, problem)
        self._done()
