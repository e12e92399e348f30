"""All folds at once: the answers of the folds one by one, whatever they share and however they are built."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from KneeBoneAgeLib.ensemble import Ensemble
from KneeBoneAgeLib.network import AgeNetwork, AgeNetworkConfig
from KneeBoneAgeLib.regions import RegionReader
from KneeBoneAgeLib.stacked_readers import RegionReaders

TINY: dict[str, Any] = {
    "depths": [2, 1, 1, 1],
    "dims": [8, 16, 16, 24],
    "act_layer": "relu",
    "ls_init_value": None,
}
SMALL: dict[str, Any] = {
    "backbone_options": TINY,
    "image_size": 80,
    "map_features": 16,
    "points": 5,
    "point_width": 8,
    "point_features": 12,
    "point_hidden": 10,
    "close_hidden": 6,
}


def folds_of(count: int = 3, **options: Any) -> list[AgeNetwork]:
    """Networks whose every tensor differs, none of which is at its start."""
    folds = []
    for seed in range(count):
        torch.manual_seed(seed)
        network = AgeNetwork(AgeNetworkConfig(**{**SMALL, **options})).eval()
        with torch.no_grad():
            for name, values in network.named_parameters():
                # Larger weights in so many layers would make much of a rounding.
                much = 0.02 if name.startswith("region_reader") else 0.1
                values.add_(much * torch.randn_like(values))
        folds.append(network.to(memory_format=torch.channels_last))
    return folds


def share(folds: list[AgeNetwork], stages: int) -> None:
    """Give all folds the first one's stem, first stages and prior, as copies."""
    first = folds[0]
    for fold in folds[1:]:
        fold.backbone.stem = copy.deepcopy(first.backbone.stem)
        fold.prior = copy.deepcopy(first.prior)
        for stage in range(stages):
            fold.backbone.stages[stage] = copy.deepcopy(first.backbone.stages[stage])


def assert_same_answers(folds: list[AgeNetwork], side: int = 80) -> None:
    generator = torch.Generator().manual_seed(7)
    images = torch.rand(4, 1, side, side, generator=generator) * 2 - 1
    sex = torch.tensor([0, 1, 2, 2])
    age = torch.tensor([100.0, float("nan"), 60.0, float("nan")])
    probabilities, features = Ensemble(folds).look(images, sex, age)
    with torch.no_grad():
        for fold, its_probabilities, its_features in zip(folds, probabilities, features, strict=True):
            torch.testing.assert_close(its_features, fold.features(images), atol=3e-4, rtol=1e-3)
            torch.testing.assert_close(its_probabilities, fold(images, sex, age), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("stages", [0, 1, 2, 4])
def test_folds_that_share_their_first_stages_answer_as_one_by_one(stages):
    folds = folds_of()
    share(folds, stages)
    assert Ensemble(folds).shared == stages
    assert_same_answers(folds)


def test_what_folds_share_is_computed_once():
    folds = folds_of()
    share(folds, 2)
    ensemble = Ensemble(folds)
    for fold in folds[1:]:  # shared stages of the other folds are never asked
        fold.backbone.stem.register_forward_hook(lambda *_: pytest.fail("a shared stem was computed again"))
    ensemble.look(torch.zeros(1, 1, 80, 80), torch.tensor([0]), torch.tensor([90.0]))
    widths = [len(stage[-1].widen.weight) for stage in ensemble.stages]
    assert widths == [1, 1, 3, 3]


def landmarks_in(folds: list[AgeNetwork], monkeypatch: pytest.MonkeyPatch) -> int:
    """For how many folds the ensemble says where landmarks lie, its answers being those of the folds."""
    counts: list[int] = []
    read = RegionReaders.__call__

    def counted(self: RegionReaders, image: Any, places: Any) -> Any:
        counts.append(len(places))
        return read(self, image, places)

    with monkeypatch.context() as patch:
        patch.setattr(RegionReaders, "__call__", counted)
        assert_same_answers(folds)
    return counts[0]


def test_landmarks_that_all_folds_find_alike_are_found_once(monkeypatch):
    folds = folds_of(points=20, region_features=6, measure_features=5, refine_hidden=6)
    share(folds, 4)
    with torch.no_grad():
        for fold in folds:
            fold.point_reader.refine.out *= 0.1  # far corrections would make much of a last bit
    assert landmarks_in(folds, monkeypatch) == 3  # one backbone, three finders
    for fold in folds[1:]:
        for part in ("lateral", "merge", "heat", "describe", "refine"):
            setattr(fold.point_reader, part, copy.deepcopy(getattr(folds[0].point_reader, part)))
    assert landmarks_in(folds, monkeypatch) == 1
    with torch.no_grad():
        folds[2].point_reader.refine.out[0, 0, 0] += 0.1
    assert landmarks_in(folds, monkeypatch) == 3
    folds[2].point_reader.refine = copy.deepcopy(folds[0].point_reader.refine)
    with torch.no_grad():
        folds[1].backbone.stages[3].blocks[0].mlp.fc2.bias[0] += 0.1
    assert landmarks_in(folds, monkeypatch) == 3  # other maps, other landmarks


def test_regions_that_all_folds_read_alike_are_read_once(monkeypatch):
    folds = folds_of(points=20, region_features=6, refine_hidden=6)
    share(folds, 4)
    for fold in folds[1:]:
        fold.point_reader = copy.deepcopy(folds[0].point_reader)
        fold.region_reader = copy.deepcopy(folds[0].region_reader)
    reads: list[int] = []
    forward = RegionReader.forward
    monkeypatch.setattr(RegionReader, "forward", lambda self, *a: (reads.append(1), forward(self, *a))[1])
    look = (torch.zeros(1, 1, 80, 80), torch.tensor([0]), torch.tensor([90.0]))
    Ensemble(folds).look(*look)
    assert len(reads) == 1
    assert_same_answers(folds)
    with torch.no_grad():
        folds[2].region_reader.eyes[1][0].bias[0] += 0.1
    reads.clear()
    Ensemble(folds).look(*look)
    assert len(reads) == 3
    assert_same_answers(folds)
    folds[2].region_reader = copy.deepcopy(folds[0].region_reader)
    with torch.no_grad():
        folds[2].point_reader.heat.weight[0] *= 1.5  # other landmarks, other regions
    reads.clear()
    Ensemble(folds).look(*look)
    assert len(reads) == 3
    assert_same_answers(folds)


def test_one_bit_in_one_fold_ends_what_is_shared():
    folds = folds_of()
    share(folds, 2)
    with torch.no_grad():
        bias = folds[2].backbone.stages[1].blocks[0].mlp.fc2.bias
        bias[0] = torch.nextafter(bias[0], torch.tensor(9.0))
    assert Ensemble(folds).shared == 1
    with torch.no_grad():
        folds[1].backbone.stem[0].bias[0] += 1
    assert Ensemble(folds).shared == 0
    assert_same_answers(folds)


@pytest.mark.parametrize(
    "options",
    [
        {"points": 0},
        {"map_channels": ()},
        {"points": 0, "map_channels": (), "field": 1.0},
        {"points": 20, "region_features": 6},
        {"measure_features": 5},
        {"refine_hidden": 6},
        {"refine_hidden": 6, "close_hidden": 0},
        {"head_hidden": 7},
        {"map_rank": 4, "point_hidden": 0, "close_hidden": 0},
        {"backbone_options": {**TINY, "act_layer": "gelu", "ls_init_value": 0.5, "conv_mlp": False}},
        {"backbone_options": {**TINY, "dims": [8, 8, 16, 24]}},
    ],
    ids=[
        "no landmarks",
        "no maps",
        "pooled alone",
        "regions",
        "measured",
        "refined landmarks",
        "refined, not described",
        "bent likelihood",
        "plain readers",
        "gelu and layer scale",
        "equal widths",
    ],
)
def test_folds_of_every_architecture_answer_as_one_by_one(options):
    folds = folds_of(2, **options)
    assert Ensemble(folds).shared == 0
    assert_same_answers(folds)


def test_crops_of_another_side_than_trained_with_are_read_too():
    assert_same_answers(folds_of(2), side=110)


def test_folds_whose_blocks_cannot_be_stacked_are_computed_one_by_one():
    folds = folds_of(2, backbone_options={**TINY, "use_grn": True})
    share(folds, 1)
    assert Ensemble(folds).shared is None
    assert_same_answers(folds)


def test_a_part_that_stacking_does_not_know_is_not_left_out():
    folds = folds_of(2)
    for fold in folds:
        fold.another_reader = torch.nn.Linear(3, 3)
    assert Ensemble(folds).shared is None


def test_a_single_fold_is_an_ensemble_too():
    assert_same_answers(folds_of(1))
