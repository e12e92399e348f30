"""The section Study: what was read, what the rules removed, which rows cannot be used."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from KneeBoneAgeWidgets.panel import Panel, report
from KneeBoneAgeWidgets.wording import say
from KneeBoneAgeWidgets.worker import Request

from .pictures import Picture

SETTING = "KneeBoneAgeTraining/Study"
COLUMNS = ("table", "line", "file", "reason")


class StudyPanel(Panel):
    """Choose a study and look at it; ``study`` is what a child process has found in it, None while it is none."""

    def __init__(self, ui: Any, module: Any) -> None:
        super().__init__(ui, module)
        self.study: dict[str, Any] | None = None
        self._asked: Request | None = None
        self.picture = Picture(ui.flowButton, _("Open the flow diagram in its full size."))
        ui.studyPath.currentPath = str(slicer.util.settingsValue(SETTING, ""))
        ui.studyPath.currentPathChanged.connect(self._chosen)
        ui.problemsBox.visible = False
        self.ask()

    def refresh(self) -> None:
        found = self.study
        self.ui.studyCounts.visible = found is not None
        self.picture.show(found["flow"] if found else None)

    def ask(self) -> None:
        """Look at the chosen folder; what was asked before no longer counts."""
        folder = self.ui.studyPath.currentPath
        self.study = None
        if self._asked is not None:
            self.module.logic.worker.drop(self._asked)
        self._asked = None
        self.ui.problemsBox.visible = False
        if not folder:
            say(self.ui.studyStatus, _("Choose the folder of a study; kneeboneage cohort build makes one."))
        elif self.module.missing:
            say(self.ui.studyStatus, self.module.missing, problem=True)
        else:
            say(self.ui.studyStatus, _("Looking at the study…"))
            self._asked = self.module.logic.readStudy(folder)
            self._asked.then(self._answered)
        self.module.later()

    def _chosen(self, *_path: Any) -> None:
        qt.QSettings().setValue(SETTING, self.ui.studyPath.currentPath)
        self.ask()

    def _answered(self, request: Request) -> None:
        if request is not self._asked:
            return
        self._asked = None
        say(self.ui.studyStatus)
        if request.problem is not None:
            report(self.ui.studyStatus, request.problem)
        else:
            self._show(request.answer or {})
        self.module.later()

    def _show(self, study: dict[str, Any]) -> None:
        self.study = study
        self.ui.studyPath.addCurrentPathToHistory()
        films = {"hand": _("{films} hand films"), "knee": _("{films} knee films")}.get(
            study["kind"], _("{films} knee films, each with a hand film,")
        )
        words = _("{films} of {patients} children, in {folds} folds; {test} of them are the test set.")
        self.ui.studyCounts.text = words.format(
            films=films.format(films=study["films"]),
            patients=study["patients"],
            folds=study["folds"],
            test=study["test_films"],
        )
        self._list(study["problems"], study["problem_count"])

    def _list(self, problems: list[dict[str, str]], count: int) -> None:
        self.ui.problemsBox.visible = count > 0
        self.ui.problemsBox.title = _("Rows that cannot be used ({count})").format(count=count)
        table = self.ui.problemsTable
        table.setRowCount(len(problems))
        for row, problem in enumerate(problems):
            for column, name in enumerate(COLUMNS):
                item = qt.QTableWidgetItem(problem[name])
                item.setToolTip(problem[name])
                item.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
                table.setItem(row, column, item)
        for column in range(len(COLUMNS) - 1):
            table.resizeColumnToContents(column)
        table.resizeRowsToContents()
