"""The section Many films: a folder, or series of the DICOM database, in a process of their own."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from KneeBoneAgeLib import scene
from KneeBoneAgeLib.words import tell

from .dicom_series import SeriesList
from .panel import Panel, report
from .wording import headline, knee_name, say
from .worker import SERVICE, Problem, ServiceProcess, message_of


class ManyFilmsPanel(Panel):
    """Runs in the background; what is finished stays in the results when it is cancelled."""

    def __init__(self, ui: Any, module: Any, process: Any = None) -> None:
        super().__init__(ui, module)
        self.process = ServiceProcess() if process is None else process
        self.process.on_line, self.process.on_log, self.process.on_end = self._line, self._log, self._ended
        self._folder = tempfile.TemporaryDirectory(prefix="KneeBoneAge-")
        self._counts: dict[str, int] = {}
        self._finished = False
        self._began = 0.0
        self.running = False
        ui.startButton.clicked.connect(self.start)
        ui.stopButton.clicked.connect(self.stop)
        ui.folderPath.currentPathChanged.connect(lambda *_path: module.later())
        ui.folderChoice.toggled.connect(lambda *_checked: module.later())
        self.series = SeriesList(ui, module.later)
        ui.databaseChoice.toggled.connect(lambda on: self.series.read() if on else self.series.close())
        ui.manyProgress.visible = False
        ui.manyLog.visible = False

    def refresh(self) -> None:
        reason = self._reason()
        self.allow(
            self.ui.startButton,
            reason or (_("These films are being estimated now.") if self.running else None),
        )
        self.allow(self.ui.stopButton, None if self.running else _("No films are being estimated now."))
        from_database = self.ui.databaseChoice.checked
        self.ui.folderPath.enabled = not from_database and not self.running
        self.series.show(from_database, enabled=not self.running)
        self.ui.folderChoice.enabled = self.ui.databaseChoice.enabled = not self.running

    def start(self, *_checked: Any) -> None:
        if self.running or self._reason():
            return
        if self.ui.databaseChoice.checked:
            films = self.series.files()
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
        self.series.close()
        self.running = False

    def _reason(self) -> str | None:
        """Why it cannot start."""
        if self.module.missing:
            return str(self.module.missing)
        if self.ui.databaseChoice.checked:
            return None if self.series.checked else _("Select series of the DICOM database first.")
        path = self.ui.folderPath.currentPath
        return None if path and Path(path).is_dir() else _("Choose a folder of films first.")

    def _line(self, line: str) -> None:
        message = message_of(line)
        if message is None:
            self._log(line)
            return
        if "records" in message:
            self._film_done(message)
        elif "progress" in message:
            say(self.ui.manyStatus, tell(message["progress"]))
        elif "error" in message:
            self._finished = True
            self.running = False
            report(self.ui.manyStatus, Problem.from_json(message["error"]))
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
            said = headline(record) if record["status"] == "ok" else tell(record.get("reason") or "")
            name = Path(record["file"]).name
            knee = knee_name(record.get("side")) if record.get("knee_index") else ""
            doubt = _("the square is uncertain") if record.get("crop_uncertain") else ""
            self._log(": ".join(part for part in (name, knee, said, doubt) if part))
        self._count(message["film"], message["of"])
        self.module.later()

    def _count(self, done: int, total: int) -> None:
        self.ui.manyProgress.setRange(0, max(1, total))
        self.ui.manyProgress.value = done
        if done == 0:
            self._began = time.monotonic()
        minutes = round((time.monotonic() - self._began) / max(done, 1) * (total - done) / 60)
        words = _("{done} of {total} films")
        if done and minutes:
            words = _("{done} of {total} films, about {minutes} min left")
        say(self.ui.manyStatus, words.format(done=done, total=total, minutes=minutes))

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
