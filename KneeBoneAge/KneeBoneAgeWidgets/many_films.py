"""The section Many films: a folder, or series of the DICOM database, in a process of their own."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from KneeBoneAgeLib import scene

from .panel import Panel, report
from .wording import headline, knee_name, say
from .worker import SERVICE, Problem, ServiceProcess, message_of

RADIOGRAPHS = ("CR", "DX", "RG")
"""DICOM modalities of films."""


class ManyFilmsPanel(Panel):
    """Runs in the background; what is finished stays in the results when it is cancelled."""

    def __init__(self, ui: Any, module: Any, process: Any = None) -> None:
        super().__init__(ui, module)
        self.process = ServiceProcess() if process is None else process
        self.process.on_line, self.process.on_log, self.process.on_end = self._line, self._log, self._ended
        self._folder = tempfile.TemporaryDirectory(prefix="KneeBoneAge-")
        self._series: list[str] = []
        self._counts: dict[str, int] = {}
        self._finished = False
        self.running = False
        ui.startButton.clicked.connect(self.start)
        ui.stopButton.clicked.connect(self.stop)
        ui.folderPath.currentPathChanged.connect(lambda *_path: module.later())
        ui.folderChoice.toggled.connect(lambda *_checked: module.later())
        ui.databaseChoice.toggled.connect(lambda on: self._list_series() if on else None)
        ui.seriesTable.itemChanged.connect(lambda *_item: module.later())
        ui.manyProgress.visible = False
        ui.manyLog.visible = False
        self._tip = ui.startButton.toolTip

    def refresh(self) -> None:
        reason = self._reason()
        self.ui.startButton.enabled = reason is None and not self.running
        self.ui.startButton.toolTip = reason or (_("It is running.") if self.running else self._tip)
        self.ui.stopButton.enabled = self.running
        self.ui.stopButton.toolTip = (
            _("Stop; finished films stay in the results.") if self.running else _("Nothing runs.")
        )
        from_database = self.ui.databaseChoice.checked
        self.ui.folderPath.enabled = not from_database and not self.running
        self.ui.seriesTable.visible = from_database and bool(self._series)
        self.ui.seriesTable.enabled = not self.running
        self.ui.folderChoice.enabled = self.ui.databaseChoice.enabled = not self.running

    def start(self, *_checked: Any) -> None:
        if self.running or self._reason():
            return
        if self.ui.databaseChoice.checked:
            films = self._selected_files()
        else:
            films = [self.ui.folderPath.currentPath]
            self.ui.folderPath.addCurrentPathToHistory()
        logic = self.module.logic
        wanted = Path(self._folder.name, "films.json")
        wanted.write_text(
            json.dumps({"films": films, "bundle": logic.bundle or None, "device": logic.device})
        )
        self.ui.manyLog.clear()
        self.ui.manyLog.visible = self.ui.manyProgress.visible = True
        self.ui.manyProgress.setRange(0, 0)
        self._counts = {"ok": 0, "refused": 0, "error": 0}
        self._finished = False
        self.running = True
        self.process.arguments = (*SERVICE, "--films", str(wanted))
        say(self.ui.manyStatus, _("Starting…"))
        self.process.start()
        self.module.later()

    def stop(self, *_checked: Any) -> None:
        """End the process and all that it started."""
        if self.running:
            self.process.kill()
            self._stopped(_("Cancelled. {summary}"))

    def close(self) -> None:
        self.process.kill()
        self.running = False

    def _reason(self) -> str | None:
        """Why it cannot start."""
        if self.module.missing:
            return str(self.module.missing)
        if self.ui.databaseChoice.checked:
            return None if self._selected_files() else _("Select series of the DICOM database first.")
        path = self.ui.folderPath.currentPath
        return None if path and Path(path).is_dir() else _("Choose a folder of films first.")

    def _list_series(self) -> None:
        """The radiographs of the DICOM database."""
        database = slicer.dicomDatabase
        found = []
        if database is not None and database.isOpen:
            for patient in database.patients():
                for study in database.studiesForPatient(patient):
                    found += [(uid, study) for uid in database.seriesForStudy(study)]
        rows = []
        for uid, _study in found:
            files = database.filesForSeries(uid)
            if files and database.fileValue(files[0], "0008,0060") in RADIOGRAPHS:
                date = database.fileValue(files[0], "0008,0020")
                rows.append(
                    (uid, database.fileValue(files[0], "0008,0060"), date, database.descriptionForSeries(uid))
                )
        rows.sort(key=lambda row: row[2])
        self._series = [row[0] for row in rows]
        table = self.ui.seriesTable
        table.blockSignals(True)
        table.setRowCount(len(rows))
        for number, (_uid, modality, date, description) in enumerate(rows):
            first = qt.QTableWidgetItem(modality)
            first.setFlags(qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsEnabled)
            first.setCheckState(qt.Qt.Unchecked)
            table.setItem(number, 0, first)
            table.setItem(number, 1, qt.QTableWidgetItem(date))
            table.setItem(number, 2, qt.QTableWidgetItem(description))
        table.blockSignals(False)
        self.ui.databaseLabel.text = (
            _("{count} radiographs; check those to estimate").format(count=len(rows))
            if rows
            else _("no radiographs; import them in the DICOM module")
        )
        self.module.later()

    def _selected_files(self) -> list[str]:
        table = self.ui.seriesTable
        files: list[str] = []
        for row, uid in enumerate(self._series):
            if table.item(row, 0).checkState() == qt.Qt.Checked:
                files += slicer.dicomDatabase.filesForSeries(uid)
        return files

    def _line(self, line: str) -> None:
        message = message_of(line)
        if message is None:
            self._log(line)
            return
        if "records" in message:
            self._film_done(message)
        elif "progress" in message:
            say(self.ui.manyStatus, message["progress"])
        elif "error" in message:
            error = message["error"]
            self._finished = True
            self.running = False
            report(self.ui.manyStatus, Problem(error["kind"], error["message"], error.get("way_out", "")))
            self._quiet()
        elif message.get("finished"):
            self._finished = True
            self._stopped(_("Finished. {summary}"))
        elif "of" in message:
            self._count(0, message["of"])

    def _film_done(self, message: dict[str, Any]) -> None:
        table = scene.results_table(slicer.mrmlScene)
        for record in message["records"]:
            self._counts[record["status"]] = self._counts.get(record["status"], 0) + 1
            scene.append_record(table, record, film=Path(record["file"]).name)
            said = headline(record) if record["status"] == "ok" else record.get("reason") or ""
            name = Path(record["file"]).name
            knee = knee_name(record.get("side")) if record.get("knee_index") else ""
            self._log(": ".join(part for part in (name, knee, said) if part))
        self._count(message["film"], message["of"])
        self.module.later()

    def _count(self, done: int, total: int) -> None:
        self.ui.manyProgress.setRange(0, max(1, total))
        self.ui.manyProgress.value = done
        say(self.ui.manyStatus, _("{done} of {total} films").format(done=done, total=total))

    def _log(self, line: str) -> None:
        self.ui.manyLog.appendPlainText(line)

    def _ended(self) -> None:
        if self._finished:
            self.running = False
            self.module.later()
            return
        self._stopped(
            _("The process ended unexpectedly; its last words are in the log. {summary}"), problem=True
        )

    def _stopped(self, text: str, problem: bool = False) -> None:
        self.running = False
        summary = _("Knees estimated: {ok}, refused: {refused}, files not read: {error}.").format(
            **self._counts
        )
        say(self.ui.manyStatus, text.format(summary=summary), problem)
        self._quiet()

    def _quiet(self) -> None:
        if self.ui.manyProgress.maximum == 0:
            self.ui.manyProgress.setRange(0, 1)
        self.module.later()
