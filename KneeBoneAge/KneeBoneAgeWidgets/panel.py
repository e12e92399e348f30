"""What the sections of the panel have in common: a place in the window, and buttons that start something long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from .wording import say
from .worker import Problem, Request

PATIENCE_MS = 300
"""What takes no longer than this is not announced."""


class Panel:
    """One section.

    Parameters
    ----------
    ui : the widgets of the .ui file by name.
    module : the module's widget: ``film``, ``knee``, ``logic``, ``parameters``, and ``later()`` to be drawn again.
    """

    def __init__(self, ui: Any, module: Any) -> None:
        self.ui, self.module = ui, module
        self.tasks: list[Task] = []
        self._tips: dict[Any, str] = {}

    def refresh(self) -> None:
        """Show what the scene says now."""

    def allow(self, button: Any, reason: str | None) -> None:
        """Let a button be pressed, or say in its tooltip why it cannot be."""
        tip = self._tips.setdefault(button, button.toolTip)
        button.enabled = reason is None
        button.toolTip = reason or tip

    def close(self) -> None:
        """Leave nothing running."""
        for task in self.tasks:
            task.close()


class Task:
    """A button that asks the process for something, and is its Cancel button meanwhile.

    An answer that comes within `PATIENCE_MS` changes nothing else of the section: no line flashes up, nothing jumps.
    Until then another press is taken for a double click.

    Parameters
    ----------
    status : label that shows the progress and, when it failed, what is wrong and what to do.
    ask : makes the request.
    done : is told the answer.
    press : what a click does instead of `press`.
    """

    def __init__(
        self,
        panel: Panel,
        button: Any,
        status: Any,
        ask: Callable[[], Request],
        done: Callable[[dict[str, Any]], None],
        press: Callable[..., None] | None = None,
    ) -> None:
        self.panel, self.button, self.status, self._ask, self._done = panel, button, status, ask, done
        self.label, self.tip = button.text, button.toolTip
        self._drawn: tuple[str, bool, str] | None = None
        self._told = ""
        self.request: Request | None = None
        self._patience = qt.QTimer()
        self._patience.setSingleShot(True)
        self._patience.setInterval(PATIENCE_MS)
        self._patience.timeout.connect(self._show_running)
        button.clicked.connect(press or self.press)
        panel.tasks.append(self)

    @property
    def running(self) -> bool:
        return self.request is not None

    @property
    def cancellable(self) -> bool:
        """Whether the button is a Cancel button now."""
        return self.running and not self._patience.isActive()

    def press(self, *_checked: Any) -> None:
        if not self.running:
            with slicer.util.tryWithErrorDisplay(_("This could not be started.")):
                self.start(self._ask())
        elif self.cancellable:
            self.panel.module.logic.worker.cancel()

    def start(self, request: Request) -> None:
        self.request, self._told = request, _("Starting…")
        self._patience.start()
        request.then(self._finished, self._progressed)

    def show(self, reason: str | None) -> None:
        """Draw the button; ``reason`` says why it cannot be pressed now, None that it can."""
        if self.cancellable:
            drawn = (_("Cancel"), True, _("Stop it; the next request starts again."))
        else:
            drawn = (self.label, self.running or reason is None, reason or self.tip)
        if drawn != self._drawn:
            self._drawn = drawn
            self.button.text, self.button.enabled, self.button.toolTip = drawn

    def close(self) -> None:
        self._patience.stop()

    def _show_running(self) -> None:
        if self.running:
            say(self.status, self._told)
            self.show(None)

    def _progressed(self, request: Request) -> None:
        self._told = request.progress
        if self.cancellable:
            say(self.status, request.progress)

    def _finished(self, request: Request) -> None:
        self.request = None
        self._patience.stop()
        self.show(None)
        say(self.status)
        if request.problem is not None:
            report(self.status, request.problem)
        else:
            with slicer.util.tryWithErrorDisplay(_("The answer could not be shown.")):
                self._done(request.answer or {})
        self.panel.module.draw(self.panel)


def report(label: Any, problem: Problem) -> None:
    """Say what is wrong and what to do."""
    say(
        label,
        str(problem) + ("" if problem.kind == "cancelled" else "."),
        problem=problem.kind != "cancelled",
    )
