"""Stand-in for ``slicer.app`` and ``slicer.modules``."""

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from .io_manager import IOManager
from .layout import LayoutManager
from .mrml_session import NO_LOGIC, MrmlSession
from .mrml_widgets import qMRMLWidget


class Module:
    """A module as the application lists it, loaded or not opened yet."""

    def __init__(self, name: str, path: str = "", logic: Any = None) -> None:
        self.name, self.path, self._logic = name, path, logic
        self.title, self.categories, self.dependencies, self.contributors = name, [], [], []
        self.helpText, self.acknowledgementText, self.index, self.hidden = "", "", -1, False
        self.icon = QtGui.QIcon()
        self.widgetRepresentationCreationEnabled = True
        self._widget: ModuleWidget | None = None

    def logic(self) -> Any:
        """The module's logic in C++, if it has one."""
        return self._logic

    def widgetRepresentation(self) -> "ModuleWidget":
        """The module's panel, built at the first call."""
        if self._widget is None:
            self._widget = ModuleWidget(self)
            self._widget.build()
        return self._widget


class ModuleWidget(qMRMLWidget):
    """The frame in which the application puts a scripted module's panel."""

    def __init__(self, module: Module) -> None:
        super().__init__()
        self.module = module
        self.setObjectName(f"{module.name}ModuleWidget")
        self.setLayout(QtWidgets.QVBoxLayout())
        self._panel: Any = None

    def build(self) -> None:
        """Make the module's widget class and let it set itself up."""
        code = importlib.import_module(self.module.name)
        self.setMRMLScene(slicer.mrmlScene)
        self._panel = getattr(code, f"{self.module.name}Widget")(self)
        setattr(slicer.modules, f"{self.module.name}Widget", self._panel)
        self._panel.setup()

    def self(self) -> Any:
        """The scripted widget."""
        return self._panel


class ModuleManager(QtCore.QObject):
    """``slicer.app.moduleManager()``."""

    moduleAboutToBeUnloaded = QtCore.Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, Module] = {}
        self._opened: Any = None

    def open(self, name: str) -> Any:
        """Leave the module that is open, and open this one; the empty name opens none."""
        if hasattr(self._opened, "exit"):
            self._opened.exit()
        self._opened = None
        if name:
            frame = self.known[name].widgetRepresentation()
            slicer.util.mainWindow().show_panel(frame)
            self._opened = frame.self()
            if hasattr(self._opened, "enter"):
                self._opened.enter()
        return self._opened

    def module(self, name: str) -> Module | None:
        """A module by its name."""
        return self.known.get(name)

    def factoryManager(self) -> "ModuleManager":
        """Here the same object."""
        return self

    def loadedModuleNames(self) -> tuple[str, ...]:
        """Names of all modules."""
        return tuple(self.known)

    def connect(self, signature: str, slot: Any) -> bool:
        """PythonQt's older way to connect."""
        getattr(self, signature.partition("(")[0]).connect(slot)
        return True


class App(QtCore.QObject):
    """``slicer.app``. ``applicationName`` and so on are properties, as there."""

    startupCompleted = QtCore.Signal()
    aboutToQuit = QtCore.Signal()
    mrmlSceneChanged = QtCore.Signal(object)
    paletteChanged = QtCore.Signal(QtGui.QPalette)

    def __init__(self, session: MrmlSession, folder: Path) -> None:
        super().__init__()
        self._folder, self.testing = folder, False
        self._layout = LayoutManager(session)
        self._io, self._modules, self._session = IOManager(session), ModuleManager(), session
        self.applicationName, self.mainApplicationName = "Slicer", "Slicer"
        self.majorVersion, self.minorVersion, self.applicationVersion = 5, 12, "5.12.0-shell"
        self.temporaryPath = str(folder / "temporary")
        self.slicerHome = str(folder / "home")
        self.cachePath = self.defaultScenePath = str(folder / "cache")
        self.extensionsInstallPath = str(folder / "extensions")
        for path in (self.temporaryPath, self.slicerHome, self.cachePath, self.extensionsInstallPath):
            Path(path).mkdir(exist_ok=True)

    def layoutManager(self) -> LayoutManager:
        """The views."""
        return self._layout

    def coreIOManager(self) -> IOManager:
        """Reading and writing of files."""
        return self._io

    ioManager = coreIOManager

    def moduleManager(self) -> ModuleManager:
        """The modules."""
        return self._modules

    def applicationLogic(self) -> Any:
        """The logic that shares out the chosen volume."""
        return self._session.logic

    def mrmlScene(self) -> Any:
        """The scene."""
        return self._session.scene

    def testingEnabled(self) -> bool:
        """Whether the application was started with ``--testing``: then boxes are not shown."""
        return self.testing

    def processEvents(self) -> None:
        """Do what waits in the event loop."""
        QtCore.QCoreApplication.processEvents()
        QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)

    def settings(self) -> QtCore.QSettings:
        """The settings; in a folder of their own."""
        return QtCore.QSettings()

    userSettings = revisionUserSettings = settings

    def topLevelWidgets(self) -> list[QtWidgets.QWidget]:
        """All windows."""
        return QtWidgets.QApplication.topLevelWidgets()

    def setOverrideCursor(self, cursor: Any) -> None:
        """Show another cursor everywhere."""
        QtWidgets.QApplication.setOverrideCursor(cursor)

    def restoreOverrideCursor(self) -> None:
        """End that."""
        QtWidgets.QApplication.restoreOverrideCursor()

    def overrideCursor(self) -> Any:
        """The cursor that is shown everywhere, or None."""
        return QtWidgets.QApplication.overrideCursor()

    def clipboard(self) -> QtGui.QClipboard:
        """The clipboard."""
        return QtWidgets.QApplication.clipboard()

    def font(self) -> QtGui.QFont:
        """The font of the interface."""
        return QtWidgets.QApplication.font()

    def palette(self) -> QtGui.QPalette:
        """The colours of the interface."""
        return QtWidgets.QApplication.palette()

    def setPalette(self, palette: QtGui.QPalette) -> None:
        """Show the interface in other colours."""
        QtWidgets.QApplication.setPalette(palette)
        self.paletteChanged.emit(palette)

    def connect(self, signature: str, slot: Any) -> bool:
        """PythonQt's older way to connect."""
        getattr(self, signature.partition("(")[0]).connect(slot)
        return True


def make_modules(session: MrmlSession) -> types.SimpleNamespace:
    """``slicer.modules`` with the modules that come with the application."""
    logics = {**dict.fromkeys(NO_LOGIC), **session.module_logics}
    return types.SimpleNamespace(**{name: Module(name.capitalize(), logic=logics[name]) for name in logics})


def load_module(app: App, name: str, path: Path) -> Module:
    """Load a scripted module as at the application's start: its file is imported, its description is filled in."""
    module = Module(name, str(path))
    setattr(slicer.modules, name.lower(), module)
    app.moduleManager().known[name] = module
    code = importlib.import_module(name)
    instance = getattr(code, name)(module)
    setattr(slicer.modules, f"{name}Instance", instance)
    module.instance = instance
    assert sys.modules[name].__file__ == str(path)
    return module
