"""Keys that work while the module is open, and only then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import qt
import slicer


class Shortcuts:
    """Shortcuts of the main window, made when the module is entered and deleted when it is left."""

    def __init__(self, keys: Mapping[str, Callable[[], None]]) -> None:
        self._keys = keys
        self._made: list[Any] = []

    def enable(self) -> None:
        window = slicer.util.mainWindow()
        if window is None or self._made:
            return
        for key, function in self._keys.items():
            shortcut = qt.QShortcut(qt.QKeySequence(key), window)
            shortcut.activated.connect(function)
            self._made.append(shortcut)

    def disable(self) -> None:
        for shortcut in self._made:
            shortcut.activated.disconnect()
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._made.clear()
