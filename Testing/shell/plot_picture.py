"""What the plot views of a layout look like: MRML's charts drawn by VTK's own chart, as the application does."""

from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from PIL import Image
from vtk.util.numpy_support import vtk_to_numpy

BAR_PX = 22
MARKERS = {"none": 0, "cross": 1, "plus": 2, "square": 3, "circle": 4, "diamond": 5}
LINES = {"none": 0, "solid": 1, "dash": 2, "dot": 3, "dash-dot": 4, "dash-dot-dot": 5}


def plot_picture(views: list[Any], width: int, height: int) -> Image.Image:
    """The plot views, one above the other, each with its bar.

    Parameters
    ----------
    views : ``vtkMRMLPlotViewNode`` with a chart each.
    """
    sheet = Image.new("RGB", (width, height), (255, 255, 255))
    part = height // len(views)
    for number, view in enumerate(views):
        colour = tuple(round(255 * value) for value in view.GetLayoutColor())
        sheet.paste(colour, (0, number * part, width, number * part + BAR_PX))
        chart = view.GetPlotChartNode()
        if chart is not None:
            drawn = Image.fromarray(drawn_chart(chart, width, part - BAR_PX))
            sheet.paste(drawn, (0, number * part + BAR_PX))
    return sheet


def drawn_chart(node: Any, width: int, height: int) -> NDArray[np.uint8]:
    """One chart, (rows, columns, 3)."""
    view = vtk.vtkContextView()
    window = view.GetRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetSize(width, height)
    window.SetMultiSamples(4)
    chart = vtk.vtkChartXY()
    view.GetScene().AddItem(chart)
    view.GetRenderer().SetBackground(1, 1, 1)
    chart.SetTitle(node.GetTitle() or "")
    chart.GetTitleProperties().SetFontSize(node.GetTitleFontSize())
    chart.SetShowLegend(node.GetLegendVisibility())
    chart.GetLegend().SetLabelSize(node.GetLegendFontSize())
    for place, title in (
        (vtk.vtkAxis.BOTTOM, node.GetXAxisTitle()),
        (vtk.vtkAxis.LEFT, node.GetYAxisTitle()),
    ):
        axis = chart.GetAxis(place)
        axis.SetTitle(title or "")
        axis.GetTitleProperties().SetFontSize(node.GetAxisTitleFontSize())
        axis.GetLabelProperties().SetFontSize(node.GetAxisLabelFontSize())
    if not node.GetYAxisRangeAuto():
        low, high = node.GetYAxisRange()
        chart.GetAxis(vtk.vtkAxis.LEFT).SetRange(low, high)
        chart.GetAxis(vtk.vtkAxis.LEFT).SetBehavior(vtk.vtkAxis.FIXED)
    for number in range(node.GetNumberOfPlotSeriesNodes()):
        _add(chart, node.GetNthPlotSeriesNode(number))
    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    values = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars())
    return values.reshape(height, width, -1)[::-1, :, :3].copy()


def _add(chart: Any, series: Any) -> None:
    names = [
        series.GetTableNode().GetColumnName(i) for i in range(series.GetTableNode().GetNumberOfColumns())
    ]
    line = chart.AddPlot(vtk.vtkChart.LINE)
    columns = (names.index(series.GetXColumnName()), names.index(series.GetYColumnName()))
    line.SetInputData(series.GetTableNode().GetTable(), *columns)
    line.SetLabel(series.GetName())
    line.SetColorF(*series.GetColor())
    line.SetWidth(series.GetLineWidth())
    line.GetPen().SetLineType(LINES[series.GetLineStyleAsString(series.GetLineStyle())])
    line.SetMarkerStyle(MARKERS[series.GetMarkerStyleAsString(series.GetMarkerStyle())])
    line.SetMarkerSize(series.GetMarkerSize())


def plot_views() -> list[Any]:
    """The plot views of the scene, in the order in which the layout made them."""
    kind, scene = "vtkMRMLPlotViewNode", slicer.mrmlScene
    return [scene.GetNthNodeByClass(i, kind) for i in range(scene.GetNumberOfNodesByClass(kind))]
