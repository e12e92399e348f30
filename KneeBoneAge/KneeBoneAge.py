"""KneeBoneAge: bone age from a knee radiograph, in 3D Slicer."""

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
from KneeBoneAgeWidgets import selftest
from KneeBoneAgeWidgets.age import AgePanel
from KneeBoneAgeWidgets.corrections import Corrections
from KneeBoneAgeWidgets.explanation import ExplanationPanel
from KneeBoneAgeWidgets.film import FilmPanel
from KneeBoneAgeWidgets.knees import KneesPanel
from KneeBoneAgeWidgets.logic import Estimating
from KneeBoneAgeWidgets.many_films import ManyFilmsPanel
from KneeBoneAgeWidgets.model import ModelPanel
from KneeBoneAgeWidgets.parameters import Device, Method
from KneeBoneAgeWidgets.results import ResultsPanel
from KneeBoneAgeWidgets.samples import registerSampleData
from KneeBoneAgeWidgets.shortcuts import Shortcuts
from KneeBoneAgeWidgets.wording import REPOSITORY, say


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
        link = _(' The <a href="{page}">documentation</a> has a tutorial.')
        self.parent.helpText += link.format(page=f"{REPOSITORY}#in-3d-slicer-a-tutorial")
        cite = _('How to cite stands in the file CITATION.cff of the <a href="{page}">repository</a>.')
        self.parent.acknowledgementText = cite.format(page=REPOSITORY)
        slicer.app.connect("startupCompleted()", registerSampleData)


@parameterNodeWrapper
class KneeBoneAgeParameterNode:
    """What the panel is set to; saved with the scene.

    ``model`` is the SHA-256 of a bundle, "" for the one that ships: a path would be another one on another computer.
    """

    film: vtkMRMLScalarVolumeNode
    knee: vtkMRMLMarkupsROINode
    live: bool = False
    method: Method = Method.GRADIENTS
    opacity: Annotated[float, WithinRange(0, 100)] = 45
    model: str = ""
    modelName: str = ""
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
        self.shown: tuple[scene.Knee, ...] = ()
        self._checked: tuple[Any, str | None] = (None, None)
        self._watched: Any = None
        self._restored = False

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
        for name in ("film", "knees", "age", "explanation", "results", "many", "model"):
            say(getattr(self.ui, f"{name}Status"))
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
                "Ctrl+Shift+U": self.ui.undoButton.click,
            }
        )
        for event, method in (
            (slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose),
            (slicer.mrmlScene.EndCloseEvent, self.onSceneChanged),
            (slicer.mrmlScene.EndImportEvent, self.onSceneImported),
            (slicer.mrmlScene.NodeAddedEvent, self.onNodesChanged),
            (slicer.mrmlScene.NodeRemovedEvent, self.onNodesChanged),
        ):
            self.addObserver(slicer.mrmlScene, event, method)
        slicer.app.paletteChanged.connect(self.later)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        self.exit()
        slicer.app.paletteChanged.disconnect(self.later)
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

    def onSceneImported(self, caller: Any, event: Any) -> None:
        self._restored = True
        self.onSceneChanged(caller, event)

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
    def selected(self) -> Any:
        """`knee`, of those that are drawn."""
        nodes = [knee.node for knee in self.shown]
        chosen = self.parameters.knee if self.parameters is not None else None
        return chosen if chosen in nodes else next(iter(nodes), None)

    @property
    def missing(self) -> str | None:
        """What is not installed, and the way out."""
        if self.installed.ready:
            return None
        return _("{state} Press Install in the section Model.").format(state=self.installed.summary)

    @property
    def not_ready(self) -> str | None:
        """Why nothing can be estimated now."""
        return self.film_problem or self.missing or self.model_panel.problem()

    def later(self, *_arguments: Any) -> None:
        """Draw the panel again when the present change is over, once for all that has changed."""
        if not self._timer.isActive():
            self._timer.start()

    def draw(self, panel: Any) -> None:
        """Draw one section at once, and all of them when the present change is over."""
        if self.open and self._can_draw():
            self._look()
            panel.refresh()
        self.later()

    def _can_draw(self) -> bool:
        scene_changes = slicer.mrmlScene.IsImporting() or slicer.mrmlScene.IsClosing()
        return self.parameters is not None and not scene_changes

    def _look(self) -> None:
        self.shown = scene.look(self.film, self.logic.bundle_sha256)

    def refresh(self) -> None:
        """Draw everything from the scene."""
        if not self._can_draw():
            return  # the end of it comes back here
        self._timer.stop()
        self.logic.device = self.parameters.device.value
        if self.parameters.film is None and self.open:
            self._take_first_film()
        self.corrections.watch(
            node
            for node in slicer.util.getNodesByClass("vtkMRMLMarkupsROINode")
            if scene.film_of(node) is not None
        )
        self._watch_film()
        self._restored = False
        self.model_panel.resolve()
        if not self.open:
            return  # it is drawn when it is opened
        self._look()
        never = _("Research use only; the default model has never seen a real child.")
        say(
            self.ui.researchLabel,
            _("Research use only. Not for diagnosis.") if self.parameters.model else never,
        )
        say(self.ui.noticeLabel, self.missing or self.model_panel.problem() or "", problem=True)
        for panel in self.panels:
            panel.refresh()

    def choose_knee(self, knee: Any) -> None:
        """Select a knee in the table and the views."""
        if self.parameters is not None:
            self.parameters.knee = knee
        self.later()

    def choose_bundle(self, path: str) -> None:
        """Use the model in this folder; "" is the default."""
        self.model_panel.choose(path)
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
            if self.open and not (self._restored and self.film_panel.is_seen()):
                self.film_panel.show_film()


class KneeBoneAgeLogic(ScriptedLoadableModuleLogic, Estimating):
    """`KneeBoneAgeWidgets.logic.Estimating`, with the scene's parameter node."""

    def __init__(self, process: Any = None) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        Estimating.__init__(self, process)

    def getParameterNode(self) -> KneeBoneAgeParameterNode:
        return KneeBoneAgeParameterNode(super().getParameterNode())  # type: ignore[call-arg]


class KneeBoneAgeTest(ScriptedLoadableModuleTest):
    """A film's whole way in the application, with sample data: through the panel's own widgets, and by a script."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        here = installation.look()
        if not here.ready:
            self.delayDisplay(f"Skipped, the networks cannot run here: {here.line}")
            return
        for test in (self.test_the_panel_leads_a_film_the_whole_way, self.test_a_script_gets_the_same_answer):
            self.setUp()
            test()
        self.delayDisplay("Test passed")

    def test_the_panel_leads_a_film_the_whole_way(self) -> None:
        """Sample, find, estimate, explain, correct, undo, Live, table, save and reload, all by its widgets."""
        selftest.throughThePanel(self.delayDisplay)

    def test_a_script_gets_the_same_answer(self) -> None:
        """What the panel does, with `KneeBoneAgeLogic` alone."""
        logic = KneeBoneAgeLogic()
        try:
            selftest.byScript(logic, self.delayDisplay)
        finally:
            logic.close()
