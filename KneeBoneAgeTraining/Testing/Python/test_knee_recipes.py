"""Knee recipes: what ships, what is taken over of what is started from, and the command line."""

import csv
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from knee_study import RECIPE, TINY
from typer.testing import CliRunner

from KneeBoneAgeLib.bundle import default_bundle_path
from KneeBoneAgeLib.network import AgeNetwork, with_map_rank
from KneeBoneAgeTrainingLib.knee.recipe import (
    KneeRecipe,
    load_knee_recipe,
)
from KneeBoneAgeTrainingLib.knee.start import BUNDLE, Start, take_over
from KneeBoneAgeTrainingLib.recipes import (
    RecipeError,
    load_recipe,
    shipped_knee_recipes,
)
from KneeBoneAgeTrainingLib.teachers import Inputs, build_teacher
from KneeBoneAgeTrainingLib.transfer_command import app


def test_shipped_knee_recipes_are_valid_and_unknown_keys_are_named(tmp_path):
    assert set(shipped_knee_recipes()) == {"knee-transfer", "demo-knee"}
    for name in shipped_knee_recipes():
        assert load_knee_recipe(name).name == name
    path = tmp_path / "mine.yaml"
    path.write_text("name: a\ndescription: b\nepochs: 1\nlearning_rate: 0.1\nepoch: 3\n")
    with pytest.raises(RecipeError, match="unknown key 'epoch'; the nearest known one is 'epochs'"):
        load_knee_recipe(path)
    path.write_text("name: a\ndescription: b\nepochs: 1\nlearning_rate: 0.1\nnetwork: {feild: 1}\n")
    with pytest.raises(RecipeError, match="nearest known one is 'field'"):
        load_knee_recipe(path)


def student_of(recipe, network):
    return AgeNetwork(load_knee_recipe(recipe).config(network))


def test_the_demo_knee_takes_over_all_of_the_demo_hands_weights():
    hand = load_recipe("demo-hand")
    teacher = build_teacher(hand.architecture, Inputs(hand.image_size, True, True), fetch=False)
    for network in (None, teacher.network.config):
        assert take_over(student_of("demo-knee", network), teacher.state_dict()).left_out == ()


def test_a_student_takes_over_all_of_convnext_hand_but_what_is_read_place_by_place_of_another_window():
    hand = load_recipe("convnext-hand")
    teacher = build_teacher(hand.architecture, Inputs(hand.image_size, True, True), fetch=False)
    student = student_of("knee-transfer", teacher.network.config)
    assert (student.config.image_size, student.config.field) == (200, 0.8)
    assert student.config.points == 48 == teacher.network.config.points
    assert take_over(student, teacher.state_dict()).left_out == ("map_reader.linear.weight",)


def test_a_student_takes_over_all_of_the_bundle_that_ships():
    given = Start(BUNDLE, default_bundle_path()).given(1, [])
    assert given.network is not None
    student = student_of("knee-transfer", given.network)
    assert student.config.map_rank == 0
    assert take_over(student, given.weights).left_out == ()


def test_what_a_recipe_names_of_the_network_wins_over_the_network_that_is_started_from():
    hand = load_recipe("convnext-hand").architecture.config((256, 256))
    named = KneeRecipe.model_validate({**RECIPE, "network": {"points": 5, "field": 0.6}}).config(hand)
    assert (named.points, named.field, named.backbone_options) == (5, 0.6, hand.backbone_options)


def test_the_weights_of_a_bundle_are_taken_over_though_stored_with_a_lower_rank():
    config = replace(TINY.config(), map_features=32)
    torch.manual_seed(0)
    kept, other = AgeNetwork(config), AgeNetwork(config)
    assert kept.map_reader is not None
    assert other.map_reader is not None
    stored = with_map_rank(kept, 24)
    assert (
        take_over(other, {name: value.half() for name, value in stored.state_dict().items()}).left_out == ()
    )
    image = torch.rand(2, 1, 200, 200)
    with torch.no_grad():
        assert torch.allclose(other.features(image), stored.features(image), atol=0.02)


@pytest.mark.parametrize(
    ("hidden", "own"), [(6, {"map_features": 24}), (6, {"head_hidden": 0}), (0, {"head_hidden": 6})]
)
def test_the_likelihood_is_taken_over_whole_or_not_at_all(hidden, own):
    start = replace(TINY.config(), points=5, head_hidden=hidden)
    given, student = AgeNetwork(start), AgeNetwork(replace(start, **own))
    before = {name: value.clone() for name, value in student.state_dict().items()}
    taken = take_over(student, given.state_dict())
    heads = {name for name in before if name.startswith("head.")}
    assert heads <= set(taken.left_out)
    assert all(torch.equal(student.state_dict()[name], before[name]) for name in heads)
    assert torch.equal(student.backbone.stem[0].weight, given.backbone.stem[0].weight)


def test_a_recipe_whose_network_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match="needs landmarks to read"):
        AgeNetwork(replace(TINY.config(), head_hidden=6))
    with pytest.raises(ValueError, match=r"head_hidden must be a whole number of at least 0, not 1\.5"):
        KneeRecipe.model_validate({**RECIPE, "network": {"head_hidden": 1.5}})


def test_the_command_wants_one_start_and_labels_where_they_are_learnt_from(tmp_path):
    line = ["knee-transfer", "--study", str(tmp_path), "--out", str(tmp_path / "run")]
    runner = CliRunner()
    assert runner.invoke(app, line).exit_code == 2
    assert runner.invoke(app, [*line, "--from-scratch", "--bundle", str(tmp_path)]).exit_code == 2
    assert runner.invoke(app, [*line, "--from-scratch", "--label", "pseudo"]).exit_code == 2
    done = runner.invoke(app, [*line, "--from-scratch"])
    assert done.exit_code == 2
    with (tmp_path / "study.json").open("w") as stream:
        csv.writer(stream).writerow(["x"])
    assert runner.invoke(app, [*line, "--from-scratch"]).exit_code == 2
