"""Stand-ins for the MRML widgets that scripted modules put in their panels."""

from collections.abc import Callable, Iterable
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from .ctk_inputs import kept, row


class qMRMLWidget(QtWidgets.QWidget):
    """A widget that knows the scene."""

    mrmlSceneChanged = QtCore.Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def setMRMLScene(self, scene: Any) -> None:
        """Set the scene, and tell the widgets inside by the signal."""
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self) -> Any:
        """The scene."""
        return self._scene


class SceneWatch:
    """Observers on a scene and on nodes of it, which end with the widget that has them."""

    def __init__(self, widget: QtWidgets.QWidget) -> None:
        self._tags: list[tuple[Any, int]] = []
        widget.destroyed.connect(self.end)

    def on(self, subject: Any, event: Any, call: Callable[[], Any]) -> None:
        """Call when this happens."""
        self._tags.append((subject, subject.AddObserver(event, lambda caller, name: call())))

    def end(self, *_: object) -> None:
        """Observe nothing any more."""
        for subject, tag in self._tags:
            subject.RemoveObserver(tag)
        self._tags.clear()


class qMRMLNodeComboBox(QtWidgets.QWidget):
    """Choice of a node. It chooses the first node by itself when the scene is set, unless there may be none."""

    currentNodeChanged = QtCore.Signal(object)
    currentNodeIDChanged = QtCore.Signal(str)
    currentNodeRenamed = QtCore.Signal(str)
    nodeActivated = QtCore.Signal(object)
    nodeAdded = QtCore.Signal(object)
    nodeAddedByUser = QtCore.Signal(object)
    nodeAboutToBeRemoved = QtCore.Signal(object)
    nodeAboutToBeEdited = QtCore.Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._combo = QtWidgets.QComboBox()
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self._combo.setSizeAdjustPolicy(
            QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        row(self).addWidget(self._combo)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self._scene: Any = None
        self._watch = SceneWatch(self)
        self._proxy = _SortFilterProxyModel(self)
        self._nodes: list[Any] = []
        self._current_id = ""
        self._attributes: dict[str, dict[str, str | None]] = {}
        self._kept: dict[str, Any] = {
            "nodeTypes": [], "hideChildNodeTypes": [], "noneEnabled": False, "noneDisplay": "None",
            "showChildNodeTypes": True, "showHidden": False, "addEnabled": True, "removeEnabled": True,
            "renameEnabled": False, "editEnabled": False, "selectNodeUponCreation": True, "baseName": "",
            "interactionNodeSingletonTag": "",
        }  # fmt: skip
        self._combo.activated.connect(self._chosen)

    noneEnabled = QtCore.Property(
        bool, lambda s: s._kept["noneEnabled"], lambda s, v: s._keep("noneEnabled", v)
    )
    noneDisplay = QtCore.Property(
        str, lambda s: s._kept["noneDisplay"], lambda s, v: s._keep("noneDisplay", v)
    )
    nodeTypes = QtCore.Property(
        "QStringList", lambda s: tuple(s._kept["nodeTypes"]), lambda s, v: s._keep("nodeTypes", list(v))
    )
    hideChildNodeTypes = QtCore.Property(
        "QStringList",
        lambda s: tuple(s._kept["hideChildNodeTypes"]),
        lambda s, v: s._keep("hideChildNodeTypes", list(v)),
    )
    showChildNodeTypes = QtCore.Property(
        bool, lambda s: s._kept["showChildNodeTypes"], lambda s, v: s._keep("showChildNodeTypes", v)
    )
    showHidden = QtCore.Property(bool, lambda s: s._kept["showHidden"], lambda s, v: s._keep("showHidden", v))
    addEnabled = kept("addEnabled", bool)
    removeEnabled = kept("removeEnabled", bool)
    renameEnabled = kept("renameEnabled", bool)
    editEnabled = kept("editEnabled", bool)
    selectNodeUponCreation = kept("selectNodeUponCreation", bool)
    baseName = kept("baseName", str)
    interactionNodeSingletonTag = kept("interactionNodeSingletonTag", str)

    def _keep(self, name: str, value: Any) -> None:
        self._kept[name] = value
        self._fill()

    def setMRMLScene(self, scene: Any) -> None:
        """Set the scene whose nodes can be chosen."""
        if scene is self._scene:
            return
        self._watch.end()
        self._scene = scene
        if scene is not None:
            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent):
                self._watch.on(scene, event, self._scene_changed)
        self._fill()

    def mrmlScene(self) -> Any:
        """The scene."""
        return self._scene

    def addAttribute(self, node_type: str, name: str, value: str | None = None) -> None:
        """Offer only nodes of this type that have the attribute (with this value, if one is given)."""
        self._attributes.setdefault(node_type, {})[name] = value
        self._fill()

    def removeAttribute(self, node_type: str, name: str) -> None:
        """Take such a condition back."""
        self._attributes.get(node_type, {}).pop(name, None)
        self._fill()

    def sortFilterProxyModel(self) -> "_SortFilterProxyModel":
        """What chooses the nodes that are listed."""
        return self._proxy

    def nodeCount(self) -> int:
        """Number of nodes that can be chosen."""
        return len(self._nodes)

    def nodeFromIndex(self, index: int) -> Any:
        """The node at a position."""
        return self._nodes[index] if 0 <= index < len(self._nodes) else None

    def currentNode(self) -> Any:
        """The node chosen, or None."""
        return self._scene.GetNodeByID(self._current_id) if self._scene and self._current_id else None

    def setCurrentNode(self, node: Any) -> None:
        """Choose a node."""
        self.setCurrentNodeID(node.GetID() if node is not None else "")

    def setCurrentNodeIndex(self, index: int) -> None:
        """Choose by position."""
        self.setCurrentNode(self.nodeFromIndex(index))

    def setCurrentNodeID(self, node_id: str) -> None:
        """Choose by id; one that cannot be chosen leaves nothing chosen."""
        known = {node.GetID() for node in self._nodes}
        self._set_current(node_id if node_id in known else "")

    currentNodeID = QtCore.Property(str, lambda self: self._current_id, setCurrentNodeID)
    currentNodeId = currentNodeID

    def _scene_changed(self) -> None:
        if not self._scene.IsBatchProcessing():
            self._fill()

    def _offered(self, node: Any) -> bool:
        if node.GetID() in self._proxy.hiddenNodeIDs:
            return False
        types = self._kept["nodeTypes"]
        exact = node.GetClassName() in types
        if not exact and not (self._kept["showChildNodeTypes"] and any(node.IsA(kind) for kind in types)):
            return False
        if node.GetHideFromEditors() and not self._kept["showHidden"]:
            return False
        if any(node.IsA(kind) for kind in self._kept["hideChildNodeTypes"]) and not exact:
            return False
        wanted = self._attributes.get(node.GetClassName(), {})
        return all(
            node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name))
            for name, value in wanted.items()
        )

    def _fill(self) -> None:
        if self._scene is None:
            self._nodes = []
        else:
            every = [self._scene.GetNthNode(i) for i in range(self._scene.GetNumberOfNodes())]
            known = {node.GetID() for node in self._nodes}
            self._nodes = [node for node in every if self._offered(node)]
            for node in self._nodes:
                if node.GetID() not in known:
                    self._watch.on(node, vtk.vtkCommand.ModifiedEvent, self._show)
        self._show()
        ids = [node.GetID() for node in self._nodes]
        if self._current_id not in ids:
            self._set_current(ids[0] if ids and not self._kept["noneEnabled"] else "")

    def _show(self) -> None:
        names = [node.GetName() or "" for node in self._nodes]
        if self._kept["noneEnabled"]:
            names.insert(0, self._kept["noneDisplay"])
        if names != [self._combo.itemText(i) for i in range(self._combo.count())]:
            self._combo.clear()
            self._combo.addItems(names)
        ids = [node.GetID() for node in self._nodes]
        place = ids.index(self._current_id) if self._current_id in ids else -1
        self._combo.setCurrentIndex(place + 1 if self._kept["noneEnabled"] else place)

    def _chosen(self, index: int) -> None:
        node = self.nodeFromIndex(index - 1 if self._kept["noneEnabled"] else index)
        self.setCurrentNode(node)
        self.nodeActivated.emit(node)

    def _set_current(self, node_id: str) -> None:
        if node_id == self._current_id:
            return
        self._current_id = node_id
        self._show()
        self.currentNodeChanged.emit(self.currentNode())
        self.currentNodeIDChanged.emit(node_id)


class _SortFilterProxyModel:
    """What chooses the nodes that a selector lists; as far as panels use it."""

    def __init__(self, selector: qMRMLNodeComboBox) -> None:
        self._selector = selector
        self._hidden: tuple[str, ...] = ()

    @property
    def hiddenNodeIDs(self) -> tuple[str, ...]:
        """Nodes that are not listed."""
        return self._hidden

    @hiddenNodeIDs.setter
    def hiddenNodeIDs(self, ids: Iterable[str]) -> None:
        self._hidden = tuple(ids)
        self._selector._fill()


class qMRMLColorTableComboBox(qMRMLNodeComboBox):
    """Choice of a colour table."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._kept["nodeTypes"] = ["vtkMRMLColorNode"]
        self._kept["showHidden"] = True


class _TableModel(QtCore.QAbstractTableModel):
    """The cells of a table node, as text."""

    def __init__(self, view: "qMRMLTableView") -> None:
        super().__init__(view)
        self.node: Any = None

    @property
    def titled(self) -> bool:
        """Whether titles stand above the columns; otherwise letters do, and the names fill the first row."""
        return self.node is not None and bool(self.node.GetUseColumnTitleAsColumnHeader())

    def rowCount(self, parent: Any = None) -> int:
        return self.node.GetNumberOfRows() + (not self.titled) if self.node is not None else 0

    def columnCount(self, parent: Any = None) -> int:
        return self.node.GetNumberOfColumns() if self.node is not None else 0

    def data(self, index: QtCore.QModelIndex, role: int = 0) -> Any:
        if role not in (QtCore.Qt.ItemDataRole.DisplayRole, QtCore.Qt.ItemDataRole.EditRole):
            return None
        row = index.row() - (not self.titled)
        name = self.node.GetColumnName(index.column())
        return self.node.GetCellText(row, index.column()) if row >= 0 else name

    def headerData(self, section: int, orientation: QtCore.Qt.Orientation, role: int = 0) -> Any:
        if role != QtCore.Qt.ItemDataRole.DisplayRole:
            return None
        if orientation != QtCore.Qt.Orientation.Horizontal:
            return section + 1
        name = self.node.GetColumnName(section)
        return (self.node.GetColumnTitle(name) or name) if self.titled else chr(ord("A") + section % 26)


class qMRMLTableView(QtWidgets.QTableView):
    """View of a table node."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._model = _TableModel(self)
        self._watch = SceneWatch(self)
        self._scene: Any = None
        self.setModel(self._model)

    def setMRMLScene(self, scene: Any) -> None:
        """Set the scene."""
        self._scene = scene

    def mrmlScene(self) -> Any:
        """The scene."""
        return self._scene

    def setMRMLTableNode(self, node: Any) -> None:
        """Show this table."""
        self._watch.end()
        self._model.node = node
        if node is not None:
            self._watch.on(node, vtk.vtkCommand.ModifiedEvent, self._model.modelReset.emit)
        self._model.modelReset.emit()

    def mrmlTableNode(self) -> Any:
        """The table shown."""
        return self._model.node

    def copySelection(self) -> None:
        """Copy the selected cells as tab-separated text."""
        cells = sorted((i.row(), i.column(), str(i.data() or "")) for i in self.selectedIndexes())
        rows = sorted({row_number for row_number, _, _ in cells})
        lines = ("\t".join(text for r, _, text in cells if r == row_number) for row_number in rows)
        QtGui.QGuiApplication.clipboard().setText("\n".join(lines))


CLASSES = (qMRMLWidget, qMRMLNodeComboBox, qMRMLColorTableComboBox, qMRMLTableView)
"""What ``slicer`` gets from here."""

del slicer
