"""The age network as a hand teacher: its landmarks, its bins, and that a knee network takes over its weights."""

import math
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_teachers import bars, tiny

from KneeBoneAgeLib.network import AgeNetwork, AgeNetworkConfig
from KneeBoneAgeTrainingLib.teachers import HandTruth, Inputs, parse_architecture
from KneeBoneAgeTrainingLib.teachers.base import mean_months


def test_a_knee_network_takes_over_all_weights_of_the_age_network(monkeypatch):
    teacher = tiny("age-network")
    knee = AgeNetwork(replace(teacher.network.config, image_size=80, field=0.8))
    knee.load_state_dict(teacher.network.state_dict(), strict=True)


def test_the_age_network_measures_against_the_line_that_the_recipe_names():
    teacher = tiny("age-network", baseline=[2, 9])
    image, sex, age, months = bars(2)
    outcome = teacher(image, sex, age)
    assert teacher.named == [2, 9, 0, 1, 3, 4]
    assert torch.isfinite(outcome.extra["key_points"][:, [0, 1, 2, 3, 4, 9]]).all()
    assert torch.isnan(outcome.extra["key_points"][:, 5:9]).all()
    with_nine = HandTruth(torch.full((2, 37, 2), 0.4))
    without = HandTruth(torch.full((2, 37, 2), math.nan))
    assert teacher.loss(outcome, months, with_nine)["key_points"] > 0
    assert teacher.loss(outcome, months, without)["key_points"] == 0


def test_two_month_bins_become_months_of_the_same_mean():
    teacher = tiny("age-network").eval()
    image, sex, age, _ = bars(3)
    with torch.no_grad():
        outcome, p = teacher(image, sex, age), teacher.network(image, sex, age)
    centres = torch.arange(120) * 2 + 1.0
    torch.testing.assert_close(outcome.months, p @ centres)
    torch.testing.assert_close(mean_months(outcome.log_p), p @ centres)


def test_the_age_network_refuses_pictures_that_are_not_square_and_bins_that_are_no_months():
    with pytest.raises(ValueError, match="square"):
        tiny("age-network", Inputs((64, 48)))
    with pytest.raises(ValueError, match="bins is 100"):
        tiny("age-network", options={"bins": 100})


def test_a_kept_network_names_every_option_so_that_later_defaults_do_not_change_it():
    teacher = tiny("age-network")
    size = teacher.inputs.image_size
    kept = teacher.architecture.spelled_out(size).model_dump(mode="json")
    assert set(kept["options"]) == {field.name for field in fields(AgeNetworkConfig)}
    assert parse_architecture(kept).config(size) == teacher.network.config
