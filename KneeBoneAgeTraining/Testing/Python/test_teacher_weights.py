"""ImageNet weights: taken where they are, done without where they are not, and the log says which."""

import logging
import sys
from pathlib import Path

import pytest
import timm

sys.path.insert(0, str(Path(__file__).parent))
from toy_teachers import INPUTS, TINY, tiny

from KneeBoneAgeTrainingLib.teachers import build_teacher, parse_architecture


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


def test_a_network_that_timm_does_not_know_is_refused_with_its_neighbours():
    with pytest.raises(ValueError, match="convnext_tiny"):
        build_teacher(
            parse_architecture({"kind": "timm", "backbone": "convnext_tinny", "pretrained": "none"}), INPUTS
        )
