"""The stand-in's picture of a slice view shows what the nodes say."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL")
from PIL import Image

OUTPUT = Path(__file__).parent / "Output"
BAR_PX = 30


@pytest.fixture
def film(application):
    import slicer

    rows, columns = 600, 400
    pixels = np.tile(np.linspace(0, 4000, columns).astype(np.uint16), (rows, 1))
    pixels[100:140, 60:100] = 4000
    node = slicer.util.addVolumeFromArray(pixels[None], np.diag([-0.2, -0.2, 1, 1]), "Film")
    node.GetDisplayNode().SetAutoWindowLevel(False)
    node.GetDisplayNode().SetWindowLevel(4000, 2000)
    slicer.util.setSliceViewerLayers(background=node, fit=True, rotateToVolumePlane=True)
    return node


def picture(application, name="shell-slice.png", size=(600, 630)):
    return np.asarray(Image.open(application.picture_of_slice(OUTPUT / name, *size)), float)[BAR_PX:]


def test_a_film_stands_upright_and_its_window_and_level_are_those_of_the_node(application, film):
    seen = picture(application)
    # 600 rows of the film fill 600 pixels: the film takes columns 100 to 500.
    assert seen[300, 110].mean() == pytest.approx(255 * 10 / 400, abs=5)
    assert seen[300, 490].mean() == pytest.approx(255 * 390 / 400, abs=5)
    assert seen[120, 180].mean() == pytest.approx(255, abs=2)
    assert seen[480, 180].mean() < 100
    assert seen[300, 50].mean() == 0


def test_a_saliency_map_is_seen_in_its_colours_only_above_its_threshold(application, film):
    import slicer

    heat = np.zeros((1, 600, 400), np.float32)
    heat[0, 200:400, 100:300] = 1.0
    node = slicer.util.addVolumeFromArray(heat, np.diag([-0.2, -0.2, 1, 1]), "Saliency")
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeFileInferno.txt")
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(1, 0.5)
    display.SetThreshold(0.2, 1)
    display.SetApplyThreshold(True)
    before = picture(application)
    slicer.util.setSliceViewerLayers(foreground=node, foregroundOpacity=0.5)
    after = picture(application)
    red, green, blue = after[300, 300]
    assert red > blue + 20
    assert green > blue + 20
    np.testing.assert_array_equal(after[100, 110], before[100, 110])


def test_a_box_is_drawn_where_it_lies_with_its_name(application, film):
    import slicer

    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Knee R")
    roi.CreateDefaultDisplayNodes()
    # Pixels 100 to 300 in both directions: centre at pixel 199.5, mm.
    roi.SetCenter(-199.5 * 0.2, -199.5 * 0.2, 0)
    roi.SetSize(200 * 0.2, 200 * 0.2, 1)
    roi.GetDisplayNode().SetSelectedColor(1, 0.5, 0.5)
    seen = picture(application, "shell-slice-box.png")
    pinkish = (seen[..., 0] > 240) & (abs(seen[..., 1] - 128) < 20) & (abs(seen[..., 2] - 128) < 20)
    columns, rows = np.flatnonzero(pinkish.sum(axis=0) > 100), np.flatnonzero(pinkish.sum(axis=1) > 100)
    np.testing.assert_allclose([columns[0], columns[-1], rows[0], rows[-1]], [200, 400, 100, 300], atol=3)


def test_a_box_off_the_slice_is_not_drawn(application, film):
    import slicer

    before = picture(application)
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Knee R")
    roi.CreateDefaultDisplayNodes()
    roi.SetCenter(-40, -40, 30)
    roi.SetSize(40, 40, 1)
    np.testing.assert_array_equal(picture(application), before)
