"""The scene with what the application puts around it: colours, slice views, module logics, bundles."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk

# Every 17th entry of matplotlib's colour map of that name, which the application's colour file holds too.
INFERNO = (
    "000004 0a0722 1e0c45 380962 510e6c 69166e 801f6c 982766 "
    "b0315b c63d4d d94d3d e96128 f47918 fa9407 fbb61a f6d543 fcffa4"
)
SLICE_VIEWS = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}
LOGICS = {
    "colors": "vtkMRMLColorLogic",
    "markups": "vtkSlicerMarkupsLogic",
    "plots": "vtkSlicerPlotsLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "tables": "vtkSlicerTablesLogic",
    "texts": "vtkSlicerTextsLogic",
    "units": "vtkSlicerUnitsLogic",
    "volumes": "vtkSlicerVolumesLogic",
}
NO_LOGIC = ("data", "subjecthierarchy", "welcome")


@dataclass
class MrmlSession:
    """A scene as the application has it after start. ``folder`` is for unpacked bundles."""

    folder: Path
    scene: Any = field(init=False)
    logic: Any = field(init=False)
    module_logics: dict[str, Any] = field(init=False)
    slice_logics: Any = field(init=False)
    more_logics: list[Any] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.scene = slicer.vtkMRMLScene()
        self.logic = slicer.vtkMRMLApplicationLogic()
        self.logic.SetMRMLScene(self.scene)
        self._keep_bundles()
        self.module_logics = {}
        for name, class_name in LOGICS.items():
            logic = getattr(slicer, class_name)()
            if hasattr(logic, "SetMRMLApplicationLogic"):
                logic.SetMRMLApplicationLogic(self.logic)
            self.module_logics[name] = logic
            if hasattr(self.logic, "SetModuleLogic"):
                self.logic.SetModuleLogic(name.capitalize(), logic)
            logic.SetMRMLScene(self.scene)
        self.logic.SetColorLogic(self.module_logics["colors"])
        self._add_inferno()
        self._add_slice_views()

    def _keep_bundles(self) -> None:
        self._cache, self._io = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
        self._cache.SetMRMLScene(self.scene)
        self._cache.SetRemoteCacheDirectory(str(self.folder))
        self._io.SetCacheManager(self._cache)
        self.scene.SetCacheManager(self._cache)
        self.scene.SetDataIOManager(self._io)

    def _add_inferno(self) -> None:
        colors = [tuple(bytes.fromhex(text)) for text in INFERNO.split()]
        node = slicer.vtkMRMLColorTableNode()
        node.SetTypeToUser()
        node.SetName("Inferno")
        node.SetSingletonTag("FileInferno.txt")
        node.SetHideFromEditors(False)
        node.SetSaveWithScene(False)
        node.SetNumberOfColors(256)
        table = node.GetLookupTable()
        table.SetTableRange(0, 255)
        places = np.linspace(0, 255, len(colors))
        red, green, blue = (
            np.interp(np.arange(256), places, channel) / 255 for channel in zip(*colors, strict=True)
        )
        for entry in range(256):
            node.SetColor(entry, f"{entry}", red[entry], green[entry], blue[entry], 1.0)
        self.scene.AddNode(node)

    def _add_slice_views(self) -> None:
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene)
        self.slice_logics = vtk.vtkCollection()
        for name, orientation in SLICE_VIEWS.items():
            logic = slicer.vtkMRMLSliceLogic()
            logic.SetMRMLApplicationLogic(self.logic)
            logic.SetMRMLScene(self.scene)
            node = logic.AddSliceNode(name)
            node.SetOrientation(orientation)
            node.SetDimensions(900, 870, 1)
            self.slice_logics.AddItem(logic)
        self.logic.SetSliceLogics(self.slice_logics)

    def slice_logic(self, name: str) -> Any:
        """The logic of a slice view."""
        return self.slice_logics.GetItemAsObject(list(SLICE_VIEWS).index(name))

    def end(self) -> None:
        """Let the scene go, observers first."""
        for logic in self.more_logics:
            logic.SetMRMLScene(None)
        self.scene.Clear(1)
        self.scene.RemoveAllObservers()
        for logic in [self.slice_logic(name) for name in SLICE_VIEWS]:
            logic.SetMRMLScene(None)
        self.logic.SetMRMLScene(None)
