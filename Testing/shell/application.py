"""The application as a test sees it. ``in_slicer.py`` has the same methods for the real one."""

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from . import dialogs, install, pictures
from .app import App, load_module, make_modules
from .mrml_session import MrmlSession

PANEL_WIDTH_PX = 480


class ShellApplication:
    """A started application with an empty scene; ``end`` takes everything back."""

    real = False
    """Whether this is 3D Slicer itself."""

    def __init__(self) -> None:
        self._cleanup = contextlib.ExitStack()
        self.folder = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="shell-")))
        self.answers = dialogs.ANSWERS
        self.answers.reset()
        self.qt_application = qt_application(self.folder)
        install.USES.clear()
        session = MrmlSession(self.folder / "cache")
        self._cleanup.callback(session.end)
        app = App(session, self.folder)
        self._cleanup.enter_context(install.installed(app, session, make_modules(session)))
        self.window = main_window()
        self._cleanup.callback(self._close_windows)
        self.pip_calls, self.slot_errors = install.PIP_CALLS, install.SLOT_ERRORS

    def end(self) -> None:
        """Leave the module, close the application."""
        self.close_module()
        slicer.app.aboutToQuit.emit()
        for name in slicer.app.moduleManager().loadedModuleNames():
            slicer.app.moduleManager().moduleAboutToBeUnloaded.emit(name)
        self._cleanup.close()

    def _close_windows(self) -> None:
        for widget in QtWidgets.QApplication.topLevelWidgets():
            widget.close()
            widget.deleteLater()
        self.process_events()

    @property
    def scene(self) -> Any:
        """The scene."""
        return slicer.mrmlScene

    def process_events(self) -> None:
        """Do what waits in the event loop."""
        slicer.app.processEvents()

    def wait_until(self, predicate: Callable[[], object], seconds: float = 60.0, what: str = "") -> None:
        """Process events until the predicate holds.

        Raises
        ------
        TimeoutError
            It did not within the time.
        """
        deadline = time.monotonic() + seconds
        while not predicate():
            if time.monotonic() > deadline:
                raise TimeoutError(f"Waited {seconds:g} s in vain{' for ' + what if what else ''}.")
            QtCore.QCoreApplication.processEvents(QtCore.QEventLoop.ProcessEventsFlag.AllEvents, 20)
            QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
            time.sleep(0.005)

    def load_module(self, name: str, folder: Path) -> Any:
        """Load a scripted module as at the start of the application, without opening it."""
        parts = (name, f"{name}Widgets", f"{name}Lib.scene", f"{name}Lib.installation")
        install.HOOK.take(parts, str(folder))
        with install.on_path(folder):
            module = load_module(slicer.app, name, folder / f"{name}.py")
        slicer.app.startupCompleted.emit()
        self.process_events()
        return module

    def open_module(self, name: str, folder: Path | None = None) -> Any:
        """Open a module as by the module menu: its panel is built if it was not, and entered."""
        if not hasattr(slicer.modules, name.lower()):
            self.load_module(name, folder or module_folder(name))
        widget = slicer.app.moduleManager().open(name)
        self.process_events()
        return widget

    def close_module(self) -> None:
        """Leave the open module, as when another one is opened."""
        slicer.app.moduleManager().open("")

    def close_scene(self) -> None:
        """File → Close Scene."""
        slicer.mrmlScene.Clear(0)
        self.process_events()

    def save_mrb(self, path: Path) -> None:
        """Save the scene as one file."""
        assert slicer.util.saveScene(str(path)), f"The scene could not be saved as {path}."

    def load_mrb(self, path: Path) -> None:
        """Close the scene and load another."""
        self.close_scene()
        slicer.util.loadScene(str(path))
        self.process_events()

    def load_volume(self, path: Path) -> Any:
        """Open a file by Add Data."""
        return slicer.util.loadVolume(str(path), {})

    def load_dicom(self, path: Path) -> Any:
        """Import a file into the DICOM database and load it from there."""
        from .dicom import load_series

        return load_series(slicer.dicomDatabase, slicer.app.coreIOManager(), path)

    def picture_of_panel(self, widget: Any, path: Path, full_height: bool = True) -> Path:
        """Save what the panel looks like; in full height, or as high as the window."""
        self.process_events()
        return pictures.panel(widget.parent, path, PANEL_WIDTH_PX, full_height)

    def picture_of_slice(self, path: Path, width: int = 900, height: int = 900) -> Path:
        """Save what the Red slice view looks like."""
        from .slice_picture import slice_picture

        self.process_events()
        path.parent.mkdir(parents=True, exist_ok=True)
        slice_picture(slicer.app.layoutManager().sliceWidget("Red").sliceLogic(), width, height).save(path)
        return path

    def picture_of_plots(self, path: Path, width: int = 900, height: int = 900) -> Path:
        """Save what the plot views look like, one above the other."""
        from .plot_picture import plot_picture, plot_views

        self.process_events()
        path.parent.mkdir(parents=True, exist_ok=True)
        plot_picture(plot_views(), width, height).save(path)
        return path

    def with_packaging(self) -> None:
        """Have ``slicer.packaging``, as from 5.12; without this call it is absent, as in the recorded application."""
        slicer.packaging = sys.modules["slicer.packaging"] = install.packaging()

    def members_not_in_application(self) -> list[str]:
        """Members used by the modules since the start that the recorded application does not have."""
        from . import api

        return api.unknown_uses(install.USES)


class MainWindow(QtWidgets.QMainWindow):
    """The main window: the module panel at the left, a status bar."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self.setWindowTitle("3D Slicer (shell)")
        self._area = QtWidgets.QScrollArea()
        self._area.setWidgetResizable(True)
        self._area.setFixedWidth(PANEL_WIDTH_PX)
        self.setCentralWidget(QtWidgets.QWidget())
        layout = QtWidgets.QHBoxLayout(self.centralWidget())
        layout.addWidget(self._area)
        layout.addStretch()
        self.statusBar()
        self.resize(1200, 900)

    def show_panel(self, frame: QtWidgets.QWidget) -> None:
        """Show a module's panel in place of the one before."""
        if self._area.widget() is not frame:
            self._area.takeWidget()
            self._area.setWidget(frame)
        frame.show()

    def moduleSelector(self) -> "MainWindow":
        """What chooses the module; here the window itself."""
        return self

    def selectModule(self, name: str) -> None:
        """Open a module."""
        slicer.app.moduleManager().open(name)


def main_window() -> MainWindow:
    """The main window, shown."""
    window = MainWindow()
    window.show()
    return window


def module_folder(name: str) -> Path:
    """The folder of a module of this repository."""
    return Path(__file__).resolve().parents[2] / name


def qt_application(folder: Path) -> QtWidgets.QApplication:
    """The one Qt application of this process, offscreen, in the colours and the font that pictures are taken in.

    Settings go to ``folder``, so that a test neither sees nor changes those of the person who runs it.
    """
    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication(sys.argv[:1])
    assert isinstance(application, QtWidgets.QApplication)
    application.setOrganizationName("shell")
    application.setApplicationName("Slicer")
    application.setQuitOnLastWindowClosed(False)
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
    QtCore.QSettings.setPath(QtCore.QSettings.Format.IniFormat, QtCore.QSettings.Scope.UserScope, str(folder))
    application.setStyle("Fusion")
    application.setPalette(light_palette())
    application.setFont(QtGui.QFont(pictures.font_family(), 10))
    return application


def light_palette() -> QtGui.QPalette:
    """Slicer's light colours."""
    palette = QtGui.QPalette(QtGui.QColor("#efefef"))
    for role, color in (("Base", "#ffffff"), ("Highlight", "#308cc6"), ("HighlightedText", "#ffffff")):
        palette.setColor(QtGui.QPalette.ColorRole[role], QtGui.QColor(color))
    return palette


@contextlib.contextmanager
def running() -> Iterator[ShellApplication]:
    """A started application for the time of a ``with`` block."""
    application = ShellApplication()
    try:
        yield application
    finally:
        application.end()
    # Raised here, since an exception in a slot reaches nobody else; a test that expects one clears the list.
    if application.slot_errors:
        raise RuntimeError("An exception in a slot or an observer:\n" + "\n".join(application.slot_errors))
