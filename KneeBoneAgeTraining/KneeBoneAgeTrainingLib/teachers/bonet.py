"""BoNet: convolutions with a deformation layer between them, and a regression output.

Spampinato et al. 2017, Medical Image Analysis, doi 10.1016/j.media.2016.10.010: a network of their own for
hand films of all races, ages and both sexes, with a spatial transformer (Jaderberg et al. 2015, arXiv
1506.02025) inside it that learns without supervision how to deform its maps before they are read, and one
output. Chosen here: how many convolutions and maps (options), batch normalisation, an affine deformation that
starts as none, L1 loss in units of 120 months, and sex and age beside the fully connected layer, where they
are inputs at all. (Not the pose-based BoNet of Escobar 2019.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .architecture import BoNetArchitecture
from .base import HandTruth, Inputs, Outcome, Teacher, from_scaled, scaled_loss, with_sum
from .fusion import AgeStart, PersonCode


class DeformationLayer(nn.Module):
    """Maps (B, C, H, W) → the same maps resampled by an affine deformation that is read off them, and it, (B, 2, 3)."""

    CELLS = 4

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(self.CELLS),
            nn.Flatten(),
            nn.Linear(width * self.CELLS**2, width),
            nn.ReLU(),
        )
        self.affine = nn.Linear(width, 6)
        nn.init.zeros_(self.affine.weight)
        self.affine.bias.data = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        theta = self.affine(self.look(maps)).float().view(-1, 2, 3)
        grid = functional.affine_grid(theta, list(maps.shape), align_corners=False)
        return functional.grid_sample(maps.float(), grid, align_corners=False).to(maps), theta


def _convolution(before: int, after: int, kernel: int, stride: int, pool: bool) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, nn.MaxPool2d(2, ceil_mode=True)) if pool else nn.Sequential(*layers)


class BoNet(Teacher):
    """The first convolution is 7 x 7 with stride 2, the second 5 x 5, the others 3 x 3; all but the last two pool."""

    def __init__(self, architecture: BoNetArchitecture, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.architecture = architecture
        channels = architecture.channels
        convolutions = [
            _convolution(
                before,
                after,
                kernel=(7, 5)[place] if place < 2 else 3,
                stride=2 if place == 0 else 1,
                pool=place < max(1, len(channels) - 2),
            )
            for place, (before, after) in enumerate(zip((1, *channels[:-1]), channels, strict=True))
        ]
        split = architecture.deform_after
        self.before = nn.Sequential(*convolutions[:split])
        self.deform = DeformationLayer(channels[split - 1], architecture.localiser_width)
        self.after = nn.Sequential(*convolutions[split:], nn.AdaptiveAvgPool2d(architecture.pooled_cells))
        self.code = PersonCode(architecture.code_width)
        self.start = AgeStart()
        self.dense = nn.Linear(
            channels[-1] * architecture.pooled_cells**2 + architecture.code_width, architecture.dense
        )
        self.drop = nn.Dropout(architecture.drop_rate)
        self.out = nn.Linear(architecture.dense, 1)

    def forward(self, image: Tensor, sex: Tensor, age_months: Tensor) -> Outcome:
        """`extra["deformation"]` (B, 2, 3): from places in the deformed maps to places in the given ones, -1 to 1."""
        sex, age_months = self.shown(sex, age_months)
        maps, theta = self.deform(self.before(image))
        code = self.code(sex, age_months)
        read = torch.relu(self.dense(torch.cat([self.after(maps).flatten(1), code], dim=1)))
        raw = self.out(self.drop(read))[:, 0] + self.start(age_months)
        return Outcome(from_scaled(raw), extra={"deformation": theta})

    def loss(self, outcome: Outcome, months: Tensor, truth: HandTruth | None) -> dict[str, Tensor]:
        return with_sum({"months": scaled_loss(outcome.months, months)})
