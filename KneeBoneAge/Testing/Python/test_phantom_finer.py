"""Scenes on a finer grid."""

import numpy as np
import pytest
import torch

from KneeBoneAgeLib.phantom.children import draw_children
from KneeBoneAgeLib.phantom.finer import COARSER, doubled, finer
from KneeBoneAgeLib.phantom.scenes import frontal_film


@pytest.fixture(scope="module")
def scene():
    child = draw_children(1, 6, [130.0], with_oracle=False)[0]
    return frontal_film(child.indicators, 130.0, np.random.default_rng(2), "bilateral", pixels=400)


def bilinear(path):
    """What torch makes of a path on twice as many pixels."""
    whole = torch.from_numpy(path)[None, None]
    fine = torch.nn.functional.interpolate(whole, scale_factor=COARSER, mode="bilinear", align_corners=False)
    return fine[0, 0].numpy()


def test_paths_are_interpolated_as_torch_does_it(scene):
    thick = np.random.default_rng(1).uniform(0, 150, (123, 217)).astype(np.float32)
    for path in (scene.canvas.soft_mm, scene.canvas.bone_mm, thick):
        np.testing.assert_allclose(doubled(path), bilinear(path), rtol=2e-7, atol=1e-6)


def test_what_lies_apart_from_the_edges_is_interpolated_in_full():
    path = np.zeros((150, 90), np.float32)
    path[70:73, 40] = 5.0
    path[149, 89] = 3.0
    np.testing.assert_array_equal(doubled(path), bilinear(path))


def test_labels_are_repeated_and_the_truth_moves_along(scene):
    fine = finer(scene)
    assert fine.canvas.shape == tuple(COARSER * n for n in scene.canvas.shape) == fine.canvas.labels.shape
    np.testing.assert_array_equal(fine.canvas.labels[1::2, ::2], scene.canvas.labels)
    np.testing.assert_array_equal(fine.canvas.labels[::2, 1::2], scene.canvas.labels)
    assert fine.canvas.spacing_mm * COARSER == scene.canvas.spacing_mm
    for knee, coarse in zip(fine.knees, scene.knees, strict=True):
        assert knee.width_px == COARSER * coarse.width_px
