"""Hand teachers: each runs, learns a toy task, copes with missing numbers, and does what its paper says."""

import copy
import logging
import math
from dataclasses import replace
from functools import cache

import pytest
import timm
import torch
from pydantic import ValidationError

from KneeBoneAgeLib.network import AgeNetwork
from KneeBoneAgeTrainingLib.teachers import HandTruth, Inputs, build_teacher, parse_architecture
from KneeBoneAgeTrainingLib.teachers.base import distribution_loss, mean_months
from KneeBoneAgeTrainingLib.teachers.hand_pose import REGIONS, cut, hand_frames

SIDE = 64
INPUTS = Inputs(image_size=(SIDE, SIDE), sex=True, chronological_age=True)
PICTURE_ONLY = Inputs(image_size=(SIDE, SIDE), sex=False, chronological_age=False)
TINY_CONVNEXT = {"depths": [1, 1, 1, 1], "dims": [8, 16, 16, 32], "ls_init_value": None}
TINY = {
    "timm": {
        "kind": "timm",
        "backbone": "convnext_atto",
        "backbone_options": {"depths": (1, 1, 1, 1), "dims": (8, 16, 16, 32)},
        "pretrained": "none",
    },
    "timm-regression": {
        "kind": "timm",
        "backbone": "test_resnet",
        "pretrained": "none",
        "head": "regression",
    },
    "age-network": {
        "kind": "age-network",
        "options": {"backbone_options": TINY_CONVNEXT, "points": 6, "point_width": 8, "map_features": 32},
    },
    "bonet": {"kind": "bonet", "channels": [8, 16, 16, 16], "deform_after": 2, "dense": 32, "drop_rate": 0},
    "inception-resnet-v2": {
        "kind": "inception-resnet-v2",
        "backbone": "test_resnet",
        "pretrained": "none",
        "drop_rate": 0,
    },
    "iglovikov": {
        "kind": "iglovikov",
        "hand_size": [40, 30],
        "channels": [8, 16, 16],
        "dense": 32,
        "drop_rate": 0,
        "finder_size": [32, 32],
        "finder_channels": [8, 16],
        "finder_dense": 64,
        "unet_channels": [16, 8, 8, 4, 4],
        "unet_encoder": "tu-test_resnet",
        "key_points": 3,
        "pose_points": [0, 1, 2],
    },
}


def tiny(name, inputs=INPUTS, **changes):
    torch.manual_seed(1)
    return build_teacher(parse_architecture({**TINY[name], **changes}), inputs)


def bars(count, seed=0):
    """A bright bar across a dim picture; its row tells months."""
    generator = torch.Generator().manual_seed(seed)
    months = 20 + 200 * torch.rand(count, generator=generator)
    image = -0.8 + 0.1 * torch.randn(count, 1, SIDE, SIDE, generator=generator)
    rows = (8 + 48 * (months - 20) / 200).round().long()
    for one, row in zip(image, rows, strict=True):
        one[0, row - 2 : row + 3, 8:-8] += 1.5
    sex = torch.arange(count) % 2
    return image, sex, torch.full((count,), math.nan), months


def truth_of(count):
    points = torch.tensor([[0.5, 0.7], [0.5, 0.1], [0.8, 0.4]]).repeat(count, 1, 1)
    mask = torch.zeros(count, SIDE, SIDE)
    mask[:, 8:-8, 8:-8] = 1
    points[0] = math.nan
    mask[1] = math.nan
    return HandTruth(points, mask)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("given", ["nothing", "key points and masks", "neither of them"])
def test_every_teacher_runs_and_every_parameter_gets_a_gradient(name, given):
    teacher = tiny(name)
    image, _, _, months = bars(6)
    sex = torch.tensor([0, 1, 2, 0, 1, 2])
    age = torch.tensor([100.0, math.nan, 50.0, math.nan, 230.0, 0.0])
    outcome = teacher(image, sex, age)
    unknown = torch.full((6, SIDE, SIDE), math.nan)
    truths = {
        "nothing": None,
        "key points and masks": truth_of(6),
        "neither of them": HandTruth(torch.empty(6, 0, 2), unknown),
    }
    parts = teacher.loss(outcome, months, truths[given])
    parts["loss"].backward()
    assert outcome.months.shape == (6,)
    assert all(len(value) == 6 for value in outcome.extra.values())
    if outcome.log_p is not None:
        assert outcome.log_p.shape == (6, 240)
        torch.testing.assert_close(outcome.log_p.exp().sum(1), torch.ones(6))
    rest = sum(value for part, value in parts.items() if part != "loss")
    torch.testing.assert_close(parts["loss"], rest)
    for parameter, value in teacher.named_parameters():
        assert value.grad is not None, parameter
        assert value.grad.isfinite().all(), parameter


@pytest.mark.parametrize("name", TINY)
def test_every_teacher_runs_in_mixed_precision_with_estimates_in_full(name):
    teacher = tiny(name)
    image, sex, age, months = bars(4)
    with torch.autocast("cpu", torch.bfloat16):
        outcome = teacher(image, sex, age)
        loss = teacher.loss(outcome, months, truth_of(4))["loss"]
    loss.backward()
    assert outcome.months.dtype == torch.float32
    assert loss.isfinite()
    assert all(value.grad.isfinite().all() for value in teacher.parameters())


@cache
@torch.enable_grad()
def learnt(name):
    """A tiny teacher after it was shown bars."""
    fewer = {
        "iglovikov": {"regions": ["hand", "carpal"], "outputs": ["regression"]},
        "inception-resnet-v2": {"sex_specific": False},
    }
    teacher = tiny(name, PICTURE_ONLY, **fewer.get(name, {}))
    image, sex, age, months = bars(64)
    steps = 40 if name in ("iglovikov", "bonet", "age-network") else 56
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    for step in range(steps):
        rows = torch.randperm(64, generator=torch.Generator().manual_seed(step))[:16]
        loss = teacher.loss(teacher(image[rows], sex[rows], age[rows]), months[rows], None)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(teacher.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return teacher.eval()


@pytest.mark.parametrize("name", TINY)
def test_every_teacher_learns_where_a_bar_lies(name):
    image, sex, age, months = bars(64, seed=9)
    with torch.no_grad():
        error = (learnt(name)(image, sex, age).months - months).abs().mean()
    assert error < 0.5 * (months - months.median()).abs().mean()


@pytest.mark.parametrize("name", TINY)
def test_a_number_that_is_no_input_is_hidden_and_one_that_is_counts(name):
    image, _, _, _ = bars(2)
    girl, boy = torch.tensor([0, 0]), torch.tensor([1, 1])
    young, old = torch.full((2,), 30.0), torch.full((2,), 200.0)
    hidden, shown = tiny(name, PICTURE_ONLY).eval(), tiny(name).eval()
    with torch.no_grad():
        torch.testing.assert_close(
            hidden(image, girl, young).months, hidden(image, boy, old).months, rtol=0, atol=0
        )
        assert (shown(image, girl, young).months != shown(image, boy, young).months).all()
        assert (shown(image, girl, young).months != shown(image, girl, old).months).all()


@pytest.mark.parametrize("name", TINY)
def test_a_stage_with_another_input_starts_from_the_weights_of_the_one_before(name):
    first, second = tiny(name, replace(INPUTS, chronological_age=False)), tiny(name)
    second.load_state_dict(first.state_dict(), strict=True)
    image, sex, _, _ = bars(2)
    nowhere = torch.full((2,), math.nan)
    with torch.no_grad():
        torch.testing.assert_close(
            first.eval()(image, sex, nowhere).months, second.eval()(image, sex, nowhere).months
        )


def test_a_distribution_costs_least_where_it_is_the_gaussian_about_its_label():
    label = torch.tensor([120.0])
    centres = torch.arange(240) + 0.5
    costs = [
        float(distribution_loss(torch.log_softmax(-0.5 * ((centres - at) / 6) ** 2, 0)[None], label, 6.0))
        for at in (110.0, 120.0, 130.0)
    ]
    assert costs[1] == min(costs)
    assert costs[0] == pytest.approx(costs[2], rel=1e-3)


def test_without_pretraining_no_weights_are_looked_for(monkeypatch):
    asked = asked_of_timm(monkeypatch)
    tiny("timm")
    architecture = parse_architecture({**TINY["timm"], "pretrained": "if-available"})
    build_teacher(architecture, INPUTS, fetch=False)
    assert asked == [False, False]


def test_a_machine_without_weights_starts_from_random_ones_and_the_log_says_so(monkeypatch, caplog):
    asked = asked_of_timm(monkeypatch, OSError("no route to host"))
    with caplog.at_level(logging.INFO):
        teacher = tiny("timm", pretrained="if-available")
    assert asked == [True, False]
    assert teacher.backbone.weights_from is None
    assert "no ImageNet weights (OSError: no route to host)" in caplog.text


@pytest.mark.parametrize("name", ["timm", "inception-resnet-v2", "age-network"])
def test_weights_of_imagenet_are_taken_where_they_are_and_the_log_says_which(name, monkeypatch, caplog):
    asked_of_timm(monkeypatch)
    with caplog.at_level(logging.INFO):
        teacher = tiny(name, pretrained="if-available")
    assert "starts from ImageNet weights" in caplog.text
    stem = next(iter(teacher.parameters()))
    assert (stem == MARK).all()


MARK = 0.125


def asked_of_timm(monkeypatch, error=None):
    """What timm was asked for as to weights; `error` is what a machine without them raises, else all are `MARK`."""
    asked, real = [], timm.create_model

    def create_model(name, pretrained=False, **settings):
        asked.append(pretrained)
        if pretrained and error is not None:
            raise error
        network = real(name, pretrained=False, **settings)
        if pretrained:
            for value in network.parameters():
                value.data.fill_(MARK)
        return network

    monkeypatch.setattr(timm, "create_model", create_model)
    return asked


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


def test_the_deformation_of_bonet_starts_as_none_and_is_learnt():
    none = torch.eye(2, 3)[None].expand(4, -1, -1)
    image, sex, age, _ = bars(4)
    with torch.no_grad():
        torch.testing.assert_close(
            tiny("bonet").eval()(image, sex, age).extra["deformation"], none, rtol=0, atol=0
        )
        found = learnt("bonet")(image, sex, age).extra["deformation"]
    assert (found - none).abs().max() > 0.01


def test_girls_and_boys_have_their_own_inception_model_and_others_the_mean_of_both():
    teacher = tiny("inception-resnet-v2").eval()
    image = bars(1)[0].expand(3, -1, -1, -1)
    nowhere = torch.full((3,), math.nan)
    with torch.no_grad():
        teacher.models[0].out.bias += 3
        for model in teacher.models:
            model.code.linear.weight.zero_()
        girl, boy, unknown = teacher(image, torch.tensor([0, 1, 2]), nowhere).months
        one = tiny("inception-resnet-v2", sex_specific=False)
    assert abs(girl - boy) > 12
    torch.testing.assert_close(unknown, (girl + boy) / 2)
    assert len(one.models) == 1


def test_a_batch_of_girls_leaves_the_boys_model_with_gradients_of_zero():
    teacher = tiny("inception-resnet-v2")
    image, _, age, months = bars(3)
    girls = torch.zeros(3, dtype=torch.long)
    teacher.loss(teacher(image, girls, age), months, None)["loss"].backward()
    assert any(value.grad.abs().max() > 0 for value in teacher.models[0].parameters())
    assert all((value.grad == 0).all() for value in teacher.models[1].parameters())


def test_the_inception_network_itself_runs_on_one_girl_and_one_boy_of_the_smallest_size():
    architecture = parse_architecture({"kind": "inception-resnet-v2", "pretrained": "none"})
    teacher = build_teacher(architecture, Inputs((107, 107)))
    image = torch.randn(2, 1, 107, 107)
    outcome = teacher(image, torch.tensor([0, 1]), torch.full((2,), math.nan))
    assert outcome.months.tolist() == pytest.approx([120, 120], abs=12)
    with pytest.raises(ValueError, match="at least 107 pixels"):
        build_teacher(architecture, Inputs((106, 200)))


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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "resnet"}, "resnet.*does not match any"),
        ({"kind": "bonet", "channel": [3, 4]}, "bonet.channel"),
        ({"kind": "bonet", "channels": [3, 4]}, "deform_after is 3 of 2 convolutions"),
        ({"kind": "timm", "backbone": "convnext_atto", "pretrained": "yes"}, "if-available"),
        ({"kind": "age-network", "options": {"bin": 60}}, "did you mean 'bins'"),
        ({"kind": "age-network", "baseline": [3, 3]}, "two different key points"),
        ({"kind": "iglovikov", "key_points": 17}, "three different ones of 0 to 16"),
        ({"kind": "iglovikov", "finder_size": [100, 100]}, "multiples of 32"),
        ({"kind": "iglovikov", "regions": ["hand", "hand"]}, "each at most once"),
    ],
)
def test_an_architecture_that_cannot_be_is_refused_with_the_reason(values, message):
    with pytest.raises(ValidationError, match=message):
        parse_architecture(values)


def test_a_network_that_timm_does_not_know_is_refused_with_its_neighbours():
    with pytest.raises(ValueError, match="convnext_tiny"):
        build_teacher(
            parse_architecture({"kind": "timm", "backbone": "convnext_tinny", "pretrained": "none"}), INPUTS
        )


def test_the_age_network_refuses_pictures_that_are_not_square_and_bins_that_are_no_months():
    with pytest.raises(ValueError, match="square"):
        tiny("age-network", Inputs((64, 48)))
    with pytest.raises(ValueError, match="bins is 100"):
        tiny("age-network", options={"bins": 100})
