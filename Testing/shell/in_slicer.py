"""The same methods as the stand-in has, for tests that run inside 3D Slicer. Only calls to ``slicer`` are made."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import dialogs

KINDS = {10: "Information", 20: "Information", 30: "Warning", 40: "Critical"}
"""Logging levels with which the application shows its boxes."""


class SlicerApplication:
    """3D Slicer as a test sees it."""

    real = True
    pip_calls: tuple[()] = ()
    slot_errors: tuple[()] = ()

    def __init__(self) -> None:
        self.answers = dialogs.ANSWERS
        self.answers.reset()
        self.close_scene()

    @property
    def scene(self) -> Any:
        """The scene."""
        import slicer

        return slicer.mrmlScene

    def process_events(self) -> None:
        """Do what waits in the event loop."""
        import slicer

        slicer.app.processEvents()

    def wait_until(self, predicate: Callable[[], object], seconds: float = 60.0, what: str = "") -> None:
        """Process events until the predicate holds; TimeoutError when it does not within the time."""
        deadline = time.monotonic() + seconds
        while not predicate():
            if time.monotonic() > deadline:
                raise TimeoutError(f"Waited {seconds:g} s in vain{' for ' + what if what else ''}.")
            self.process_events()
            time.sleep(0.005)

    def load_module(self, name: str, folder: Path) -> Any:
        """Load a scripted module that was not in the module paths."""
        import qt
        import slicer

        if not hasattr(slicer.modules, name.lower()):
            factory = slicer.app.moduleManager().factoryManager()
            factory.registerModule(qt.QFileInfo(str(folder / f"{name}.py")))
            factory.loadModules([name])
        return getattr(slicer.modules, name.lower())

    def open_module(self, name: str, folder: Path | None = None) -> Any:
        """Open a module as by the module menu."""
        import slicer

        if folder is not None:
            self.load_module(name, folder)
        slicer.util.selectModule(name)
        self.process_events()
        return slicer.util.getModuleWidget(name)

    def close_module(self) -> None:
        """Leave the open module."""
        import slicer

        slicer.util.selectModule("Data")

    def close_scene(self) -> None:
        """File → Close Scene."""
        self.scene.Clear(0)
        self.process_events()

    def save_mrb(self, path: Path) -> None:
        """Save the scene as one file."""
        import slicer

        assert slicer.util.saveScene(str(path)), f"The scene could not be saved as {path}."

    def load_mrb(self, path: Path) -> None:
        """Close the scene and load another."""
        import slicer

        self.close_scene()
        slicer.util.loadScene(str(path))
        self.process_events()

    def load_volume(self, path: Path) -> Any:
        """Open a file by Add Data."""
        import slicer

        return slicer.util.loadVolume(str(path), {})

    def load_dicom(self, path: Path) -> Any:
        """Import a file into the DICOM database and load it from there."""
        import slicer
        from DICOMLib import DICOMUtils

        slicer.dicomDatabase.insert(str(path), False, False, False)
        loaded = DICOMUtils.loadSeriesByUID([slicer.dicomDatabase.seriesForFile(str(path))])
        return self.scene.GetNodeByID(loaded[0])

    def picture_of_panel(self, widget: Any, path: Path, full_height: bool = True) -> Path:
        """Save what the panel looks like."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.process_events()
        widget.parent.grab().save(str(path))
        return path

    def picture_of_slice(self, path: Path, width: int = 900, height: int = 900) -> Path:
        """Save what the Red slice view looks like, in the size that it has."""
        import ScreenCapture
        import slicer

        path.parent.mkdir(parents=True, exist_ok=True)
        view = slicer.app.layoutManager().sliceWidget("Red").sliceView()
        view.forceRender()
        ScreenCapture.ScreenCaptureLogic().captureImageFromView(view, str(path))
        return path

    def picture_of_plots(self, path: Path, width: int = 900, height: int = 900) -> Path:
        """Save what the views of the layout look like, in the size that they have."""
        import ScreenCapture

        path.parent.mkdir(parents=True, exist_ok=True)
        self.process_events()
        ScreenCapture.ScreenCaptureLogic().captureImageFromView(None, str(path))
        return path

    def with_packaging(self) -> None:
        """Have ``slicer.packaging``; skips the test in an application that has none."""
        import pytest

        pytest.importorskip("slicer.packaging")

    def members_not_in_application(self) -> list[str]:
        """None: this is the application."""
        return []


@contextlib.contextmanager
def answered_boxes() -> Iterator[None]:
    """``slicer.util``'s boxes are answered by the test for the time of a ``with`` block."""
    import slicer

    def show(level: int, text: str, testingReturnValue: object, *_: object, **options: object) -> object:
        asks = testingReturnValue is not None and level < 40
        return dialogs.ANSWERS.message(text, "Question" if asks else KINDS[level])

    kept, slicer.util._messageDisplay = slicer.util._messageDisplay, show
    try:
        yield
    finally:
        slicer.util._messageDisplay = kept


@contextlib.contextmanager
def running() -> Iterator[SlicerApplication]:
    """The application, with an empty scene before and after."""
    with answered_boxes():
        application = SlicerApplication()
        yield application
        application.close_scene()
