"""Hand teachers: each runs, learns a toy task, and copes with missing numbers."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).parent))
from toy_teachers import INPUTS, PICTURE_ONLY, SIDE, TINY, bars, learnt, tiny, truth_of

from KneeBoneAgeTrainingLib.teachers import HandTruth, parse_architecture
from KneeBoneAgeTrainingLib.teachers.base import distribution_loss


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
