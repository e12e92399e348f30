"""What several networks have alike is written once."""

import torch

from KneeBoneAgeTrainingLib.export import apart


def test_what_is_alike_bit_for_bit_is_kept_once_and_nothing_is_lost():
    first = {"stem": torch.arange(4.0), "head": torch.tensor([1.0]), "only": torch.zeros(2)}
    near = torch.nextafter(torch.tensor([1.0]), torch.tensor([2.0]))
    second = {"stem": torch.arange(4.0), "head": near, "only": torch.ones(2)}
    shared, own = apart([first, second])
    assert list(shared) == ["stem"]
    for whole, rest in zip((first, second), own, strict=True):
        again = {**shared, **rest}
        assert again.keys() == whole.keys()
        assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_a_single_network_shares_nothing():
    state = {"stem": torch.arange(4.0)}
    assert apart([state]) == ({}, [state])
