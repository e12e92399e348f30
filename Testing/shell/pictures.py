"""Pictures of panels, sharp enough to print: twice as many pixels as the window has."""

import importlib.util
from pathlib import Path

from PySide6 import QtCore, QtGui, QtWidgets

SCALE = 2
FONT = "DejaVu Sans"


def font_family() -> str:
    """A readable font: the system's DejaVu, or the one that matplotlib brings."""
    if FONT not in QtGui.QFontDatabase.families():
        for path in bundled_fonts():
            QtGui.QFontDatabase.addApplicationFont(str(path))
    return FONT if FONT in QtGui.QFontDatabase.families() else QtWidgets.QApplication.font().family()


def bundled_fonts() -> list[Path]:
    """The DejaVu Sans files that come with matplotlib, plain and bold; none without matplotlib."""
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        return []
    folder = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"
    return [folder / name for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf") if (folder / name).exists()]


def panel(frame: QtWidgets.QWidget, path: Path, width: int, full_height: bool) -> Path:
    """Save a picture of a module's panel, ``width`` wide (logical pixels).

    In full height, the window grows for the picture as far as the panel needs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    window = frame.window()
    before = window.size()
    if full_height:
        for _ in range(3):
            wanted = max(
                frame.sizeHint().height(), frame.minimumSizeHint().height(), frame.heightForWidth(width)
            )
            window.resize(before.width(), wanted + (window.height() - visible_height(frame)))
            QtWidgets.QApplication.processEvents()
    picture = QtGui.QPixmap(QtCore.QSize(frame.width(), visible_height(frame)) * SCALE)
    picture.setDevicePixelRatio(SCALE)
    picture.fill(frame.palette().color(QtGui.QPalette.ColorRole.Window))
    frame.render(picture)
    window.resize(before)
    QtWidgets.QApplication.processEvents()
    if not picture.save(str(path)):
        raise OSError(f"The picture could not be written: {path}")
    return path


def visible_height(frame: QtWidgets.QWidget) -> int:
    """How much of the panel its scroll area shows, in logical pixels."""
    parent = frame.parentWidget()
    return parent.height() if parent is not None else frame.height()
