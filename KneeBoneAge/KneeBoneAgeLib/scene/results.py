"""The answer for a knee, kept in its ROI, and the table that collects all answers."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..report.files import cells, column_names
from ..report.records import Result
from ..scene_values import Crop, key_of, same_key
from ..words import mark as _
from ..words import tell
from .films import facts
from .nodes import PREFIX, film_of, give_role, load, of_class, role_of, store
from .squares import crop_of, crops

RECORD_NAMES = tuple(f.name for f in dataclasses.fields(Result))


def request_key(volume: Any, node: Any, bundle_sha256: str | None) -> str:
    """What the result of a knee depends on, to be taken when the request is sent (`scene_values.key_of`)."""
    return key_of(crop_of(node), facts(volume), bundle_sha256)


def asked_of(volume: Any) -> list[tuple[Any, Crop, str]]:
    """The knees of a film with their crops, and what a result of each will depend on beside the bundle."""
    if volume is None:
        return []
    known = facts(volume)
    return [(node, crop, key_of(crop, known, None)) for node, crop in crops(volume)]


def store_result(node: Any, answer: Mapping[str, Any], key: str) -> None:
    """Keep the answer for a knee: a record (`report.records.Result` as a dictionary) with its distribution, its key.

    Parameters
    ----------
    answer : ``distribution`` beside the record's fields is what `distribution_of` gives back.
    """
    was = node.StartModify()
    store(node, "result", {name: answer[name] for name in RECORD_NAMES if name in answer})
    node.SetAttribute(PREFIX + "result_key", key)
    node.RemoveAttribute(PREFIX + "distribution")
    if answer.get("distribution"):
        store(node, "distribution", answer["distribution"])
    node.EndModify(was)


def result(node: Any) -> dict[str, Any] | None:
    """The record of a knee, whether out of date or not; None before the first estimate."""
    return load(node, "result")


def distribution_of(node: Any) -> dict[str, Any] | None:
    """The knee's ``probabilities`` over bone age, evenly from 0 to ``months_to`` months."""
    return load(node, "distribution")


@dataclass(frozen=True)
class Knee:
    """A knee as it stands now, read once for all that is drawn of it.

    Attributes
    ----------
    record : as `result` gives it.
    out_of_date : as `is_out_of_date` says.
    """

    node: Any
    crop: Crop
    record: dict[str, Any] | None
    out_of_date: bool


def look(volume: Any, bundle_sha256: str | None = None) -> tuple[Knee, ...]:
    """The knees of a film from the viewer's left to right, with their answers; see `is_out_of_date`."""
    if volume is None:
        return ()
    known, found = facts(volume), []
    for node, crop in crops(volume):
        kept = node.GetAttribute(PREFIX + "result_key")
        stale = kept is not None and not same_key(kept, key_of(crop, known, bundle_sha256))
        found.append(Knee(node, crop, result(node), stale))
    return tuple(found)


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
    for node in of_class(scene, "vtkMRMLTableNode"):
        if role_of(node) == "results":
            return node
    if not create:
        return None
    import vtk

    table = scene.AddNewNodeByClass("vtkMRMLTableNode", tell(_("Knee bone age results")))
    give_role(table, "results")
    was = table.StartModify()
    titles = column_titles()
    for name in table_columns():
        table.AddColumn(vtk.vtkStringArray()).SetName(name)
        table.SetColumnTitle(name, titles.get(name, name))
    table.SetUseColumnTitleAsColumnHeader(True)
    table.SetLocked(True)
    table.EndModify(was)
    return table


def table_columns() -> list[str]:
    """Columns of the table: which knee and its answer first, then when and from what, so that it can be repeated."""
    first = list(column_titles())
    return [*first, *(name for name in column_names() if name not in first), "crop_mirrored", "knee_id"]


def column_titles() -> dict[str, str]:
    """What stands above the first columns of the table; the others have their plain names."""
    return {
        "film": tell(_("Film")),
        "side": tell(_("Side")),
        "bone_age_months": tell(_("Bone age (months)")),
        "status": tell(_("Status")),
        "interval_low_months": tell(_("Interval from")),
        "interval_high_months": tell(_("Interval to")),
        "at_least_months": tell(_("Mature, at least (months)")),
        "sex": tell(_("Sex")),
        "chronological_age_months": tell(_("Chronological age (months)")),
        "reason": tell(_("Reason")),
        "crop_origin": tell(_("Square")),
        "crop_uncertain": tell(_("Square uncertain")),
        "bundle": tell(_("Model")),
        "time": tell(_("Time")),
    }


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
    answer = Result(**{name: record[name] for name in RECORD_NAMES if name in record})
    values: dict[str, object] = dict(zip(column_names(), cells(answer), strict=True))
    values |= {"film": film, "time": time.isoformat(timespec="seconds"), "knee_id": knee_id}
    values["crop_mirrored"] = None if mirrored is None else str(mirrored).lower()
    was = table.StartModify()
    row = _row_of(table, knee_id)
    # By name: a scene of another version may have its columns in another order.
    for column in range(table.GetNumberOfColumns()):
        table.SetCellText(row, column, _cell(values.get(table.GetColumnName(column))))
    table.EndModify(was)
    return row


def _row_of(table: Any, knee_id: str) -> int:
    """The row of a knee; a new one where it has none, or no name."""
    rows = table.GetNumberOfRows()
    names = [table.GetColumnName(column) for column in range(table.GetNumberOfColumns())]
    if knee_id and "knee_id" in names:
        column = names.index("knee_id")
        row = next((row for row in range(rows) if table.GetCellText(row, column) == knee_id), rows)
        if row < rows:
            return row
    table.AddEmptyRow()
    return rows


def _cell(value: object) -> str:
    """A value as the table keeps it: Slicer's file is lines of tabs, and its reader stumbles over double quotes."""
    text = "" if value is None else str(value).replace('"', "'")
    return " ".join(text.splitlines()).replace("\t", " ")


def csv_text(table: Any, delimiter: str = ",") -> str:
    """The table as CSV with its column names; ``delimiter`` "\\t" suits the clipboard."""
    columns = range(table.GetNumberOfColumns())
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    writer.writerow([table.GetColumnName(column) for column in columns])
    for row in range(table.GetNumberOfRows()):
        writer.writerow([table.GetCellText(row, column) for column in columns])
    return stream.getvalue()
