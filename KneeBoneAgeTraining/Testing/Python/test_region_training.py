"""The reader of the regions, taught by what the regions show."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from KneeBoneAgeLib.network import AgeNetwork
from KneeBoneAgeLib.phantom.maturation import INDICATOR_NAMES
from KneeBoneAgeLib.regions import KNEE_REGIONS
from KneeBoneAgeTrainingLib.age_module import AgeModule
from KneeBoneAgeTrainingLib.crop_cache import CropCache
from KneeBoneAgeTrainingLib.region_training import (
    GREY,
    GREYS,
    RegionRecipe,
    RegionViews,
    learn_regions,
    reader_of,
    region_views,
)

sys.path.insert(0, str(Path(__file__).parent))
from toy_crops import TINY, draw

COUNT = 400
FIBULA = 2
RECIPE = RegionRecipe(steps=120, batch=32, learning_rate=2e-3, ema_decay=0.95)


def lines(seed: int) -> RegionViews:
    """A bone whose dark line lies as high as the indicator says; boys' maturity is the girls' reversed. Of half of the
    knees the indicator is not known, of none a landmark."""
    draw = torch.Generator().manual_seed(seed)
    height = torch.rand(COUNT, generator=draw) - 0.5
    sex = torch.randint(2, (COUNT,), generator=draw)
    known, maturity = height.clone(), torch.where(sex == 0, height, -height)
    known[::2] = torch.nan
    region = KNEE_REGIONS[FIBULA]
    y = torch.linspace(-1, 1, region.rows_px)[:, None]
    bone = (torch.linspace(-1, 1, region.columns_px).abs() < 0.8).float() * torch.ones(COUNT, 1, 1)
    dark = ((y - 0.8 * height[:, None, None]).abs() < 0.06).float()
    pictures = (GREY + GREYS * (2 * bone * (1 - 0.7 * dark) - 1)).round().to(torch.uint8)
    nowhere = torch.full((COUNT, 9, 2), torch.nan)
    return RegionViews(pictures, nowhere, known[:, None], maturity[:, None], sex)


def untold_of(views: RegionViews) -> RegionViews:
    """The same views, of which neither indicator nor maturity is known."""
    nothing = torch.full_like(views.indicators, torch.nan)
    return replace(views, indicators=nothing, maturities=nothing)


def learn(module: AgeModule, views: RegionViews, recipe: RegionRecipe = RECIPE) -> None:
    learn_regions(module, {FIBULA: views}, recipe)


def module_of(features: int = 16) -> AgeModule:
    torch.manual_seed(3)
    recipe = replace(TINY, network=replace(TINY.network, region_features=features))
    return AgeModule(recipe, indicators=1, maturities=1)


def read(network: AgeNetwork, views: RegionViews) -> torch.Tensor:
    """What is read of the region, (N, F)."""
    with torch.no_grad():
        return reader_of(network).look(FIBULA, views.images(torch.arange(len(views.sex))))


def untold(features: torch.Tensor, values: torch.Tensor) -> float:
    """Share of the values' variance that no linear layer reads off the features."""
    features = torch.cat([features, torch.ones(len(features), 1)], 1)
    half = len(values) // 2
    weights = torch.linalg.lstsq(features[:half], values[:half, None], driver="gelsd").solution
    return float((values[half:] - (features[half:] @ weights)[:, 0]).var() / values[half:].var())


def heights(views: RegionViews) -> torch.Tensor:
    return torch.where(views.sex == 0, views.maturities[:, 0], -views.maturities[:, 0])


def test_what_a_region_shows_is_read_and_nothing_else_of_the_network_changes():
    module, unseen = module_of(), lines(2)
    before = {name: value.clone() for name, value in module.averaged.state_dict().items()}
    learn(module, lines(1))
    changed = {n for n, value in module.averaged.state_dict().items() if not torch.equal(value, before[n])}
    assert changed
    assert all(name.startswith(f"region_reader.eyes.{FIBULA}.") for name in changed)
    assert untold(read(module.averaged, unseen), heights(unseen)) < 0.05
    for name, value in reader_of(module.network).state_dict().items():
        assert torch.equal(value, reader_of(module.averaged).state_dict()[name]), name


def test_the_maturity_alone_teaches_by_the_clock_of_ones_own_sex():
    views, unseen, module, mixed = lines(1), lines(2), module_of(), module_of()
    views.indicators[:] = torch.nan
    learn(module, views)
    learn(mixed, replace(views, sex=torch.zeros_like(views.sex)))
    rest, of_mixed = (untold(read(one.averaged, unseen), heights(unseen)) for one in (module, mixed))
    assert rest < 0.05
    assert rest < of_mixed / 2


def test_knees_of_which_nothing_is_known_teach_nothing():
    views, module = lines(1), module_of()
    before = {name: value.clone() for name, value in reader_of(module.averaged).state_dict().items()}
    blank = untold_of(views)
    learn(module, blank, replace(RECIPE, steps=20, weight_decay=0.0))
    for name, value in reader_of(module.averaged).state_dict().items():
        assert torch.equal(value, before[name]), name


def test_where_a_landmark_lies_teaches_though_no_indicator_is_known():
    views, unseen, module = lines(1), lines(2), module_of()
    views.points[:, 3] = 0.5 * torch.stack([torch.zeros(COUNT), heights(views)], 1)
    learn(module, untold_of(views))
    assert untold(read(module.averaged, unseen), heights(unseen)) < 0.05


def test_a_landmark_that_few_knees_show_teaches_nothing():
    views = lines(1)
    views.points[:8, 4] = torch.rand(8, 2)
    found = []
    for least in (0.05, 0.01):
        module = module_of()
        learn(module, untold_of(views), replace(RECIPE, steps=5, weight_decay=0.0, least_seen=least))
        found.append(reader_of(module.averaged).eyes[FIBULA][0].weight)
    assert torch.equal(found[0], reader_of(module_of().averaged).eyes[FIBULA][0].weight)
    assert not torch.equal(found[1], found[0])


def test_what_few_knees_show_counts_as_much_as_what_all_show_up_to_a_limit():
    views = lines(1)
    other = torch.rand(COUNT, generator=torch.Generator().manual_seed(9)) - 0.5  # it is not in the picture
    line, few = heights(views), torch.arange(COUNT) < 40
    views = replace(views, indicators=torch.where(few, line, torch.nan)[:, None], maturities=other[:, None])
    learnt = []
    for rarest in (1.0, 10.0):
        module = module_of()
        learn(
            module,
            replace(views, sex=torch.zeros_like(views.sex)),
            replace(RECIPE, rarest=rarest),
        )
        learnt.append(untold(read(module.averaged, views)[~few], line[~few]))
    assert learnt[1] < 0.7 * learnt[0]


def cache_of(folder: Path) -> CropCache:
    """Bars whose landmarks are the edges of the three metaphyses, one below the other."""
    pictures, labels = draw(20, 5)
    landmarks = np.full((len(labels), TINY.network.points, 2), np.nan, np.float32)
    for number, region in enumerate(KNEE_REGIONS[:3]):
        landmarks[:, region.medial] = [-0.5, 0.2 * number]
        landmarks[:, region.lateral] = [0.5, 0.2 * number]
    own = np.arange(len(INDICATOR_NAMES), dtype=np.float32)[None] + np.zeros((len(labels), 1), np.float32)
    labels = replace(labels, landmarks=landmarks, indicators=own, maturities=100 + own)
    CropCache.write(folder, 0, pictures, labels)
    return CropCache.load(folder)


def test_views_of_the_regions_show_them_and_say_where_their_landmarks_lie(tmp_path):
    cache = cache_of(tmp_path)
    module = module_of()
    recipe = RegionRecipe(structure=(1.0, 0.3))
    rows = np.arange(0, len(cache), 2)
    views = region_views(module, cache, rows, recipe, batch=5)
    assert list(views) == list(range(len(KNEE_REGIONS)))
    for number, one in views.items():
        region = KNEE_REGIONS[number]
        count = 2 * len(rows)
        assert one.pictures.shape == (count, region.rows_px, region.columns_px)
        seen = one.images(torch.arange(count))
        assert seen.mean((1, 2, 3)).abs().max() < 0.1
        assert (seen.std((1, 2, 3)) - 1).abs().median() < 0.2
        shown = torch.tensor(region.names(INDICATOR_NAMES)).float().expand(count, -1)
        assert torch.equal(one.indicators, shown)
        assert torch.equal(one.maturities, 100 + shown)
        assert torch.equal(one.sex, torch.from_numpy(cache.labels.sex[rows]).repeat(2))
        if region.shows == ("patella",):
            assert torch.isnan(one.points).all()  # these crops have none
            continue
        edges = one.points[:, :2]
        assert torch.allclose(edges.mean(0), torch.tensor([[-0.5, 0.0], [0.5, 0.0]]), atol=0.05)
        assert edges.std(0).max() > 0.001  # a little misplaced
    again = region_views(module, cache, rows, recipe, batch=5)
    assert all(torch.equal(one.pictures, again[number].pictures) for number, one in views.items())


def test_the_same_recipe_reads_alike_and_another_seed_does_not():
    found = []
    for seed in (1, 1, 2):
        module = module_of()
        learn(module, lines(1), replace(RECIPE, steps=3, seed=seed))
        found.append(reader_of(module.averaged).eyes[FIBULA][0].weight)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_network_without_regions_is_refused():
    with pytest.raises(ValueError, match="region_features"):
        learn(module_of(0), lines(1))
