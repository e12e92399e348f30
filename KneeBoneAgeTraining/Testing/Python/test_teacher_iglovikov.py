"""Iglovikov 2017: registration by key points, the mask, the regions and the ensemble."""

import copy
import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_teachers import SIDE, bars, learnt, tiny

from KneeBoneAgeTrainingLib.teachers import HandTruth
from KneeBoneAgeTrainingLib.teachers.base import mean_months
from KneeBoneAgeTrainingLib.teachers.hand_pose import REGIONS, cut, hand_frames


def drawn(points, size=(96, 80)):
    """A film with a spot at each of the points (K, 2), the last the brightest, in shares of the picture."""
    rows, columns = size
    y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
    image = torch.full(size, -1.0)
    for order, (across, down) in enumerate(points.tolist()):
        away = (x - across * columns) ** 2 + (y - down * rows) ** 2
        image += (1 + order / 2) * torch.exp(-0.5 * away / (2.0 + order) ** 2)
    return image[None, None]


HAND = torch.tensor([[0.45, 0.7], [0.45, 0.15], [0.75, 0.45]])


@pytest.mark.parametrize("how", ["turned", "smaller", "mirrored", "moved"])
def test_a_hand_looks_the_same_in_its_frame_however_it_lies(how):
    shape = torch.tensor([80.0, 96.0])
    middle = shape / 2
    turn = 0.5 if how == "turned" else 0.0
    scale = 0.7 if how == "smaller" else 1.0
    matrix = scale * torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    if how == "mirrored":
        matrix = matrix @ torch.diag(torch.tensor([-1.0, 1.0]))
    shift = torch.tensor([4.0, -6.0]) if how == "moved" else torch.zeros(2)
    other = ((HAND * shape - middle) @ matrix.T + middle + shift) / shape
    size = REGIONS["hand"].size_px(40)
    cuts = [
        cut(drawn(points), hand_frames(points[None], (96, 80)), REGIONS["hand"], size)
        for points in (HAND, other)
    ]
    peaks = [one.flatten().topk(3).indices.float() for one in cuts]
    rows = [(peak // size[1]).mean() for peak in peaks]
    columns = [(peak % size[1]).mean() for peak in peaks]
    assert rows[0] == pytest.approx(rows[1], abs=1.5)
    assert columns[0] == pytest.approx(columns[1], abs=1.5)
    assert columns[0] > size[1] / 2  # the thumb, brightest of the spots, is on the right


def test_iglovikov_registers_hands_once_key_points_are_reliable():
    teacher = tiny("iglovikov")
    image = drawn(HAND, (SIDE, SIDE))
    points = HAND[None]
    usual = teacher._frames(points, image)
    teacher.point_error.fill_(0.01)
    by_points = teacher._frames(points, image)
    assert usual.origin[0].tolist() == pytest.approx([0.5 * SIDE, 0.66 * SIDE], abs=0.1)
    assert by_points.origin[0].tolist() == pytest.approx([0.45 * SIDE, 0.7 * SIDE], abs=0.1)


def test_iglovikov_blackens_the_background_once_masks_are_reliable():
    teacher = tiny("iglovikov")
    image = torch.zeros(1, 1, SIDE, SIDE)
    logits = torch.full((1, SIDE, SIDE), -5.0)
    logits[:, 20:40, 20:40] = 5
    assert (teacher._without_background(image, logits) == 0).all()
    teacher.dice.fill_(0.95)
    cleaned = teacher._without_background(image, logits)[0, 0]
    assert (cleaned[20:40, 20:40] == 0).all()
    assert (cleaned[:16] == -1).all()


def test_iglovikov_learns_mask_and_key_points_of_the_films_that_have_them():
    teacher = tiny("iglovikov", regions=["hand"], outputs=["regression"])
    teacher.train()
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(3)
    months, sex, age = torch.full((8,), 120.0), torch.full((8,), 2), torch.full((8,), math.nan)
    for _ in range(45):
        shift = 0.12 * (torch.rand(8, 1, 2, generator=generator) - 0.5)
        points = HAND + shift
        image = torch.cat([drawn(one, (SIDE, SIDE)) for one in points])
        mask = (image[:, 0] > -0.8).float()
        points[0], mask[1] = math.nan, math.nan
        loss = teacher.loss(teacher(image, sex, age), months, HandTruth(points, mask))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert teacher.point_error < 0.06
    assert teacher.dice > 0.5
    before = copy.deepcopy(teacher.state_dict())
    teacher.eval()
    teacher.loss(teacher(image, sex, age), months, HandTruth(points, mask))
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_iglovikov_averages_its_networks_and_says_what_each_region_is_worth():
    teacher = tiny("iglovikov").eval()
    teacher.region_error.copy_(torch.tensor([5.0, 10.0, 20.0]))
    image, sex, age, _ = bars(2)
    with torch.no_grad():
        outcome = teacher(image, sex, age)
    networks = torch.stack([outcome.extra["regressed"], mean_months(outcome.extra["classified"])])
    torch.testing.assert_close(outcome.months, networks.mean((0, 2)))
    torch.testing.assert_close(
        outcome.extra["region_importance"], torch.tensor([4 / 7, 2 / 7, 1 / 7]).expand(2, 3)
    )
    seen = learnt("iglovikov").importance()
    assert seen[0] > seen[1]  # the bar crosses all of the hand, the wrist sees it now and then
