"""Drawn films for the finder as they are kept: shards in a folder that may grow while training reads it."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CACHE_PX = 224
"""Side of the cached pictures; the network trains on views of them."""

SHARD = 64
VALIDATION_EVERY = 40
"""One shard in so many is kept for watching the training and never trained on."""

Knee = tuple[float, float, float, float, bool]
"""Joint centre x, y and width in pixels, lean of the axis in degrees, fibula on the viewer's left."""


def write_shard(
    folder: Path, name: str, images: NDArray[np.uint8], labels: NDArray[np.uint8], knees: list[list[Knee]]
) -> None:
    """Add samples to a cache; the shard is seen by readers only when it is complete.

    Parameters
    ----------
    images : (n, CACHE_PX, CACHE_PX) grey values.
    labels : (n, CACHE_PX / 2, CACHE_PX / 2) indices into `KneeBoneAgeLib.segmentation.LABELS`.
    knees : n lists of knees in pixels of the images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}.images.npy", images)
    np.save(folder / f"{name}.labels.npy", labels)
    waiting = folder / f"{name}.knees.json.part"
    waiting.write_text(json.dumps(knees))
    os.replace(waiting, folder / f"{name}.knees.json")


def draw(folder: Path, count: int, seed: int, sample: Callable[..., Any] | None = None) -> None:
    """Draw ``count`` samples into a cache; shards that are there already are kept.

    Parameters
    ----------
    sample : called with (random generator, size in pixels); `drawing.finder_sample` unless given.
    """
    if sample is None:
        from .drawing import finder_sample

        sample = finder_sample
    start = time.monotonic()
    for number in range(math.ceil(count / SHARD)):
        name = f"{seed:05d}-{number:05d}"
        if (folder / f"{name}.knees.json").exists():
            continue
        rng = np.random.default_rng([seed, number])
        drawn = [sample(rng, CACHE_PX) for _ in range(min(SHARD, count - number * SHARD))]
        write_shard(
            folder,
            name,
            np.stack([np.round(np.clip(one.image, 0, 1) * 255).astype(np.uint8) for one in drawn]),
            np.stack([one.labels[::2, ::2].astype(np.uint8) for one in drawn]),
            [
                [(float(x), float(y), float(w), float(a), bool(f)) for x, y, w, a, f in one.knees]
                for one in drawn
            ],
        )
        print(f"{folder.name}: shard {name} after {time.monotonic() - start:.0f} s", flush=True)


class Cache:
    """The complete shards of a folder, memory-mapped; `refresh` picks up what was drawn since.

    Which shards are kept for validation depends on their names only, so a grown cache keeps them apart too.
    """

    def __init__(self, folder: Path, validation: bool = False) -> None:
        self.folder, self.validation = Path(folder), validation
        self._shards: dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8], list[list[Knee]]]] = {}
        self._places: list[tuple[str, int]] = []
        self.refresh()

    def refresh(self) -> None:
        for path in sorted(self.folder.glob("*.knees.json")):
            name = path.name.removesuffix(".knees.json")
            if (
                name in self._shards
                or (int(name.rsplit("-", 1)[-1]) % VALIDATION_EVERY == 1) != self.validation
            ):
                continue
            images = np.load(self.folder / f"{name}.images.npy", mmap_mode="r")
            labels = np.load(self.folder / f"{name}.labels.npy", mmap_mode="r")
            knees = json.loads(path.read_text())
            self._shards[name] = images, labels, knees
            self._places += [(name, row) for row in range(len(knees))]

    def __len__(self) -> int:
        return len(self._places)

    def take(self, indices: NDArray[np.intp]) -> tuple[Tensor, Tensor, list[list[Knee]]]:
        """Pictures (n, 1, S, S) in 0..1, labels (n, 1, S/2, S/2) as floats, and the knees."""
        rows = [(self._shards[name], row) for name, row in (self._places[i] for i in indices)]
        images = np.stack([shard[0][row] for shard, row in rows])
        labels = np.stack([shard[1][row] for shard, row in rows])
        return (
            torch.from_numpy(images)[:, None].float() / 255,
            torch.from_numpy(labels)[:, None].float(),
            [shard[2][row] for shard, row in rows],
        )
