"""Stand-in for the layout manager and its slice views; nothing is drawn here, see picture.py."""

from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from .mrml_session import SLICE_VIEWS, MrmlSession


class SliceView(QtWidgets.QWidget):
    """The picture part of a slice view."""

    def __init__(self, node: Any) -> None:
        super().__init__()
        self._node = node

    def mrmlSliceNode(self) -> Any:
        """The node that says what the view shows."""
        return self._node

    def forceRender(self) -> None:
        """Draw now."""

    scheduleRender = forceRender


class SliceWidget(QtWidgets.QWidget):
    """One slice view."""

    def __init__(self, name: str, session: MrmlSession) -> None:
        super().__init__()
        self._logic = session.slice_logic(name)
        self._view = SliceView(self._logic.GetSliceNode())

    def sliceLogic(self) -> Any:
        """The logic of the view."""
        return self._logic

    def mrmlSliceNode(self) -> Any:
        """The node that says what the view shows."""
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self) -> Any:
        """The node that says which volumes are shown."""
        return self._logic.GetSliceCompositeNode()

    def sliceView(self) -> SliceView:
        """The picture part."""
        return self._view

    def fitSliceToBackground(self) -> None:
        """Show the whole background volume."""
        self._logic.FitSliceToBackground()


class LayoutManager(QtCore.QObject):
    """``slicer.app.layoutManager()``."""

    layoutChanged = QtCore.Signal(int)

    def __init__(self, session: MrmlSession) -> None:
        super().__init__()
        self._session = session
        self._widgets = {name: SliceWidget(name, session) for name in SLICE_VIEWS}
        self._logic: Any = None
        self.layout, self.threeDViewCount, self.tableViewCount, self.plotViewCount = 3, 0, 0, 0

    def layoutLogic(self) -> Any:
        """What holds the layouts and makes the nodes of their views; MRML's own, made when it is first asked for."""
        if self._logic is None:
            self._logic = slicer.vtkMRMLLayoutLogic()
            self._logic.SetMRMLScene(self._session.scene)
            self._session.more_logics.append(self._logic)
        return self._logic

    def setLayout(self, layout: int) -> None:
        """Choose which views are seen."""
        self.layout = int(layout)
        if self._logic is not None:
            self._logic.GetLayoutNode().SetViewArrangement(self.layout)
        self.layoutChanged.emit(self.layout)

    def sliceViewNames(self) -> tuple[str, ...]:
        """Names of the slice views."""
        return tuple(self._widgets)

    def sliceWidget(self, name: str) -> SliceWidget | None:
        """A slice view."""
        return self._widgets.get(name)

    def mrmlSliceLogics(self) -> Any:
        """The logics of all slice views."""
        return self._session.slice_logics

    def resetSliceViews(self) -> None:
        """Fit all slice views to their background volume."""
        for widget in self._widgets.values():
            widget.fitSliceToBackground()
