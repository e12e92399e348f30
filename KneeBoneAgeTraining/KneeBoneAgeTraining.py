"""KneeBoneAgeTraining: train hand and knee models of bone age, in 3D Slicer."""

import json
import tempfile
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from KneeBoneAgeTrainingLib import scene
from KneeBoneAgeTrainingWidgets import installing
from KneeBoneAgeTrainingWidgets.installing import InstallationPanel
from KneeBoneAgeTrainingWidgets.logic import Runs
from KneeBoneAgeTrainingWidgets.results import ResultsPanel
from KneeBoneAgeTrainingWidgets.runs import RunsPanel
from KneeBoneAgeTrainingWidgets.study import StudyPanel
from KneeBoneAgeTrainingWidgets.training import TrainingPanel
from KneeBoneAgeWidgets.wording import REPOSITORY, say

WATCH_MS = 1000
"""How often the chosen run is looked at while the module is open."""


class KneeBoneAgeTraining(ScriptedLoadableModule):
    """What the application shows of the module before it is opened."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        self.parent.title = _("Knee Bone Age Training")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Quantification")]
        self.parent.dependencies = ["KneeBoneAge"]
        self.parent.contributors = ["The KneeBoneAge contributors"]
        self.parent.helpText = _(
            "Train models of bone age on a study of your own: choose the study and a recipe, press Start training. "
            "It goes on when Slicer is closed. A knee model becomes a bundle that Knee Bone Age uses. "
            "Research use only; not for diagnosis."
        )
        link = _(' <a href="{page}">Documentation</a>')
        self.parent.helpText += link.format(page=f"{REPOSITORY}#training-on-ones-own-films")
        cite = _('How to cite stands in the file CITATION.cff of the <a href="{page}">repository</a>.')
        self.parent.acknowledgementText = cite.format(page=REPOSITORY)


class KneeBoneAgeTrainingWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel. What it is set to belongs to this computer (paths), not to a scene: it is in the settings."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: Any = None
        self.panels: list[Any] = []
        self.open = False

    def setup(self) -> None:
        super().setup()
        panel = slicer.util.loadUI(self.resourcePath("UI/KneeBoneAgeTraining.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = KneeBoneAgeTrainingLogic()
        self.installed = installing.look()
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self.refresh)
        self._watch = qt.QTimer()
        self._watch.setInterval(WATCH_MS)
        self._watch.timeout.connect(self.refresh)
        for name in ("studyStatus", "trainStatus", "runStatus", "resultsStatus", "installStatus"):
            say(getattr(self.ui, name))
        self.study_panel = StudyPanel(self.ui, self)
        self.training_panel = TrainingPanel(self.ui, self)
        self.results_panel = ResultsPanel(self.ui, self)
        self.runs_panel = RunsPanel(self.ui, self)
        self.installation_panel = InstallationPanel(self.ui, self)
        self.panels = [
            *(self.study_panel, self.training_panel, self.runs_panel, self.results_panel),
            self.installation_panel,
        ]
        self.ui.installationSection.collapsed = self.installed.ready
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneClosed)
        self.refresh()

    def cleanup(self) -> None:
        self.exit()
        self.removeObservers()
        for panel in self.panels:
            panel.close()
        self.logic.close()

    def enter(self) -> None:
        self.open = True
        self._watch.start()
        self.refresh()

    def exit(self) -> None:
        self.open = False
        self._watch.stop()
        self._timer.stop()

    def onSceneClosed(self, caller: Any, event: Any) -> None:
        self.runs_panel.forget()
        if self.open:
            self.later()

    @property
    def missing(self) -> str | None:
        """What is not installed, and the way out."""
        if self.installed.ready:
            return None
        return _("{state} Press Install in the section Installation.").format(state=self.installed.line)

    def later(self) -> None:
        """Draw the panel again when the present change is over."""
        self._timer.start()

    def refresh(self) -> None:
        """Draw everything from the run folders."""
        self._timer.stop()
        for panel in self.panels:
            panel.refresh()

    def choose_run(self, folder: Path) -> None:
        """Show a run below."""
        self.ui.runsSection.collapsed = False
        self.runs_panel.choose(folder)
        self.later()

    def look_again(self) -> None:
        """After an installation: everything may be possible now."""
        self.installed = installing.look()
        self.logic.worker.cancel()
        self.study_panel.ask()
        self.later()


class KneeBoneAgeTrainingLogic(ScriptedLoadableModuleLogic, Runs):
    """`KneeBoneAgeTrainingWidgets.logic.Runs`, as the application asks for it."""

    def __init__(self, process: Any = None, exporter: Any = None) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        Runs.__init__(self, process, exporter)


class KneeBoneAgeTrainingTest(ScriptedLoadableModuleTest):
    """What the module does with a run folder, in the application; nothing is trained."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        self.setUp()
        self.test_a_run_is_found_and_its_curves_are_drawn()

    def test_a_run_is_found_and_its_curves_are_drawn(self) -> None:
        """A run folder in the format of kneeboneage train, its curves as plots, its views."""
        logic = KneeBoneAgeTrainingLogic()
        kept = logic.runsFolder
        try:
            with tempfile.TemporaryDirectory() as folder:
                logic.runsFolder = folder
                self._write_run(Path(folder, "tried"))
                self.delayDisplay("A run is found")
                (run,) = logic.runs()
                assert (run.name, run.state) == ("tried", "finished")
                self.delayDisplay("Its curves are drawn")
                assert logic.showCurves(run)
                logic.showViews()
                chart = scene.find(slicer.mrmlScene, "vtkMRMLPlotChartNode", scene.CHARTS[0])
                assert chart.GetNumberOfPlotSeriesNodes() == 3
        finally:
            logic.runsFolder = kept
            logic.close()
        self.delayDisplay("Test passed")

    def _write_run(self, folder: Path) -> None:
        """A finished run of two folds as kneeboneage train leaves it, without weights."""
        folder.mkdir()
        facts = {"format": 1, "kind": "hand", "state": "finished", "recipe": "tried", "started": "2026-01-01"}
        (folder / "run.json").write_text(json.dumps(facts))
        names = ("rmse", "median", "bias", "lower", "upper", *(f"within_{m}" for m in (6, 12, 18, 24)))
        others = dict.fromkeys(names, 0.5)
        errors = {
            name: {"n": 10, "mae": mae, **others} for name, mae in (("model", 9.5), ("age_alone", 12.5))
        }
        (folder / "metrics.json").write_text(json.dumps({"out_of_fold": errors}))
        for fold in range(2):
            (folder / f"fold-{fold}").mkdir()
            lines = [f"{epoch},{epoch * 10},{3 - epoch},{12 - epoch}" for epoch in range(3)]
            text = "\n".join(["epoch,step,train_loss,val_mae_months", *lines])
            (folder / f"fold-{fold}" / "metrics.csv").write_text(text)
