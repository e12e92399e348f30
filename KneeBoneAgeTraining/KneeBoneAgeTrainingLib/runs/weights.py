"""Weights of a network on disk, written whole or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save

WEIGHTS, WEIGHTS_JSON = "weights.safetensors", "weights.json"
POWER, POWER_FROM = "power", "power_from_folds"
"""In weights.json: the power of the likelihood (see `tempering`), and the folds whose children settled it."""


def save_state(path: Path, module: torch.nn.Module) -> str:
    """Write a module's weights whole or not at all; their SHA-256."""
    content = save(
        {name: value.detach().cpu().contiguous().clone() for name, value in module.state_dict().items()}
    )
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(content)
    unfinished.replace(path)
    return hashlib.sha256(content).hexdigest()


def load_state(path: Path, module: torch.nn.Module) -> None:
    """Take over weights that `save_state` wrote."""
    module.load_state_dict(load_file(path))
