"""A scripted module after the application's template, to try the stand-in with."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, Default, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class Side(Enum):
    """Side of a knee."""

    RIGHT = "R"
    LEFT = "L"


@parameterNodeWrapper
class ShellExampleParameterNode:
    """What the panel shows."""

    film: slicer.vtkMRMLScalarVolumeNode
    threshold: Annotated[float, WithinRange(0, 500)] = 100
    count: Annotated[int, WithinRange(1, 9), Default(3)]
    live: bool = False
    sex: Annotated[str, Choice(["F", "M", "?"])] = "?"
    side: Side = Side.RIGHT
    folder: Path = Path("films")
    age_months: Optional[float] = None  # noqa: UP045


class ShellExample(ScriptedLoadableModule):
    """The module."""

    def __init__(self, parent):
        super().__init__(parent)
        self.parent.title = _("Shell example")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Examples")]
        slicer.app.connect("startupCompleted()", self.register)

    def register(self):
        """Say that the application has started."""
        self.parent.helpText = "started"


class ShellExampleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.clicks = []
        self._parameters = None
        self._tag = None

    def setup(self):
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/ShellExample.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = ShellExampleLogic()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.applyButton.clicked.connect(self.onApply)
        self.ui.applyButton.toolTip = _("Count")
        self.initialize()

    def enter(self):
        """Called when the panel is shown."""
        self.initialize()
        self.shortcut = qt.QShortcut(qt.QKeySequence("n"), slicer.util.mainWindow())
        self.shortcut.activated.connect(self.onApply)

    def exit(self):
        """Called when another panel is shown."""
        self.shortcut.setParent(None)
        self.shortcut = None
        self.setParameters(None)

    def cleanup(self):
        """Called when the module is unloaded."""
        self.removeObservers()

    def onSceneStartClose(self, caller, event):
        """Let the scene go."""
        self.setParameters(None)

    def onSceneEndClose(self, caller, event):
        """Begin with the empty scene."""
        self.initialize()

    def initialize(self):
        """Show the parameters of the scene."""
        self.setParameters(self.logic.getParameterNode())

    def setParameters(self, parameters):
        """Show these parameters."""
        if self._parameters:
            self._parameters.disconnectGui(self._tag)
            self.removeObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self.update)
        self._parameters = parameters
        if self._parameters:
            self._tag = self._parameters.connectGui(self.ui)
            self.addObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self.update)
            self.update()

    def update(self, caller=None, event=None):
        """Enable what can be done."""
        film = self._parameters.film
        self.ui.applyButton.enabled = film is not None
        self.ui.stateLabel.text = _("No film") if film is None else _("{name}").format(name=film.GetName())

    def onApply(self, checked=None):
        """Note what the signal gave."""
        with slicer.util.tryWithErrorDisplay(_("It failed."), waitCursor=True):
            self.clicks.append(checked)
            self.logic.process(self._parameters)


class ShellExampleLogic(ScriptedLoadableModuleLogic):
    """What the module does."""

    def getParameterNode(self):
        """The typed parameters."""
        return ShellExampleParameterNode(super().getParameterNode())

    def process(self, parameters):
        """Count, or fail when there is nothing to count."""
        if parameters.count == 9:
            raise RuntimeError("nine is too many")
        parameters.count += 1


class ShellExampleTest(ScriptedLoadableModuleTest):
    """The module's own test."""

    def runTest(self):
        """Run all."""
        self.delayDisplay("Running")
        self.assertEqual(ShellExampleLogic().getParameterNode().count, 3)  # noqa: PT009
