"""What the training module does without its panel: start, watch, stop and resume runs, export them, hand them on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from KneeBoneAgeTrainingLib import scene
from KneeBoneAgeTrainingLib.runs import folder as run_folder
from KneeBoneAgeTrainingLib.runs import process as run_process
from KneeBoneAgeTrainingLib.runs.folder import OUT_OF_FOLD
from KneeBoneAgeTrainingLib.runs.process import KneeTraining, Training
from KneeBoneAgeTrainingLib.runs.record import Run
from KneeBoneAgeWidgets.worker import Problem, Request, ServiceProcess, Worker, python_executable

from .wording import curve_words

QUESTIONS = "from KneeBoneAgeTrainingLib.panel_answers import main; main()"
COMMAND = "from KneeBoneAgeTrainingLib.commands import app; app()"


def in_libraries(code: str) -> tuple[str, ...]:
    """Arguments of a Python interpreter that runs a line where both libraries are found."""
    return ("-c", f"import sys; sys.path[:0] = {list(run_process.LIBRARIES)!r}; {code}")


class Runs:
    """Runs of one folder, and the processes that were started from here.

        logic = KneeBoneAgeTrainingLogic()
        folder = logic.start(Training("convnext-hand", study, out))
        run = logic.run(folder)

    Parameters
    ----------
    process : stands in for the child process that answers questions, for tests.
    exporter : stands in for the one that exports.
    """

    def __init__(self, process: Any = None, exporter: Any = None) -> None:
        self.worker = Worker(ServiceProcess(in_libraries(QUESTIONS)) if process is None else process)
        self.exporter = Command(exporter)
        self._started: dict[Path, subprocess.Popen[bytes]] = {}
        self._stopping: set[int] = set()

    @property
    def runsFolder(self) -> str:
        """Where runs lie; kept in the application's settings, since they belong to the computer and to no scene."""
        documents = qt.QStandardPaths.writableLocation(qt.QStandardPaths.DocumentsLocation)
        default = os.path.join(documents, "KneeBoneAge", "Runs")
        return str(slicer.util.settingsValue("KneeBoneAgeTraining/RunsFolder", default))

    @runsFolder.setter
    def runsFolder(self, path: str) -> None:
        qt.QSettings().setValue("KneeBoneAgeTraining/RunsFolder", path)

    def close(self) -> None:
        """End what only answers questions; trainings go on."""
        self.worker.cancel()
        self.exporter.cancel()

    def readStudy(self, folder: str) -> Request:
        """What a study holds, its split checked."""
        return self.worker.ask("study", folder=folder)

    def readRecipes(self) -> Request:
        """The recipes that ship."""
        return self.worker.ask("recipes")

    def readRecipe(self, path: str) -> Request:
        """A recipe of one's own, checked."""
        return self.worker.ask("recipe", file=path)

    def runs(self) -> tuple[Run, ...]:
        """All runs of the folder, the latest first."""
        self._collect()
        return run_folder.latest_runs(Path(self.runsFolder))

    def run(self, folder: Path) -> Run | None:
        """A run as it stands now; None before its folder is written."""
        self._collect()
        return run_folder.read_run(folder)

    def start(self, training: Training | KneeTraining) -> Path:
        """Start a training; its folder. Raises a Problem where no process can be started."""
        return self._launch(training.arguments(), training.out)

    def resume(self, run: Run) -> Path:
        """Go on where a run stopped. Raises a Problem where that is not possible from here."""
        words = run_folder.again(run)
        if words is None:
            raise Problem(
                "usage",
                _("{name} was not started here").format(name=run.name),
                _("Go on with the command line that has begun it"),
            )
        return self._launch(words, run.folder)

    def _launch(self, words: tuple[str, ...], folder: Path) -> Path:
        try:
            self._started[folder] = run_process.start(words, folder, python_executable())
        except OSError as error:
            raise Problem(
                "usage",
                _("{path} cannot be written ({reason})").format(
                    path=error.filename or folder, reason=error.strerror or error
                ),
                _("Choose another folder for the runs"),
            ) from None
        return folder

    def starting(self, folder: Path) -> bool:
        """Whether a process was started from here for this folder and runs."""
        process = self._started.get(folder)
        return process is not None and process.poll() is None

    def exitCode(self, folder: Path) -> int | None:
        """How the process that was started from here for this folder has ended; None while it runs."""
        process = self._started.get(folder)
        return process.poll() if process is not None else None

    def stop(self, folder: Path) -> None:
        """Ask a run to end after its present step; asked again, its process tree is killed. It can be resumed."""
        run, process = self.run(folder), self._started.get(folder)
        pid = (run.pid or 0) if run is not None else 0
        if not pid and process is not None and process.poll() is None:
            run_process.kill(process.pid)
        elif pid in self._stopping:
            run_process.kill(pid)
        elif pid:
            self._stopping.add(pid)
            run_process.stop(pid)

    def isStopping(self, run: Run | None) -> bool:
        """Whether a run was asked to end and has not yet."""
        return run is not None and run.pid is not None and run.pid in self._stopping

    def showCurves(self, run: Run) -> bool:
        """Draw the curves of a run in the scene's two charts; False where there are none yet."""
        folds = run_folder.read_epochs(run.folder)
        if not folds:
            return False
        alone = [one.age_alone for one in run_folder.read_comparisons(run.folder) if one.films == OUT_OF_FOLD]
        months = alone[0].mae if alone and alone[0] is not None else None
        scene.show_curves(slicer.mrmlScene, run.name, folds, curve_words(), months)
        return True

    def showViews(self) -> None:
        """Show the two charts, one above the other."""
        manager = slicer.app.layoutManager()
        node = manager.layoutLogic().GetLayoutNode()
        if not node.IsLayoutDescription(scene.LAYOUT):
            node.AddLayoutDescription(scene.LAYOUT, scene.layout_description())
        manager.setLayout(scene.LAYOUT)
        scene.put_in_views(slicer.mrmlScene)

    def export(self, run: Run, out: Path) -> Request:
        """Make a bundle of a knee run; the answer names its folder."""
        return self.exporter.run(
            ("export", str(run.folder), str(out)), out / "bundle.json", {"bundle": str(out)}
        )

    def label(self, run: Run, study: str, out: Path) -> Request:
        """Let a hand run label the hand films of a study; the answer names the table."""
        words = ("pseudo-label", str(run.folder), "--study", study, "--out", str(out))
        return self.exporter.run(words, out, {"labels": str(out)})

    def useInKneeBoneAge(self, bundle: str) -> Request:
        """Install a bundle into the module Knee Bone Age and choose it there; the answer is its card."""
        first = slicer.util.getModuleWidget("KneeBoneAge")

        def installed(request: Request) -> None:
            if request.answer is not None:
                first.choose_bundle(request.answer["path"])
                first.logic.readBundles().then(lambda _read: first.later())

        return first.logic.installBundle(bundle).then(installed)

    def wait(self, request: Request, seconds: float = 600) -> dict[str, Any]:
        """The answer, while events are processed; raises `Problem`."""
        return self.worker.wait(request, seconds)

    def _collect(self) -> None:
        """Let the system forget processes that have ended."""
        for process in self._started.values():
            process.poll()
        self._stopping = {pid for pid in self._stopping if run_process.is_training(pid)}


class Command:
    """A command of ``kneeboneage`` that is over soon; what it prints goes to the application's log.

    Parameters
    ----------
    process : a `ServiceProcess` or what behaves like one; it is given the arguments before its start.
    """

    def __init__(self, process: Any = None) -> None:
        self.process = ServiceProcess() if process is None else process
        self.process.on_line = self.process.on_log = self._line
        self.process.on_end = self._ended
        self._request: Request | None = None
        self._answer: dict[str, Any] = {}
        self._result, self._before = Path(), (0, 0)
        self._lines: list[str] = []

    @property
    def busy(self) -> bool:
        return self._request is not None

    def run(self, words: tuple[str, ...], result: Path, answer: dict[str, Any]) -> Request:
        """Run it; ``answer`` is given when it has written the file ``result``."""
        request = Request("command", {})
        if self.busy:
            request.finish(problem=Problem("usage", _("Another command runs"), _("Wait for its end")))
            return request
        self._request, self._answer, self._lines = request, answer, []
        self._result, self._before = result, _written(result)
        self.process.arguments = (*in_libraries(COMMAND), *words)
        self.process.start()
        return request

    def cancel(self) -> None:
        self.process.kill()
        self._finish(Problem("cancelled", _("Cancelled")))

    def _line(self, line: str) -> None:
        self._lines = [*self._lines[-199:], line.strip()]
        if self._request is not None and line.strip():
            self._request.tell(line.strip()[:160])

    def _ended(self) -> None:
        if _written(self._result) not in ((0, 0), self._before):
            self._finish(None)
            return
        said = [line for line in self._lines if line]
        errors = [line for line in said if line.lower().startswith("error")] or said
        reason = errors[-1] if errors else _("no word why")
        words = _("{name} was not written ({reason})").format(name=self._result.name, reason=reason)
        self._finish(Problem("command", words))

    def _finish(self, problem: Problem | None) -> None:
        request, self._request = self._request, None
        if request is not None:
            request.finish(None if problem else self._answer, problem)


def _written(path: Path) -> tuple[int, int]:
    """When a file was written and how long it is; zeros where there is none."""
    try:
        about = path.stat()
    except OSError:
        return 0, 0
    return about.st_mtime_ns, about.st_size
