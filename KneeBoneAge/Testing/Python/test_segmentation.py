"""Finding the knees: decoding, both looks, sides and reasons, with a stand-in network that sees discs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from KneeBoneAgeLib.crop import KneeCrop, iou
from KneeBoneAgeLib.finder_network import (
    DEFAULT_CONFIG,
    LABELS,
    REFERENCE_ANGLE_DEG,
    REFERENCE_WIDTH_PX,
    STRIDE,
    FinderNetwork,
    Maps,
    prepare,
)
from KneeBoneAgeLib.radiograph.film import Film, with_known
from KneeBoneAgeLib.segmentation import KneeFinder, decode, settle_sides


def empty_maps(count: int, rows: int, cols: int) -> Maps:
    def zeros(*more: int) -> torch.Tensor:
        return torch.zeros(count, *more, rows, cols)

    labels = zeros(len(LABELS))
    labels[:, 0] = 9.0
    present = torch.full((count,), -9.0)
    return Maps(zeros() - 9, zeros(2), zeros(), zeros(), zeros(), labels, present)


def put(
    maps: Maps, index: int, x: float, y: float, width: float, angle: float, left: float, score: float = 3
):
    """Write a joint at (x, y) input pixels into the maps, as a perfect network would."""
    down, across = np.mgrid[: maps.heat.shape[1], : maps.heat.shape[2]] * STRIDE + STRIDE / 2
    near = torch.from_numpy(np.hypot(across - x, down - y) < max(1.5 * STRIDE, width / 4))
    bump = torch.from_numpy(score - ((across - x) ** 2 + (down - y) ** 2) / (4 * STRIDE**2)).float()
    maps.heat[index] = torch.where(near, torch.maximum(bump, maps.heat[index]), maps.heat[index])
    maps.offset[index, 0][near] = torch.from_numpy((x - across) / STRIDE).float()[near]
    maps.offset[index, 1][near] = torch.from_numpy((y - down) / STRIDE).float()[near]
    maps.log_width[index][near] = math.log(width / REFERENCE_WIDTH_PX)
    maps.angle[index][near] = angle / REFERENCE_ANGLE_DEG
    maps.fibula[index][torch.from_numpy(np.hypot(across - x, down - y) < width / 2)] = left
    maps.present[index] = 9.0


def circle(spot: np.ndarray, film: np.ndarray) -> tuple[float, float, float]:
    """Middle (row, column index) and width of a disc of which a part may lie beyond the film."""
    ends = [(int(found.min()), int(found.max()) + 1) for found in np.nonzero(spot)]
    width = max(last - first for first, last in ends)
    middle = [
        (last - width / 2 if first <= edge.min() + 1 else first + width / 2) - 0.5
        for (first, last), edge in zip(ends, np.nonzero(film), strict=True)
    ]
    return middle[0], middle[1], width


class SeesDiscs(torch.nn.Module):
    """Stands in for the network: a disc is a joint as wide as itself, a grey dot beside it its fibula.

    A disc with a hole is a joint at first sight only: at the second look, where it is large, one sees it.
    """

    def forward(self, pictures: torch.Tensor) -> Maps:
        maps = empty_maps(len(pictures), pictures.shape[2] // STRIDE, pictures.shape[3] // STRIDE)
        for index, picture in enumerate(pictures[:, 0].numpy()):
            dots = (picture > 0.3) & (picture < 0.6) & ~ndimage.binary_dilation(picture > 0.7, iterations=2)
            spots, count = ndimage.label(picture > 0.7)
            for spot in range(1, count + 1):
                area = (spots == spot).sum()
                filled = ndimage.binary_fill_holes(spots == spot)
                y, x, width = circle(filled, picture > 0.05)
                beside = np.nonzero(dots)[1] - x
                beside = beside[np.abs(beside) < width]
                left = 5.0 if beside.size and beside.mean() < 0 else -5.0 if beside.size else 0.0
                seems = filled.sum() - area < 0.1 * area or width < 30
                if seems:
                    put(maps, index, x + 0.5, y + 0.5, width, 6.0, left)
            maps.labels[index, 1] = torch.from_numpy(picture[::STRIDE, ::STRIDE] > 0.7).float() * 18.0
        return maps


@pytest.fixture
def finder() -> KneeFinder:
    network = FinderNetwork()
    finder = KneeFinder(network.state_dict(), DEFAULT_CONFIG)
    finder.network = SeesDiscs()
    return finder


def paint(film: np.ndarray, x: float, y: float, width: float, fibula: str, hole: bool = False) -> None:
    down, across = np.mgrid[: film.shape[0], : film.shape[1]] + 0.5
    distance = np.hypot(across - x, down - y)
    film[distance < width / 2] = 1.0
    if hole:
        film[distance < width / 4] = 0.1
    side = {"left": -1, "right": 1}.get(fibula)
    if side:
        film[np.hypot(across - x - side * 0.75 * width, down - y) < 0.15 * width] = 0.5


def background(rows: int, cols: int) -> np.ndarray:
    return np.full((rows, cols), 0.1, np.float32)


def box_of(x: float, y: float, width: float) -> tuple[float, float, float, float]:
    return x - width, y - width, x + width, y + width


def test_a_heat_map_of_two_knees_is_read_exactly():
    maps = empty_maps(1, 48, 40)
    put(maps, 0, 41.3, 90.8, 30.0, -7.0, 4.0, 3)
    put(maps, 0, 120.9, 97.1, 44.0, 5.0, -4.0, 2)
    first, second = decode(maps, 0, 0.3, 3)
    assert (first.x, first.y, first.width, first.angle_deg) == pytest.approx(
        (41.3, 90.8, 30.0, -7.0), abs=1e-3
    )
    assert (second.x, second.y, second.width) == pytest.approx((120.9, 97.1, 44.0), abs=1e-3)
    assert first.fibula_left > 0.9
    assert second.fibula_left < 0.1
    assert first.score > second.score
    assert decode(maps, 0, 0.99, 3) == []
    assert len(decode(maps, 0, 0.3, 1)) == 1


def test_the_fibula_itself_tells_its_side_where_the_joint_does_not():
    maps = empty_maps(1, 48, 48)
    put(maps, 0, 96.0, 80.0, 48.0, 0.0, -0.2)
    maps.labels[0, LABELS.index("fibula"), 22:40, 17:19] = 18.0
    maps.fibula[0, 22:40, 17:19] = 5.0
    assert decode(maps, 0, 0.3, 1)[0].fibula_left > 0.9
    maps.fibula[0, 22:40, 17:19] = -5.0
    assert decode(maps, 0, 0.3, 1)[0].fibula_left < 0.1


def test_two_peaks_on_one_joint_are_one_joint():
    maps = empty_maps(1, 48, 48)
    put(maps, 0, 80.0, 80.0, 60.0, 0.0, 4.0, 3)
    maps.heat[0, 23, 23] = 2.0
    maps.log_width[0, 22:25, 22:25] = math.log(60 / REFERENCE_WIDTH_PX)
    assert len(decode(maps, 0, 0.3, 3)) == 1


@pytest.mark.parametrize(("rows", "cols", "width"), [(2500, 2000, 700), (400, 300, 80), (5000, 1300, 330)])
def test_a_knee_is_found_in_film_pixels_at_any_size_of_film(finder, rows, cols, width):
    film = background(rows, cols)
    x, y = 0.45 * cols, 0.55 * rows
    paint(film, x, y, width, "left")
    finding = finder.find(Film(film))
    (knee,) = finding.knees
    assert finding.reason is None
    assert iou(knee.box_px, box_of(x, y, width)) > 0.95
    assert (knee.side, knee.mirrored, knee.origin) == ("R", False, "automatic")
    assert knee.angle_deg == pytest.approx(6.0, abs=1e-3)
    assert knee.confidence > 0.9


def test_a_doubtful_find_stays_only_where_it_is_confirmed(finder):
    film = background(600, 800)
    paint(film, 200, 300, 120, "left")
    paint(film, 580, 320, 130, "left")
    asked: list[int] = []

    def second_is_a_knee(crops):
        asked.append(len(crops))
        return [crop.centre_px[0] > 400 for crop in crops]

    both = finder.find(Film(film), second_is_a_knee).knees
    assert [knee.side for knee in both] == ["R", "L"]  # by their places: the fibulas say twice the same
    assert not asked  # the finder is sure of both
    finder.config["confirm_threshold"] = 1.0
    (knee,) = finder.find(Film(film), second_is_a_knee).knees
    assert asked == [2]
    assert knee.centre_px[0] > 400
    assert knee.side == "R"  # nothing lies beside it any more: by its fibula
    nothing = finder.find(Film(film), lambda crops: [False] * len(crops))
    assert not nothing.knees
    assert "not a frontal knee" in nothing.reason
    assert len(finder.find(Film(film)).knees) == 2  # nobody is asked


def test_both_knees_of_a_bilateral_film_are_found_with_their_sides(finder):
    film = background(1500, 2000)
    paint(film, 600, 700, 320, "left")
    paint(film, 1450, 720, 320, "right")
    finding = finder.find(Film(film, side="R"))
    assert [knee.side for knee in finding.knees] == ["R", "L"]
    assert [knee.mirrored for knee in finding.knees] == [False, True]
    assert iou(finding.knees[1].box_px, box_of(1450, 720, 320)) > 0.95


def test_a_knee_more_than_half_outside_is_no_knee(finder):
    film = background(1500, 2000)
    paint(film, 900, 700, 320, "left")
    paint(film, 2060, 720, 320, "none")
    assert len(finder.find(Film(film)).knees) == 1
    film = background(1500, 2000)
    paint(film, 900, -30, 320, "left")
    finding = finder.find(Film(film))
    assert finding.knees == ()
    assert finding.reason


def test_what_is_no_knee_at_the_second_look_is_not_cropped(finder):
    film = background(2000, 2000)
    paint(film, 900, 700, 260, "left", hole=True)
    finding = finder.find(Film(film))
    assert finding.knees == ()
    assert "not a frontal knee" in finding.reason


@pytest.mark.parametrize(
    ("film", "word"),
    [
        (Film(np.random.default_rng(0).random((300, 300), np.float32), view="lateral"), "lateral"),
        (Film(np.random.default_rng(0).random((300, 300), np.float32), body_part="HAND"), "HAND"),
        (Film(np.full((300, 300), 0.4, np.float32)), "blank"),
        (Film(np.zeros((300, 300), np.float32)), "blank"),
        (Film(np.full((300, 300), np.nan, np.float32)), "blank"),
        (Film(np.random.default_rng(0).random((300, 40), np.float32)), "small"),
        (Film(background(300, 300) + np.linspace(0, 0.2, 300, dtype=np.float32)), "no frontal knee"),
    ],
)
def test_a_film_without_a_frontal_knee_gives_no_crop_and_says_why(finder, film, word):
    finding = finder.find(film)
    assert finding.knees == ()
    assert word in finding.reason


def test_the_knee_itself_is_found_in_spite_of_what_the_header_calls_it(finder):
    film = background(900, 900)
    paint(film, 450, 450, 250, "right")
    finding = finder.find(Film(film, view="frontal", body_part="LEG", side="L"))
    assert len(finding.knees) == 1
    assert finding.knees[0].side == "L"
    assert finding.notes == ()


def test_a_header_that_contradicts_the_fibula_is_reported_and_does_not_win(finder):
    film = background(900, 900)
    paint(film, 450, 450, 250, "right")
    finding = finder.find(Film(film, side="R"))
    assert finding.knees[0].side == "L"
    assert finding.knees[0].mirrored
    assert len(finding.notes) == 1
    assert "header says R" in finding.notes[0]


def test_a_side_that_was_typed_wins_and_the_contradiction_is_reported(finder):
    film = background(900, 900)
    paint(film, 450, 450, 250, "right")
    finding = finder.find(with_known(Film(film, side="L"), side="R"))
    assert finding.knees[0].side == "R"
    assert finding.knees[0].mirrored  # the picture is cut as the fibula lies
    assert finding.notes == ("the fibula shows a L knee, typed is R: check the side",)


def test_a_typed_side_is_said_to_be_typed_where_the_fibula_is_unclear(finder):
    film = background(900, 900)
    paint(film, 450, 450, 250, "none")
    finding = finder.find(with_known(Film(film), side="L"))
    assert (finding.knees[0].side, finding.knees[0].mirrored) == ("L", True)
    assert "as typed" in finding.notes[0]


def test_the_side_comes_from_the_header_only_where_the_fibula_is_unclear(finder):
    film = background(900, 900)
    paint(film, 450, 450, 250, "none")
    assert finder.find(Film(film)).knees[0].side == "unknown"
    finding = finder.find(Film(film, side="L"))
    assert finding.knees[0].side == "L"
    assert finding.knees[0].mirrored
    assert "header" in finding.notes[0]


def test_two_knees_are_a_right_and_a_left_one():
    crops = [KneeCrop((900.0, 5.0), 10.0, side="L", mirrored=True), KneeCrop((100.0, 5.0), 10.0, side="L")]
    knees, notes = settle_sides(crops, None)
    assert [(knee.centre_px[0], knee.side, knee.mirrored) for knee in knees] == [
        (100.0, "R", False),
        (900.0, "L", True),
    ]
    assert len(notes) == 1


def test_labels_lie_where_the_bone_is(finder):
    film = background(900, 700)
    paint(film, 300, 450, 200, "left")
    labels = finder.masks(Film(film))
    assert labels.shape == film.shape
    assert set(np.unique(labels)) == {0, 1}
    overlap = ((labels == 1) & (film == 1)).sum() / ((labels == 1) | (film == 1)).sum()
    assert overlap > 0.85


def test_the_network_does_not_see_exposure_or_black_borders():
    rng = torch.Generator().manual_seed(0)
    picture = torch.rand((1, 1, 64, 96), generator=rng) * 0.5 + 0.2
    assert torch.allclose(prepare(picture), prepare(picture * 0.4 + 0.1), atol=1e-3)
    bordered = torch.nn.functional.pad(picture, (32, 32, 32, 32))
    inner = prepare(bordered)[:, :1, 32:96, 32:128]
    assert torch.allclose(inner, prepare(picture)[:, :1], atol=1e-3)


def test_the_network_is_small_and_survives_half_precision_and_any_multiple_of_32():
    torch.manual_seed(0)
    network = FinderNetwork().eval()
    assert sum(value.numel() for value in network.state_dict().values()) * 2 < 5e6
    half = {name: v.half() if v.is_floating_point() else v for name, v in network.state_dict().items()}
    finder = KneeFinder(half, {})
    picture = torch.rand((2, 1, 96, 160))
    with torch.inference_mode():
        maps, again = network(picture), finder.network(picture)
    assert maps.heat.shape == (2, 24, 40)
    assert maps.labels.shape == (2, 5, 24, 40)
    assert torch.allclose(maps.log_width, again.log_width, atol=0.02)


def test_folding_batch_norms_changes_no_answer():
    torch.manual_seed(0)
    network = FinderNetwork().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    finder = KneeFinder(network.state_dict(), {})
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in finder.network.modules())
    picture = torch.rand((1, 1, 96, 96))
    with torch.inference_mode():
        assert torch.allclose(network(picture).heat, finder.network(picture).heat, atol=1e-4)


def test_weights_of_another_architecture_are_refused():
    state = FinderNetwork().state_dict()
    state.pop("present.weight")
    with pytest.raises(RuntimeError, match=r"present\.weight"):
        KneeFinder(state, {})
