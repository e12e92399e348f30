"""What the backbone sees of jittered crops, with the true landmarks there: to refine landmarks is learnt from that."""

from __future__ import annotations

from collections.abc import Sequence
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
    there is none; `indicators` (N, I + M) indicators and maturities, NaN where there is none; `sex` (N,) 0 F, 1 M."""

    pictures: Tensor
    places: Tensor
    indicators: Tensor
    sex: Tensor

    def take(self, rows: Tensor) -> Windows:
        """Some of the views."""
        return Windows(self.pictures[rows], self.places[rows], self.indicators[rows], self.sex[rows])

    def images(self) -> Tensor:
        """The pictures as a network gets them, (N, 1, W, W) float32."""
        return self.pictures[:, None].float() / 127.5 - 1


def jittered_windows(
    module: AgeModule,
    cache: CropCache,
    rows: NDArray[np.intp],
    structure: Sequence[float],
    seed: int,
    batch: int = 64,
) -> Windows:
    """A view of each crop and each `structure` (`Jitter.with_structure`)."""
    network = module.averaged
    size = network.config.image_size
    field = network.window_px(size) / size
    rng = np.random.default_rng(seed)
    side, views = network.window_px(size), len(structure) * len(rows)
    labels = cache.labels
    told = labels.indicators.shape[1] + labels.maturities.shape[1]
    windows = Windows(
        torch.empty(views, side, side, dtype=torch.uint8),
        torch.full((views, network.config.points, 2), torch.nan),
        torch.empty(views, told),
        torch.empty(views, dtype=torch.int64),
    )
    part, done = Part(cache, rows, 1.0, "true", TRUE_SD_MONTHS), 0
    for share in structure:
        drawn = replace(module.recipe, jitter=module.recipe.jitter.with_structure(share))
        for start in range(0, len(rows), batch):
            found = rows_of(part, rows[start : start + batch], drawn, rng, size)
            here = slice(done, done + len(found["sex"]))
            window, known = network.window(found["image"])[:, 0], found["landmarks"] / field
            windows.pictures[here] = ((window + 1) * 127.5).round().to(torch.uint8)
            windows.places[here, : known.shape[1]] = known
            windows.indicators[here], windows.sex[here] = found["indicators"], found["sex"]
            done = here.stop
    return windows
