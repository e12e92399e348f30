"""The section Installation: what training needs beside the packages of Knee Bone Age, and installing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from KneeBoneAgeLib import installation
from KneeBoneAgeWidgets.installing import Installer
from KneeBoneAgeWidgets.panel import Panel
from KneeBoneAgeWidgets.wording import say

REQUIREMENTS = Path(__file__).resolve().parents[1] / "Resources" / "requirements.txt"


def look() -> installation.Installation:
    """What is installed of all that estimating and training need."""
    return installation.look(REQUIREMENTS)


class TrainingInstaller(Installer):
    """The first module's installer with the requirements of training."""

    def look(self) -> installation.Installation:
        return look()


class InstallationPanel(Panel):
    """One line that says what is missing, and the button that installs it."""

    def __init__(self, ui: Any, module: Any, process: Any = None) -> None:
        super().__init__(ui, module)
        self.installer = TrainingInstaller(self._tell, self._installed, process)
        ui.installButton.clicked.connect(self.install)

    def refresh(self) -> None:
        found, running = self.module.installed, self.installer.running
        say(self.ui.installedText, found.line, problem=not found.ready)
        self.ui.installButton.text = _("Cancel") if running else _("Install what is missing...")
        self.ui.installButton.enabled = running or not found.ready
        self.ui.installButton.toolTip = (
            _("Nothing is missing.") if found.ready else _("Shows what would be installed and asks first.")
        )
        self.ui.wheelsPath.enabled = not found.ready and not running

    def install(self, *_checked: Any) -> None:
        if self.installer.running:
            self.installer.cancel()
        else:
            self.installer.start(self.ui.wheelsPath.currentPath)
        self.module.later()

    def close(self) -> None:
        self.installer.process.kill()

    def _tell(self, text: str, problem: bool) -> None:
        say(self.ui.installStatus, text, problem)

    def _installed(self) -> None:
        self.module.look_again()
