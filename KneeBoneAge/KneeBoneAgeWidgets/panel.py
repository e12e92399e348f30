"""What the sections of the panel have in common: a place in the window, and buttons that start something long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from .wording import say
from .worker import Problem, Request


class Panel:
    """One section.

    Parameters
    ----------
    ui : the widgets of the .ui file by name.
    module : the module's widget: ``film``, ``knee``, ``logic``, ``parameters``, and ``later()`` to be drawn again.
    """

    def __init__(self, ui: Any, module: Any) -> None:
        self.ui, self.module = ui, module

    def refresh(self) -> None:
        """Show what the scene says now."""

    def close(self) -> None:
        """Leave nothing running."""


class Task:
    """A button that asks the process for something, and is its Cancel button meanwhile.

    Parameters
    ----------
    status : label that shows the progress and, when it failed, what is wrong and what to do.
    ask : makes the request.
    done : is told the answer.
    press : what a click does instead of `press`.
    """

    def __init__(
        self,
        module: Any,
        button: Any,
        status: Any,
        ask: Callable[[], Request],
        done: Callable[[dict[str, Any]], None],
        press: Callable[..., None] | None = None,
    ) -> None:
        self.module, self.button, self.status, self._ask, self._done = module, button, status, ask, done
        self.label, self.tip = button.text, button.toolTip
        self._drawn: tuple[str, bool, str] | None = None
        self.request: Request | None = None
        button.clicked.connect(press or self.press)

    @property
    def running(self) -> bool:
        return self.request is not None

    def press(self, *_checked: Any) -> None:
        if self.running:
            self.module.logic.worker.cancel()
        else:
            self.start(self._ask())

    def start(self, request: Request) -> None:
        self.request = request
        say(self.status, _("Starting…"))
        request.then(self._finished, self._progressed)
        self.show(None)

    def show(self, reason: str | None) -> None:
        """Draw the button; ``reason`` says why it cannot be pressed now, None that it can."""
        tip = _("Stop it; the next request starts again.") if self.running else reason or self.tip
        drawn = (_("Cancel") if self.running else self.label, self.running or reason is None, tip)
        if drawn != self._drawn:
            self._drawn = drawn
            self.button.text, self.button.enabled, self.button.toolTip = drawn

    def _progressed(self, request: Request) -> None:
        say(self.status, request.progress)

    def _finished(self, request: Request) -> None:
        self.request = None
        self.show(None)
        say(self.status)
        if request.problem is not None:
            report(self.status, request.problem)
        else:
            self._done(request.answer or {})
        # Not later(): the panel would be laid out and painted once more before, with the old numbers.
        self.module.refresh()


def report(label: Any, problem: Problem) -> None:
    """Say what is wrong and what to do."""
    say(
        label,
        str(problem) + ("" if problem.kind == "cancelled" else "."),
        problem=problem.kind != "cancelled",
    )
