"""Landmarks put right by the picture's pixels."""

import copy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from KneeBoneAgeLib.readers import PointReader
from KneeBoneAgeTrainingLib.age_module import AgeModule
from KneeBoneAgeTrainingLib.augmentation import cut_out
from KneeBoneAgeTrainingLib.crop_cache import CropCache
from KneeBoneAgeTrainingLib.jittered_windows import Windows, jittered_windows
from KneeBoneAgeTrainingLib.landmark_training import LandmarkRecipe, learn_landmarks, refinement_of

sys.path.insert(0, str(Path(__file__).parent))
from toy_crops import TINY, draw

ROWS = np.arange(150)
RECIPE = LandmarkRecipe(steps=150, batch=48, structure=(0.5,), farthest_px=3.0)


@pytest.fixture(scope="module")
def cache() -> CropCache:
    images, labels = draw(150, 4, others=0)
    return CropCache([images], labels)


def made(refine: int) -> AgeModule:
    torch.manual_seed(3)
    recipe = replace(TINY, network=replace(TINY.network, refine_hidden=refine))
    return AgeModule(recipe, indicators=1, maturities=1)


def windows_of(module: AgeModule, cache: CropCache, rows: np.ndarray, recipe: LandmarkRecipe) -> Windows:
    return jittered_windows(module, cache, rows, recipe.structure, recipe.seed)


def test_misplaced_landmarks_are_brought_to_the_edges_of_the_bars(cache):
    module, field = made(16), TINY.network.field
    windows = windows_of(module, cache, ROWS, RECIPE)
    assert windows.pictures.shape[0] == windows.places.shape[0] == len(ROWS)
    assert windows.pictures.dtype == torch.uint8
    before = {name: value.clone() for name, value in module.averaged.state_dict().items()}
    learn_landmarks(module, windows, RECIPE)
    changed = {n for n, value in module.averaged.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == {f"point_reader.refine.{name}" for name in ("hidden", "hidden_bias", "out", "out_bias")}
    for network in (module.network, module.averaged):
        refine = refinement_of(network)
        window = network.window(cut_out(cache.images(ROWS), TINY.network.image_size))
        true = torch.from_numpy(cache.labels.landmarks) / field
        pitch = 2 / window.shape[-1]
        places = torch.zeros(len(ROWS), TINY.network.points, 2)
        places[:, :2] = true
        places += 1.5 * pitch * torch.randn(places.shape, generator=torch.Generator().manual_seed(5))
        within = true.abs().amax((1, 2)) < 0.9
        assert within.sum() > 60
        off = [(places[:, :2] - true)[within][..., 0].abs().mean() / pitch]
        with torch.no_grad():
            for _ in range(PointReader.REFINED):
                places = places + refine(window, places)[0]
                off.append((places[:, :2] - true)[within][..., 0].abs().mean() / pitch)
            image = cut_out(cache.images(ROWS), TINY.network.image_size)
            seen = network.see(image)[1].places
            rough = copy.deepcopy(network)
            rough.point_reader.refine.out.zero_()
            rough.point_reader.refine.out_bias.zero_()
            expected = rough.see(image)[1].places / field
            for _ in range(PointReader.REFINED):
                expected = expected + refine(window, expected)[0]
        torch.testing.assert_close(seen, expected * field, atol=5e-3, rtol=0)
        assert off[1] < 0.6 * off[0]
        assert off[3] < off[1]


def test_the_same_recipe_refines_alike_and_another_seed_does_not(cache):
    recipe = replace(RECIPE, steps=3)
    found = []
    for seed in (1, 1, 2):
        module, own = made(4), replace(recipe, seed=seed)
        learn_landmarks(module, windows_of(module, cache, ROWS[:20], own), own)
        found.append(refinement_of(module.averaged).out)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_network_without_refinement_is_refused(cache):
    module = made(0)
    with pytest.raises(ValueError, match="refine_hidden"):
        learn_landmarks(module, windows_of(module, cache, ROWS[:4], RECIPE), RECIPE)
