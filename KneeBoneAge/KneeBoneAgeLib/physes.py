"""How the age network reads the physes: each laid out straight along its landmarks and looked at closely."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

KNEE_PHYSES = ((0, 1, 2, 3), (9, 10, 11, 12), (18, 19, 20, 21))
"""Of femur, tibia and fibula, as numbers of `phantom.build.LANDMARKS`: medial and lateral edge of the metaphysis,
proximal and distal border of the physis in its middle."""


class PhysisReader(nn.Module):
    """Window and landmarks → features (B, K · F) of K physes.

    Closing runs along a physis, and the backbone's cells are coarser than its gap; so a straight strip along each, from
    beyond one edge of the bone to beyond the other, is cut from the window and read by a few convolutions. All physes
    share these; a linear layer each reads what they see.
    """

    DEPTH_PX, LENGTH_PX, REACH, OVER = 32, 96, 0.16, 1.15
    """Size of a strip; half its depth as a share of half the crop's side; its length over the bone's breadth."""

    def __init__(self, physes: Sequence[Sequence[int]], features: int) -> None:
        super().__init__()
        self.physes = [list(physis) for physis in physes]

        self.see = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        cells = 32 * (self.DEPTH_PX // 8) * (self.LENGTH_PX // 8)
        self.read = nn.Parameter(torch.randn(len(self.physes), cells, features) * cells**-0.5)
        self.read_bias = nn.Parameter(torch.zeros(len(self.physes), 1, features))

    def forward(self, window: Tensor, places: Tensor, field: float) -> Tensor:
        """Window (B, 1, W, W) of `field` crops; landmarks (B, P, 2), -1 to 1 across the crop → (B, K · F)."""
        with torch.autocast(window.device.type, enabled=False):
            return self.read_strips(self.strips(window.float(), places.detach().float(), field))

    def strips(self, window: Tensor, places: Tensor, field: float) -> Tensor:
        """(B, K, D, L) the strips, each of mean 0 and deviation 1; rows run from the metaphysis of a femur distally,
        columns from medial to lateral."""
        corner = places[:, self.physes].unbind(2)  # four of (B, K, 2)
        medial, lateral, middle = corner[0], corner[1], (corner[2] + corner[3]) / 2
        along = lateral - medial
        breadth = torch.linalg.vector_norm(along, dim=-1, keepdim=True).clamp(min=0.05)
        along = along / breadth
        across = torch.stack([-along[..., 1], along[..., 0]], dim=-1)
        across = torch.where(across[..., 1:] < 0, -across, across)
        edges = (medial + lateral) / 2
        # Halfway between the line through the edges and the middle of the physis, which bows away from it.
        centre = edges + across * ((middle - edges) * across).sum(-1, keepdim=True) / 2
        u = torch.linspace(-self.OVER, self.OVER, self.LENGTH_PX, device=window.device)
        v = torch.linspace(-self.REACH, self.REACH, self.DEPTH_PX, device=window.device)
        here = centre[:, :, None, None] + v[:, None, None] * across[:, :, None, None]
        here = here + u[:, None] * (breadth * along)[:, :, None, None] / 2
        batch, count = here.shape[:2]
        grid = here.flatten(1, 2) / field  # (B, K · D, L, 2)
        found = functional.grid_sample(
            window, grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        found = found.view(batch, count, self.DEPTH_PX, self.LENGTH_PX)
        found = found - found.mean((2, 3), keepdim=True)
        return found / (found.std((2, 3), keepdim=True) + 0.02)

    def read_strips(self, strips: Tensor) -> Tensor:
        """Strips (B, K, D, L) → features (B, K · F)."""
        batch, count = strips.shape[:2]
        pictures = strips.flatten(0, 1)[:, None].contiguous(memory_format=torch.channels_last)
        seen = self.see(pictures).reshape(batch, count, -1)
        read = torch.baddbmm(self.read_bias, seen.transpose(0, 1), self.read)
        return torch.relu(read).transpose(0, 1).flatten(1)
