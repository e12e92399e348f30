"""How the age network reads the patella: a shadow in front of the femur, outlined before it is measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .physes import KNEE_PHYSES


@dataclass(frozen=True)
class Frame:
    """A square on the femoral metaphysis of each of B crops: `centre` (B, 2), unit vectors `along` to lateral and
    `across` to proximal (B, 2), and `side` (B, 1), all in the crop's coordinates, -1 to 1."""

    centre: Tensor
    along: Tensor
    across: Tensor
    side: Tensor

    def of_crop(self, points: Tensor) -> Tensor:
        """Points (B, P, 2) of the crop as (x, y) of the square, -1 to 1: x to lateral, y to distal."""
        away = (points - self.centre[:, None]) * (2 / self.side[:, None])
        x, y = ((away * axis[:, None]).sum(-1) for axis in (self.along, -self.across))
        return torch.stack([x, y], dim=-1)

    def grid(self, cells: int) -> Tensor:
        """Where in the crop the centres of `cells` x `cells` cells of the square lie, (B, cells, cells, 2)."""
        u = (torch.arange(cells, device=self.centre.device) + 0.5) / cells - 0.5
        x = (self.side * self.along)[:, None, None] * u[:, None]
        y = (self.side * self.across)[:, None, None] * u[:, None, None]
        return self.centre[:, None, None] + x - y


class PatellaReader(nn.Module):
    """Window and landmarks → features (B, F) of the patella's size.

    The patella adds little to the femur's shadow, so single landmarks on it are hardly found; its outline as a whole
    is. A square of the size of the femoral metaphysis is cut out, a small network says of each cell whether it lies
    on the patella, and how many do in each row and column is read by a linear layer.
    """

    SIDE_PX, CELLS, UP = 72, 36, 0.12
    """Pixels and cells along the square; how far above the physis its centre lies, as a share of its side."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            nn.Conv2d(1, 12, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(12, 16, 3, padding=1), nn.ReLU()
        )
        self.coarse = nn.Sequential(
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            *(
                layer
                for reach in (1, 2, 4)
                for layer in (nn.Conv2d(32, 32, 3, padding=reach, dilation=reach), nn.ReLU())
            ),
            nn.Conv2d(32, 16, 1),
        )
        self.out = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 1))
        self.read = nn.Linear(2 * self.CELLS + 1, features)

    def forward(self, window: Tensor, places: Tensor, field: float) -> Tensor:
        """Window (B, 1, W, W) of `field` crops; landmarks (B, P, 2), -1 to 1 across the crop → (B, F)."""
        with torch.autocast(window.device.type, enabled=False):
            squares = self.squares(window.float(), places.detach().float(), field)
            return self.read_outline(self.outline(squares))

    @classmethod
    def frame(cls, places: Tensor) -> Frame:
        """The square of landmarks (B, P, 2)."""
        medial, lateral, proximal, distal = places[:, KNEE_PHYSES[0]].unbind(1)  # of the femur
        along = lateral - medial
        side = torch.linalg.vector_norm(along, dim=-1, keepdim=True).clamp(min=0.05)
        along = along / side
        across = torch.stack([-along[:, 1], along[:, 0]], dim=-1)
        across = torch.where(across[:, 1:] > 0, -across, across)
        return Frame((proximal + distal) / 2 + cls.UP * side * across, along, across, side)

    @classmethod
    def squares(cls, window: Tensor, places: Tensor, field: float) -> Tensor:
        """(B, S, S) the squares, each of mean 0 and deviation 1; rows run distally, columns to lateral."""
        grid = cls.frame(places).grid(cls.SIDE_PX) / field
        found = functional.grid_sample(
            window, grid, mode="bilinear", padding_mode="border", align_corners=False
        )[:, 0]
        found = found - found.mean((1, 2), keepdim=True)
        return found / (found.std((1, 2), keepdim=True) + 0.02)

    def outline(self, squares: Tensor) -> Tensor:
        """Squares (B, S, S) → logits (B, C, C): whether a cell lies on the patella."""
        pictures = squares[:, None].contiguous(memory_format=torch.channels_last)
        fine = self.fine(pictures)
        coarse = functional.interpolate(
            self.coarse(fine), fine.shape[-2:], mode="bilinear", align_corners=False
        )
        return self.out(torch.relu(fine + coarse))[:, 0]

    def read_outline(self, logits: Tensor) -> Tensor:
        """Logits (B, C, C) → features (B, F)."""
        inside = torch.sigmoid(logits)
        rows, columns = inside.mean(2), inside.mean(1)
        area = inside.mean((1, 2))[:, None]
        return torch.relu(self.read(torch.cat([4 * rows, 4 * columns, 8 * area], dim=1)))
