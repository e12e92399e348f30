"""Pictures of files in the panel, small, which open in their full size."""

from __future__ import annotations

import os
from typing import Any

import qt

WIDTH_PX = 420
"""Width of a picture in the panel; more would keep the panel from getting narrower."""


class Picture:
    """A button that shows a picture file and opens it where the system shows pictures."""

    def __init__(self, button: Any, tip: str) -> None:
        self.button = button
        self._shown: tuple[str, int] | None = None
        button.toolTip = tip
        button.visible = False
        button.clicked.connect(self.open)

    def show(self, path: str | None) -> None:
        """Show a file, again where it has changed; None hides the picture."""
        shown = (path, os.stat(path).st_mtime_ns) if path and os.path.isfile(path) else None
        if shown == self._shown:
            return
        self._shown = shown
        pixmap = qt.QPixmap(path) if shown else None
        if pixmap is None or pixmap.isNull():
            self.button.visible = False
            return
        self.button.icon = qt.QIcon(pixmap)
        height = round(WIDTH_PX * pixmap.height() / pixmap.width())
        self.button.iconSize = qt.QSize(WIDTH_PX, height)
        self.button.visible = True

    def open(self, *_checked: Any) -> None:
        if self._shown is not None:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(self._shown[0]))
