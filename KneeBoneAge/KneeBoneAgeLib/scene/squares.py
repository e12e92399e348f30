"""Knee ↔ markups ROI: found, added, dragged, reset, undone and removed."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from typing import Any

from ..scene_values import Crop, dragged, same_knee, whole
from ..words import mark as _
from ..words import tell
from .films import facts
from .geometry import box_of, place
from .nodes import FILM_ROLE, PREFIX, UNDO_ROLE, film_of, load, of_class, put_beside, saliency_of, store

NOTES = "finding_notes"
COLOURS = {"automatic": (1.0, 0.70, 0.28), "corrected": (0.37, 0.78, 0.75), "person": (0.37, 0.78, 0.75)}


def knees(volume: Any) -> list[Any]:
    """The ROI nodes of this film, from the viewer's left to right."""
    return [node for node, _crop in crops(volume)]


def crops(volume: Any) -> list[tuple[Any, Crop]]:
    """The ROI nodes of this film with their crops as they are now, from the viewer's left to right."""
    if volume is None or volume.GetScene() is None:
        return []
    nodes = of_class(volume.GetScene(), "vtkMRMLMarkupsROINode")
    mine = [node for node in nodes if film_of(node) is volume and node.GetAttribute(PREFIX + "crop")]
    return sorted(((node, crop_of(node)) for node in mine), key=lambda pair: pair[1]["centre_px"][0])


def add_knee(volume: Any, crop: Crop | None = None, origin: str | None = None) -> Any:
    """A new ROI on a film.

    Parameters
    ----------
    crop : without one, a square of a third of the film in its middle, to be dragged onto the knee.
    origin : instead of the crop's own.
    """
    node = _new_knee(volume, crop or _middle(volume), origin)
    store(volume, "undo", {"what": "added"})
    volume.SetNodeReferenceID(UNDO_ROLE, node.GetID())
    return node


def _middle(volume: Any) -> Crop:
    columns, rows, _slices = volume.GetImageData().GetDimensions()
    side = facts(volume).side or "unknown"
    return {
        "centre_px": [columns / 2, rows / 2],
        "side_px": max(8.0, min(columns, rows) / 3),
        "side": side,
        "mirrored": side == "L",
        "origin": "person",
    }


def _new_knee(volume: Any, crop: Crop, origin: str | None = None) -> Any:
    crop = whole(crop)
    crop["origin"] = origin or crop["origin"]
    scene = volume.GetScene()
    node = scene.CreateNodeByClass("vtkMRMLMarkupsROINode")
    node.UnRegister(None)
    node.SetName(scene.GenerateUniqueName(names()["unknown"]))
    scene.AddNode(node)
    node.SetNodeReferenceID(FILM_ROLE, volume.GetID())
    node.SetAttribute(PREFIX + "id", uuid.uuid4().hex)
    if crop["origin"] == "automatic":
        store(node, "automatic", crop)
    node.CreateDefaultDisplayNodes()
    put_beside(volume, node)
    _put(node, crop)
    return node


def take_found(volume: Any, crops: Sequence[Crop], notes: Sequence[str] = ()) -> list[Any]:
    """The knees after *Find knees*: what a person corrected or added stays, automatic ones are replaced.

    A found crop whose middle lies in the inner half of an existing one is the same knee.

    Parameters
    ----------
    notes : what a reader must know of them (`segmentation.Finding`), kept with the film.
    """
    store(volume, NOTES, list(notes))
    left = knees(volume)
    for crop in crops:
        same = next((node for node in left if same_knee(crop_of(node), crop)), None)
        if same is None:
            _new_knee(volume, crop, "automatic")
            continue
        left.remove(same)
        store(same, "automatic", {**whole(crop), "origin": "automatic"})
        if crop_of(same)["origin"] == "automatic":
            _put(same, load(same, "automatic"))
    for node in left:
        if crop_of(node)["origin"] == "automatic":
            _drop(node)
    forget_undo(volume)
    return knees(volume)


def crop_of(node: Any) -> Crop:
    """The crop of an ROI as it is now, also in the middle of a drag (`scene_values.dragged`).

    Raises
    ------
    ValueError : the ROI is none of ours.
    """
    kept: Crop | None = load(node, "crop")
    if kept is None:
        raise ValueError(f"{node.GetName()} is no knee of this module")
    return kept if film_of(node) is None else dragged(kept, box_of(node))


def put_crop(node: Any, crop: Crop) -> None:
    """Move an ROI to a crop; the change can be undone."""
    _remember(node)
    _put(node, whole(crop))


def keep_square(node: Any) -> bool:
    """Settle a dragged ROI: square about its centre with the dragged size, in the film's plane, undoable.

    To be called when a drag ends. Whether the crop is another one than before.
    """
    kept, now = load(node, "crop"), crop_of(node)
    if now == kept:
        return False
    _remember(node)
    _put(node, now)
    return True


def notes_of(volume: Any) -> tuple[str, ...]:
    """What a reader must know of the knees that were found, until somebody types the side of one."""
    return tuple(load(volume, NOTES) or ())


def set_side(node: Any, side: str) -> None:
    """Type the side of a knee: "R", "L" or "unknown". What the fibula said of mirroring stays."""
    if side not in ("R", "L", "unknown"):
        raise ValueError(f"side is R, L or unknown, not {side!r}")
    crop = crop_of(node)
    mirrored = crop["mirrored"] if crop.get("fibula_clear") else side == "L"
    put_crop(node, {**crop, "side": side, "mirrored": mirrored})
    if film_of(node) is not None:
        film_of(node).RemoveAttribute(PREFIX + NOTES)


def can_reset(node: Any) -> bool:
    """Whether there is an automatic crop that differs from the present one."""
    automatic = load(node, "automatic")
    return automatic is not None and automatic != crop_of(node)


def reset(node: Any) -> None:
    """Back to the automatic crop; nothing happens to a knee that was added by hand."""
    automatic = load(node, "automatic")
    if automatic is not None:
        put_crop(node, automatic)


def remove(node: Any) -> None:
    """Delete a knee with its saliency map; `undo` brings the knee back with its result."""
    volume = film_of(node)
    if volume is not None:
        kept_names = ("id", "crop", "automatic", "result", "result_key", "distribution")
        kept = {name: node.GetAttribute(PREFIX + name) for name in kept_names}
        store(volume, "undo", {"what": "removed", "attributes": kept, "name": node.GetName()})
        volume.RemoveNodeReferenceIDs(UNDO_ROLE)
    _drop(node)


def _drop(node: Any) -> None:
    heat = saliency_of(node)
    if heat is not None:
        heat.GetScene().RemoveNode(heat)
    node.GetScene().RemoveNode(node)


def can_undo(volume: Any) -> str | None:
    """What `undo` would take back: "changed", "added" or "removed"; None when there is nothing."""
    what = (load(volume, "undo") or {}).get("what") if volume is not None else None
    return what if what == "removed" or volume.GetNodeReference(UNDO_ROLE) is not None else None


def undo(volume: Any) -> Any:
    """Take the last change of this film's knees back; the ROI that it is about, None for one that is gone."""
    what, last = can_undo(volume), load(volume, "undo")
    node = volume.GetNodeReference(UNDO_ROLE)
    if what == "changed":
        _put(node, last["crop"])
    elif what == "added":
        _drop(node)
        node = None
    elif what == "removed":
        node = _new_knee(volume, json.loads(last["attributes"]["crop"]))
        node.SetName(last["name"])
        for name, value in last["attributes"].items():
            if value is not None:
                node.SetAttribute(PREFIX + name, value)
    if what is not None:
        forget_undo(volume)
    return node


def forget_undo(volume: Any) -> None:
    """Nothing can be undone on this film."""
    volume.RemoveAttribute(PREFIX + "undo")
    volume.RemoveNodeReferenceIDs(UNDO_ROLE)


def _remember(node: Any) -> None:
    volume, crop = film_of(node), load(node, "crop")
    if volume is not None and crop is not None:
        store(volume, "undo", {"what": "changed", "crop": crop})
        volume.SetNodeReferenceID(UNDO_ROLE, node.GetID())


def names() -> dict[str, str]:
    """Names of ROI nodes by side, which the slice view shows; one that a person has changed stays."""
    return {"R": tell(_("Right knee")), "L": tell(_("Left knee")), "unknown": tell(_("Knee"))}


def _put(node: Any, crop: Crop) -> None:
    """Write a crop into its ROI, attributes and look, without a memory of what was before."""
    was = node.StartModify()
    store(node, "crop", crop)
    place(node, crop)
    _name(node, crop["side"])
    node.EndModify(was)
    _look(node, crop)


def _name(node: Any, side: str) -> None:
    ours = names()
    wanted = ours.get(side, ours["unknown"])
    by_us = "|".join(f"{re.escape(own)}(_[0-9]+)?" for own in ours.values())
    if re.fullmatch(by_us, node.GetName() or "") and not node.GetName().startswith(wanted):
        node.SetName(node.GetScene().GenerateUniqueName(wanted))


def _look(node: Any, crop: Crop) -> None:
    display = node.GetDisplayNode()
    if display is None:
        return
    was = display.StartModify()
    display.SetFillVisibility(False)
    display.SetHandlesInteractive(True)
    display.SetScaleHandleVisibility(True)
    display.SetTranslationHandleVisibility(True)
    display.SetRotationHandleVisibility(False)
    display.SetPropertiesLabelVisibility(True)
    display.SetPointLabelsVisibility(False)
    for paint in (display.SetColor, display.SetSelectedColor):
        paint(*COLOURS.get(crop["origin"], COLOURS["person"]))
    display.EndModify(was)
