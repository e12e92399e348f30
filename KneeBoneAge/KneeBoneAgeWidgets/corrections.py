"""Watches the squares in the views: what somebody drags stays square, and is settled when the drag ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import qt
import slicer
import vtk
from slicer.util import VTKObservationMixin

from KneeBoneAgeLib import scene

SETTLE_MS = 300
"""A change that no drag explains (another module, a script) is settled after this pause."""


class Corrections(VTKObservationMixin):
    """Calls ``changed`` at once when a square moves or is given an answer, and again when it has been settled.

    Parameters
    ----------
    changed : without arguments.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed
        self._dragged: set[str] = set()
        self._moved: dict[str, Any] = {}
        self._nodes: dict[str, Any] = {}
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(SETTLE_MS)
        self._timer.timeout.connect(self.settle)

    @property
    def unsettled(self) -> bool:
        """In the middle of a drag, or shortly after a change."""
        return bool(self._dragged or self._moved)

    def watch(self, nodes: Iterable[Any]) -> None:
        """Watch these squares and no others."""
        wanted = {node.GetID(): node for node in nodes}
        kind = slicer.vtkMRMLMarkupsNode
        events = (
            (kind.PointModifiedEvent, self._on_moved),
            (kind.PointStartInteractionEvent, self._on_start),
            (kind.PointEndInteractionEvent, self._on_end),
            (vtk.vtkCommand.ModifiedEvent, self._on_modified),
        )
        # By the node itself: after a scene was loaded, another node has the identity of one that is gone.
        for identity in [one for one, node in self._nodes.items() if wanted.get(one) is not node]:
            node = self._nodes.pop(identity)
            for event, method in events:
                self.removeObserver(node, event, method)
            self._dragged.discard(identity)
            self._moved.pop(identity, None)
        for identity in wanted.keys() - self._nodes.keys():
            self._nodes[identity] = wanted[identity]
            for event, method in events:
                self.addObserver(wanted[identity], event, method)

    def settle(self) -> None:
        """Make what was moved square again and undoable."""
        for identity, node in list(self._moved.items()):
            if identity not in self._dragged:
                del self._moved[identity]
                scene.keep_square(node)
        self._changed()

    def close(self) -> None:
        self._timer.stop()
        self.watch([])

    def _on_moved(self, node: Any, _event: Any) -> None:
        self._moved[node.GetID()] = node
        self._timer.start()
        self._changed()

    def _on_modified(self, _node: Any, _event: Any) -> None:
        """A new answer, also one that a script has asked for."""
        self._changed()

    def _on_start(self, node: Any, _event: Any) -> None:
        self._dragged.add(node.GetID())

    def _on_end(self, node: Any, _event: Any) -> None:
        self._dragged.discard(node.GetID())
        self._moved[node.GetID()] = node
        self._timer.stop()
        self.settle()
