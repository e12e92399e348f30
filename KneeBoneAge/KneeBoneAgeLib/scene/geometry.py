"""Where an ROI lies: a crop in film pixels ↔ centre, size and directions in the world.

An ROI is drawn upright, along the rows and columns of its volume. Slicer's IJK counts from the middle of a voxel,
the film's continuous pixels from its edge: pixel (column 0, row 0) covers [0, 1) x [0, 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..scene_values import Crop
from .nodes import film_of


def _frame(volume: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """IJK-to-RAS of the volume as a 3 x 3 matrix and an origin."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    affine = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
    return affine[:3, :3], affine[:3, 3]


def place(node: Any, crop: Crop) -> None:
    """Lay an ROI upon a crop of its film."""
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
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    node.SetSize(crop["side_px"] * steps[0], crop["side_px"] * steps[1], steps[2])
    node.SetAndObserveObjectToNodeMatrix(pose)


def box_of(node: Any) -> tuple[float, float, float, float]:
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
