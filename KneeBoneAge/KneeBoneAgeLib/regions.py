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

    `shows` are the first words of the names of indicators and landmarks that are read off it. `medial` and `lateral`
    are the edges, as numbers of `phantom.build.LANDMARKS`; `along` goes from the medial towards the lateral one,
    `across` distally.
    """

    shows: tuple[str, ...]
    medial: int
    lateral: int
    along: tuple[float, float]
    across: tuple[float, float]
    columns_px: int
    rows_px: int

    def cut(self, image: Tensor, places: Tensor) -> Tensor:
        """Crops (B, 1, S, S) and their landmarks (B, P, 2), -1 to 1 across → what the region shows,
        (B, 1, rows, columns), of mean 0 and deviation 1."""
        middle, breadth, distal = (one[:, None] for one in self._frame(places))  # (B, 1, 1, 2)
        u = torch.linspace(*self.along, self.columns_px, device=image.device)[None, :, None]
        v = torch.linspace(*self.across, self.rows_px, device=image.device)[:, None, None]
        found = functional.grid_sample(
            image,
            middle + v * distal + u * breadth,
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        found = found - found.mean((2, 3), keepdim=True)
        return found / (found.std((2, 3), keepdim=True) + 0.02)

    def names(self, known: Sequence[str]) -> list[int]:
        """Which of the names of indicators or landmarks it shows."""
        return [number for number, name in enumerate(known) if name.split("_")[0] in self.shows]

    def locate(self, points: Tensor, places: Tensor) -> Tensor:
        """Where points (B, N, 2) of the crop lie in the region that the landmarks `places` lay out: (along, across),
        (B, N, 2); NaN for a point outside of it."""
        middle, breadth, distal = self._frame(places)
        away, square = points - middle, (breadth**2).sum(-1)
        found = torch.stack([(away * breadth).sum(-1), (away * distal).sum(-1)], dim=-1) / square[..., None]
        low, high = torch.tensor([self.along, self.across], device=found.device).T
        inside = ((found >= low) & (found <= high)).all(-1, keepdim=True)
        return torch.where(inside, found, torch.nan)

    def _frame(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The middle between both edges, the way from the medial to the lateral one and, as long, distally, each
        (B, 1, 2)."""
        medial, lateral = places[:, self.medial, None], places[:, self.lateral, None]
        breadth = lateral - medial
        # Landmarks that are not yet found must not fold the region up.
        length = torch.linalg.vector_norm(breadth, dim=-1, keepdim=True).clamp(min=1e-6)
        breadth = breadth * (0.05 / length).clamp(min=1)
        distal = torch.stack([-breadth[..., 1], breadth[..., 0]], dim=-1)
        distal = torch.where(distal[..., 1:] < 0, -distal, distal)
        return (medial + lateral) / 2, breadth, distal


KNEE_REGIONS = (
    Region(("femur",), 0, 1, (-0.62, 0.62), (-0.56, 0.5), 112, 96),
    Region(("tibia", "tuberosity", "eminence"), 9, 10, (-0.6, 0.76), (-0.42, 0.52), 112, 80),
    Region(("fibula",), 18, 19, (-1.2, 1.2), (-1.4, 1.0), 48, 48),
    Region(("patella",), 0, 1, (-0.44, 0.44), (-0.56, 0.41), 80, 88),
)
"""Distal femur down to the joint; proximal tibia with eminence and tuberosity; proximal fibula; the patella, which is a
faint edge over the femur."""

POINTS_NEEDED = 1 + max(max(region.medial, region.lateral) for region in KNEE_REGIONS)
"""How many landmarks a network must find to look at them."""


class RegionReader(nn.Module):
    """Crop and landmarks → features (B, R · F) of the R `KNEE_REGIONS`.

    Heights, bridges, the patella over the femur and the tuberosity show in details that the backbone's cells are too
    coarse for. Each region is read by convolutions of its own, with `blocks` residual ones at each of the two coarser
    scales: the faint edge of a patella is found by following it. It learns by itself, before the heads.
    """

    CHANNELS, SQUEEZED = (16, 32, 64), 24

    def __init__(self, features: int, blocks: int) -> None:
        super().__init__()
        self.features, self.feature_count = features, features * len(KNEE_REGIONS)
        self.eyes = nn.ModuleList(
            self._eye(region.columns_px, region.rows_px, features, blocks) for region in KNEE_REGIONS
        )

    @classmethod
    def _eye(cls, columns: int, rows: int, features: int, blocks: int) -> nn.Sequential:
        first, second, third = cls.CHANNELS
        cells = (columns // 8) * (rows // 8)
        return nn.Sequential(
            nn.Conv2d(1, first, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1),
            *(Residual(second) for _ in range(blocks)),
            nn.ReLU(),
            nn.Conv2d(second, third, 3, stride=2, padding=1),
            *(Residual(third) for _ in range(blocks)),
            nn.ReLU(),
            nn.Conv2d(third, cls.SQUEEZED, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(cls.SQUEEZED * cells, features),
            nn.ReLU(),
            nn.Linear(features, features),
            nn.ReLU(),
        )

    def forward(self, image: Tensor, places: Tensor) -> Tensor:
        """Crops (B, 1, S, S) and their landmarks (B, P, 2), -1 to 1 across → (B, R · F)."""
        with torch.autocast(image.device.type, enabled=False):
            image, places = image.float(), places.detach().float()
            pictures = [region.cut(image, places) for region in KNEE_REGIONS]
            return torch.cat([self.look(number, one) for number, one in enumerate(pictures)], dim=1)

    def look(self, number: int, picture: Tensor) -> Tensor:
        """What one of the regions shows, (B, 1, rows, columns) → its features (B, F)."""
        found: Tensor = self.eyes[number](picture.contiguous(memory_format=torch.channels_last))
        return found


class Residual(nn.Module):
    """Two convolutions that add to the map they see; it starts by adding nothing (Zhang et al., 2019: Fixup)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        if self.second.bias is not None:
            nn.init.zeros_(self.second.bias)

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.second(torch.relu(self.first(torch.relu(maps))))
