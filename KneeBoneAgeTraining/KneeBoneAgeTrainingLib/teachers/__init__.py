"""Hand teachers: the networks of the literature, one a file, and how a recipe asks for one.

`architecture` is what a recipe says about a network, `base` what all of them share, `fusion` how sex and
chronological age come in, `build_teacher` makes one from the other.
"""

from __future__ import annotations

from importlib import import_module

from .architecture import Architecture, parse_architecture
from .base import HandTruth, Inputs, Outcome, Teacher

__all__ = [
    "Architecture",
    "HandTruth",
    "Inputs",
    "Outcome",
    "Teacher",
    "build_teacher",
    "parse_architecture",
]

REGISTRY = {
    "timm": ("timm_teacher", "TimmTeacher"),
    "age-network": ("age_network", "AgeNetworkTeacher"),
    "bonet": ("bonet", "BoNet"),
    "inception-resnet-v2": ("inception_resnet_v2", "InceptionResNetV2"),
    "iglovikov": ("iglovikov", "Iglovikov"),
}
"""Kind of an architecture → file and class; a file is imported when its network is first asked for."""


def build_teacher(architecture: Architecture, inputs: Inputs, *, fetch: bool = True) -> Teacher:
    """The network of an architecture with fresh weights.

    Parameters
    ----------
    architecture, inputs :
        What it is made of and what it is given.
    fetch : bool
        False when its weights are loaded next: then no ImageNet weights are looked for.
    """
    if not fetch and "pretrained" in type(architecture).model_fields:
        architecture = architecture.model_copy(update={"pretrained": "none"})
    module, name = REGISTRY[architecture.kind]
    return getattr(import_module(f".{module}", __name__), name)(architecture, inputs)
