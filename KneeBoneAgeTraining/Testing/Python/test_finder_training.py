"""Training of the finder: cache, views, targets and a short run on toy films."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from KneeBoneAgeLib.finder_network import DEFAULT_CONFIG, LABELS, REFERENCE_WIDTH_PX, Maps
from KneeBoneAgeLib.segmentation import KneeFinder, decode
from KneeBoneAgeTrainingLib import finder_augmentation
from KneeBoneAgeTrainingLib.finder_augmentation import draw_views, plain_views, process
from KneeBoneAgeTrainingLib.finder_cache import CACHE_PX, Cache, draw
from KneeBoneAgeTrainingLib.finder_module import Recipe
from KneeBoneAgeTrainingLib.finder_targets import Targets, losses, make_targets
from KneeBoneAgeTrainingLib.finder_training import train

SMALL = {"encoder_options": {"channels": [16, 24, 32, 8], "stem_width": 8}, "decoder_channels": [24, 16, 16]}


@dataclass
class Toy:
    image: np.ndarray
    labels: np.ndarray
    knees: tuple


def toy_sample(rng: np.random.Generator, size: int) -> Toy:
    """A bright disc is a knee, a smaller one beside it its fibula; one film in four has none."""
    image = np.full((size, size), 0.15, np.float32) + rng.normal(0, 0.01, (size, size)).astype(np.float32)
    labels = np.zeros((size, size), np.uint8)
    if rng.random() < 0.25:
        return Toy(image, labels, ())
    x, y = rng.uniform(0.35, 0.65, 2) * size
    width = rng.uniform(0.2, 0.3) * size
    left = bool(rng.random() < 0.5)
    down, across = np.mgrid[:size, :size] + 0.5
    disc = np.hypot(across - x, down - y) < width / 2
    image[disc], labels[disc] = 0.7, 1
    beside = x + (-0.6 if left else 0.6) * width
    dot = np.hypot(across - beside, down - y) < width / 8
    image[dot], labels[dot] = 0.95, 3
    return Toy(image, labels, ((x, y, width, 0.0, left),))


def test_a_cache_gives_back_what_was_drawn_and_grows(tmp_path):
    draw(tmp_path, 70, 5, toy_sample)
    cache = Cache(tmp_path)
    assert len(cache) == 64
    assert len(Cache(tmp_path, validation=True)) == 6
    images, labels, knees = cache.take(np.array([3, 0]))
    rng = np.random.default_rng([5, 0])
    first = toy_sample(rng, CACHE_PX)
    assert np.abs(images[1, 0].numpy() - np.clip(first.image, 0, 1)).max() < 0.003
    assert np.array_equal(labels[1, 0].numpy(), first.labels[::2, ::2])
    assert [tuple(knee) for knee in knees[1]] == [pytest.approx(knee) for knee in first.knees]
    draw(tmp_path, 64, 6, toy_sample)
    assert len(cache) == 64
    cache.refresh()
    assert len(cache) == 128


def test_drawing_again_keeps_what_is_there(tmp_path):
    draw(tmp_path, 3, 5, toy_sample)

    def never(rng, size):
        raise AssertionError("drawn again")

    draw(tmp_path, 3, 5, never)


def test_a_shard_that_is_still_being_written_is_not_read(tmp_path):
    draw(tmp_path, 3, 5, toy_sample)
    (tmp_path / "00005-00000.knees.json").rename(tmp_path / "00005-00000.knees.json.part")
    assert len(Cache(tmp_path)) == 0


def test_knees_move_with_the_picture_and_mirroring_swaps_the_fibula():
    rng = np.random.default_rng(1)
    down, across = np.mgrid[:CACHE_PX, :CACHE_PX] + 0.5
    x, y, width = 100.0, 120.0, 60.0
    knee = np.hypot(across - x, down - y) < 4
    fibula = np.hypot(across - x + 20, down - y) < 4
    hip = np.hypot(across - x, down - y + 30) < 4
    marks = torch.from_numpy(np.stack([knee, fibula, hip]).astype(np.float32))[:, None]
    labels = torch.from_numpy(knee[::2, ::2].astype(np.float32))[None, None].repeat(3, 1, 1, 1)
    sides = set()
    for _ in range(12):
        seed = int(rng.integers(2**31))
        middles, views = [], None
        for mark in marks:
            # The same view of each mark, one picture at a time.
            views = draw_plainly(mark[None], labels[:1], [[(x, y, width, 0.0, True)]], seed)
            picture = views.pictures[0, 0].numpy()
            grid = np.mgrid[:192, :192] + 0.5
            middles.append((grid * picture).sum(axis=(1, 2)) / max(picture.sum(), 1e-9))
        ((u, v, wide, angle, left),) = views.knees[0]
        if not (25 < u < 167 and 45 < v < 167):
            continue
        (row, col), (_, beside), (top, top_col) = middles
        assert (u, v) == pytest.approx((col, row), abs=0.3)
        assert left == (beside < col)
        sides.add(left)
        assert math.hypot(top_col - col, top - row) == pytest.approx(30 * wide / width, rel=0.06)
        assert math.degrees(math.atan2(top_col - col, row - top)) == pytest.approx(angle, abs=4)
        cells = np.argwhere(views.labels[0].numpy() == 1)
        if len(cells):
            assert cells.mean(axis=0) * 4 + 2 == pytest.approx((v, u), abs=4)
    assert sides == {True, False}


def draw_plainly(pictures, labels, knees, seed):
    """`draw_views` with the same geometry for the same seed and no change of grey values."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finder_augmentation, "process", lambda seen, *_: seen)
        return draw_views(pictures, labels, knees, 192, np.random.default_rng(seed))


def test_processing_keeps_films_in_range_and_what_is_outside_black():
    rng = np.random.default_rng(0)
    pictures = torch.rand((12, 1, 96, 96)) * 0.8 + 0.1
    pictures[:, :, :, :20] = 0
    out = process(pictures, [[] for _ in range(12)], rng)
    assert torch.isfinite(out).all()
    assert out.min() >= 0
    assert out.max() <= 1
    assert (out[:, :, :, :20] == 0).all(dim=(1, 2, 3)).sum() >= 4
    assert (out - pictures).abs().mean() > 0.02


def perfect(knees, shape=(48, 48)) -> tuple[Maps, torch.Tensor, Targets]:
    """Maps that say exactly what the targets want."""
    count = len(knees)
    labels = torch.zeros(count, *shape, dtype=torch.long)
    labels[0, 25:40, 10:12] = LABELS.index("fibula")
    targets = make_targets(knees, labels)
    values = torch.zeros(count, 4, *shape)
    picture, row, col = targets.cells.unbind(1)
    values[picture, :, row, col] = targets.values
    maps = Maps(
        heat=torch.logit(targets.heat.clamp(1e-4, 1 - 1e-4)),
        offset=values[:, :2],
        log_width=values[:, 2],
        angle=values[:, 3],
        fibula=torch.where(targets.fibula < 0, 0.0, targets.fibula * 18 - 9),
        labels=torch.nn.functional.one_hot(labels, len(LABELS)).permute(0, 3, 1, 2) * 18.0,
        present=targets.present * 18 - 9,
    )
    return maps, labels, targets


KNEES = [
    [(60.3, 80.9, 40.0, 8.0, True), (140.2, 77.7, 44.0, -5.0, False)],
    [],
    [(96.0, 2.0, 50.0, 0.0, True)],
]


def test_perfect_maps_are_read_back_as_the_knees_they_were_made_of():
    maps, _, _ = perfect(KNEES)
    found = sorted(decode(maps, 0, 0.5, 3), key=lambda joint: joint.x)
    for joint, (x, y, width, angle, left) in zip(found, KNEES[0], strict=True):
        assert (joint.x, joint.y, joint.width) == pytest.approx((x, y, width), abs=0.01)
        assert joint.angle_deg == pytest.approx(angle, abs=0.01)
        assert (joint.fibula_left > 0.5) == left
    assert decode(maps, 1, 0.5, 3) == []


def test_the_loss_falls_to_almost_nothing_and_each_part_rises_when_its_map_is_wrong():
    maps, labels, targets = perfect(KNEES)
    best = losses(maps, labels, targets)
    assert sum(best.values()) < 0.2
    for part, field in {
        "heat": "heat",
        "offset": "offset",
        "width": "log_width",
        "angle": "angle",
        "fibula": "fibula",
        "labels": "labels",
        "present": "present",
    }.items():
        wrong = Maps(**{**vars(maps), field: -getattr(maps, field)})
        assert losses(wrong, labels, targets)[part] > best[part] + 0.05, part


def test_a_knee_at_the_edge_is_neither_demanded_nor_punished():
    maps, labels, targets = perfect([KNEES[2]])
    assert targets.present_watched[0] == 0
    assert len(targets.cells) == 0
    sure = Maps(**{**vars(maps), "heat": torch.where(targets.watched == 0, 9.0, -9.0)})
    assert losses(sure, labels, targets)["heat"] < 0.01


def test_views_of_the_second_look_have_the_knee_at_its_reference_width():
    rng = np.random.default_rng(4)
    widths = []
    for _ in range(60):
        views = draw_views(
            torch.zeros(1, 1, CACHE_PX, CACHE_PX),
            torch.zeros(1, 1, CACHE_PX // 2, CACHE_PX // 2),
            [[(112.0, 112.0, 110.0, 0.0, True)]],
            192,
            rng,
        )
        widths.append(views.knees[0][0][2])
    assert 0.15 < np.mean(np.abs(np.log(np.array(widths) / REFERENCE_WIDTH_PX)) < 0.3) < 0.6


def test_a_short_training_learns_toy_knees_resumes_and_writes_a_finder(tmp_path):
    draw(tmp_path / "cache", 128, 1, toy_sample)
    run = tmp_path / "run"
    config = {**SMALL, "size_px": 96}
    recipe = Recipe(minutes=60, steps=30, batch=8, learning_rate=4e-3)
    train(tmp_path / "cache", run, recipe, 1, config)
    train(tmp_path / "cache", run, Recipe(minutes=60, steps=60, batch=8, learning_rate=4e-3), 1, config)
    rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    log = [dict(zip(rows[0], map(float, row), strict=True)) for row in rows[1:]]
    assert [row["step"] for row in log] == [30, 60]  # it went on where it had stopped
    assert log[1]["heat"] < 0.8 * log[0]["heat"]
    assert log[1]["width"] < 0.9 * log[0]["width"]
    saved = json.loads((run / "finder.json").read_text())
    assert saved == {**DEFAULT_CONFIG, **config}
    finder = KneeFinder(load_file(run / "finder.safetensors"), saved)
    views = plain_views(*Cache(tmp_path / "cache").take(np.arange(4)), 96)
    assert torch.isfinite(finder._run(views.pictures[:, 0].numpy()).heat).all()


def test_a_new_run_goes_on_from_the_weights_of_a_finished_finder(tmp_path):
    draw(tmp_path / "cache", 70, 5, toy_sample)
    first = train(tmp_path / "cache", tmp_path / "first", Recipe(steps=8, batch=4), config=SMALL)
    weights = first / "finder.safetensors"
    still = Recipe(steps=1, batch=4, learning_rate=1e-9, seed=1)
    again = train(tmp_path / "cache", tmp_path / "again", still, config=SMALL, start=weights)
    anew = train(tmp_path / "cache", tmp_path / "anew", still, config=SMALL)
    name = (
        "head.weight"
        if "head.weight" in load_file(weights)
        else next(n for n, v in load_file(weights).items() if v.ndim == 4)
    )
    was, kept, other = (load_file(run / "finder.safetensors")[name].float() for run in (first, again, anew))
    assert torch.allclose(was, kept, atol=2e-3)
    assert not torch.allclose(was, other, atol=2e-3)


def test_training_without_films_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="finder_training draw"):
        train(tmp_path, tmp_path / "run", Recipe(), patience_minutes=0)
