"""What the other files share: attributes that hold JSON, roles of references, and lists of nodes."""

from __future__ import annotations

import json
from typing import Any

PREFIX = "KneeBoneAge."
FILM_ROLE = "KneeBoneAge.film"
KNEE_ROLE = "KneeBoneAge.knee"
UNDO_ROLE = "KneeBoneAge.undo"


def load(node: Any, name: str) -> Any:
    """The value of one of our attributes, None when there is none."""
    text = node.GetAttribute(PREFIX + name)
    return json.loads(text) if text else None


def store(node: Any, name: str, value: Any) -> None:
    """Keep a value as JSON in one of our attributes."""
    node.SetAttribute(PREFIX + name, json.dumps(value, allow_nan=False))


def role_of(node: Any) -> str | None:
    """What a node of ours is for: "results", "saliency" or "heat"."""
    return node.GetAttribute(PREFIX + "role")


def give_role(node: Any, role: str) -> None:
    node.SetAttribute(PREFIX + "role", role)


def film_of(node: Any) -> Any:
    """The film of a knee or of a saliency map; None for other nodes."""
    return node.GetNodeReference(FILM_ROLE)


def saliency_of(node: Any) -> Any:
    """The saliency volume of a knee, None when there is none."""
    volumes = of_class(node.GetScene(), "vtkMRMLScalarVolumeNode")
    return next((heat for heat in volumes if heat.GetNodeReference(KNEE_ROLE) is node), None)


def is_saliency(volume: Any) -> bool:
    """Whether a volume is one of our saliency maps, which a selector of films leaves out."""
    return role_of(volume) == "saliency"


def of_class(scene: Any, name: str) -> list[Any]:
    """All nodes of a class."""
    nodes = scene.GetNodesByClass(name)
    nodes.UnRegister(None)
    return [nodes.GetItemAsObject(index) for index in range(nodes.GetNumberOfItems())]


def put_beside(volume: Any, node: Any) -> None:
    """Put a node where its film is in the subject hierarchy: under the same study or folder."""
    hierarchy = volume.GetScene().GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
    if hierarchy is None:
        return
    film, mine = hierarchy.GetItemByDataNode(volume), hierarchy.GetItemByDataNode(node)
    if film and mine:
        hierarchy.SetItemParent(mine, hierarchy.GetItemParent(film))
