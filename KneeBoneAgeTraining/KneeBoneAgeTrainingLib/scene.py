"""The one file that knows MRML: the curves of a run as tables, plot series and two charts.

The charts stand in the scene once and show the run that was shown last. They come back from the run folder at any
time, so they are not saved with the scene.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .runs.folder import Epoch

ROLE = "KneeBoneAgeTraining.role"
RUN = "KneeBoneAgeTraining.run"
CHARTS = ("val_mae_months", "train_loss")
"""Columns of `Epoch`, one chart each, in the order of the views."""
LAYOUT = 5719
"""Number of the layout with both charts, one above the other; Slicer leaves those from 100 on to extensions."""
VIEWS = {"val_mae_months": "KneeBoneAgeMAE", "train_loss": "KneeBoneAgeLoss"}
COLOURS = (
    (0.00, 0.45, 0.70),
    (0.84, 0.37, 0.00),
    (0.00, 0.62, 0.45),
    (0.80, 0.47, 0.65),
    (0.90, 0.62, 0.00),
    (0.34, 0.71, 0.91),
)
"""Okabe and Ito's, which stay apart for the colour-blind; folds beyond the sixth begin again."""
GREY = (0.45, 0.45, 0.45)


def show_curves(
    scene: Any,
    run: str,
    folds: Mapping[int, Sequence[Epoch]],
    words: Mapping[str, str],
    age_alone_months: float | None = None,
) -> None:
    """Put the curves of a run into the two charts.

    Parameters
    ----------
    folds : epochs of each fold.
    words : what is written: "fold" with ``{fold}``, "epoch", "age_alone", and title and axis of each of `CHARTS`
        as "<column>.title" and "<column>.axis".
    age_alone_months : error of an estimate from chronological age alone, drawn as a dashed line.
    """
    for column in CHARTS:
        chart = _node(scene, "vtkMRMLPlotChartNode", column)
        changed = chart.StartModify()
        chart.SetName(words[f"{column}.title"])
        chart.SetTitle(f"{words[f'{column}.title']}: {run}")
        chart.SetXAxisTitle(words["epoch"])
        chart.SetYAxisTitle(words[f"{column}.axis"])
        chart.SetAttribute(RUN, run)
        wanted = []
        for fold, epochs in folds.items():
            points = [(one.epoch, getattr(one, column)) for one in epochs]
            points = [point for point in points if not math.isnan(point[1])]
            if points:
                name = words["fold"].format(fold=fold)
                series = _series(scene, f"{column}.{fold}", name, points, COLOURS[fold % len(COLOURS)])
                series.SetLineStyle(series.LineStyleSolid)
                series.SetMarkerStyle(series.MarkerStyleCircle)
                wanted.append(series.GetID())
        last = max((one.epoch for epochs in folds.values() for one in epochs), default=0)
        if column == "val_mae_months" and age_alone_months is not None and last:
            ends = [(1.0, age_alone_months), (max(2.0, last), age_alone_months)]
            series = _series(scene, f"{column}.age", words["age_alone"], ends, GREY)
            series.SetLineStyle(series.LineStyleDash)
            series.SetMarkerStyle(series.MarkerStyleNone)
            wanted.append(series.GetID())
        if [chart.GetNthPlotSeriesNodeID(i) for i in range(chart.GetNumberOfPlotSeriesNodes())] != wanted:
            chart.RemoveAllPlotSeriesNodeIDs()
            for series_id in wanted:
                chart.AddAndObservePlotSeriesNodeID(series_id)
        chart.SetLegendVisibility(bool(wanted))
        chart.EndModify(changed)


def shown_run(scene: Any) -> str:
    """Name of the run that the charts show; "" when they show none."""
    chart = find(scene, "vtkMRMLPlotChartNode", CHARTS[0])
    return (chart.GetAttribute(RUN) or "") if chart is not None else ""


def forget_curves(scene: Any) -> None:
    """Take the charts and all that belongs to them out of the scene."""
    for kind in ("vtkMRMLPlotChartNode", "vtkMRMLPlotSeriesNode", "vtkMRMLTableNode"):
        for node in _ours(scene, kind):
            scene.RemoveNode(node)


def layout_description() -> str:
    """The layout as XML: the error above, the loss below."""
    labels = {"val_mae_months": "E", "train_loss": "L"}
    items = "".join(
        f'<item><view class="vtkMRMLPlotViewNode" singletontag="{VIEWS[column]}">'
        f'<property name="viewlabel" action="default">{labels[column]}</property></view></item>'
        for column in CHARTS
    )
    return f'<layout type="vertical" split="true">{items}</layout>'


def put_in_views(scene: Any) -> bool:
    """Give each view of the layout its chart; False where the layout was never shown, or there is no chart."""
    found = []
    for column in CHARTS:
        view = scene.GetSingletonNode(VIEWS[column], "vtkMRMLPlotViewNode")
        chart = find(scene, "vtkMRMLPlotChartNode", column)
        found.append(view is not None and chart is not None)
        if found[-1]:
            view.SetDoPropagatePlotChartSelection(
                False
            )  # charts of other modules stay out of these two views
            view.SetPlotChartNodeID(chart.GetID())
    return all(found)


def find(scene: Any, kind: str, role: str) -> Any:
    """Our node of this class and role; None when there is none."""
    return next((node for node in _ours(scene, kind) if node.GetAttribute(ROLE) == role), None)


def _ours(scene: Any, kind: str) -> list[Any]:
    nodes = [scene.GetNthNodeByClass(i, kind) for i in range(scene.GetNumberOfNodesByClass(kind))]
    return [node for node in nodes if node.GetAttribute(ROLE)]


def _node(scene: Any, kind: str, role: str) -> Any:
    node = find(scene, kind, role)
    if node is None:
        node = scene.AddNewNodeByClass(kind)
        node.SetAttribute(ROLE, role)
        node.SetSaveWithScene(False)
    return node


def _series(scene: Any, role: str, name: str, points: Sequence[tuple[float, float]], colour: Any) -> Any:
    """A line through points; nodes are made once, and touched only where something changed."""
    import slicer.util

    table = _node(scene, "vtkMRMLTableNode", role)
    values = np.asarray(points, float)
    if not _holds(table, values):
        table.SetName(f"{role} {name}")
        slicer.util.updateTableFromArray(table, (values[:, 0], values[:, 1]), ("x", "y"))
    series = _node(scene, "vtkMRMLPlotSeriesNode", role)
    series.SetName(name)
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetPlotType(series.PlotTypeScatter)
    series.SetXColumnName("x")
    series.SetYColumnName("y")
    series.SetColor(*colour)
    series.SetLineWidth(2)
    series.SetMarkerSize(5)
    return series


def _holds(table: Any, values: np.ndarray) -> bool:
    if table.GetNumberOfRows() != len(values) or table.GetNumberOfColumns() != 2:
        return False
    columns = [table.GetTable().GetColumn(i) for i in range(2)]
    there = [[column.GetValue(row) for column in columns] for row in range(len(values))]
    return bool(np.array_equal(np.asarray(there), values))
