"""One pose for every hand: the frame that three key points span, and what is cut out of a picture in that
frame.

The frame of a hand has its origin at the capitate, `up` towards the tip of the middle finger and `across` at
a right angle to it, towards the thumb; its unit is the distance from capitate to that tip. So a hand that is
turned, smaller or mirrored looks the same in it. Places in pictures are (x, y) pixels here, corners of the
picture at 0 and its size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Region:
    """A box in the frame of a hand: `across` and `up`, each from-to in its units."""

    across: tuple[float, float]
    up: tuple[float, float]

    def size_px(self, unit_px: float) -> tuple[int, int]:
        """Rows and columns at `unit_px` pixels a unit."""
        return (
            max(1, round((self.up[1] - self.up[0]) * unit_px)),
            max(1, round((self.across[1] - self.across[0]) * unit_px)),
        )


REGIONS = {
    "hand": Region(across=(-0.50, 0.70), up=(-0.48, 1.12)),
    "carpal": Region(across=(-0.24, 0.24), up=(-0.30, 0.18)),
    "metacarpal_phalangeal": Region(across=(-0.45, 0.55), up=(0.16, 0.76)),
}
"""Whole hand with the ends of radius and ulna; wrist; heads of the metacarpals with the proximal phalanges."""

USUAL = ((0.5, 0.66), (0.5, 0.06), (0.85, 0.42))
"""Where capitate and tips of middle finger and thumb lie when nothing is known, shares of a picture around a hand."""

SHORTEST = 0.15
"""Units shorter than this share of the picture's height are not believed."""


@dataclass(frozen=True)
class Frames:
    """Frames of B hands in pixels: `origin` (B, 2), `up` and `across` (B, 2), each one unit long."""

    origin: Tensor
    up: Tensor
    across: Tensor


def hand_frames(points: Tensor, size: tuple[int, int]) -> Frames:
    """Capitate, middle and thumb tips (B, 3, 2) in shares of a picture of `size` (rows, columns) → frames."""
    shape = torch.tensor([size[1], size[0]], device=points.device)
    capitate, tip, thumb = (points.float() * shape).unbind(1)
    up = tip - capitate
    length = up.norm(dim=1, keepdim=True)
    shortest = SHORTEST * size[0]
    usual = torch.tensor([0.0, -1.0], device=points.device)
    up = torch.where(length > 1e-3, up / length.clamp(min=1e-3), usual) * length.clamp(min=shortest)
    across = torch.stack([-up[:, 1], up[:, 0]], dim=1)
    side = torch.where(((thumb - capitate) * across).sum(1, keepdim=True) < 0, -1.0, 1.0)
    return Frames(capitate, up, side * across)


def cut(image: Tensor, frames: Frames, region: Region, size: tuple[int, int]) -> Tensor:
    """Region of each hand, (B, 1, rows, columns) of `size`; fingers up, thumb to the right; -1 outside the film."""
    rows, columns = size
    device = image.device
    middle_up = (torch.arange(rows, device=device) + 0.5) / rows
    middle_across = (torch.arange(columns, device=device) + 0.5) / columns
    up = region.up[1] - (region.up[1] - region.up[0]) * middle_up
    across = region.across[0] + (region.across[1] - region.across[0]) * middle_across
    places = (
        frames.origin[:, None, None]
        + up[None, :, None, None] * frames.up[:, None, None]
        + across[None, None, :, None] * frames.across[:, None, None]
    )
    shape = torch.tensor([image.shape[3], image.shape[2]], device=device)
    grid = (2 * places / shape - 1).to(image)
    return functional.grid_sample(image + 1, grid, align_corners=False) - 1
