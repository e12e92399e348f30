"""The section Results: errors of a run beside those of age alone, its figures, and what it is good for next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from KneeBoneAgeTrainingLib.agreement import WITHIN_MONTHS, Agreement
from KneeBoneAgeTrainingLib.runs import folder as run_folder
from KneeBoneAgeTrainingLib.runs import record as runs
from KneeBoneAgeTrainingLib.runs.folder import TEST, Comparison
from KneeBoneAgeTrainingLib.runs.record import Run
from KneeBoneAgeWidgets.panel import Panel, report
from KneeBoneAgeWidgets.wording import say
from KneeBoneAgeWidgets.worker import Request

from .pictures import Picture
from .wording import months, share

MOST_FIGURES = 2


class ResultsPanel(Panel):
    """What is known of the chosen run once it is finished."""

    def __init__(self, ui: Any, module: Any) -> None:
        super().__init__(ui, module)
        self.run: Run | None = None
        self._shown: Any = None
        self._errors: dict[Path, tuple[int, tuple[Comparison, ...]]] = {}
        self.request: Request | None = None
        tip = _("Open the figure in its full size.")
        self.figures = [Picture(button, tip) for button in (ui.firstFigure, ui.secondFigure)]
        self._working: Any = None
        self._buttons = {
            ui.labelButton: (ui.labelButton.text, ui.labelButton.toolTip, "hand"),
            ui.exportButton: (ui.exportButton.text, ui.exportButton.toolTip, "knee"),
            ui.useButton: (ui.useButton.text, ui.useButton.toolTip, "knee"),
        }
        ui.labelButton.clicked.connect(self.label)
        ui.exportButton.clicked.connect(self.export)
        ui.useButton.clicked.connect(self.use)

    def choose(self, run: Run | None) -> None:
        """Show this run from now on."""
        if run is None or self.run is None or run.folder != self.run.folder:
            self._shown = None
            if self.request is None:
                say(self.ui.resultsStatus)
        self.run = run

    def refresh(self) -> None:
        run = self.run
        found = self.comparisons(run) if run is not None else ()
        pictures = run_folder.figures(run.folder) if run is not None and found else ()
        self.ui.resultsHint.visible = not found
        self.ui.resultsHint.text = (
            _("The results of {name} come when it is finished.").format(name=run.name)
            if run is not None
            else _("Choose a run above.")
        )
        self.ui.metricsTable.visible = bool(found)
        self.ui.resultsText.visible = self.ui.metricsHint.visible = bool(found)
        if found != self._shown:
            self._shown = found
            self._list(found)
            phantom = run is not None and run.facts.get("data") == "phantom"
            note = _("Made from the phantom: nothing is said about real children.") if phantom else ""
            self.ui.resultsText.text = " ".join(filter(None, (_verdict(found), note)))
        for picture, path in zip(self.figures, (*pictures, *[None] * MOST_FIGURES), strict=False):
            picture.show(str(path) if path else None)
        for button, (text, tip, kind) in self._buttons.items():
            reason = self._reason(kind)
            working = button is self._working
            button.visible = run is not None
            button.text = _("Cancel") if working else text
            button.enabled = working or reason is None
            button.toolTip = _("Stop it; nothing is written.") if working else reason or tip

    def comparisons(self, run: Run) -> tuple[Comparison, ...]:
        """Errors of a run, read again where its file has changed."""
        try:
            time = (run.folder / runs.METRICS).stat().st_mtime_ns
        except OSError:
            return ()
        if self._errors.get(run.folder, (None,))[0] != time:
            self._errors[run.folder] = time, run_folder.read_comparisons(run.folder)
        return self._errors[run.folder][1]

    def error_of(self, run: Run) -> str:
        """The error that stands in the list of runs: on the test set where there is one."""
        found = self.comparisons(run)
        return months(found[-1].model.mae) if found else ""

    def label(self, *_checked: Any) -> None:
        """Ask for a table and let the hand model label the chosen study's hand films."""
        if self._cancelled() or self.run is None or self._reason("hand") is not None:
            return
        study = self.module.study_panel.study
        suggested = str(self.run.folder.parent / f"{self.run.name}-labels.csv")
        path = qt.QFileDialog.getSaveFileName(
            self.ui.labelButton, _("Table of labels"), suggested, _("Comma-separated values (*.csv)")
        )
        if path and study is not None:
            self._working = self.ui.labelButton
            self._ask(self.module.logic.label(self.run, study["folder"], Path(path)), self._labelled)

    def export(self, *_checked: Any) -> None:
        """Ask for a folder and write the bundle there."""
        if self._cancelled() or self.run is None or self._reason("knee") is not None:
            return
        suggested = str(self.run.folder.parent / f"{self.run.name}-bundle")
        path = qt.QFileDialog.getSaveFileName(
            self.ui.exportButton, _("Export bundle: name of its folder"), suggested
        )
        if path:
            self._working = self.ui.exportButton
            self._ask(self.module.logic.export(self.run, Path(path)), self._written(path))

    def use(self, *_checked: Any) -> None:
        """Make the bundle where the run has none yet, install it into Knee Bone Age and go there."""
        if self._cancelled() or self.run is None or self._reason("knee") is not None:
            return
        self._working = self.ui.useButton
        bundle = self.run.folder / run_folder.BUNDLE
        if _is_current(bundle, self.run):
            self._install(str(bundle))
        else:
            self._ask(self.module.logic.export(self.run, bundle), lambda _answer: self._install(str(bundle)))

    def _cancelled(self) -> bool:
        """End what runs; whether there was anything."""
        if self.request is None:
            return False
        self.module.logic.exporter.cancel()
        return True

    def _labelled(self, answer: dict[str, Any]) -> None:
        """Offer the table for the knee model that comes next."""
        self.ui.labelsPath.currentPath = answer["labels"]
        words = _("Written: {path}. A knee recipe in the section Training can learn from it.")
        say(self.ui.resultsStatus, words.format(path=answer["labels"]))

    def _written(self, path: str) -> Any:
        return lambda _answer: say(self.ui.resultsStatus, _("Written: {path}").format(path=path))

    def _install(self, bundle: str) -> None:
        self._ask(self.module.logic.useInKneeBoneAge(bundle), self._installed)

    def _installed(self, card: dict[str, Any]) -> None:
        say(
            self.ui.resultsStatus,
            _("Knee Bone Age uses {name} from now on.").format(name=card.get("name") or ""),
        )
        slicer.util.selectModule("KneeBoneAge")

    def _ask(self, request: Request, done: Any) -> None:
        def finished(answered: Request) -> None:
            self.request = None
            say(self.ui.resultsStatus)
            if answered.problem is not None:
                report(self.ui.resultsStatus, answered.problem)
            else:
                done(answered.answer or {})
            if self.request is None:
                self._working = None
            self.module.later()

        self.request = request
        say(self.ui.resultsStatus, _("Working…"))
        request.then(finished, lambda told: say(self.ui.resultsStatus, told.progress))
        self.module.later()

    def _reason(self, kind: str) -> str | None:
        """Why the run cannot be used as a model of this kind now."""
        if self.request is not None:
            return _("Wait for its end.")
        if self.run is None:
            return _("Choose a run first.")
        if self.run.state != runs.FINISHED:
            return _("It is not finished yet.")
        if self.run.facts.get("kind") != kind:
            if kind == "knee":
                return _("A hand model labels hand films; only a knee model becomes a bundle.")
            return _("Only a hand model labels hand films.")
        if kind == "hand" and self.module.study_panel.study is None:
            return _("Choose the study whose hand films are to be labelled, in the section Study.")
        return None

    def _list(self, found: tuple[Comparison, ...]) -> None:
        columns: list[tuple[str, Agreement | None]] = []
        for one in found:
            name = _("Test") if one.films == TEST else _("Folds")
            columns += [(name, one.model), (_("Age"), one.age_alone)]
        rows = _rows()
        table = self.ui.metricsTable
        table.setColumnCount(len(columns))
        table.setRowCount(len(rows))
        table.setHorizontalHeaderLabels([name for name, _errors in columns])
        table.setVerticalHeaderLabels([name for name, _value in rows])
        for row, (_name, value) in enumerate(rows):
            for column, (_title, errors) in enumerate(columns):
                item = qt.QTableWidgetItem(value(errors) if errors is not None else "–")
                item.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
                item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
                table.setItem(row, column, item)
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        table.resizeRowsToContents()
        height = sum(table.rowHeight(row) for row in range(len(rows))) + 2 * table.frameWidth
        table.setFixedHeight(height + table.horizontalHeader().height)


def _rows() -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = [
        (_("Films"), lambda a: f"{a.n}"),
        (_("Mean absolute error"), lambda a: months(a.mae)),
        (_("Median error"), lambda a: months(a.median)),
        (_("Root mean square"), lambda a: months(a.rmse)),
    ]
    for place, limit in enumerate(WITHIN_MONTHS):
        name = _("Within {months} months").format(months=limit)
        rows.append((name, lambda a, place=place: share(a.within[place])))
    rows.append((_("Bias"), lambda a: months(a.bias)))
    rows.append((_("95 % limits"), lambda a: f"{a.lower:.0f} … {a.upper:.0f}"))
    return rows


def _verdict(found: tuple[Comparison, ...]) -> str:
    """The comparison in a sentence; the test set's where there is one."""
    if not found or found[-1].age_alone is None:
        return ""
    model, alone = found[-1].model.mae, found[-1].age_alone.mae
    films = _("the test set") if found[-1].films == TEST else _("children it was not trained on")
    if model < alone:
        words = _("Better than chronological age alone on {films}: {model} instead of {alone} months.")
    else:
        words = _("Not better than chronological age alone on {films}: {model} against {alone} months.")
    return words.format(films=films, model=months(model), alone=months(alone))


def _is_current(bundle: Path, run: Run) -> bool:
    """Whether a run has a bundle that is not older than the run itself."""
    try:
        made = (bundle / "bundle.json").stat().st_mtime_ns
        return made >= (run.folder / runs.METRICS).stat().st_mtime_ns
    except OSError:
        return False
