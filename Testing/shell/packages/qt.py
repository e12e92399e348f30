"""Stand-in for the application's ``qt``: PySide6 in one flat namespace, with what PythonQt does otherwise."""

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import *  # noqa: F403
from PySide6.QtCore import Qt
from PySide6.QtGui import *  # noqa: F403
from PySide6.QtWidgets import *  # noqa: F403
from shell import dialogs, pythonqt
from shell.ui_loader import UiLoader as QUiLoader

__all__ = [
    *(name for module in (QtCore, QtGui, QtWidgets) for name in dir(module) if name[0] == "Q"),
    "QDesktopServices",
    "QFileDialog",
    "QMessageBox",
    "QUiLoader",
    "Qt",
    "Signal",
]

Signal = QtCore.Signal


class QMessageBox(QtWidgets.QMessageBox):
    """A message box that is answered by the test; one that no test expected is recorded as an error."""

    def exec(self) -> int:
        return dialogs.ANSWERS.message(self.text(), self.icon().name)

    exec_ = exec

    @staticmethod
    def critical(parent: Any, title: str, text: str, *buttons: Any) -> int:
        return dialogs.ANSWERS.message(text, "Critical")

    @staticmethod
    def warning(parent: Any, title: str, text: str, *buttons: Any) -> int:
        return dialogs.ANSWERS.message(text, "Warning")

    @staticmethod
    def information(parent: Any, title: str, text: str, *buttons: Any) -> int:
        return dialogs.ANSWERS.message(text, "Information")

    @staticmethod
    def question(parent: Any, title: str, text: str, *buttons: Any) -> int:
        return dialogs.ANSWERS.message(text, "Question")


class QFileDialog(QtWidgets.QFileDialog):
    """A file dialog that is answered by the test. PythonQt gives the path alone, where PySide6 gives a pair."""

    @staticmethod
    def getOpenFileName(*arguments: Any) -> str:
        return dialogs.ANSWERS.path()

    @staticmethod
    def getOpenFileNames(*arguments: Any) -> tuple[str, ...]:
        return dialogs.ANSWERS.paths()

    @staticmethod
    def getSaveFileName(*arguments: Any) -> str:
        return dialogs.ANSWERS.path()

    @staticmethod
    def getExistingDirectory(*arguments: Any) -> str:
        return dialogs.ANSWERS.path()


class QDesktopServices(QtGui.QDesktopServices):
    """Opens nothing; ``dialogs.ANSWERS.opened`` has what would have been opened."""

    @staticmethod
    def openUrl(url: QtCore.QUrl) -> bool:
        dialogs.ANSWERS.opened.append(url.toString())
        return True


pythonqt.choose("slicer.util")
