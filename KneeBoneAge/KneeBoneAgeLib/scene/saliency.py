"""Where an answer comes from: a saliency map ↔ a volume over the film."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..scene_values import same_key
from ..words import mark as _
from ..words import tell
from .nodes import (
    FILM_ROLE,
    KNEE_ROLE,
    PREFIX,
    film_of,
    give_role,
    is_saliency,
    of_class,
    put_beside,
    role_of,
    saliency_of,
)
from .results import request_key

LEAST_SHOWN = 0.15
"""Weaker saliency is not drawn."""

_HEAT = np.array(
    [(0, 20, 60, 60), (0.35, 120, 40, 120), (0.65, 230, 90, 60), (0.85, 255, 178, 71), (1, 255, 246, 200)],
    float,
)
"""Colours of saliency as in the report's pictures: value, red, green, blue."""


def saliency_maps(scene: Any) -> list[Any]:
    """All saliency volumes."""
    return [volume for volume in of_class(scene, "vtkMRMLScalarVolumeNode") if is_saliency(volume)]


def show_saliency(
    volume: Any, node: Any, values: NDArray[np.floating[Any]], method: str, key: str | None = None
) -> Any:
    """The saliency volume of a knee, made or filled again; laying it over the film is the slice view's matter.

    Parameters
    ----------
    values : (rows, columns) of the film, 0 to 1.
    key : `request_key` of what it was computed from.
    """
    import slicer.util
    import vtk

    heat = saliency_of(node)
    scene = volume.GetScene()
    if heat is None:
        heat = scene.AddNewNodeByClass(
            "vtkMRMLScalarVolumeNode",
            scene.GenerateUniqueName(tell(_("{knee} saliency"), knee=node.GetName())),
        )
        heat.SetNodeReferenceID(FILM_ROLE, volume.GetID())
        heat.SetNodeReferenceID(KNEE_ROLE, node.GetID())
        put_beside(volume, heat)
    give_role(heat, "saliency")
    heat.SetAttribute(PREFIX + "method", method)
    heat.SetAttribute(PREFIX + "result_key", key)
    slicer.util.updateVolumeFromArray(heat, np.ascontiguousarray(values, np.float32)[None])
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    heat.SetIJKToRASMatrix(matrix)
    heat.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    heat.CreateDefaultDisplayNodes()
    display = heat.GetDisplayNode()
    display.SetAndObserveColorNodeID(_heat_colours(scene).GetID())
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(0.0, 1.0)
    # Alpha of a colour table is all or nothing, so weak values are hidden by the threshold.
    display.SetThreshold(LEAST_SHOWN, 1.0)
    display.SetApplyThreshold(True)
    return heat


def method_of(heat: Any) -> str | None:
    """The method of a saliency volume."""
    return heat.GetAttribute(PREFIX + "method")


def saliency_is_out_of_date(node: Any, bundle_sha256: str | None = None) -> bool:
    """Whether the saliency map of a knee belongs to another crop, sex, age or bundle."""
    heat = saliency_of(node)
    kept = heat.GetAttribute(PREFIX + "result_key") if heat is not None else None
    return kept is not None and not same_key(kept, request_key(film_of(node), node, bundle_sha256))


def _heat_colours(scene: Any) -> Any:
    for node in of_class(scene, "vtkMRMLColorTableNode"):
        if role_of(node) == "heat":
            return node
    table = scene.CreateNodeByClass("vtkMRMLColorTableNode")
    table.UnRegister(None)
    table.SetName(tell(_("Knee saliency")))
    table.SetTypeToUser()
    give_role(table, "heat")
    table.SetAttribute("Category", "User Generated")
    table.SetNumberOfColors(256)
    for index in range(256):
        red, green, blue = (
            float(np.interp(index / 255, _HEAT[:, 0], _HEAT[:, band])) / 255 for band in (1, 2, 3)
        )
        table.SetColor(index, f"{index / 255:.2f}", red, green, blue, 1.0)
    return scene.AddNode(table)
