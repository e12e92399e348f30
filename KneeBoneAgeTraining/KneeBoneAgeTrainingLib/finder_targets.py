"""What the finder's maps should say about a picture, and how far they are from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from KneeBoneAgeLib.finder_network import LABELS, REFERENCE_ANGLE_DEG, REFERENCE_WIDTH_PX, STRIDE, Maps
from KneeBoneAgeLib.segmentation import FIBULA_REACH

from .finder_cache import Knee

LABEL_WEIGHTS = (0.3, 1.0, 1.0, 4.0, 2.0)
"""Of the bones in the loss: a fibula is two cells thick."""


@dataclass(frozen=True)
class Targets:
    """What the maps should be, for a batch of N pictures on a grid of (h, w) cells and K joint cells.

    `heat` and `watched` (0 where nobody can say) are (N, h, w); `cells` (K, 3) are picture, row and column of
    the cells around joints, and `values` (K, 4) their offset x, y in cells, log width and angle. `fibula`
    (N, h, w) is 1 or 0 around joints whose fibula lies on the viewer's left or right, -1 elsewhere; `present`
    and `present_watched` are (N,).
    """

    heat: Tensor
    watched: Tensor
    cells: Tensor
    values: Tensor
    fibula: Tensor
    present: Tensor
    present_watched: Tensor


def make_targets(knees: list[list[Knee]], labels: Tensor) -> Targets:
    """Gaussians at joint centres, and the values that the 3 x 3 cells around each must tell.

    Where the fibula lies is told by the cells around the joint and the fibula's own (``labels``, (N, h, w)).
    A knee whose centre lies within a quarter width of the edge may be found or not.
    """
    rows, cols = labels.shape[1:]
    bones = (labels == LABELS.index("fibula")).numpy()
    heat = np.zeros((len(knees), rows, cols), np.float32)
    watched = np.ones_like(heat)
    fibula = np.full_like(heat, -1)
    present = np.zeros(len(knees), np.float32)
    present_watched = np.ones(len(knees), np.float32)
    cells: list[tuple[int, int, int]] = []
    values: list[tuple[float, ...]] = []
    down, across = np.mgrid[:rows, :cols] + 0.5
    for index, several in enumerate(knees):
        for x, y, width, angle, left in several:
            x, y, wide = x / STRIDE, y / STRIDE, width / STRIDE
            edge = min(x, y, cols - x, rows - y)
            squared = (across - x) ** 2 + (down - y) ** 2
            if edge < 0.25 * wide:
                if edge > -0.5 * wide:
                    watched[index][squared < (0.5 * wide) ** 2] = 0
                    present_watched[index] = 0
                continue
            present[index] = 1
            sigma = 0.6 + 0.08 * wide
            np.maximum(heat[index], np.exp(-squared / (2 * sigma**2)), out=heat[index])
            row, col = min(int(y), rows - 1), min(int(x), cols - 1)
            heat[index, row, col] = 1
            away = np.abs(across - x - (down - y) * -math.tan(math.radians(angle)))
            own = bones[index] & (away < wide) & (down - y > -0.5 * wide)
            fibula[index][own | (squared < max(1.5, FIBULA_REACH * wide) ** 2)] = float(left)
            log_width = math.log(width / REFERENCE_WIDTH_PX)
            for r in range(max(row - 1, 0), min(row + 2, rows)):
                for c in range(max(col - 1, 0), min(col + 2, cols)):
                    cells.append((index, r, c))
                    values.append((x - c - 0.5, y - r - 0.5, log_width, angle / REFERENCE_ANGLE_DEG))
        if present[index]:
            present_watched[index] = 1
    return Targets(
        torch.from_numpy(heat),
        torch.from_numpy(watched),
        torch.tensor(cells, dtype=torch.long).reshape(-1, 3),
        torch.tensor(values, dtype=torch.float32).reshape(-1, 4),
        torch.from_numpy(fibula),
        torch.from_numpy(present),
        torch.from_numpy(present_watched),
    )


def losses(maps: Maps, labels: Tensor, targets: Targets) -> dict[str, Tensor]:
    """Weighted parts of the loss, each a scalar.

    The heat-map's is the penalty-reduced focal loss of CenterNet (Zhou et al., Objects as Points, 2019).
    """
    probability = maps.heat.sigmoid().clamp(1e-4, 1 - 1e-4)
    at_centre = targets.heat >= 1
    hit = -((1 - probability) ** 2) * probability.log() * at_centre
    miss = -((1 - targets.heat) ** 4) * probability**2 * (1 - probability).log() * ~at_centre
    heat = ((hit + miss) * targets.watched).sum() / at_centre.sum().clamp_min(1)
    picture, row, col = targets.cells.unbind(1)
    count = max(len(picture), 1)

    def joint_loss(beta: float, got: Tensor, wanted: Tensor) -> Tensor:
        return functional.smooth_l1_loss(got, wanted, beta=beta, reduction="sum") / count

    offset, log_width, angle = targets.values.split([2, 1, 1], dim=1)
    told = targets.fibula >= 0
    return {
        "heat": heat,
        "offset": joint_loss(0.25, maps.offset[picture, :, row, col], offset),
        "width": 4.0 * joint_loss(0.05, maps.log_width[picture, row, col], log_width[:, 0]),
        "angle": joint_loss(0.1, maps.angle[picture, row, col], angle[:, 0]),
        "fibula": functional.binary_cross_entropy_with_logits(
            maps.fibula, targets.fibula.clamp_min(0), weight=told.float(), reduction="sum"
        )
        / told.sum().clamp_min(1),
        "labels": functional.cross_entropy(maps.labels, labels, weight=maps.labels.new_tensor(LABEL_WEIGHTS)),
        "present": 0.5
        * functional.binary_cross_entropy_with_logits(
            maps.present, targets.present, weight=targets.present_watched
        ),
    }
