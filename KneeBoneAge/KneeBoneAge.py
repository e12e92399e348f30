"""KneeBoneAge: bone age from a knee radiograph, in 3D Slicer."""

import enum
import os
import tempfile
from typing import Annotated, Any

import qt
import slicer
import vtk
from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from KneeBoneAgeLib import installation, scene
from KneeBoneAgeLib.report.records import RESEARCH_ONLY
from KneeBoneAgeWidgets.age import AgePanel
from KneeBoneAgeWidgets.corrections import Corrections
from KneeBoneAgeWidgets.explanation import ExplanationPanel
from KneeBoneAgeWidgets.film import FilmPanel
from KneeBoneAgeWidgets.knees import KneesPanel
from KneeBoneAgeWidgets.logic import Estimating
from KneeBoneAgeWidgets.many_films import ManyFilmsPanel
from KneeBoneAgeWidgets.model import ModelPanel
from KneeBoneAgeWidgets.results import ResultsPanel
from KneeBoneAgeWidgets.samples import registerSampleData
from KneeBoneAgeWidgets.shortcuts import Shortcuts
from KneeBoneAgeWidgets.wording import say


class KneeBoneAge(ScriptedLoadableModule):
    """What the application shows of the module before it is opened."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        self.parent.title = _("Knee Bone Age")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Quantification")]
        self.parent.dependencies = []
        self.parent.contributors = ["The KneeBoneAge contributors"]
        self.parent.helpText = _(
            "Bone age from a frontal knee radiograph: load a film, press Find knees and Estimate. Drag the squares "
            "in the view to correct them. Research use only; not for diagnosis."
        )
        self.parent.helpText += self.getDefaultModuleDocumentationLink()
        self.parent.acknowledgementText = _("See the repository for how to cite.")
        slicer.app.connect("startupCompleted()", registerSampleData)


class Method(enum.Enum):
    """How an explanation is computed."""

    GRADIENTS = "integrated-gradients"
    GRADCAM = "gradcam"

    def label(self) -> str:
        return {"GRADIENTS": _("Integrated gradients (fine)"), "GRADCAM": _("Grad-CAM (coarse)")}[self.name]


class Device(enum.Enum):
    """Where the networks run."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"

    def label(self) -> str:
        names = {
            "AUTO": _("Automatic"),
            "CPU": _("CPU"),
            "CUDA": _("GPU (CUDA)"),
            "MPS": _("GPU (Apple)"),
        }
        return names[self.name]


@parameterNodeWrapper
class KneeBoneAgeParameterNode:
    """What the panel is set to; saved with the scene."""

    film: vtkMRMLScalarVolumeNode
    knee: vtkMRMLMarkupsROINode
    live: bool = False
    method: Method = Method.GRADIENTS
    opacity: Annotated[float, WithinRange(0, 100)] = 45
    bundle: str = ""
    device: Device = Device.AUTO


class KneeBoneAgeWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: it ties the sections to the scene, and draws them again when the scene changes."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: Any = None
        self.parameters: Any = None
        self.panels: list[Any] = []
        self.open = False
        self._guiTag: Any = None
        self._checked: tuple[Any, str | None] = (None, None)
        self._watched: Any = None

    def setup(self) -> None:
        super().setup()
        panel = slicer.util.loadUI(self.resourcePath("UI/KneeBoneAge.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = KneeBoneAgeLogic()
        self.installed = installation.look()
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self.refresh)
        for name in (
            "filmStatus",
            "kneesStatus",
            "ageStatus",
            "explanationStatus",
            "resultsStatus",
            "manyStatus",
        ):
            say(getattr(self.ui, name))
        say(self.ui.modelStatus)
        self.ui.cards.visible = False
        self.corrections = Corrections(self.later)
        self.film_panel = FilmPanel(self.ui, self)
        self.knees_panel = KneesPanel(self.ui, self)
        self.age_panel = AgePanel(self.ui, self)
        self.explanation_panel = ExplanationPanel(self.ui, self)
        self.results_panel = ResultsPanel(self.ui, self)
        self.many_panel = ManyFilmsPanel(self.ui, self)
        self.model_panel = ModelPanel(self.ui, self)
        self.panels = [
            *(self.film_panel, self.knees_panel, self.age_panel, self.explanation_panel),
            *(self.results_panel, self.many_panel, self.model_panel),
        ]
        self.ui.modelSection.collapsed = self.installed.ready
        self.shortcuts = Shortcuts(
            {
                "Ctrl+Shift+F": self.ui.findButton.click,
                "Ctrl+Shift+E": self.ui.estimateButton.click,
                "Ctrl+Shift+Z": self.ui.undoButton.click,
            }
        )
        for event, method in (
            (slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose),
            (slicer.mrmlScene.EndCloseEvent, self.onSceneChanged),
            (slicer.mrmlScene.EndImportEvent, self.onSceneChanged),
            (slicer.mrmlScene.NodeAddedEvent, self.onNodesChanged),
            (slicer.mrmlScene.NodeRemovedEvent, self.onNodesChanged),
        ):
            self.addObserver(slicer.mrmlScene, event, method)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        self.exit()
        self.setParameterNode(None)
        self.removeObservers()
        self.corrections.close()
        for panel in self.panels:
            panel.close()
        self.logic.close()

    def enter(self) -> None:
        self.open = True
        self.initializeParameterNode()
        self.shortcuts.enable()
        self.refresh()

    def exit(self) -> None:
        self.open = False
        self.shortcuts.disable()

    def onSceneStartClose(self, caller: Any, event: Any) -> None:
        self.setParameterNode(None)

    def onSceneChanged(self, caller: Any, event: Any) -> None:
        self.film_panel.forget()
        self.knees_panel.forget()
        if self.open:
            self.initializeParameterNode()

    def onNodesChanged(self, caller: Any, event: Any) -> None:
        self.later()

    def initializeParameterNode(self) -> None:
        """Take the scene's parameter node; made when there is none."""
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameters: Any) -> None:
        if self.parameters is not None:
            self.parameters.disconnectGui(self._guiTag)
            self.removeObserver(self.parameters, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged)
        self.parameters = parameters
        if parameters is not None:
            self._guiTag = parameters.connectGui(self.ui)
            self.addObserver(parameters, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged)
            self.later()

    def onParametersChanged(self, caller: Any, event: Any) -> None:
        self.later()

    @property
    def film(self) -> Any:
        return self.parameters.film if self.parameters is not None else None

    @property
    def film_problem(self) -> str | None:
        """Why the selected volume is no film; looked at once a change."""
        film = self.film
        image = film.GetImageData() if film is not None else None
        stamp = (film.GetID(), image.GetMTime() if image is not None else 0) if film is not None else None
        if stamp != self._checked[0] or stamp is None:
            self._checked = stamp, scene.check_volume(film)
        return self._checked[1]

    @property
    def knee(self) -> Any:
        """The selected knee of this film, or its first."""
        knees = scene.knees(self.film)
        chosen = self.parameters.knee if self.parameters is not None else None
        return chosen if chosen in knees else next(iter(knees), None)

    @property
    def missing(self) -> str | None:
        """What is not installed, and the way out."""
        if self.installed.ready:
            return None
        return _("{state} Press Install in the section Model.").format(state=self.installed.line)

    @property
    def not_ready(self) -> str | None:
        """Why nothing can be estimated now."""
        return self.film_problem or self.missing

    def later(self) -> None:
        """Draw the panel again when the present change is over."""
        self._timer.start()

    def refresh(self) -> None:
        """Draw everything from the scene."""
        if self.parameters is None or slicer.mrmlScene.IsImporting() or slicer.mrmlScene.IsClosing():
            return  # the end of it comes back here
        self._timer.stop()
        self.logic.bundle, self.logic.device = self.parameters.bundle, self.parameters.device.value
        if self.parameters.film is None and self.open:
            self._take_first_film()
        self.corrections.watch(
            node
            for node in slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")
            if scene.film_of(node) is not None
        )
        self._watch_film()
        default = not self.parameters.bundle
        never = _("Research use only; the default model has never seen a real child.")
        say(self.ui.researchLabel, never if default else _(RESEARCH_ONLY))
        for panel in self.panels:
            panel.refresh()

    def choose_knee(self, knee: Any) -> None:
        """Select a knee in the table and the views."""
        if self.parameters is not None:
            self.parameters.knee = knee
        self.later()

    def choose_bundle(self, path: str) -> None:
        """Use the model in this folder; "" is the default."""
        if self.parameters is not None:
            self.parameters.bundle = path
        self.later()

    def look_again(self) -> None:
        """After an installation: everything may be possible now."""
        self.installed = installation.look()
        self.logic.worker.cancel()
        self.film_panel.forget()
        self.later()

    def _take_first_film(self) -> None:
        volumes = [
            node
            for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
            if not scene.is_saliency(node)
        ]
        films = [node for node in volumes if scene.check_volume(node) is None]
        if volumes:
            self.parameters.film = (films or volumes)[0]

    def _watch_film(self) -> None:
        """Show a newly chosen film in the views, and follow what others change on it."""
        film = self.film
        if film is self._watched:
            return
        if self._watched is not None:
            self.removeObserver(self._watched, vtk.vtkCommand.ModifiedEvent, self.onNodesChanged)
        self._watched = film
        if film is not None:
            self.addObserver(film, vtk.vtkCommand.ModifiedEvent, self.onNodesChanged)
            if self.open:
                self.film_panel.show_film()


class KneeBoneAgeLogic(ScriptedLoadableModuleLogic, Estimating):
    """`KneeBoneAgeWidgets.logic.Estimating`, with the scene's parameter node."""

    def __init__(self, process: Any = None) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        Estimating.__init__(self, process)

    def getParameterNode(self) -> KneeBoneAgeParameterNode:
        return KneeBoneAgeParameterNode(super().getParameterNode())  # type: ignore[call-arg]


class KneeBoneAgeTest(ScriptedLoadableModuleTest):
    """The whole way of a film, in the application, with sample data."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        self.setUp()
        here = installation.look()
        if not here.ready:
            self.delayDisplay(f"Skipped, the networks cannot run here: {here.line}")
            return
        self.test_a_film_goes_the_whole_way()

    def test_a_film_goes_the_whole_way(self) -> None:
        """Sample, find, estimate, explain, correct, estimate again, table, CSV, save and reload."""
        logic = KneeBoneAgeLogic()
        try:
            self._whole_way(logic)
        finally:
            logic.close()

    def _whole_way(self, logic: KneeBoneAgeLogic) -> None:
        self.delayDisplay("A sample is drawn and read")
        film = logic.loadSample("school age", "SampleFilm")
        logic.wait(logic.readFilm(film))
        known = scene.facts(film)
        assert (known.sex, known.view) == ("M", "frontal")
        assert round(known.age_months or 0) == 102

        self.delayDisplay("The knees are found and estimated")
        logic.wait(logic.estimate(film))
        knees = scene.knees(film)
        assert [scene.crop_of(knee)["side"] for knee in knees] == ["R", "L"]
        for knee in knees:
            assert scene.result(knee) is not None
            assert not scene.is_out_of_date(knee)
            assert scene.chart_of(knee) is not None
        table = scene.results_table(slicer.mrmlScene)
        assert table.GetNumberOfRows() == 2

        self.delayDisplay("A knee is explained")
        logic.wait(logic.explain(knees[0]))
        heat = slicer.util.arrayFromVolume(scene.saliency_of(knees[0]))
        assert heat.shape == slicer.util.arrayFromVolume(film).shape
        assert float(heat.max()) > 0.5

        self.delayDisplay("A square is corrected, and its result is out of date")
        x, y, z = knees[0].GetCenter()
        before = scene.crop_of(knees[0])
        knees[0].SetCenter(x + 6 * film.GetSpacing()[0], y, z)
        scene.keep_square(knees[0])
        assert scene.crop_of(knees[0])["origin"] == "corrected"
        assert scene.is_out_of_date(knees[0])
        assert not scene.is_out_of_date(knees[1])
        logic.wait(logic.estimate(film))
        assert not scene.is_out_of_date(knees[0])
        assert table.GetNumberOfRows() == 2
        scene.undo(film)
        assert scene.crop_of(knees[0]) == before
        assert len(scene.csv_text(table).splitlines()) == 3

        self.delayDisplay("The scene is saved and loaded again")
        results = [scene.result(knee) for knee in knees]
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "scene.mrb")
            assert slicer.util.saveScene(path)
            slicer.mrmlScene.Clear()
            slicer.util.loadScene(path)
        film = slicer.util.getNode("SampleFilm")
        assert [scene.result(knee) for knee in scene.knees(film)] == results
        assert scene.saliency_of(scene.knees(film)[0]) is not None
        assert scene.results_table(slicer.mrmlScene).GetNumberOfRows() == 2
        self.delayDisplay("Test passed")
