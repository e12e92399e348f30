"""Carrying out the plan of `KneeBoneAgeLib.installation`: after asking, step by step, with the log in view."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from KneeBoneAgeLib import installation

from .worker import ServiceProcess

REQUESTER = "KneeBoneAge"


class Installer:
    """Asks, installs, and tells how it went.

    pip runs as a child process that can be cancelled; PyTorch comes through its extension, and from Slicer 5.12 on
    the rest through ``slicer.packaging``, both of which show their own progress.

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
        self.process.on_end = self._pip_ended
        self._tell, self._done = tell, done
        self._steps: list[installation.Step] = []
        self._folder: Any = None
        self._lines: list[str] = []
        self.running = False

    def plan(self, wheels: str | None = None) -> installation.Plan:
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="KneeBoneAge-")
        constraints = Path(self._folder.name, "constraints.txt")
        constraints.write_text(installation.constraints(), encoding="utf-8")
        return installation.plan(
            installation.look(),
            pytorch_extension=importlib.util.find_spec("PyTorchUtils") is not None,
            slicer_packaging=_packaging() is not None,
            constraints_file=constraints,
            wheels=wheels or None,
        )

    def start(self, wheels: str | None = None) -> None:
        """Ask, then install what is missing."""
        plan = self.plan(wheels)
        if not plan.steps:
            self._end(_("Everything is installed."))
            return
        if plan.steps[0].what == "person":
            self._end(plan.steps[0].words, problem=True)
            return
        if not slicer.util.confirmOkCancelDisplay(plan.question, _("Install")):
            return
        self.running = True
        self._lines = []
        self._steps = list(plan.steps)
        self._next()

    def cancel(self) -> None:
        self.process.kill()
        self._steps = []
        self._end(_("Cancelled. Press Install to go on."))

    def _next(self) -> None:
        if not self._steps:
            importlib.invalidate_caches()
            missing = installation.look()
            if missing.ready:
                self._end(missing.line)
            else:
                self._end(
                    _("{state} Press Install again, or restart Slicer first.").format(state=missing.line),
                    problem=True,
                )
            return
        step = self._steps.pop(0)
        self._tell(step.words, False)
        if step.what == "pip":
            self.process.arguments = ("-m", "pip", "install", "--disable-pip-version-check", *step.arguments)
            self.process.start()
            return
        slicer.app.processEvents()
        try:
            {"pytorch": _install_torch, "packaging": _install_packages}[step.what](step)
        except Exception as error:  # whatever pip met, it is told in the panel
            logging.exception("Installing failed")
            self._steps = []
            self._end(
                _("Installing failed ({reason}). Check the network, or choose a folder of wheels.").format(
                    reason=error
                ),
                problem=True,
            )
            return
        self._next()

    def _line(self, line: str) -> None:
        self._lines = [*self._lines[-199:], line]
        logging.info(line)
        self._tell(line.strip()[:160], False)

    def _pip_ended(self) -> None:
        errors = [line for line in self._lines if line.upper().startswith("ERROR")]
        if errors:
            self._steps = []
            self._end(
                _("pip failed: {reason}. Check the network, or the folder of wheels.").format(
                    reason=errors[-1][7:]
                ),
                problem=True,
            )
        else:
            self._next()

    def _end(self, text: str, problem: bool = False) -> None:
        self.running = False
        self._tell(text, problem)
        self._done()


def _packaging() -> Any:
    """``slicer.packaging`` of 5.12 and later, which is no attribute of ``slicer`` before it is imported."""
    try:
        return importlib.import_module("slicer.packaging")
    except ImportError:
        return None


def _install_torch(_step: installation.Step) -> None:
    import PyTorchUtils

    if PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=False) is None:
        raise RuntimeError(_("the PyTorch extension could not install PyTorch"))


def _install_packages(step: installation.Step) -> None:
    arguments = list(step.arguments)
    constraints = arguments[arguments.index("--constraint") + 1] if "--constraint" in arguments else None
    packaging = _packaging()
    packaging.pip_ensure(
        packaging.load_requirements(str(installation.REQUIREMENTS_FILE)),
        constraints=constraints,
        skip_packages=list(installation.BY_PYTORCH_EXTENSION),
        prompt_install=False,
        requester=REQUESTER,
    )
