"""The outline of the drawn patella, as the reader of the patella is to find it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

ALONG = (-1.0, -0.85, -0.5, 0.0, 0.4, 0.75, 1.0)
HALF_WIDTH = (0.12, 0.5, 0.86, 1.0, 0.97, 0.74, 0.2)
"""Its half width at levels from its lower to its upper end, as `phantom.anatomy` draws it (there a smooth curve)."""


def outlines(points: Tensor, cells: int) -> Tensor:
    """How much of each cell lies on the patella, (B, cells, cells) of 0 to 1.

    points: (B, 4, 2) upper and lower end, medial and lateral side in a square of -1 to 1; NaN where there is no
    patella: its outline is empty."""
    drawn = torch.isfinite(points).all(-1).all(-1)
    upper, lower, medial, lateral = torch.nan_to_num(points, nan=0.0).unbind(1)
    up, across = (upper - lower) / 2, (lateral - medial) / 2
    long, wide = (torch.linalg.vector_norm(v, dim=-1, keepdim=True).clamp(min=1e-3) for v in (up, across))
    at = (torch.arange(cells, device=points.device) + 0.5) * (2 / cells) - 1
    place = torch.stack(torch.meshgrid(at, at, indexing="xy"), dim=-1)[None]
    away = place - ((upper + lower) / 2)[:, None, None]
    level = (away * (up / long)[:, None, None]).sum(-1) / long[:, None]
    beside = (away * (across / wide)[:, None, None]).sum(-1).abs()
    half = _interpolated(level) * wide[:, None]
    soft = ((half - beside) * (cells / 2) + 0.5).clamp(0, 1)
    return soft * (level.abs() <= 1) * drawn[:, None, None]


def _interpolated(level: Tensor) -> Tensor:
    knots, values = (torch.tensor(v, device=level.device, dtype=level.dtype) for v in (ALONG, HALF_WIDTH))
    right = torch.searchsorted(knots, level.contiguous()).clamp(1, len(knots) - 1)
    share = ((level - knots[right - 1]) / (knots[right] - knots[right - 1])).clamp(0, 1)
    return values[right - 1] + share * (values[right] - values[right - 1])


def outline_loss(logits: Tensor, points: Tensor) -> Tensor:
    """Cross-entropy and 1 - Dice (Milletari 2016) of logits (B, C, C) and the outlines of `points` (B, 4, 2)."""
    wanted = outlines(points, logits.shape[-1])
    found = torch.sigmoid(logits)
    both, area = (found * wanted).sum((1, 2)), found.sum((1, 2)) + wanted.sum((1, 2))
    few = 5.0  # cells: a knee without a patella does not divide by nothing
    dice = (2 * both + few) / (area + few)
    return functional.binary_cross_entropy_with_logits(logits, wanted) + (1 - dice).mean()
