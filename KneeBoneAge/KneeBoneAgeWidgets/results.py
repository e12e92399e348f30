"""The section Results: the table of all estimates, to be copied or exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from KneeBoneAgeLib import scene

from .panel import Panel
from .wording import say


class ResultsPanel(Panel):
    """One row a knee, with everything needed to repeat it."""

    def __init__(self, ui: Any, module: Any) -> None:
        super().__init__(ui, module)
        self._shown: Any = ""
        self._fitted = False
        ui.copyButton.clicked.connect(self.copy)
        ui.exportButton.clicked.connect(self.export)

    @property
    def table(self) -> Any:
        return scene.results_table(slicer.mrmlScene, create=False)

    def refresh(self) -> None:
        table = self.table
        if table is not self._shown:
            self._shown, self._fitted = table, False
            self.ui.resultsView.setMRMLTableNode(table)
        rows = table.GetNumberOfRows() if table is not None else 0
        if rows and not self._fitted:
            self._fitted = True
            self.ui.resultsView.resizeColumnsToContents()
        for button in (self.ui.copyButton, self.ui.exportButton):
            self.allow(button, None if rows else _("There are no results yet: press Estimate."))
        self.ui.resultsSection.text = _("Results ({rows})").format(rows=rows) if rows else _("Results")

    def copy(self, *_checked: Any) -> None:
        slicer.app.clipboard().setText(scene.csv_text(self.table, "\t"))
        say(self.ui.resultsStatus, _("Copied: {rows} rows.").format(rows=self.table.GetNumberOfRows()))

    def export(self, *_checked: Any) -> None:
        path = qt.QFileDialog.getSaveFileName(
            self.ui.resultsView, _("Export results"), "bone-age.csv", _("Comma-separated values (*.csv)")
        )
        if not path:
            return
        try:
            Path(path).write_text(scene.csv_text(self.table), encoding="utf-8", newline="")
        except OSError as error:
            say(
                self.ui.resultsStatus,
                _("{path} cannot be written ({reason}). Choose another folder.").format(
                    path=path, reason=error.strerror or error
                ),
                problem=True,
            )
        else:
            say(self.ui.resultsStatus, _("Written: {path}").format(path=path))
