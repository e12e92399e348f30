"""Small parts of a training loop."""

from KneeBoneAgeLib.readers import CloseLook
from KneeBoneAgeTrainingLib.runs.loop import weight_groups


def test_no_bias_decays_whatever_its_shape_and_what_is_frozen_is_left_out():
    look = CloseLook(points=3, hidden=4, described=2)
    named = dict(look.named_parameters())
    assert named["hidden_bias"].ndim == named["hidden"].ndim == 3
    decaying, others = weight_groups(look.named_parameters(), 0.05)
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.05, 0.0)
    assert {id(p) for p in decaying["params"]} == {id(named["hidden"]), id(named["out"])}
    assert {id(p) for p in others["params"]} == {id(named["hidden_bias"]), id(named["out_bias"])}
    look.out.requires_grad_(False)
    assert len(weight_groups(look.named_parameters(), 0.05)[0]["params"]) == 1
