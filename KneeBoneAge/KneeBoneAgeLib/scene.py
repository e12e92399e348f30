"""The one file that knows MRML: film ↔ volume, crop ↔ markups ROI, saliency ↔ volume, results ↔ table.

Everything lives in the nodes, so that a saved scene brings it back. Links are node references; what we know is
JSON in attributes that begin with ``KneeBoneAge.``, and never a patient's name or number.

A crop travels as the dictionary `Crop`, in the film's continuous pixels: pixel (column 0, row 0) covers
[0, 1) x [0, 1), while Slicer's IJK counts from the middle of a voxel. An ROI is drawn upright, along the rows and
columns of its volume; the crop's lean stays in the attribute. The ROI node rounds places to float32, so the crop
that was put into it is kept beside it and taken as long as nobody has moved the ROI.
"""

from __future__ import annotations

import base64
import csv
import dataclasses
import datetime
import io
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .report.files import cells, column_names
from .report.records import Result
from .scene_values import (
    FACT_NAMES,
    READ_NAMES,
    Crop,
    Facts,
    checked_fact,
    dragged,
    key_of,
    merged,
    same_key,
    same_knee,
    whole,
)

__all__ = ["FACT_NAMES", "Crop", "Facts"]

PREFIX = "KneeBoneAge."
FILM_ROLE = "KneeBoneAge.film"
KNEE_ROLE = "KneeBoneAge.knee"
UNDO_ROLE = "KneeBoneAge.undo"
TABLE_NAME = "Knee bone age results"
RECORD_NAMES = tuple(f.name for f in dataclasses.fields(Result))

COLOURS = {"automatic": (1.0, 0.70, 0.28), "corrected": (0.37, 0.78, 0.75), "person": (0.37, 0.78, 0.75)}
NAMES = {"R": "Right knee", "L": "Left knee", "unknown": "Knee"}
"""Names of ROI nodes, which the slice view shows; one that a person has changed stays."""

LEAST_SHOWN = 0.15
"""Weaker saliency is not drawn."""

_HEAT = np.array(
    [(0, 20, 60, 60), (0.35, 120, 40, 120), (0.65, 230, 90, 60), (0.85, 255, 178, 71), (1, 255, 246, 200)],
    float,
)
"""Colours of saliency as in the report's pictures: value, red, green, blue."""


# --- film ---------------------------------------------------------------------------------------------------


def check_volume(volume: Any) -> str | None:
    """Why this volume is no film, in one sentence with the way out; None when it may be one."""
    if volume is None:
        return "No film is chosen: load a knee radiograph or choose one above."
    name = volume.GetName() or "The volume"
    if is_saliency(volume):
        return f"{name} is a saliency map: choose the film that it lies on."
    if volume.IsA("vtkMRMLLabelMapVolumeNode"):
        return f"{name} is a label map, not a film: choose the radiograph itself."
    image = volume.GetImageData()
    if image is None or 0 in image.GetDimensions() or image.GetPointData().GetScalars() is None:
        return f"{name} holds no picture: load the film again or choose another volume."
    columns, rows, slices = image.GetDimensions()
    if slices > 1:
        return (
            f"{name} has {slices} slices, so it is a CT, an MR or a series: "
            "choose a knee radiograph, which is a single picture."
        )
    if min(rows, columns) < 2:
        return f"{name} has {columns} x {rows} pixels, which is no picture: choose a knee radiograph."
    if image.GetNumberOfScalarComponents() > 1 and not _is_grey(volume):
        return f"{name} is a colour picture: choose a radiograph, which is grey."
    return None


def _is_grey(volume: Any) -> bool:
    from .errors import FilmError
    from .radiograph.colour import grey_of_colour

    picture = pixels_of(volume)
    if picture.shape[-1] not in (3, 4):
        return False
    try:
        grey_of_colour("", picture)
    except FilmError:
        return False
    return True


def pixels_of(volume: Any) -> NDArray[Any]:
    """The volume's one slice as it is: (rows, columns), or (rows, columns, channels) of a colour volume."""
    import slicer.util

    return slicer.util.arrayFromVolume(volume)[0]


def file_of(volume: Any) -> tuple[str | None, str]:
    """The file that the volume was loaded from, and where that is known from.

    The DICOM database is asked first ("database"), then the storage node ("file"); None and "array" otherwise.
    """
    import slicer

    uids = (volume.GetAttribute("DICOM.instanceUIDs") or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    if uids and database is not None and database.isOpen:
        path = database.fileForInstance(uids[0])
        if path and Path(path).is_file():
            return str(path), "database"
    storage = volume.GetStorageNode()
    path = storage.GetFullNameFromFileName() if storage is not None and storage.GetFileName() else None
    if path and Path(path).is_file():
        return str(path), "file"
    return None, "array"


def film_request(volume: Any, folder: str | Path) -> dict[str, Any]:
    """What the service needs to know of a film; its array is written into ``folder`` once a change of it.

    Parameters
    ----------
    folder : a private temporary folder; films of one session share it.

    Raises
    ------
    ValueError : the volume is no film (`check_volume`).
    """
    wrong = check_volume(volume)
    if wrong:
        raise ValueError(wrong)
    known = facts(volume)
    path, _ = file_of(volume)
    image = volume.GetImageData()
    stamp = max(image.GetMTime(), image.GetPointData().GetScalars().GetMTime())
    array = Path(folder, f"{volume.GetID()}-{stamp}.npy")
    if not array.is_file():
        for old in Path(folder).glob(f"{volume.GetID()}-*.npy"):
            old.unlink(missing_ok=True)
        np.save(array, np.ascontiguousarray(pixels_of(volume)))
    spacing, source = known.spacing_mm, known.spacing_source
    if known.source is None and "spacing_mm" not in known.typed:
        spacing, source = _volume_spacing(volume)
    return {
        "file": path,
        "name": volume.GetName() or "",
        "pixels": str(array),
        "spacing_mm": list(spacing) if spacing else None,
        "spacing_source": source,
        "sex": known.sex,
        "age_months": known.age_months,
        "side": known.side,
        "view": known.view,
        "polarity": known.polarity,
        "body_part": known.body_part,
        "uids": dict(known.uids) or _volume_uids(volume),
        "typed": list(known.typed),
    }


def _volume_spacing(volume: Any) -> tuple[tuple[float, float] | None, str]:
    """(row, column) in mm; exactly 1 mm is what Slicer says when nobody told it."""
    column, row, _ = volume.GetSpacing()
    return (None, "uncalibrated") if row == column == 1.0 else ((row, column), "array")


def _volume_uids(volume: Any) -> dict[str, str]:
    uids = (volume.GetAttribute("DICOM.instanceUIDs") or "").split()
    return {"instance": uids[0]} if uids else {}


def facts(volume: Any) -> Facts:
    """What is known of the film; typed values in the place of those that were read."""
    return merged(_load(volume, "facts") or {})


def store_read(volume: Any, read: Mapping[str, Any]) -> Facts:
    """Keep what the service understood of the film (``read`` of its answers); what was typed stays."""
    stored = _load(volume, "facts") or {}
    stored["read"] = {name: read[name] for name in READ_NAMES if read.get(name) is not None}
    stored["source"] = "array" if read.get("used") == "array" else file_of(volume)[1]
    _store(volume, "facts", stored)
    return facts(volume)


def set_fact(volume: Any, name: str, value: Any) -> None:
    """Keep what a person typed; None is a statement too: "unknown", whatever the header says.

    Raises
    ------
    ValueError : not one of `FACT_NAMES`, or an impossible value.
    """
    value = checked_fact(name, value)
    stored = _load(volume, "facts") or {}
    stored.setdefault("typed", {})[name] = value
    _store(volume, "facts", stored)


def reset_fact(volume: Any, name: str) -> None:
    """Forget what was typed; what was read counts again."""
    stored = _load(volume, "facts") or {}
    stored.setdefault("typed", {}).pop(name, None)
    _store(volume, "facts", stored)


def fit_window(volume: Any) -> bool:
    """Set window and level from the pixels where the present window hides most of the film; whether it did.

    Slicer inverts the voxels of a MONOCHROME1 film but keeps the file's window, which then no longer fits.
    """
    volume.CreateDefaultDisplayNodes()
    display = volume.GetDisplayNode()
    values = pixels_of(volume)[::8, ::8].astype(float)
    low, high = (float(v) for v in np.percentile(values, (1, 99)))
    bottom, top = display.GetWindowLevelMin(), display.GetWindowLevelMax()
    seen = (min(high, top) - max(low, bottom)) / max(high - low, 1e-12)
    if not high > low or (seen > 0.4 and top - bottom < 8 * (high - low)):
        return False
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(low, high)
    return True


# --- knees --------------------------------------------------------------------------------------------------


def knees(volume: Any) -> list[Any]:
    """The ROI nodes of this film, from the viewer's left to right."""
    if volume is None or volume.GetScene() is None:
        return []
    nodes = volume.GetScene().GetNodesByClass("vtkMRMLMarkupsROINode")
    nodes.UnRegister(None)
    mine = [node for node in _items(nodes) if film_of(node) is volume and node.GetAttribute(PREFIX + "crop")]
    return sorted(mine, key=lambda node: crop_of(node)["centre_px"][0])


def film_of(node: Any) -> Any:
    """The film of a knee or of a saliency map; None for other nodes."""
    return node.GetNodeReference(FILM_ROLE)


def add_knee(volume: Any, crop: Crop | None = None, origin: str | None = None) -> Any:
    """A new ROI on a film.

    Parameters
    ----------
    crop : without one, a square of a third of the film in its middle, to be dragged onto the knee.
    origin : instead of the crop's own.
    """
    node = _new_knee(volume, crop or _middle(volume), origin)
    _store(volume, "undo", {"what": "added"})
    volume.SetNodeReferenceID(UNDO_ROLE, node.GetID())
    return node


def _middle(volume: Any) -> Crop:
    columns, rows, _ = volume.GetImageData().GetDimensions()
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
    node.SetName(scene.GenerateUniqueName(NAMES["unknown"]))
    scene.AddNode(node)
    node.SetNodeReferenceID(FILM_ROLE, volume.GetID())
    node.SetAttribute(PREFIX + "id", uuid.uuid4().hex)
    if crop["origin"] == "automatic":
        _store(node, "automatic", crop)
    node.CreateDefaultDisplayNodes()
    _beside(volume, node)
    _put(node, crop)
    return node


def take_found(volume: Any, crops: Sequence[Crop]) -> list[Any]:
    """The knees after *Find knees*: what a person corrected or added stays, automatic ones are replaced.

    A found crop whose middle lies in the inner half of an existing one is the same knee.
    """
    left = knees(volume)
    for crop in crops:
        same = next((node for node in left if same_knee(crop_of(node), crop)), None)
        if same is None:
            _new_knee(volume, crop, "automatic")
            continue
        left.remove(same)
        _store(same, "automatic", {**whole(crop), "origin": "automatic"})
        if crop_of(same)["origin"] == "automatic":
            _put(same, _load(same, "automatic"))
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
    kept: Crop | None = _load(node, "crop")
    if kept is None:
        raise ValueError(f"{node.GetName()} is no knee of this module")
    return kept if film_of(node) is None else dragged(kept, _box_of(node))


def put_crop(node: Any, crop: Crop) -> None:
    """Move an ROI to a crop; the change can be undone."""
    _remember(node)
    _put(node, whole(crop))


def keep_square(node: Any) -> bool:
    """Settle a dragged ROI: square about its centre with the dragged size, in the film's plane, undoable.

    To be called when a drag ends. Whether the crop is another one than before.
    """
    kept, now = _load(node, "crop"), crop_of(node)
    if now == kept:
        return False
    _remember(node)
    _put(node, now)
    return True


def set_side(node: Any, side: str) -> None:
    """Type the side of a knee: "R", "L" or "unknown". What the fibula said of mirroring stays."""
    if side not in ("R", "L", "unknown"):
        raise ValueError(f"side is R, L or unknown, not {side!r}")
    crop = crop_of(node)
    mirrored = crop["mirrored"] if crop.get("fibula_clear") else side == "L"
    put_crop(node, {**crop, "side": side, "mirrored": mirrored})


def can_reset(node: Any) -> bool:
    """Whether there is an automatic crop that differs from the present one."""
    automatic = _load(node, "automatic")
    return automatic is not None and automatic != crop_of(node)


def reset(node: Any) -> None:
    """Back to the automatic crop; nothing happens to a knee that was added by hand."""
    automatic = _load(node, "automatic")
    if automatic is not None:
        put_crop(node, automatic)


def remove(node: Any) -> None:
    """Delete a knee with its saliency map; `undo` brings the knee back with its result."""
    volume = film_of(node)
    if volume is not None:
        names = ("id", "crop", "automatic", "result", "result_key", "chart")
        kept = {name: node.GetAttribute(PREFIX + name) for name in names}
        _store(volume, "undo", {"what": "removed", "attributes": kept, "name": node.GetName()})
        volume.RemoveNodeReferenceIDs(UNDO_ROLE)
    _drop(node)


def _drop(node: Any) -> None:
    heat = saliency_of(node)
    if heat is not None:
        heat.GetScene().RemoveNode(heat)
    node.GetScene().RemoveNode(node)


def can_undo(volume: Any) -> str | None:
    """What `undo` would take back: "changed", "added" or "removed"; None when there is nothing."""
    what = (_load(volume, "undo") or {}).get("what") if volume is not None else None
    return what if what == "removed" or volume.GetNodeReference(UNDO_ROLE) is not None else None


def undo(volume: Any) -> Any:
    """Take the last change of this film's knees back; the ROI that it is about, None for one that is gone."""
    what, last = can_undo(volume), _load(volume, "undo")
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
    volume, crop = film_of(node), _load(node, "crop")
    if volume is not None and crop is not None:
        _store(volume, "undo", {"what": "changed", "crop": crop})
        volume.SetNodeReferenceID(UNDO_ROLE, node.GetID())


# --- geometry -----------------------------------------------------------------------------------------------


def _frame(volume: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """IJK-to-RAS of the volume as a 3 x 3 matrix and an origin."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    affine = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
    return affine[:3, :3], affine[:3, 3]


def _put(node: Any, crop: Crop) -> None:
    """Write a crop into its ROI, attributes and look, without a memory of what was before."""
    import vtk

    volume = film_of(node)
    linear, origin = _frame(volume)
    steps = np.linalg.norm(linear, axis=0)
    right, down = linear[:, 0] / steps[0], linear[:, 1] / steps[1]
    x, y = crop["centre_px"]
    centre = linear @ (x - 0.5, y - 0.5, 0.0) + origin
    pose = vtk.vtkMatrix4x4()
    # A third axis of its own keeps the pose right-handed on mirrored volumes; the box is symmetric along it.
    for column, axis in enumerate((right, down, np.cross(right, down), centre)):
        for row in range(3):
            pose.SetElement(row, column, float(axis[row]))
    was = node.StartModify()
    _store(node, "crop", crop)
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    node.SetSize(crop["side_px"] * steps[0], crop["side_px"] * steps[1], steps[2])
    node.SetAndObserveObjectToNodeMatrix(pose)
    name = NAMES.get(crop["side"], NAMES["unknown"])
    ours = re.fullmatch("|".join(f"{own}(_[0-9]+)?" for own in NAMES.values()), node.GetName() or "")
    if ours and not node.GetName().startswith(name):
        node.SetName(volume.GetScene().GenerateUniqueName(name))
    node.EndModify(was)
    _look(node, crop)


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


def _box_of(node: Any) -> tuple[float, float, float, float]:
    """(x0, y0, x1, y1) in film pixels around an ROI, however somebody has turned it."""
    import vtk

    linear, origin = _frame(film_of(node))
    pose = node.GetObjectToNodeMatrix()
    if pose is None:
        pose = vtk.vtkMatrix4x4()
    affine = np.array([[pose.GetElement(row, column) for column in range(4)] for row in range(3)])
    inverse = np.linalg.inv(linear)
    x, y, _ = inverse @ (affine[:, 3] - origin) + 0.5
    reach = np.abs(inverse @ (affine[:, :3] * (np.array(node.GetSize()) / 2))).sum(axis=1)
    # Along the film's own axes the thickness adds nothing; rounding of a turned frame must not either.
    reach = reach * (1.0, 1.0, 0.0)
    return float(x - reach[0]), float(y - reach[1]), float(x + reach[0]), float(y + reach[1])


# --- results ------------------------------------------------------------------------------------------------


def request_key(volume: Any, node: Any, bundle_sha256: str | None) -> str:
    """What the result of a knee depends on, to be taken when the request is sent (`scene_values.key_of`)."""
    return key_of(crop_of(node), facts(volume), bundle_sha256)


def store_result(node: Any, record: Mapping[str, Any], chart: bytes | str | None, key: str) -> None:
    """Keep the answer for a knee: a record (`report.records.Result` as a dictionary), its chart, its key.

    Parameters
    ----------
    chart : PNG, as bytes or base64.
    """
    was = node.StartModify()
    _store(node, "result", {name: record[name] for name in RECORD_NAMES if name in record})
    node.SetAttribute(PREFIX + "result_key", key)
    text = base64.b64encode(chart).decode() if isinstance(chart, bytes) else chart
    node.SetAttribute(PREFIX + "chart", text or None)
    node.EndModify(was)


def result(node: Any) -> dict[str, Any] | None:
    """The record of a knee, whether out of date or not; None before the first estimate."""
    return _load(node, "result")


def chart_of(node: Any) -> bytes | None:
    """The knee's chart as PNG."""
    text = node.GetAttribute(PREFIX + "chart")
    return base64.b64decode(text) if text else None


def is_out_of_date(node: Any, bundle_sha256: str | None = None) -> bool:
    """Whether the result of a knee was computed from something else than what stands there now.

    Parameters
    ----------
    bundle_sha256 : of the bundle in use; None, while it is not known yet, leaves the bundle out.
    """
    kept = node.GetAttribute(PREFIX + "result_key")
    return kept is not None and not same_key(kept, request_key(film_of(node), node, bundle_sha256))


def results_table(scene: Any, create: bool = True) -> Any:
    """The scene's one table of results; made when there is none, unless ``create`` is False."""
    nodes = scene.GetNodesByClass("vtkMRMLTableNode")
    nodes.UnRegister(None)
    for node in _items(nodes):
        if node.GetAttribute(PREFIX + "role") == "results":
            return node
    if not create:
        return None
    table = scene.AddNewNodeByClass("vtkMRMLTableNode", TABLE_NAME)
    table.SetAttribute(PREFIX + "role", "results")
    was = table.StartModify()
    for name in table_columns():
        table.AddColumn(_strings()).SetName(name)
    table.EndModify(was)
    return table


def table_columns() -> list[str]:
    """Columns of the table: the film's node, the time, the fields of a record, and what tells knees apart."""
    return ["film", "time", *column_names(), "crop_mirrored", "knee_id"]


def append_row(table: Any, node: Any, time: datetime.datetime | None = None) -> int:
    """Enter the result of a knee of the scene, in the place of an older one of the same knee; the row's number."""
    key = node.GetAttribute(PREFIX + "result_key")
    return append_record(
        table,
        result(node) or {},
        film=film_of(node).GetName(),
        mirrored=json.loads(key)["mirrored"] if key else None,
        knee_id=node.GetAttribute(PREFIX + "id") or "",
        time=time,
    )


def append_record(
    table: Any,
    record: Mapping[str, Any],
    film: str = "",
    mirrored: bool | None = None,
    knee_id: str = "",
    time: datetime.datetime | None = None,
) -> int:
    """Enter a record; with a ``knee_id`` in the place of an older one of the same knee. The row's number."""
    time = time or datetime.datetime.now(datetime.UTC)
    fields = cells(Result(**{name: record[name] for name in RECORD_NAMES if name in record}))
    turned = None if mirrored is None else str(mirrored).lower()
    values = [film, time.isoformat(timespec="seconds"), *fields, turned, knee_id]
    was = table.StartModify()
    rows, last = table.GetNumberOfRows(), len(values) - 1
    row = next((i for i in range(rows) if knee_id and table.GetCellText(i, last) == knee_id), rows)
    if row == rows:
        table.AddEmptyRow()
    for column, value in enumerate(values):
        # Slicer's file of a table is lines of tabs, and its reader stumbles over double quotes.
        text = "" if value is None else str(value).replace('"', "'")
        table.SetCellText(row, column, " ".join(text.splitlines()).replace("\t", " "))
    table.EndModify(was)
    return row


def csv_text(table: Any, delimiter: str = ",") -> str:
    """The table as CSV with its column names; ``delimiter`` "\\t" suits the clipboard."""
    columns = range(table.GetNumberOfColumns())
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    writer.writerow([table.GetColumnName(column) for column in columns])
    for row in range(table.GetNumberOfRows()):
        writer.writerow([table.GetCellText(row, column) for column in columns])
    return stream.getvalue()


def _strings() -> Any:
    import vtk

    return vtk.vtkStringArray()


# --- saliency -----------------------------------------------------------------------------------------------


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

    heat = saliency_of(node)
    scene = volume.GetScene()
    if heat is None:
        heat = scene.AddNewNodeByClass(
            "vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(f"{node.GetName()} saliency")
        )
        heat.SetNodeReferenceID(FILM_ROLE, volume.GetID())
        heat.SetNodeReferenceID(KNEE_ROLE, node.GetID())
        _beside(volume, heat)
    heat.SetAttribute(PREFIX + "role", "saliency")
    heat.SetAttribute(PREFIX + "method", method)
    heat.SetAttribute(PREFIX + "result_key", key)
    slicer.util.updateVolumeFromArray(heat, np.ascontiguousarray(values, np.float32)[None])
    import vtk

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


def saliency_of(node: Any) -> Any:
    """The saliency volume of a knee, None when there is none."""
    nodes = node.GetScene().GetNodesByClass("vtkMRMLScalarVolumeNode")
    nodes.UnRegister(None)
    return next((heat for heat in _items(nodes) if heat.GetNodeReference(KNEE_ROLE) is node), None)


def method_of(heat: Any) -> str | None:
    """The method of a saliency volume."""
    return heat.GetAttribute(PREFIX + "method")


def is_saliency(volume: Any) -> bool:
    """Whether a volume is one of our saliency maps, which a selector of films leaves out."""
    return volume.GetAttribute(PREFIX + "role") == "saliency"


def saliency_is_out_of_date(node: Any, bundle_sha256: str | None = None) -> bool:
    """Whether the saliency map of a knee belongs to another crop, sex, age or bundle."""
    heat = saliency_of(node)
    kept = heat.GetAttribute(PREFIX + "result_key") if heat is not None else None
    return kept is not None and not same_key(kept, request_key(film_of(node), node, bundle_sha256))


def _heat_colours(scene: Any) -> Any:
    nodes = scene.GetNodesByClass("vtkMRMLColorTableNode")
    nodes.UnRegister(None)
    for node in _items(nodes):
        if node.GetAttribute(PREFIX + "role") == "heat":
            return node
    table = scene.CreateNodeByClass("vtkMRMLColorTableNode")
    table.UnRegister(None)
    table.SetName("Knee saliency")
    table.SetTypeToUser()
    table.SetAttribute(PREFIX + "role", "heat")
    table.SetAttribute("Category", "User Generated")
    table.SetNumberOfColors(256)
    for index in range(256):
        red, green, blue = (
            float(np.interp(index / 255, _HEAT[:, 0], _HEAT[:, band])) / 255 for band in (1, 2, 3)
        )
        table.SetColor(index, f"{index / 255:.2f}", red, green, blue, 1.0)
    return scene.AddNode(table)


# --- attributes ---------------------------------------------------------------------------------------------


def _load(node: Any, name: str) -> Any:
    text = node.GetAttribute(PREFIX + name)
    return json.loads(text) if text else None


def _store(node: Any, name: str, value: Any) -> None:
    node.SetAttribute(PREFIX + name, json.dumps(value, allow_nan=False))


def _items(collection: Any) -> list[Any]:
    return [collection.GetItemAsObject(index) for index in range(collection.GetNumberOfItems())]


def _beside(volume: Any, node: Any) -> None:
    """Put a node where its film is in the subject hierarchy: under the same study or folder."""
    hierarchy = volume.GetScene().GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
    if hierarchy is None:
        return
    film, mine = hierarchy.GetItemByDataNode(volume), hierarchy.GetItemByDataNode(node)
    if film and mine:
        hierarchy.SetItemParent(mine, hierarchy.GetItemParent(film))
