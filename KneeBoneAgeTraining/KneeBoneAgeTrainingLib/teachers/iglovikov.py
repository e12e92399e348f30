"""The hand is cut out, brought to one pose, and read as a whole and by regions; the readings are averaged.

Iglovikov et al. 2017, arXiv 1712.05053: a U-Net mask takes the background away; key points give an affine
registration to one pose; VGG-style regression, and classification over 240 months, read the whole hand, the
carpal and the metacarpal/phalangeal region; the ensemble is averaged and the regions are compared. The public
part of their work has 500 x 375 pixels, six blocks of 32 to 384 maps with ELU, two dense layers of 2048,
target (age - 120) / 120 and L1 loss.

Chosen here: all is learnt at once, mask and key points from films that have them. They are used once they can
be relied on (running Dice and error of the training batches, kept in buffers); until then, and for films
without either, the usual place of a hand in its picture stands in. Batch normalisation; Gaussian targets of
classification; sex and age beside the first dense layer; the regions' borders (`hand_pose`); one U-Net and
one VGG-style finder on a small picture. Importance of a region is its share of the inverse running errors.
"""

from __future__ import annotations

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional

from .architecture import IglovikovArchitecture
from .base import (
    MONTHS,
    HandTruth,
    Inputs,
    Outcome,
    Teacher,
    distribution_loss,
    from_scaled,
    key_point_loss,
    mean_months,
    scaled_loss,
    with_sum,
)
from .fusion import AgeStart, PersonCode
from .hand_pose import REGIONS, USUAL, Frames, cut, hand_frames

RELIABLE_DICE = 0.85
MEMORY = 0.9
"""Share of a running mean that a step keeps."""


class Vgg(nn.Module):
    """Blocks of two convolutions, batch normalisation, ELU and pooling; two dense layers; `outputs` numbers."""

    def __init__(
        self,
        size: tuple[int, int],
        channels: tuple[int, ...],
        dense: int,
        outputs: int,
        drop_rate: float = 0.0,
        code_width: int = 0,
    ) -> None:
        super().__init__()
        rows, columns = size
        blocks: list[nn.Module] = []
        for before, after in zip((1, *channels[:-1]), channels, strict=True):
            for entering in (before, after):
                blocks += [
                    nn.Conv2d(entering, after, 3, padding=1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ELU(),
                ]
            blocks.append(nn.MaxPool2d(2, ceil_mode=True))
            rows, columns = (rows + 1) // 2, (columns + 1) // 2
        self.blocks = nn.Sequential(*blocks, nn.Flatten())
        self.dense = nn.Sequential(
            nn.Linear(channels[-1] * rows * columns + code_width, dense),
            nn.ELU(),
            nn.Dropout(drop_rate),
            nn.Linear(dense, dense),
            nn.ELU(),
            nn.Dropout(drop_rate),
            nn.Linear(dense, outputs),
        )

    def forward(self, image: Tensor, code: Tensor | None = None) -> Tensor:
        """Picture (B, 1, rows, columns) of `size`, code (B, `code_width`) → (B, outputs)."""
        read = self.blocks(image)
        return self.dense(read if code is None else torch.cat([read, code.to(read)], dim=1)).float()


class Iglovikov(Teacher):
    """Mask and key points → registered regions → a network for each region and output → their mean."""

    dice: Tensor
    point_error: Tensor
    region_error: Tensor

    def __init__(self, architecture: IglovikovArchitecture, inputs: Inputs) -> None:
        super().__init__(inputs)
        self.architecture = architecture
        self.mask_network = smp.Unet(
            encoder_name=architecture.unet_encoder,
            encoder_weights=None,
            decoder_channels=architecture.unet_channels,
            in_channels=1,
            classes=1,
        )
        self.finder = Vgg(
            architecture.finder_size,
            architecture.finder_channels,
            architecture.finder_dense,
            2 * architecture.key_points,
        )
        self.code = PersonCode(architecture.code_width)
        self.starts = nn.ModuleDict(
            {output: AgeStart(output == "classification") for output in architecture.outputs}
        )
        unit_px = architecture.hand_size[0] / (REGIONS["hand"].up[1] - REGIONS["hand"].up[0])
        self.sizes = {name: REGIONS[name].size_px(unit_px) for name in architecture.regions}
        if "hand" in self.sizes:
            self.sizes["hand"] = architecture.hand_size
        self.networks = nn.ModuleDict(
            {
                f"{region} {output}": Vgg(
                    self.sizes[region],
                    architecture.channels,
                    architecture.dense,
                    1 if output == "regression" else MONTHS,
                    architecture.drop_rate,
                    architecture.code_width,
                )
                for region in architecture.regions
                for output in architecture.outputs
            }
        )
        self.register_buffer("dice", torch.zeros(()))
        self.register_buffer("point_error", torch.ones(()))
        self.register_buffer("region_error", torch.full((len(architecture.regions),), 60.0))

    def forward(self, image: Tensor, sex: Tensor, age_months: Tensor) -> Outcome:
        """`extra`: "mask_logits", "key_points"; "region_months" and "region_importance" (B, regions) in the order of
        the architecture's regions; "regressed" (B, regions) months and "classified" (B, regions, 240) log p.
        """
        mask_logits, points = self.find(image)
        frames = self._frames(points.detach(), image)
        hand = self._without_background(image, mask_logits.detach())
        sex, age_months = self.shown(sex, age_months)
        code = self.code(sex, age_months)
        starts = {output: start(age_months) for output, start in self.starts.items()}
        regressed, classified = [], []
        for region in self.architecture.regions:
            picture = cut(hand, frames, REGIONS[region], self.sizes[region])
            for output in self.architecture.outputs:
                raw = self.networks[f"{region} {output}"](picture, code)
                if output == "regression":
                    regressed.append(from_scaled(raw[:, 0] + starts[output]))
                else:
                    classified.append(torch.log_softmax(raw + starts[output], dim=-1))
        extra = {"mask_logits": mask_logits, "key_points": points}
        estimates, log_p = [], None
        if regressed:
            extra["regressed"] = torch.stack(regressed, dim=1)
            estimates.append(extra["regressed"])
        if classified:
            extra["classified"] = torch.stack(classified, dim=1)
            estimates.append(mean_months(extra["classified"]))
            log_p = extra["classified"].logsumexp(1) - torch.tensor(float(len(classified))).log()
        by_region = torch.stack(estimates).mean(0)
        extra["region_months"] = by_region
        extra["region_importance"] = self.importance().expand_as(by_region)
        return Outcome(by_region.mean(1), log_p, extra)

    def find(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the hand's mask (B, H, W) and its key points (B, K, 2) in shares of the picture."""
        small = functional.interpolate(
            image, self.architecture.finder_size, mode="bilinear", align_corners=False, antialias=True
        )
        logits = self.mask_network(small).float()
        logits = functional.interpolate(logits, image.shape[-2:], mode="bilinear", align_corners=False)
        points = 0.5 + 0.5 * self.finder(small).view(len(image), -1, 2)
        return logits[:, 0], points

    def importance(self) -> Tensor:
        """How much each region says about bone age, (regions,), sum 1."""
        inverse = 1 / self.region_error.clamp(min=0.1)
        return inverse / inverse.sum()

    def _frames(self, points: Tensor, image: Tensor) -> Frames:
        """Frames by the key points found, or the usual one as long as these are not reliable."""
        usual = torch.tensor(USUAL, device=points.device).expand(len(points), -1, -1)
        reliable = self.point_error < self.architecture.pose_tolerance
        named = points[:, list(self.architecture.pose_points)]
        rows, columns = image.shape[-2:]
        return hand_frames(torch.where(reliable, named, usual), (rows, columns))

    def _without_background(self, image: Tensor, mask_logits: Tensor) -> Tensor:
        """Black (-1) away from the mask and a margin around it; the picture as long as masks are not reliable."""
        margin = max(1, image.shape[-2] // 64)
        inside = functional.max_pool2d((mask_logits > 0).float(), 2 * margin + 1, 1, margin) > 0
        return torch.where(inside[:, None] | (self.dice < RELIABLE_DICE), image, -1.0)

    def loss(self, outcome: Outcome, months: Tensor, truth: HandTruth | None) -> dict[str, Tensor]:
        """While training, the running Dice and errors are updated too."""
        extra, options = outcome.extra, self.architecture
        regions = len(options.regions)
        parts = {}
        if "regressed" in extra:
            parts["regression"] = scaled_loss(extra["regressed"], months[:, None].expand(-1, regions))
        if "classified" in extra:
            parts["classification"] = distribution_loss(
                extra["classified"].flatten(0, 1), months.repeat_interleave(regions), options.sigma_months
            )
        parts["key_points"] = 10 * options.key_point_weight * key_point_loss(extra["key_points"], truth)
        mask_loss, dice = _mask_loss(extra["mask_logits"], truth)
        parts["mask"] = options.mask_weight * mask_loss
        if self.training:
            self._remember(outcome, months, truth, dice)
        return with_sum(parts)

    @torch.no_grad()
    def _remember(
        self, outcome: Outcome, months: Tensor, truth: HandTruth | None, dice: Tensor | None
    ) -> None:
        error = (outcome.extra["region_months"] - months[:, None]).abs().mean(0)
        self.region_error.lerp_(error.to(self.region_error), 1 - MEMORY)
        if dice is not None:
            self.dice.lerp_(dice.to(self.dice), 1 - MEMORY)
        if truth is None or truth.key_points.shape[1] <= max(self.architecture.pose_points):
            return
        named = list(self.architecture.pose_points)
        away = (outcome.extra["key_points"][:, named] - truth.key_points[:, named]).norm(dim=-1)
        if bool(torch.isfinite(away).any()):
            self.point_error.lerp_(away[torch.isfinite(away)].mean().to(self.point_error), 1 - MEMORY)


def _mask_loss(logits: Tensor, truth: HandTruth | None) -> tuple[Tensor, Tensor | None]:
    """Cross-entropy plus soft Dice over the films that have a mask, and their Dice; (0, None) without any."""
    if truth is None or truth.mask is None:
        return 0 * logits.sum(), None
    known = torch.isfinite(truth.mask).all(-1).all(-1)
    if not bool(known.any()):
        return 0 * logits.sum(), None
    found, mask = logits[known], truth.mask[known].to(logits)
    p = found.sigmoid()
    soft = (2 * (p * mask).sum((1, 2)) + 1) / (p.sum((1, 2)) + mask.sum((1, 2)) + 1)
    hard = (found > 0).float()
    dice = (2 * (hard * mask).sum((1, 2)) + 1) / (hard.sum((1, 2)) + mask.sum((1, 2)) + 1)
    return functional.binary_cross_entropy_with_logits(found, mask) + 1 - soft.mean(), dice.mean().detach()
