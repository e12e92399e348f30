"""General-purpose networks of timm, for one-channel pictures, with ImageNet weights where the machine has
them."""

from __future__ import annotations

import difflib
import logging
from typing import Any

import timm
from torch import nn

from .architecture import Pretrained

log = logging.getLogger(__name__)


def create_backbone(
    name: str, pretrained: Pretrained, image_size: tuple[int, int], options: dict[str, Any] | None = None
) -> nn.Module:
    """A network of timm without its classifier: (B, 1, H, W) → (B, `feature_count(network)`).

    With "if-available", weights come from timm's own cache or are fetched; a machine that can do neither gets random
    ones, and the log says which. With "none" nothing is looked for. What was taken is kept as `weights_from`.

    Raises
    ------
    ValueError
        For a name that timm does not know.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), 3)
        raise ValueError(
            f"timm {timm.__version__} has no network {name!r}"
            + (f"; did you mean {', '.join(near)}?" if near else ": see timm.list_models()")
        )
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    settings: dict[str, Any] = {"in_chans": 1, "num_classes": 0, **(options or {})}
    if config is not None and config.fixed_input_size:
        settings.setdefault("img_size", image_size)
    network: Any
    if pretrained == "if-available":
        try:
            network = timm.create_model(name, pretrained=True, **settings)
        except Exception as error:  # timm, its hub and the network below it each raise their own
            log.warning("%s: no ImageNet weights (%s); it starts from random ones", name, _first_line(error))
        else:
            tag = network.pretrained_cfg.get("tag") or "timm's default"
            network.weights_from = f"{name} ({tag})"
            log.info("%s: starts from ImageNet weights (%s)", name, tag)
            return network
    else:
        log.info("%s: starts from random weights, as the recipe says", name)
    network = timm.create_model(name, pretrained=False, **settings)
    network.weights_from = None
    return network


def feature_count(network: nn.Module) -> int:
    """How many features a network of `create_backbone` gives; some widen the pooled maps once more."""
    found: Any = network
    return int(getattr(found, "head_hidden_size", None) or found.num_features)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
