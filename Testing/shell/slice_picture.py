"""What a slice view looks like, composed from the nodes with NumPy and Pillow.

The layers are sampled as the view does (nearest voxel where the display node says so, else linear), window and level,
thresholds, colour nodes and opacities are those of the display nodes. ROIs are drawn where the slice cuts them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from .pictures import bundled_fonts

BAR_PX, BAR_COLOR = 30, (255, 84, 62)
HANDLES = {"corner": (200, 200, 200), "top": (80, 200, 80), "side": (200, 80, 80)}


@dataclass
class View:
    """A slice view of ``width`` × ``height`` pixels; y runs up in the view, down in the picture."""

    logic: Any
    width: int
    height: int

    def __post_init__(self) -> None:
        self.node, self.composite = self.logic.GetSliceNode(), self.logic.GetSliceCompositeNode()
        self.logic.ResizeSliceNode(self.width, self.height)

    def xy_to_ras(self) -> NDArray[np.float64]:
        """4 × 4: a pixel of the picture (column, row from the top, 0, 1) to RAS, mm."""
        upright = np.diag([1.0, -1.0, 1.0, 1.0])
        upright[1, 3] = self.height - 1
        return matrix(self.node.GetXYToRAS()) @ upright

    def ras_to_xy(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """RAS points (n, 3) to pixels (n, 2), with the distance to the slice, mm, in the third column."""
        ones = np.concatenate([points, np.ones((len(points), 1))], axis=1)
        return (np.linalg.inv(self.xy_to_ras()) @ ones.T).T[:, :3]


def matrix(vtk_matrix: Any) -> NDArray[np.float64]:
    """A vtkMatrix4x4 as an array."""
    return np.array([[vtk_matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def slice_picture(logic: Any, width: int, height: int) -> Image.Image:
    """The slice view with its bar, as RGB.

    Parameters
    ----------
    logic : the view's ``vtkMRMLSliceLogic``.
    width, height : of the picture, with the bar.
    """
    node = logic.GetSliceNode()
    before = node.GetDimensions(), node.GetFieldOfView()
    try:
        return drawn(View(logic, width, height - BAR_PX), width, height)
    finally:
        node.SetDimensions(*before[0])
        node.SetFieldOfView(*before[1])


def drawn(view: View, width: int, height: int) -> Image.Image:
    """The layers, the boxes, the names and the bar of a view."""
    picture = np.zeros((view.height, view.width, 3))
    names = []
    for letter, node_id, opacity in (
        ("B", view.composite.GetBackgroundVolumeID(), 1.0),
        ("F", view.composite.GetForegroundVolumeID(), view.composite.GetForegroundOpacity()),
    ):
        volume = slicer.mrmlScene.GetNodeByID(node_id) if node_id else None
        if volume is None or volume.GetImageData() is None or volume.GetVolumeDisplayNode() is None:
            continue
        colors, alpha = layer(view, volume)
        picture += (colors - picture) * (alpha * opacity)[..., None]
        names.insert(0, f"{letter}: {volume.GetName()}" + (f" ({opacity:.0%})" if letter == "F" else ""))
    canvas = Image.new("RGB", (width, height))
    canvas.paste(Image.fromarray(np.round(picture).clip(0, 255).astype(np.uint8)), (0, BAR_PX))
    draw = ImageDraw.Draw(canvas)
    for roi in slicer.util.getNodesByClass("vtkMRMLMarkupsROINode"):
        draw_roi(draw, view, roi)
    for line, name in enumerate(reversed(names)):
        draw.text(
            (8, height - 26 - 20 * line),
            name,
            fill="white",
            font=font(15),
            stroke_width=1,
            stroke_fill="black",
        )
    draw_bar(draw, view)
    return canvas


def draw_bar(draw: ImageDraw.ImageDraw, view: View) -> None:
    """The view's bar, with its letter and the place of the slice."""
    draw.rectangle((0, 0, view.width, BAR_PX - 1), fill=BAR_COLOR)
    draw.text((12, 5), view.node.GetLayoutLabel() or "R", fill="black", font=font(16))
    place = f"S: {view.logic.GetSliceOffset():.4f}mm"
    draw.text((view.width - 12, 5), place, fill="black", font=font(16), anchor="ra")


def layer(view: View, volume: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Colours (rows, columns, 3), 0..255, and opacity (rows, columns), 0..1, of a volume in the view."""
    display = volume.GetVolumeDisplayNode()
    voxels = slicer.util.arrayFromVolume(volume)
    values, inside = sample(view, volume, voxels, bool(display.GetInterpolate()))
    if values.ndim == 3:
        return values[..., :3], inside.astype(float)
    visible = inside
    if display.GetApplyThreshold():
        visible = inside & (values >= display.GetLowerThreshold()) & (values <= display.GetUpperThreshold())
    table = display.GetColorNode().GetLookupTable()
    count = table.GetNumberOfTableValues()
    entries = np.array([table.GetTableValue(entry) for entry in range(count)])
    lowest = display.GetLevel() - display.GetWindow() / 2
    place = np.clip((values - lowest) / max(display.GetWindow(), 1e-12), 0, 1)
    rgba = entries[np.minimum((place * count).astype(int), count - 1)]
    return rgba[..., :3] * 255, visible * rgba[..., 3]


def sample(
    view: View, volume: Any, voxels: NDArray[Any], linear: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values of the voxels (slices, rows, columns[, channels]) at each pixel, and which pixels lie in the volume."""
    ras_to_ijk = vtk_matrix_of(volume)
    rows, columns = np.mgrid[: view.height, : view.width]
    pixels = np.stack([columns, rows, np.zeros_like(rows), np.ones_like(rows)], axis=-1)
    ijk = (pixels @ (ras_to_ijk @ view.xy_to_ras()).T)[..., :3]
    size = np.array(volume.GetImageData().GetDimensions())
    inside = np.all((ijk > -0.5) & (ijk < size - 0.5), axis=-1)
    places = [ijk[..., axis] for axis in (2, 1, 0)]

    def read(channel: NDArray[Any]) -> NDArray[np.float64]:
        read_at = ndimage.map_coordinates(
            channel.astype(float), places, order=1 if linear else 0, mode="nearest"
        )
        return np.where(inside, read_at, 0.0)

    if voxels.ndim == 4:
        return np.stack([read(voxels[..., channel]) for channel in range(3)], axis=-1), inside
    return read(voxels), inside


def vtk_matrix_of(volume: Any) -> NDArray[np.float64]:
    """4 × 4: RAS to voxel indices (column, row, slice)."""
    found = vtk.vtkMatrix4x4()
    volume.GetRASToIJKMatrix(found)
    return matrix(found)


def draw_roi(draw: ImageDraw.ImageDraw, view: View, roi: Any) -> None:
    """Outline, handles and name of a box, where the slice cuts it."""
    display = roi.GetDisplayNode()
    if display is None or not display.GetVisibility() or not display.GetVisibility2D():
        return
    to_ras, half = matrix(roi.GetObjectToWorldMatrix()), np.array(roi.GetSize()) / 2
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half[:2]
    points = np.concatenate([corners, np.zeros((4, 1)), np.ones((4, 1))], axis=1) @ to_ras.T
    xy = view.ras_to_xy(points[:, :3])
    if np.min(np.abs(xy[:, 2])) > max(half[2], 1e-3) + 1e-6:
        return
    place = [(x, y + BAR_PX) for x, y, _ in xy]
    chosen = all(roi.GetNthControlPointSelected(point) for point in range(roi.GetNumberOfControlPoints()))
    color = tuple(round(255 * c) for c in (display.GetSelectedColor() if chosen else display.GetColor()))
    draw.line([*place, place[0]], fill=color, width=3, joint="curve")
    if display.GetHandlesInteractive():
        for index, (start, end) in enumerate(zip(place, place[1:] + place[:1], strict=True)):
            dot(draw, start, HANDLES["corner"])
            middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
            dot(draw, middle, HANDLES["side" if index % 2 else "top"])
    center = np.mean(place, axis=0)
    dot(draw, tuple(center), color, 4)
    if display.GetPropertiesLabelVisibility() and roi.GetName():
        at = (center[0] + 2, center[1] - 16)
        draw.text(
            at, roi.GetName(), fill=color, font=font(17, bold=True), stroke_width=1, stroke_fill="black"
        )


def dot(draw: ImageDraw.ImageDraw, place: tuple[float, ...], color: tuple[int, ...], radius: int = 6) -> None:
    """A round handle."""
    x, y = place
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color, outline=(40, 40, 40))


def font(size: int, bold: bool = False) -> Any:
    """A readable font for Pillow."""
    files = bundled_fonts()
    path = files[-1] if bold and files else next(iter(files), None)
    return ImageFont.truetype(str(path), size) if path else ImageFont.load_default(size)
