"""Stand-in for the application's reading and writing of files: volumes, markups, tables, scenes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from PIL import Image

from .mrml_session import MrmlSession

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
KINDS = {
    ".mrb": "SceneFile", ".mrml": "SceneFile", ".json": "MarkupsFile", ".csv": "TableFile", ".tsv": "TableFile",
    ".txt": "TextFile",
}  # fmt: skip


class IOManager:
    """``slicer.app.coreIOManager()``, which ``slicer.util.load…`` and ``save…`` speak to."""

    def __init__(self, session: MrmlSession) -> None:
        self._session = session

    def fileType(self, path: str) -> str:
        """What a file holds, by its name."""
        return KINDS.get(Path(path).suffix.lower(), "VolumeFile")

    def fileWriterFileType(self, node: Any) -> str:
        """How a node is written."""
        return "NodeFile"

    def loadNodes(self, filetype: str, properties: dict[str, Any], loaded: Any, messages: Any = None) -> bool:
        """Read a file; what was read is appended to the collection."""
        path = Path(properties["fileName"])
        readers: dict[str, Callable[[Path, dict[str, Any]], Any]] = {
            "VolumeFile": self._volume,
            "SceneFile": self._scene,
            "MarkupsFile": lambda file, _: self._by_storage(file, "vtkMRMLMarkupsROINode"),
            "TableFile": lambda file, _: self._by_storage(file, "vtkMRMLTableNode"),
            "TextFile": lambda file, _: self._by_storage(file, "vtkMRMLTextNode"),
        }
        if not path.exists():
            return False
        result = readers[filetype](path, properties)
        if isinstance(result, slicer.vtkMRMLNode):
            loaded.AddItem(result)
        return bool(result)

    def saveNodes(self, filetype: str, properties: dict[str, Any], messages: Any = None) -> bool:
        """Write a node or the scene."""
        path = str(properties["fileName"])
        if filetype == "SceneFile":
            return bool(self._session.scene.WriteToMRB(path))
        node = self._session.scene.GetNodeByID(properties["nodeID"])
        node.AddDefaultStorageNode()
        node.GetStorageNode().SetFileName(path)
        return bool(node.GetStorageNode().WriteData(node))

    def _scene(self, path: Path, properties: dict[str, Any]) -> bool:
        return bool(self._session.scene.ReadFromMRB(str(path), bool(properties.get("clear", False))))

    def _volume(self, path: Path, properties: dict[str, Any]) -> Any:
        name = properties.get("name") or path.stem
        if path.suffix.lower() in PICTURES:
            node = self._picture(path, self._session.scene.GenerateUniqueName(name))
        else:
            options = (
                0x8
                | (0x1 if properties.get("labelmap") else 0)
                | (0x4 if properties.get("singleFile") else 0)
            )
            node = self._session.module_logics["volumes"].AddArchetypeVolume(str(path), name, options)
        if node is not None and properties.get("show", True):
            self.show(node)
        return node

    def show(self, volume: Any) -> None:
        """Show a volume in all slice views, as after loading."""
        self._session.logic.GetSelectionNode().SetActiveVolumeID(volume.GetID())
        self._session.logic.PropagateVolumeSelection(1)

    def _picture(self, path: Path, name: str) -> Any:
        # The wheel's ITK reads no pictures; the application's does: grey ones as scalar, coloured ones as vector
        # volumes, spacing 1 mm, upright.
        with Image.open(path) as picture:
            grey = picture.mode in ("1", "L", "I", "F", "I;16", "I;16B")
            pixels = np.asarray(picture if grey else picture.convert("RGB"))
        kind = "vtkMRMLScalarVolumeNode" if grey else "vtkMRMLVectorVolumeNode"
        if pixels.dtype == bool:
            pixels = pixels.astype(np.uint8) * 255
        node = slicer.util.addVolumeFromArray(pixels[None], np.diag([-1.0, -1.0, 1.0, 1.0]), name, kind)
        storage = self._session.scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
        storage.SetFileName(str(path))
        node.SetAndObserveStorageNodeID(storage.GetID())
        return node

    def _by_storage(self, path: Path, kind: str) -> Any:
        node = self._session.scene.AddNewNodeByClass(kind, path.name.partition(".")[0])
        node.CreateDefaultDisplayNodes() if hasattr(node, "CreateDefaultDisplayNodes") else None
        node.AddDefaultStorageNode()
        node.GetStorageNode().SetFileName(str(path))
        return node if node.GetStorageNode().ReadData(node) else None
