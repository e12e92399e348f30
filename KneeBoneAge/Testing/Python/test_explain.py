"""Grad-CAM of networks that look at the picture's pixels beside the backbone's map."""

import pytest
import torch

from KneeBoneAgeLib.explain import BoneAge, _grad_cam
from KneeBoneAgeLib.network import AgeNetwork, AgeNetworkConfig

SMALL = AgeNetworkConfig(
    backbone_options={"depths": [1, 1, 1, 1], "dims": [8, 16, 16, 32], "ls_init_value": None},
    image_size=80,
    map_features=16,
    points=31,
    point_width=8,
    point_features=12,
    point_hidden=10,
    close_hidden=6,
    region_features=6,
)


@pytest.fixture(scope="module")
def fold() -> BoneAge:
    torch.manual_seed(1)
    network = AgeNetwork(SMALL).eval()
    with torch.no_grad():
        network.head.linear.weight.mul_(20)
    return BoneAge(network, "F", 90.0)


def test_the_picture_that_is_explained_is_left_as_it_was_and_explained_alike_again(fold):
    torch.manual_seed(2)
    image = torch.rand(1, 1, 80, 80) * 2 - 1
    first = _grad_cam(fold, image)
    assert not image.requires_grad
    torch.testing.assert_close(_grad_cam(fold, image), first)
    assert first.shape == (80, 80)


def test_what_is_asked_of_the_pixels_is_asked_of_their_readers_alone(fold):
    torch.manual_seed(2)
    image = (torch.rand(1, 1, 80, 80) * 2 - 1).requires_grad_()
    seen = []
    hook = fold.network.pixels.register_forward_hook(lambda _, given, found: seen.append(found))
    said = fold(image).sum()
    hook.remove()
    through_readers, through_all = torch.autograd.grad(said, [seen[0], image])
    assert through_readers.abs().max() > 0
    assert (through_all - through_readers).abs().max() > 0.1 * through_all.abs().max()  # and the backbone's
