"""Recipes: what ships can be read, what is wrong in one is named, and every field says what it means."""

import contextlib
import importlib
import io
import tomllib
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from KneeBoneAgeTrainingLib.commands import app
from KneeBoneAgeTrainingLib.knee.recipe import (
    KneeRecipe,
    knee_recipe_path,
    load_knee_recipe,
)
from KneeBoneAgeTrainingLib.recipes import (
    RecipeError,
    documented_fields,
    dump_recipe,
    load_recipe,
    recipe_path,
    shipped_knee_recipes,
    shipped_recipes,
)

ROOT = Path(__file__).resolve().parents[3]
LITERATURE = {"convnext-hand", "bonet", "inception-resnet-v2", "iglovikov"}


def changed(tmp_path: Path, old: str, new: str, name: str = "convnext-hand") -> Path:
    text = recipe_path(name).read_text()
    assert old in text
    path = tmp_path / "own.yaml"
    path.write_text(text.replace(old, new, 1))
    return path


def test_the_recipes_of_the_literature_ship_under_their_own_names():
    assert set(shipped_recipes()) >= LITERATURE
    for name in shipped_recipes():
        recipe = load_recipe(name)
        assert recipe.name == name
        assert recipe.description
    assert all(load_recipe(name).reference for name in LITERATURE)


def test_convnext_hand_learns_with_sex_first_and_with_chronological_age_then():
    first, second = load_recipe("convnext-hand").stages
    assert (first.inputs.sex, first.inputs.chronological_age) == (True, False)
    assert (second.inputs.sex, second.inputs.chronological_age) == (True, True)


def test_a_recipe_that_was_written_down_is_the_same_recipe(tmp_path):
    for name in shipped_recipes():
        recipe = load_recipe(name)
        (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
        assert load_recipe(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("epochs: 30", "epochz: 30", "unknown key 'epochz' in stages[0]; the nearest known one is 'epochs'"),
        ("batch:", "bach:", "unknown key 'bach'; the nearest known one is 'batch'"),
        ("  options:", "  optoins:", "unknown key 'optoins' in architecture; the nearest known one is 'options'"),
        ("    field:", "    feild:", "architecture.options: unknown option 'feild' of the age network; did you"),
        ("sex: true,", "gender: true,", "unknown key 'gender' in stages[0].inputs"),
        ("epochs: 30", "epochs: 0", "stages[0].epochs: Input should be greater than or equal to 1 (given: 0)"),
        ("kind: age-network", "kind: resnet", "'age-network', 'bonet', 'inception-resnet-v2', 'iglovikov'"),
        ("name: with-age", "name: with-sex", "two stages have the same name"),
        ("[256, 256]", "[256, 200]", "age-network reads square pictures"),
        ("name: convnext-hand\n", "", "name is missing"),
        ("batch: 24", "batch: 24\nbatch: 12", "the key 'batch' stands twice"),
        ("batch: 24", "batch: [24", "is no YAML"),
        ("batch: 24", "mirrored_average: true", "mirrored_average needs augmentation.mirror above 0"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_recipe_is_named(tmp_path, old, new, said):
    path = changed(tmp_path, old, new)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_recipe_that_is_not_there_names_those_that_ship():
    for load in (load_recipe, load_knee_recipe):
        with pytest.raises(
            RecipeError, match="knee-transfr: no recipe .*bonet, convnext-hand.*demo-knee, knee-transfer"
        ):
            load("knee-transfr")
    with pytest.raises(RecipeError, match="knee-transfer: is a recipe for knees"):
        load_recipe("knee-transfer")
    with pytest.raises(RecipeError, match="bonet: is a recipe for hands"):
        load_knee_recipe("bonet")


def test_every_field_says_what_it_means():
    fields = list(documented_fields())
    assert len(fields) > 60
    assert not [place for place, _, meaning in fields if not meaning]
    assert ("stages[].inputs.sex", "true", "whether sex is an input") in fields
    assert "architecture(bonet).dense" in {place for place, _, _ in fields}
    knee = list(documented_fields(KneeRecipe))
    assert len(knee) > 25
    assert not [place for place, _, meaning in knee if not meaning]


def test_the_command_lists_and_shows_recipes():
    def said(*words: str) -> str:
        done = CliRunner().invoke(app, ["recipes", *words])
        assert done.exit_code == 0, done.output
        return done.output

    assert all(name in said() for name in LITERATURE)
    assert said("show", "bonet") == recipe_path("bonet").read_text()
    only_its_own = said("show", "bonet", "--fields")
    assert "architecture.deform_after  [3]" in only_its_own
    assert "unet_encoder" not in only_its_own
    wrong = CliRunner().invoke(app, ["recipes", "show", "knee-transfr"])
    assert wrong.exit_code == 2
    assert "knee-transfer" in wrong.output


def test_the_command_lists_and_shows_knee_recipes_too(tmp_path):
    def said(*words: str) -> str:
        done = CliRunner().invoke(app, ["recipes", *words])
        assert done.exit_code == 0, done.output
        return done.output

    hands, knees = said().split("Knee models (knee-transfer):")
    for name in shipped_knee_recipes():
        assert f"  {name} " in knees
        assert f"  {name} " not in hands
        assert load_knee_recipe(name).description in knees
    assert said("show", "knee-transfer") == knee_recipe_path("knee-transfer").read_text()
    (tmp_path / "own.yaml").write_text(said("show", "demo-knee"))
    for one in ("knee-transfer", str(tmp_path / "own.yaml")):
        fields = said("show", one, "--fields")
        assert "negatives.count" in fields
        assert "architecture" not in fields
    (tmp_path / "own.yaml").write_text("name: a\ndescription: b\nepochz: 1\n")
    wrong = CliRunner().invoke(app, ["recipes", "show", str(tmp_path / "own.yaml")])
    assert wrong.exit_code == 2
    assert "unknown key 'epochz'" in wrong.output


def test_each_command_is_announced_to_kneeboneage_under_its_name():
    announced = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    for name, place in announced["kneeboneage.commands"].items():
        module, attribute = place.split(":")
        command = typer.main.get_command(getattr(importlib.import_module(module), attribute))
        assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0
        said = click_run(command, ["--help"])
        assert "Usage:" in said
        assert " COMMAND " not in said or name in ("cohort", "recipes", "bundle"), said


def click_run(command, words: list[str]) -> str:
    with pytest.raises(SystemExit) as ended, contextlib.redirect_stdout(io.StringIO()) as out:
        command(words)
    assert ended.value.code == 0
    return out.getvalue()


def test_a_recipe_is_changed_by_place_and_value_and_checked_as_if_its_file_said_so():
    changes = ["stages[1].epochs=3", "augmentation.noise=0", "ema_decay=0", "image_size=[96, 96]"]
    found = load_recipe("demo-hand", changes)
    assert (found.stages[1].epochs, found.augmentation.noise, found.ema_decay) == (3, 0, 0)
    assert found.image_size == (96, 96)
    assert found.stages[0] == load_recipe("demo-hand").stages[0]
    assert load_knee_recipe("demo-knee", ["negatives.count=7"]).negatives.count == 7


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("epochs", "write PLACE=VALUE"),
        ("stages[9].epochs=3", "has no such place"),
        ("batch.size=3", "has no such place"),
        ("batch=many", "batch: .*given: 'many'"),
        ("stages[0].epoch=3", r"unknown key 'epoch' in stages\[0\]; the nearest known one is 'epochs'"),
    ],
)
def test_a_change_that_cannot_be_is_named(change, said):
    with pytest.raises(RecipeError, match=said):
        load_recipe("demo-hand", [change])
    line = ["train", "demo-hand", "--study", "nowhere", "--set", change]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 2
    assert "nowhere" not in done.output


def test_a_key_that_stands_twice_in_a_knee_recipe_is_an_error(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(knee_recipe_path("demo-knee").read_text() + "\nepochs: 3\n")
    with pytest.raises(RecipeError, match="'epochs' stands twice"):
        load_knee_recipe(path)
