"""How the age network looks closely at regions of the knee: each laid out in its bone's own frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Region:
    """A rectangle that moves with a bone, in breadths of its metaphysis from the middle between both edges of that.

    `medial` and `lateral` are the edges, as numbers of `phantom.build.LANDMARKS`; `along` goes from the medial towards
    the lateral one, `across` distally.
    """

    medial: int
    lateral: int
    along: tuple[float, float]
    across: tuple[float, float]
    columns_px: int
    rows_px: int

    def cut(self, window: Tensor, places: Tensor, field: float) -> Tensor:
        """Window (B, 1, W, W) of `field` crops and landmarks (B, P, 2), -1 to 1 across the crop → what the region
        shows, (B, 1, rows, columns), of mean 0 and deviation 1."""
        medial, lateral = places[:, self.medial], places[:, self.lateral]
        breadth = lateral - medial
        # Landmarks that are not yet found must not fold the region up.
        length = torch.linalg.vector_norm(breadth, dim=-1, keepdim=True).clamp(min=1e-6)
        breadth = breadth * (0.05 / length).clamp(min=1)
        distal = torch.stack([-breadth[:, 1], breadth[:, 0]], dim=-1)
        distal = torch.where(distal[:, 1:] < 0, -distal, distal)
        u = torch.linspace(*self.along, self.columns_px, device=window.device)[None, :, None]
        v = torch.linspace(*self.across, self.rows_px, device=window.device)[:, None, None]
        middle, breadth, distal = (
            one[:, None, None] for one in ((medial + lateral) / 2, breadth, distal)
        )  # (B, 1, 1, 2)
        grid = (middle + v * distal + u * breadth) / field
        found = functional.grid_sample(
            window, grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        found = found - found.mean((2, 3), keepdim=True)
        return found / (found.std((2, 3), keepdim=True) + 0.02)


KNEE_REGIONS = (
    Region(0, 1, (-0.62, 0.62), (-0.56, 0.5), 112, 96),
    Region(9, 10, (-0.6, 0.76), (-0.42, 0.52), 112, 80),
    Region(18, 19, (-1.2, 1.2), (-1.4, 1.0), 48, 48),
)
"""Distal femur with patella, down to the joint; proximal tibia with eminence and tuberosity; proximal fibula."""

POINTS_NEEDED = 1 + max(max(region.medial, region.lateral) for region in KNEE_REGIONS)
"""How many landmarks a network must find to look at them."""


class RegionReader(nn.Module):
    """Window and landmarks → features (B, 3 · F) of the `KNEE_REGIONS`.

    Heights, bridges, the patella over the femur and the tuberosity show in details that the backbone's cells are too
    coarse for. Each region is read by a few convolutions of its own; it learns by itself, before the heads.
    """

    CHANNELS, SQUEEZED = (16, 32, 48), 20

    def __init__(self, features: int) -> None:
        super().__init__()
        self.feature_count = features * len(KNEE_REGIONS)
        self.eyes = nn.ModuleList(
            self._eye(region.columns_px, region.rows_px, features) for region in KNEE_REGIONS
        )

    @classmethod
    def _eye(cls, columns: int, rows: int, features: int) -> nn.Sequential:
        first, second, third = cls.CHANNELS
        cells = (columns // 8) * (rows // 8)
        return nn.Sequential(
            nn.Conv2d(1, first, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(second, third, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(third, cls.SQUEEZED, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(cls.SQUEEZED * cells, features),
            nn.ReLU(),
            nn.Linear(features, features),
            nn.ReLU(),
        )

    def forward(self, window: Tensor, places: Tensor, field: float) -> Tensor:
        """Window (B, 1, W, W) of `field` crops; landmarks (B, P, 2), -1 to 1 across the crop → (B, 3 · F)."""
        with torch.autocast(window.device.type, enabled=False):
            window, places = window.float(), places.detach().float()
            return self.read([region.cut(window, places, field) for region in KNEE_REGIONS])

    def read(self, pictures: Sequence[Tensor]) -> Tensor:
        """What each region shows, (B, 1, rows, columns) → features (B, 3 · F)."""
        seen = zip(self.eyes, pictures, strict=True)
        return torch.cat([eye(one.contiguous(memory_format=torch.channels_last)) for eye, one in seen], dim=1)
