"""Regions of the knee, cut from a crop in the frame of their bone."""

import math

import pytest
import torch

from KneeBoneAgeLib.network import AgeNetwork, AgeNetworkConfig
from KneeBoneAgeLib.phantom.build import LANDMARKS
from KneeBoneAgeLib.phantom.maturation import INDICATOR_NAMES
from KneeBoneAgeLib.regions import KNEE_REGIONS, POINTS_NEEDED, Region, RegionReader, Residual

SIDE = 160
REGION = Region(("femur",), 0, 1, (-0.6, 0.6), (-0.3, 0.5), 72, 48)


def crop_with_line(turn: float = 0.0, size: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright bone crossed by a dark line 0.1 breadths distal of its middle, a bright spot lateral above, turned about
    the middle; the two edges as landmarks."""
    at = (torch.arange(SIDE) + 0.5) * 2 / SIDE - 1
    y, x = torch.meshgrid(at, at, indexing="ij")
    along = (math.cos(turn) * x + math.sin(turn) * y) / size
    across = (-math.sin(turn) * x + math.cos(turn) * y) / size
    picture = (along.abs() < 0.4).float() * (1 - 0.8 * ((across - 0.08).abs() < 0.02).float())
    picture += ((along - 0.2).abs() < 0.05).float() * ((across + 0.12).abs() < 0.05).float()
    ends = size * torch.tensor([[-0.4, 0.0], [0.4, 0.0]])
    matrix = torch.tensor([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    return picture[None, None], (ends @ matrix)[None]


@pytest.mark.parametrize(("turn", "size"), [(0.0, 1.0), (0.3, 1.0), (-0.4, 1.0), (0.2, 0.7), (-0.1, 1.3)])
def test_a_region_shows_the_bone_alike_however_large_and_turned_it_is(turn, size):
    shown = REGION.cut(*crop_with_line(turn, size))
    assert shown.shape == (1, 1, 48, 72)
    assert shown.mean().abs() < 1e-4
    assert shown.std() == pytest.approx(1.0, abs=0.1)
    columns, rows = torch.linspace(-0.6, 0.6, 72), torch.linspace(-0.3, 0.5, 48)
    picture = shown[0, 0]
    assert rows[picture[:, 36].argmin()] == pytest.approx(0.1, abs=0.03)  # distal is below
    spot = picture.argmax()
    assert columns[spot % 72] == pytest.approx(0.25, abs=0.08)  # lateral is on the right
    assert rows[spot // 72] == pytest.approx(-0.15, abs=0.08)
    assert picture[4, 0] < picture[4, 36] - 1  # the region reaches beyond the bone


@pytest.mark.parametrize(("turn", "size"), [(0.0, 1.0), (0.3, 0.7), (-0.4, 1.3)])
def test_a_point_lies_in_a_region_where_the_region_shows_it(turn, size):
    picture, places = crop_with_line(turn, size)
    spot = picture[0, 0].argmax()
    point = (torch.stack([spot % SIDE, spot // SIDE]) + 0.5) * 2 / SIDE - 1
    (along, across), middle, outside = REGION.locate(
        torch.stack([point, places[0].mean(0), places[0, 1] * 1.1])[None], places
    )[0]
    shown = REGION.cut(picture, places)[0, 0]
    row, column = round(float((across + 0.3) / 0.8 * 47)), round(float((along + 0.6) / 1.2 * 71))
    assert shown[row - 2 : row + 3, column - 2 : column + 3].max() > 0.95 * shown.max()
    assert torch.allclose(middle, torch.zeros(2), atol=1e-6)
    assert torch.isfinite(outside).all()  # 0.55 breadths from the middle
    beyond = REGION.locate(places[:, 1:] * 1.3, places)
    assert torch.isnan(beyond).all()
    below = REGION.locate(
        places.mean(1, keepdim=True) + 0.6 * torch.tensor([[[-math.sin(turn), math.cos(turn)]]]) * size,
        places,
    )
    assert torch.isnan(below).all()  # 0.75 breadths distally


def test_regions_do_not_know_the_films_brightness_and_contrast():
    picture, places = crop_with_line()
    assert torch.allclose(REGION.cut(picture, places), REGION.cut(5 + 3 * picture, places), atol=0.15)


@pytest.mark.parametrize("apart", [0.0, 1e-3])
def test_edges_that_fall_together_do_not_fold_the_region_up(apart):
    picture, _ = crop_with_line()
    places = torch.tensor([[[-0.41, 0.0], [-0.41 + apart, 0.0]]])  # at the edge of the bone
    shown = REGION.cut(picture, places)
    assert torch.isfinite(shown).all()
    if apart:
        assert shown.std() == pytest.approx(1.0, abs=0.1)
    assert torch.isfinite(REGION.cut(0 * picture, places)).all()


def test_the_regions_lie_at_the_metaphyses_and_a_network_without_those_is_refused():
    for region, bone in zip(KNEE_REGIONS, ("femur", "tibia", "fibula", "femur"), strict=True):
        assert LANDMARKS[region.medial] == f"{bone}_metaphysis_medial"
        assert LANDMARKS[region.lateral] == f"{bone}_metaphysis_lateral"
    for points in (0, POINTS_NEEDED - 1):
        with pytest.raises(ValueError, match=f"{points} landmarks: the regions need {POINTS_NEEDED}"):
            AgeNetwork(AgeNetworkConfig(points=points, region_features=4))


def test_places_are_not_pulled_towards_what_reads_well():
    torch.manual_seed(1)
    reader = RegionReader(8, 1)
    picture, _ = crop_with_line()
    places = torch.rand(1, 31, 2, requires_grad=True)
    reader(picture, places).sum().backward()
    assert places.grad is None
    assert all(eye[0].weight.grad.abs().sum() > 0 for eye in reader.eyes)


def test_each_region_has_its_own_features():
    torch.manual_seed(1)
    reader, (picture, _) = RegionReader(8, 1), crop_with_line()
    places = torch.zeros(1, 31, 2)
    places[:, 0, 0], places[:, 1, 0] = -0.4, 0.4
    places[:, 9], places[:, 10] = torch.tensor([-0.4, 0.3]), torch.tensor([0.4, 0.3])
    places[:, 18, 1], places[:, 19, 1] = 0.3, 0.5
    moved = places.clone()
    moved[:, 10, 1] += 0.2
    with torch.no_grad():
        first, second = reader(picture, places), reader(picture, moved)
    assert first.shape == (1, reader.feature_count) == (1, 8 * len(KNEE_REGIONS))
    assert torch.equal(first[:, :8], second[:, :8])
    assert not torch.equal(first[:, 8:16], second[:, 8:16])
    assert torch.equal(first[:, 16:], second[:, 16:])


def test_every_indicator_and_landmark_is_shown_by_one_region():
    for known in (INDICATOR_NAMES, LANDMARKS):
        shown = [number for region in KNEE_REGIONS for number in region.names(known)]
        assert sorted(shown) == list(range(len(known)))
    assert [LANDMARKS[number] for number in KNEE_REGIONS[3].names(LANDMARKS)] == [
        "patella_superior", "patella_inferior", "patella_medial", "patella_lateral",
    ]  # fmt: skip


def test_a_config_with_regions_survives_its_json_and_one_without_has_none():
    config = AgeNetworkConfig(region_features=4)
    again = AgeNetworkConfig.from_json(config.to_json())
    assert again == config
    plain = {key: value for key, value in config.to_json().items() if key != "region_features"}
    assert AgeNetworkConfig.from_json(plain).region_features == 0
    assert AgeNetwork(again).feature_count == AgeNetwork(AgeNetworkConfig()).feature_count + 4 * len(
        KNEE_REGIONS
    )


def test_a_network_of_an_earlier_version_is_read_unless_it_looks_closely_in_other_ways():
    plain = {key: value for key, value in AgeNetworkConfig().to_json().items() if key != "region_features"}
    earlier = {**plain, "physes": [], "physis_features": 32}
    assert AgeNetworkConfig.from_json(earlier) == AgeNetworkConfig()
    with pytest.raises(ValueError, match="strips along the physes"):
        AgeNetworkConfig.from_json({**earlier, "physes": [[0, 1, 2, 3]]})
    shallow = {key: value for key, value in plain.items() if key != "region_blocks"}
    assert AgeNetworkConfig.from_json(shallow).region_features == 0
    with pytest.raises(ValueError, match="regions as an earlier version"):
        AgeNetworkConfig.from_json({**shallow, "region_features": 96})


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [
        ("region_blocks", 1.5, 0),
        ("points", "31", 0),
        ("head_hidden", -1, 0),
        ("map_rank", True, 0),
        ("bins", 0, 1),
    ],
)
def test_a_size_that_is_no_whole_number_or_too_small_is_refused_by_name(name, value, least):
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least {least}, not {value!r}"):
        AgeNetworkConfig.from_json({**AgeNetworkConfig().to_json(), name: value})


def test_a_reader_starts_without_what_its_blocks_add():
    torch.manual_seed(1)
    deep, picture = RegionReader(8, 2), torch.randn(3, 1, KNEE_REGIONS[2].rows_px, KNEE_REGIONS[2].columns_px)
    shallow = RegionReader(8, 0)
    kept = [one for one in deep.eyes[2] if not isinstance(one, Residual)]
    shallow.eyes[2].load_state_dict(torch.nn.Sequential(*kept).state_dict())
    assert len(kept) == len(deep.eyes[2]) - 4
    with torch.no_grad():
        assert torch.allclose(deep.look(2, picture), shallow.look(2, picture), atol=1e-6)
        deep.eyes[2][3].second.weight += 0.1
        assert not torch.allclose(deep.look(2, picture), shallow.look(2, picture), atol=1e-3)
