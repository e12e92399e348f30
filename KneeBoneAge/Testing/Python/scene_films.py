"""A scene as the application gives one, films in it with a crop and what was read, and a person's hand on an ROI."""

import dataclasses
import math

import numpy as np
import pytest

from KneeBoneAgeLib.report.records import Result

slicer = pytest.importorskip("slicer", reason="real MRML is needed: pip install slicer-core")

from KneeBoneAgeLib import scene  # noqa: E402

ROWS, COLUMNS = 60, 48
CROP = {
    "centre_px": [20.3337, 31.8189],
    "side_px": 17.12345,
    "angle_deg": 4.5,
    "side": "R",
    "mirrored": False,
    "origin": "automatic",
    "confidence": 0.93,
    "fibula_clear": True,
}
READ = {
    "sex": "F",
    "age_months": 102.0,
    "side": "R",
    "view": "frontal",
    "polarity": "normal",
    "spacing_mm": [0.143, 0.143],
    "spacing_source": "PixelSpacing",
    "body_part": "KNEE",
    "notes": ["a note"],
    "uids": {"instance": "1.2.3"},
    "used": "file",
}
SHA = "ab" * 32
SPREAD = {"probabilities": [0.25, 0.5, 0.25], "months_to": 240.0}


def new_scene(folder):
    """A scene with what the application gives one: markups, and a cache that MRB files are unpacked into."""
    mrml = slicer.vtkMRMLScene()
    application = slicer.vtkMRMLApplicationLogic()
    application.SetMRMLScene(mrml)
    markups = slicer.vtkSlicerMarkupsLogic()
    markups.SetMRMLApplicationLogic(application)
    markups.SetMRMLScene(mrml)
    cache, manager = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    cache.SetRemoteCacheDirectory(str(folder))
    manager.SetCacheManager(cache)
    mrml.SetCacheManager(cache)
    mrml.SetDataIOManager(manager)
    mrml.kept_alive = (application, markups, cache, manager)
    slicer.mrmlScene = mrml
    return mrml


def film(
    mrml,
    name="film",
    spacing=(0.15, 0.15),
    directions=((-1, 0, 0), (0, -1, 0), (0, 0, 1)),
    shape=(ROWS, COLUMNS),
):
    import slicer.util

    rng = np.random.default_rng(len(name))
    volume = mrml.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(volume, rng.integers(0, 4096, (1, *shape)).astype(np.int16))
    volume.SetSpacing(spacing[1], spacing[0], 1.0)
    volume.SetOrigin(101.25, -37.5, 12.0)
    volume.SetIJKToRASDirections(*np.asarray(directions, float).ravel())
    return volume


def turned(degrees):
    angle = math.radians(degrees)
    return ((-math.cos(angle), math.sin(angle), 0), (math.sin(angle), math.cos(angle), 0), (0, 0, 1))


def record(distribution=None, **known):
    result = dataclasses.asdict(Result(file="/films/knee.dcm", status="ok", knee_index=1, **known))
    return result | ({"distribution": distribution} if distribution else {})


def estimated(mrml, **more):
    volume = film(mrml)
    scene.store_read(volume, READ)
    node = scene.add_knee(volume, CROP)
    scene.store_result(node, record(distribution=SPREAD, **more), scene.request_key(volume, node, SHA))
    return volume, node


def drag(node, width=1.0, height=1.0, across_mm=0.0):
    """What a person's hand does to the node: other sizes, another place."""
    size = node.GetSize()
    node.SetSize(size[0] * width, size[1] * height, size[2])
    x, y, z = node.GetCenter()
    node.SetCenter(x + across_mm, y, z)


def array_of(matrix):
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
