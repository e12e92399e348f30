"""The reader of the regions, taught by what the regions show."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from KneeBoneAgeLib.network import AgeNetwork
from KneeBoneAgeTrainingLib.age_module import AgeModule
from KneeBoneAgeTrainingLib.jittered_windows import Windows
from KneeBoneAgeTrainingLib.region_training import RegionRecipe, learn_regions, reader_of

sys.path.insert(0, str(Path(__file__).parent))
from toy_crops import TINY

COUNT, SIDE = 400, 64
RECIPE = RegionRecipe(steps=120, batch=32, learning_rate=3e-3, ema_decay=0.95)


def lines(seed: int) -> Windows:
    """A bone whose dark line lies as high as the indicator says; boys' maturity is the girls' reversed. Of half of the
    knees the indicator is not known."""
    draw = torch.Generator().manual_seed(seed)
    height = torch.rand(COUNT, generator=draw) - 0.5
    sex = torch.randint(2, (COUNT,), generator=draw)
    at = (torch.arange(SIDE) + 0.5) * 2 / SIDE - 1
    y, x = torch.meshgrid(at, at, indexing="ij")
    bone = (x.abs() < 0.6).float() * torch.ones(COUNT, 1, 1)
    dark = ((y - 0.5 * height[:, None, None]).abs() < 0.04).float()
    pictures = (255 * bone * (1 - 0.7 * dark)).round().to(torch.uint8)
    places = torch.full((COUNT, TINY.network.points, 2), torch.nan)
    for medial, lateral in ((0, 1), (9, 10), (18, 19)):
        places[:, medial] = torch.tensor([-0.6, 0.0])
        places[:, lateral] = torch.tensor([0.6, 0.0])
    told = torch.stack([height, torch.where(sex == 0, height, -height)], 1)
    told[::2, 0] = torch.nan
    return Windows(pictures, places, told, sex)


def module_of(features: int = 6) -> AgeModule:
    torch.manual_seed(3)
    recipe = replace(TINY, network=replace(TINY.network, region_features=features))
    return AgeModule(recipe, indicators=1, maturities=1)


def untold(network: AgeNetwork, windows: Windows) -> float:
    """Share of the first indicator's variance that no linear layer reads off the features."""
    with torch.no_grad():
        features = reader_of(network)(windows.images(), windows.places, 1.0)
    features = torch.cat([features, torch.ones(len(features), 1)], 1)
    height = torch.where(windows.sex == 0, windows.indicators[:, 1], -windows.indicators[:, 1])
    half = COUNT // 2
    weights = torch.linalg.lstsq(features[:half], height[:half, None], driver="gelsd").solution
    return float((height[half:] - (features[half:] @ weights)[:, 0]).var() / height[half:].var())


def test_what_a_region_shows_is_read_and_nothing_else_of_the_network_changes():
    module, unseen = module_of(), lines(2)
    before = {name: value.clone() for name, value in module.averaged.state_dict().items()}
    learn_regions(module, lines(1), RECIPE)
    changed = {n for n, value in module.averaged.state_dict().items() if not torch.equal(value, before[n])}
    assert changed
    assert all(name.startswith("region_reader.") for name in changed)
    assert untold(module.averaged, unseen) < 0.05
    for name, value in reader_of(module.network).state_dict().items():
        assert torch.equal(value, reader_of(module.averaged).state_dict()[name]), name


def test_the_maturity_alone_teaches_by_the_clock_of_ones_own_sex():
    windows, module, mixed = lines(1), module_of(), module_of()
    told = windows.indicators.clone()
    told[:, 0] = torch.nan
    learn_regions(module, replace(windows, indicators=told), RECIPE)
    learn_regions(mixed, replace(windows, indicators=told, sex=torch.zeros_like(windows.sex)), RECIPE)
    rest, of_mixed = (untold(one.averaged, lines(2)) for one in (module, mixed))
    assert rest < 0.05
    assert rest < of_mixed / 2


def test_knees_of_which_nothing_is_known_teach_nothing():
    windows, module = lines(1), module_of()
    before = {name: value.clone() for name, value in reader_of(module.averaged).state_dict().items()}
    blank = replace(windows, indicators=torch.full_like(windows.indicators, torch.nan))
    learn_regions(module, blank, replace(RECIPE, steps=20, weight_decay=0.0))
    for name, value in reader_of(module.averaged).state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_same_recipe_reads_alike_and_another_seed_does_not():
    found = []
    for seed in (1, 1, 2):
        module = module_of()
        learn_regions(module, lines(1), replace(RECIPE, steps=3, seed=seed))
        found.append(reader_of(module.averaged).eyes[0][0].weight)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_network_without_regions_is_refused():
    with pytest.raises(ValueError, match="region_features"):
        learn_regions(module_of(0), lines(1), RECIPE)
