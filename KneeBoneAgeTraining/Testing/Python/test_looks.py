"""How training pictures are moved, blurred, coarsened and grained, and the structures that are laid on bone."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).parent))
import toy_crops

from KneeBoneAgeTrainingLib import structures
from KneeBoneAgeTrainingLib.augmentation import Jitter, cut_out
from KneeBoneAgeTrainingLib.looks import add_grain, blurred, coarsened, grade, quantiles
from KneeBoneAgeTrainingLib.structures import KINDS, Line, Part, clouds, lines, streaks

EVERYTHING = Jitter(texture=0.1, lines=3.0, clouds=0.1, occlusion=0.5)


def picture(shape: tuple[int, int] = (60, 44)) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.01, 1, shape).astype(np.float32)


@pytest.mark.parametrize("sigma", [0.2, 0.5, 0.8, 2.0])
def test_a_blur_is_gaussian_and_repeats_the_edge_outwards(sigma):
    wanted = ndimage.gaussian_filter(
        picture().astype(float), sigma, mode="nearest", radius=int(np.ceil(2 * sigma))
    )
    assert np.allclose(blurred(picture(), sigma), wanted, atol=1e-5)
    assert np.array_equal(blurred(picture(), 0.0), picture())


@pytest.mark.parametrize("factor", [1.05, 1.5, 2.0, 2.9])
def test_coarsening_averages_areas_and_interpolates_back(factor):
    one, (rows, cols) = torch.from_numpy(picture())[None, None], picture().shape
    small = functional.adaptive_avg_pool2d(one, (round(rows / factor), round(cols / factor)))
    wanted = functional.interpolate(small, (rows, cols), mode="bilinear", align_corners=False)
    assert np.allclose(coarsened(picture(), factor), wanted[0, 0].numpy(), atol=1e-5)


def test_grading_is_a_gamma_times_a_gradient_that_leaves_the_middle_alone():
    graded, plain = picture((41, 41)), picture((41, 41))
    graded[3, 4] = plain[3, 4] = 0  # stays black
    grade(graded, 1.3, 0.2, -0.1)
    across, down = np.meshgrid(np.linspace(-1, 1, 41), np.linspace(-1, 1, 41))
    assert np.allclose(graded, plain**1.3 * (1 + 0.2 * across - 0.1 * down), atol=1e-5)


def test_grain_is_white_of_the_wanted_strength_and_the_same_at_the_same_place():
    first, again, other = (np.zeros((96, 96), np.float32) for _ in range(3))
    for field, place in ((first, 2**61 + 5), (again, 2**61 + 5), (other, 7)):
        add_grain(field, 0.5, place)
    assert np.array_equal(first, again)
    assert first.std() == pytest.approx(0.5, rel=0.03)
    for shifted in (other, np.roll(first, 1, 0), np.roll(first, 1, 1)):
        assert abs(np.corrcoef(first.ravel(), shifted.ravel())[0, 1]) < 0.04


def test_quantiles_are_read_from_pixels_all_over_the_picture():
    big = np.linspace(0, 1, 192 * 192, dtype=np.float32).reshape(192, 192)
    assert quantiles(big, (0.05, 0.5, 0.95)) == pytest.approx([0.05, 0.5, 0.95], abs=0.03)


def test_kept_fields_have_unit_spread_and_streaks_run_along_the_limb():
    size, rng = 192, np.random.default_rng(1)
    for kept in (streaks(size), clouds(size)):
        parts = Part.draw(rng, np.ones(200))
        cut = np.stack([part.cut(kept, size) for part in parts])
        assert cut.shape == (200, size, size)
        assert cut.std() == pytest.approx(1, abs=0.1)
        assert abs(cut.mean()) < 0.1
        assert len({(part.kind, part.top, part.left, part.turned) for part in parts}) == 200
    along, across = (np.abs(np.diff(streaks(size), axis=axis)).mean() for axis in (1, 2))
    assert along < 0.7 * across


def test_lines_lie_where_they_were_put_in_any_turn_and_may_leave_the_picture():
    kind = int(np.argmax([line.size for line in lines(96)]))
    line = lines(96)[kind]
    for turn in range(8):
        field = np.zeros((96, 96), np.float32)
        Line(kind, turn, 0.0, 0.0, 0.5).add_to(field)
        assert field.sum() == pytest.approx(0.5 * line.sum(), rel=0.05)
        rows, cols = (np.average(np.arange(96), weights=field.sum(axis)) for axis in (1, 0))
        assert np.hypot(rows - 47.5, cols - 47.5) < len(line) / 4
        Line(kind, turn, -1.0, 0.9, 0.5).add_to(field)
    several = Line.draw(np.random.default_rng(0), [3, 0, 2])
    assert [len(one) for one in several] == [3, 0, 2]
    assert all(0 <= line.kind < KINDS for one in several for line in one)


@pytest.fixture(scope="module")
def bars() -> np.ndarray:
    return toy_crops.draw(6, 3)[0]


def test_crops_follow_from_the_generator_alone_not_from_threads_or_what_was_made_before(bars):
    def crops() -> torch.Tensor:
        return cut_out(bars, 200, np.random.default_rng(7), EVERYTHING)

    threads, first = torch.get_num_threads(), crops()
    try:
        torch.set_num_threads(2)
        for kept in (structures.streaks, structures.clouds, structures.lines):
            kept.cache_clear()
        assert torch.equal(crops(), first)
    finally:
        torch.set_num_threads(threads)
    assert not torch.equal(cut_out(bars, 200, np.random.default_rng(8), EVERYTHING), first)


class Crops(Dataset[torch.Tensor]):
    def __init__(self, pictures: np.ndarray) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return 3

    def __getitem__(self, step: int) -> torch.Tensor:
        return cut_out(self.pictures, 64, np.random.default_rng(step), EVERYTHING)


def test_a_helper_makes_the_same_crops_as_the_loop_itself(bars):
    alone, helped = (list(DataLoader(Crops(bars), batch_size=None, num_workers=n)) for n in (0, 1))
    assert all(torch.equal(one, other) for one, other in zip(alone, helped, strict=True))
