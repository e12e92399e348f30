"""Inception-ResNet-V2 (Cheng 2021): one model for each sex."""

import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from toy_teachers import bars, tiny

from KneeBoneAgeTrainingLib.teachers import Inputs, build_teacher, parse_architecture


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


def test_a_smaller_inception_network_is_narrow_throughout_and_keeps_its_kinds_of_blocks():
    small = parse_architecture(
        {"kind": "inception-resnet-v2", "pretrained": "none", "narrow": 4, "blocks": [2, 3, 2]}
    )
    teacher = build_teacher(small, Inputs((128, 128)))
    backbone = teacher.models[0].backbone
    assert (len(backbone.repeat), len(backbone.repeat_1), len(backbone.repeat_2)) == (2, 3, 1)
    assert backbone.conv2d_1a.conv.weight.shape == (8, 1, 3, 3)
    assert backbone.conv2d_7b.conv.weight.shape == (384, 520, 1, 1)
    _, sex, age, months = bars(6)
    image = torch.randn(6, 1, 128, 128)
    outcome = teacher(image, sex, age)
    teacher.loss(outcome, months, None)["loss"].backward()
    assert all(torch.isfinite(value.grad).all() for value in teacher.parameters() if value.grad is not None)
    assert teacher.models[0].out.in_features == 384 + small.code_width


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"narrow": 4}, "ImageNet weights do not fit a smaller network"),
        ({"pretrained": "none", "narrow": 2, "backbone": "resnet18"}, "backbone is resnet18"),
        ({"pretrained": "none", "blocks": [11, 20, 10]}, "at most"),
    ],
)
def test_what_cannot_be_made_smaller_is_refused(values, said):
    with pytest.raises(ValueError, match=said):
        parse_architecture({"kind": "inception-resnet-v2", **values})
