"""What the backbone sees of jittered crops, with the true landmarks there: to refine landmarks is learnt from that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .age_module import AgeModule
from .batches import Part, rows_of
from .crop_cache import CropCache
from .recipe import TRUE_SD_MONTHS


@dataclass(frozen=True)
class Windows:
    """N jittered views.

    `pictures` (N, W, W) uint8 of -1 to 1; `places` (N, P, 2) the true landmarks, -1 to 1 across the window, NaN where
    there is none."""

    pictures: Tensor
    places: Tensor

    def take(self, rows: Tensor) -> Windows:
        """Some of the views."""
        return Windows(self.pictures[rows], self.places[rows])

    def images(self) -> Tensor:
        """The pictures as a network gets them, (N, 1, W, W) float32."""
        return self.pictures[:, None].float() / 127.5 - 1


def jittered_crops(
    module: AgeModule,
    cache: CropCache,
    rows: NDArray[np.intp],
    structure: Sequence[float],
    seed: int,
    batch: int = 64,
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """A view of each crop and each `structure` (`Jitter.with_structure`), by batches of `rows_of`, each with its place
    among the `len(structure) * len(rows)` views."""
    rng, size = np.random.default_rng(seed), module.averaged.config.image_size
    part, done = Part(cache, rows, 1.0, "true", TRUE_SD_MONTHS), 0
    for share in structure:
        drawn = replace(module.recipe, jitter=module.recipe.jitter.with_structure(share))
        for start in range(0, len(rows), batch):
            found = rows_of(part, rows[start : start + batch], drawn, rng, size)
            here = slice(done, done + len(found["sex"]))
            yield here, found
            done = here.stop


def jittered_windows(
    module: AgeModule,
    cache: CropCache,
    rows: NDArray[np.intp],
    structure: Sequence[float],
    seed: int,
    batch: int = 64,
) -> Windows:
    """The windows of `jittered_crops`."""
    network = module.averaged
    size = network.config.image_size
    side, views = network.window_px(size), len(structure) * len(rows)
    windows = Windows(
        torch.empty(views, side, side, dtype=torch.uint8),
        torch.full((views, network.config.points, 2), torch.nan),
    )
    for here, found in jittered_crops(module, cache, rows, structure, seed, batch):
        window, known = network.window(found["image"])[:, 0], found["landmarks"] / (side / size)
        windows.pictures[here] = ((window + 1) * 127.5).round().to(torch.uint8)
        windows.places[here, : known.shape[1]] = known
    return windows
