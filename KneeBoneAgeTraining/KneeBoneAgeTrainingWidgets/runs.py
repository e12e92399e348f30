"""The section Runs: what has been trained and what is being trained, its progress, its log and its curves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from KneeBoneAgeTrainingLib import scene
from KneeBoneAgeTrainingLib.runs import folder as run_folder
from KneeBoneAgeTrainingLib.runs import process as run_process
from KneeBoneAgeTrainingLib.runs.progress import Progress
from KneeBoneAgeTrainingLib.runs.record import FAILED, FINISHED, INTERRUPTED, LOG, RUNNING, Run
from KneeBoneAgeWidgets.panel import Panel, report
from KneeBoneAgeWidgets.wording import say
from KneeBoneAgeWidgets.worker import Problem

from .wording import kind_name, progress_line, state_line, state_name, when

LONG_TIME = re.compile(r"^\d{4}-\d\d-\d\d (\d\d:\d\d:\d\d),\d+ (?:INFO )?", re.MULTILINE)
"""How lines of the log begin; the panel is narrow, so it shows the time of day alone."""
STEPS = 1000
"""Of the progress bar."""


class RunsPanel(Panel):
    """The list of runs, and the one that is chosen; read again from its folder as long as the panel is open."""

    def __init__(self, ui: Any, module: Any) -> None:
        super().__init__(ui, module)
        self._listed: list[tuple[Run, str, str]] = []
        self._stamp: Any = None
        self._log = ""
        self.chosen: Path | None = None
        ui.runsTable.itemSelectionChanged.connect(self._selected)
        ui.stopButton.clicked.connect(self.stop)
        ui.resumeButton.clicked.connect(self.resume)
        ui.curvesButton.clicked.connect(self.show_curves)
        ui.folderButton.clicked.connect(self.open_folder)
        ui.runProgress.setRange(0, STEPS)

    @property
    def run(self) -> Run | None:
        """The chosen run, as its folder says now."""
        return self.module.logic.run(self.chosen) if self.chosen is not None else None

    def forget(self) -> None:
        """Draw the chosen run anew; the scene may have lost its curves."""
        self._stamp = None

    def choose(self, folder: Path | None) -> None:
        self.chosen, self._stamp = folder, None

    def refresh(self) -> None:
        runs = self.module.logic.runs()
        if self.chosen is not None and self.chosen.parent != Path(self.module.logic.runsFolder):
            self.choose(None)
        if self.chosen is None and runs:
            active = [run for run in runs if run.state == RUNNING]
            self.choose((active or list(runs))[0].folder)
        self._list(runs)
        run = next((one for one in runs if one.folder == self.chosen), None)
        self.module.results_panel.choose(run)
        starting = run is None and self.chosen is not None
        self.ui.runsHint.visible = not runs and not starting
        self.ui.runPanel.visible = run is not None or starting
        if run is not None:
            self._show(run)
        elif starting and self.chosen is not None:
            self._show_starting(self.chosen)

    def stop(self, *_checked: Any) -> None:
        if self.chosen is not None:
            self.module.logic.stop(self.chosen)
        self.module.later()

    def resume(self, *_checked: Any) -> None:
        run = self.run
        if run is None or self._cannot_resume(run) is not None:
            return
        try:
            self.module.logic.resume(run)
        except Problem as problem:
            report(self.ui.runStatus, problem)
        self._stamp = None
        self.module.later()

    def show_curves(self, *_checked: Any) -> None:
        """Draw the curves and show them in the views."""
        run = self.run
        if run is not None and self.module.logic.showCurves(run):
            self.module.logic.showViews()
        self.module.later()

    def open_folder(self, *_checked: Any) -> None:
        if self.chosen is not None and self.chosen.is_dir():
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self.chosen)))

    def _list(self, runs: tuple[Run, ...]) -> None:
        rows = [(run, run.state, self.module.results_panel.error_of(run)) for run in runs]
        table = self.ui.runsTable
        table.visible = bool(rows)
        table.blockSignals(True)
        if rows != self._listed:
            self._listed = rows
            table.setRowCount(len(rows))
            for row, (run, state, error) in enumerate(rows):
                started = when(str(run.facts.get("started") or ""))
                texts = (run.name, state_name(state), error, started, run.recipe)
                for column, text in enumerate(texts):
                    item = qt.QTableWidgetItem(text)
                    item.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
                    item.setToolTip(text)
                    table.setItem(row, column, item)
            for column in range(table.columnCount - 1):
                table.resizeColumnToContents(column)
            table.resizeRowsToContents()
        number = next((n for n, row in enumerate(rows) if row[0].folder == self.chosen), -1)
        if number != table.currentRow():
            table.clearSelection() if number < 0 else table.selectRow(number)
        table.blockSignals(False)

    def _going(self, run: Run) -> bool:
        return run.state == RUNNING or self.module.logic.starting(run.folder)

    def _cannot_stop(self, run: Run) -> str | None:
        """Why a run cannot be ended from here."""
        if not self._going(run):
            return _("It does not run.")
        if run.pid is None and not self.module.logic.starting(run.folder):
            return _("It runs on another computer ({host}).").format(host=run.facts.get("host"))
        return None

    def _cannot_resume(self, run: Run) -> str | None:
        """Why a run cannot go on."""
        if self._going(run):
            return _("It runs.")
        if run.state == FINISHED:
            return _("It is finished.")
        if run_folder.again(run) is None:
            return _("It was not started here: go on with the command line that has begun it.")
        return None

    def _selected(self, *_none: Any) -> None:
        row = self.ui.runsTable.currentRow()
        if 0 <= row < len(self._listed):
            self.choose(self._listed[row][0].folder)
            self.module.later()

    def _show(self, run: Run) -> None:
        ui, logic = self.ui, self.module.logic
        going = self._going(run)
        stopping = logic.isStopping(run)
        stamp = (run_folder.stamp(run.folder), run.state, going, stopping)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        title = " · ".join(filter(None, (run.name, run.recipe, kind_name(str(run.facts.get("kind") or "")))))
        ui.runTitle.text = title
        bad = run.state in (FAILED, INTERRUPTED) and not going
        if stopping:
            say(ui.runStatus, _("Stopping after the present step. Press Kill if that takes too long."))
        elif going and run.state != RUNNING:
            say(ui.runStatus, _("Starting again…"))
        else:
            say(ui.runStatus, state_line(run.state, str(run.facts.get("error") or "")), problem=bad)
        progress = run_folder.read_progress(run.folder)
        self._bar(going, progress)
        ui.progressLabel.text = progress_line(progress) if progress and going else ""
        ui.progressLabel.visible = bool(ui.progressLabel.text)
        epochs = run_folder.read_epochs(run.folder)
        in_views = slicer.app.layoutManager().layout == scene.LAYOUT
        if epochs and (in_views or scene.shown_run(slicer.mrmlScene) == run.name):
            logic.showCurves(run)
        if in_views:
            scene.put_in_views(slicer.mrmlScene)
        text = run_folder.log_tail(run.folder / LOG)
        if bad or not text:
            text = "\n".join(
                filter(None, (text, run_folder.log_tail(run_process.console_of(run.folder), 40)))
            )
        self._show_log(text)
        self._buttons(
            stop=self._cannot_stop(run),
            resume=self._cannot_resume(run),
            curves=None if epochs else _("There are no curves yet: they begin with the first epoch."),
        )
        ui.stopButton.text = _("Kill") if stopping else _("Cancel")

    def _show_starting(self, folder: Path) -> None:
        """A run whose process has not written its folder yet, or ended before it did."""
        code = self.module.logic.exitCode(folder)
        self._stamp = None
        self.ui.runTitle.text = folder.name
        text = run_folder.log_tail(run_process.console_of(folder), 60)
        self._show_log(text)
        self._bar(code is None, None)
        self.ui.progressLabel.visible = False
        if code is None:
            say(self.ui.runStatus, _("Starting…"))
        else:
            last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
            say(
                self.ui.runStatus,
                _("It ended before it began ({reason}).").format(reason=last or _("exit code") + f" {code}"),
                problem=True,
            )
        self._buttons(
            stop=None if code is None else _("It does not run."),
            resume=_("There is nothing to go on with."),
            curves=_("There are no curves yet: they begin with the first epoch."),
        )
        self.ui.stopButton.text = _("Cancel")

    def _bar(self, going: bool, progress: Progress | None) -> None:
        bar = self.ui.runProgress
        bar.visible = going
        if progress is None:
            bar.setRange(0, 0 if going else 1)
        else:
            bar.setRange(0, STEPS)
            bar.value = round(STEPS * run_folder.fraction(progress))

    def _show_log(self, text: str) -> None:
        log, text = self.ui.runLog, LONG_TIME.sub(r"\1 ", text)
        log.visible = bool(text)
        if text == self._log:
            return
        # What is new is appended, so that a person who scrolled up to read is left where they are.
        known = "\n".join(self._log.splitlines()[-3:])
        place = text.rfind(known) if known else -1
        if place < 0:
            log.clear()
        new = text[place + len(known) :].strip("\n") if place >= 0 else text
        self._log = text
        if new:
            log.appendPlainText(new)

    def _buttons(self, **reasons: str | None) -> None:
        """Each button with the reason why it cannot be pressed, None that it can."""
        for name, reason in reasons.items():
            self.allow(getattr(self.ui, f"{name}Button"), reason)
