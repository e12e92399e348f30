"""Pictures of hands: the hand is found, the picture kept and made again when it must be, and varied as films differ."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from hand_study import TINY_RECIPE, draw_hand

from KneeBoneAgeTrainingLib.hand.augmentation import draw_variation, varied
from KneeBoneAgeTrainingLib.hand.batches import Films, Plan, StepBatches
from KneeBoneAgeTrainingLib.hand.films import HandFilm, Numbers
from KneeBoneAgeTrainingLib.hand.pictures import (
    HandPicture,
    PictureCache,
    find_hand,
    kept_size,
    load_picture,
    network_picture,
)
from KneeBoneAgeTrainingLib.recipes import load_recipe
from KneeBoneAgeTrainingLib.recipes.schema import Augmentation

STILL = Augmentation(
    rotation_deg=0, scale=0, shift=0, mirror=0, brightness=0, contrast=0, resolution=0, blur_px=0, noise=0
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


def drawn(seed: int = 0) -> np.ndarray:
    return draw_hand(120, np.random.default_rng(seed)).astype(np.float32) / 255


def film_of(folder: Path, name: str = "1", pixels: np.ndarray | None = None) -> HandFilm:
    path = folder / "films" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(((drawn() if pixels is None else pixels) * 255).astype(np.uint8)).save(path)
    return HandFilm(f"films/{name}.png", path, f"{name:0>64}", "C1", "F", 100.0, 96.0)


def test_the_hand_is_found_with_all_its_fingers_and_without_a_white_strip():
    film = np.pad(drawn(), ((20, 30), (40, 10)), constant_values=0.04)
    strip = film.copy()
    strip[-12:] = 1.0
    for pixels in (film, strip):
        place = find_hand(pixels)
        assert place.found
        x0, y0, x1, y1 = place.box_px
        assert (x0, y0) == (pytest.approx(61, abs=8), pytest.approx(40, abs=8))
        assert (x1, y1) == (pytest.approx(96, abs=8), pytest.approx(110, abs=8))


def test_a_film_on_which_nothing_stands_out_is_taken_whole():
    for pixels in (np.zeros((90, 70), np.float32), np.full((90, 70), 0.5, np.float32)):
        place = find_hand(pixels)
        assert not place.found
        assert place.box_px == (0, 0, 70, 90)


def test_a_kept_picture_is_made_again_when_its_truth_changes_and_only_then(tmp_path):
    film = film_of(tmp_path)
    cache = PictureCache(tmp_path / "cache", (48, 40))
    made = []

    def prepare() -> HandPicture:
        (path,) = cache.prepare([film], progress=lambda done, _: made.append(done))
        return load_picture(path)

    first = prepare()
    assert first.grey.shape == kept_size((48, 40))
    assert len(first.key_points) == 0
    prepare()
    assert len(made) == 1
    (tmp_path / "truth").mkdir()
    (tmp_path / "masks").mkdir()
    (tmp_path / "truth" / "1.json").write_text(json.dumps({"key_points": {"wrist": [40, 90], "tip": None}}))
    Image.fromarray(np.full((96, 80), 255, np.uint8)).save(tmp_path / "masks" / "1.png")
    second = prepare()
    assert len(made) == 2
    assert second.key_points.shape == (2, 2)
    assert np.isfinite(second.key_points[0]).all()
    assert np.isnan(second.key_points[1]).all()
    assert second.mask.mean() > first.mask.mean()
    assert PictureCache(tmp_path / "cache", (64, 40)).place != cache.place


def test_a_right_hand_is_mirrored_with_its_key_points(tmp_path):
    film = film_of(tmp_path)
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "1.json").write_text(json.dumps({"key_points": {"tip": [30, 25]}}))
    paths = PictureCache(tmp_path / "cache", (48, 40)).prepare([film, replace(film, side="R")])
    left, right = map(load_picture, paths)
    assert np.abs(left.grey[:, ::-1].astype(int) - right.grey).mean() < 2
    assert np.array_equal(left.mask[:, ::-1], right.mask)
    assert right.key_points == pytest.approx(np.array([1, 0]) - left.key_points * np.array([1, -1]), abs=1e-3)


def test_a_damaged_film_is_named(tmp_path):
    film = film_of(tmp_path)
    film.path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"1\.png"):
        PictureCache(tmp_path / "cache", (48, 40)).prepare([film])


@pytest.mark.parametrize("size", [(60, 60), (64, 48)])
def test_key_points_go_where_the_picture_goes(size):
    kept = kept_size(size)
    grey = np.full(kept, 20, np.uint8)
    row, col = kept[0] // 3, kept[1] // 2 + 6
    grey[row - 4 : row + 5, col - 4 : col + 5] = 250
    point = np.array([[(col + 0.5) / kept[1], (row + 0.5) / kept[0]]], np.float32)
    picture = HandPicture(grey, (grey > 100).astype(np.uint8), point, True)
    settings = STILL.model_copy(update={"rotation_deg": 25, "scale": 0.1, "shift": 0.05, "mirror": 0.5})
    for seed in range(6):
        variation = draw_variation(1, np.random.default_rng(seed), settings)
        image, mask, points = varied([picture], size, variation)
        bright = torch.nonzero(image[0, 0] > 0).float().mean(0) + 0.5
        seen = points[0][0] * torch.tensor([size[1], size[0]])
        assert torch.allclose(bright.flip(0), seen, atol=1.0)
        assert torch.allclose(torch.nonzero(mask[0]).float().mean(0) + 0.5, bright, atol=1.0)


def test_without_variation_training_sees_what_estimating_sees(tmp_path):
    film = film_of(tmp_path)
    (path,) = PictureCache(tmp_path / "cache", (46, 40)).prepare([film])
    picture = load_picture(path)
    image, _, _ = varied([picture], (46, 40), draw_variation(1, np.random.default_rng(0), STILL))
    plain = network_picture(picture, (46, 40))
    assert np.abs(image[0, 0].numpy() - plain).max() < 0.02


@pytest.mark.parametrize(
    "name",
    ["brightness", "contrast", "resolution", "blur_px", "noise", "inversion", "mirror", "rotation_deg"],
)
def test_each_kind_of_variation_changes_the_picture(name, tmp_path):
    (path,) = PictureCache(tmp_path / "cache", (46, 40)).prepare([film_of(tmp_path)])
    pictures = [load_picture(path)] * 8
    strong = {"rotation_deg": 20, "blur_px": 2.0}.get(name, 1.0)

    def look(settings: Augmentation) -> torch.Tensor:
        return varied(pictures, (46, 40), draw_variation(8, np.random.default_rng(1), settings))[0]

    plain, changed = look(STILL), look(STILL.model_copy(update={name: strong}))
    assert (changed - plain).abs().mean() > 0.01
    assert torch.isfinite(changed).all()


@pytest.fixture
def batches(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY_RECIPE)
    recipe = load_recipe(tmp_path / "tiny.yaml")
    films = [film_of(tmp_path, str(i), drawn(i)) for i in range(11)]
    paths = PictureCache(tmp_path / "cache", recipe.image_size).prepare(films)
    some = Films(tuple(paths), Numbers.of(films))
    plan = Plan.of(recipe, recipe.stages[0], (1, 0, 0), len(films), 1)
    return lambda rank=0, world=1: StepBatches(some, plan, rank, world)


def test_a_batch_follows_from_its_step_and_is_the_same_on_any_number_of_devices(batches):
    whole = batches()[3]
    shares = [batches(rank, 2)[3] for rank in (0, 1)]
    for name in whole._fields:
        values = [getattr(share, name).nan_to_num(-1) for share in shares]
        assert torch.allclose(torch.cat(values), getattr(whole, name).nan_to_num(-1)), name
    assert torch.equal(batches()[3].image, whole.image)
    assert not torch.equal(batches()[4].image, whole.image)


def test_every_film_comes_once_before_one_comes_again(batches):
    first = np.concatenate([batches()._rows(8 * step, 8) for step in range(11)])
    assert all(sorted(first[11 * i : 11 * i + 11]) == list(range(11)) for i in range(8))
