"""The network that finds knees: what it is given of a picture, and the maps that it makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

LABELS = ("background", "femur", "tibia", "fibula", "patella")
STRIDE = 4
"""Input pixels per cell of the network's maps."""

REFERENCE_WIDTH_PX = 48.0
"""The network's log width is relative to this; a knee at the second look is this wide."""

REFERENCE_ANGLE_DEG = 30.0

DEFAULT_CONFIG: dict[str, Any] = {
    "encoder": "tu-resnet10t",
    "encoder_options": {"channels": [48, 96, 160, 16], "stem_width": 16},
    "decoder_channels": [96, 64, 32],
    "hidden_channels": 64,
    "size_px": 192,
    "proposal_threshold": 0.15,
    "knee_threshold": 0.6,
    "confirm_threshold": 0.85,
    "most_knees": 2,
}
"""Architecture and decoding of the finder; a bundle stores it beside the weights."""


@dataclass(frozen=True)
class Maps:
    """Outputs of the network for a batch; cells are `STRIDE` input pixels.

    Attributes
    ----------
    heat : (N, h, w) logits of a joint centre.
    offset : (N, 2, h, w) x and y of the centre relative to the middle of the cell, in cells.
    log_width : (N, h, w) log of width / `REFERENCE_WIDTH_PX`.
    angle : (N, h, w) lean of the axis in `REFERENCE_ANGLE_DEG`.
    fibula : (N, h, w) logits of "fibula on the viewer's left".
    labels : (N, 5, h, w) logits of `LABELS`.
    present : (N,) logits of "a frontal knee is in the field".
    """

    heat: Tensor
    offset: Tensor
    log_width: Tensor
    angle: Tensor
    fibula: Tensor
    labels: Tensor
    present: Tensor


class FinderNetwork(nn.Module):
    """U-Net of segmentation-models-pytorch, ending at stride 4, with heads for joints and bones."""

    def __init__(self, config: Mapping[str, Any] = DEFAULT_CONFIG) -> None:
        super().__init__()
        import segmentation_models_pytorch as smp

        decoder_channels = list(config["decoder_channels"])
        hidden = int(config["hidden_channels"])
        unet = smp.Unet(
            config["encoder"],
            encoder_depth=len(decoder_channels) + 1,
            encoder_weights=None,
            # The last block would only enlarge the maps beyond stride 4; it is taken off again.
            decoder_channels=[*decoder_channels, 8],
            in_channels=8,
            classes=1,
            **config["encoder_options"],
        )
        del unet.decoder.blocks[-1]
        self.encoder, self.decoder = unet.encoder, unet.decoder
        last = nn.Conv2d(hidden, 6 + len(LABELS), 1)
        self.head = nn.Sequential(nn.Conv2d(decoder_channels[-1], hidden, 1), nn.ReLU(), last)
        self.present = nn.Linear(unet.encoder.out_channels[-1], 1)
        # A centre is rare: the heat-map begins low.
        last.bias = nn.Parameter(torch.tensor([-4.0] + [0.0] * (5 + len(LABELS))))

    def forward(self, pictures: Tensor) -> Maps:
        """Pictures (N, 1, H, W) with grey values of any scale, H and W multiples of 32."""
        features = self.encoder(functional.pixel_unshuffle(prepare(pictures), 2))
        maps = self.head(self.decoder(features))
        deepest = features[-1].mean(dim=(2, 3)) + features[-1].amax(dim=(2, 3))
        return Maps(
            heat=maps[:, 0],
            offset=maps[:, 1:3],
            log_width=maps[:, 3],
            angle=maps[:, 4],
            fibula=maps[:, 5],
            labels=maps[:, 6:],
            present=self.present(deepest)[:, 0],
        )


def fold_batch_norms(network: nn.Module) -> None:
    """Put each batch norm into the convolution before it, in place: same answers in less time."""
    places = [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if not any(True for _ in child.children())
    ]
    order = {id(module): rank for rank, module in enumerate(network.modules())}
    places.sort(key=lambda place: order[id(place[2])])
    for (parent, name, layer), (owner, norm_name, norm) in pairwise(places):
        if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(parent, name, fuse_conv_bn_eval(layer, norm))
            setattr(owner, norm_name, nn.Identity())


def prepare(pictures: Tensor) -> Tensor:
    """Two views of each picture, free of exposure: standardised, and with local mean and contrast levelled.

    Parameters
    ----------
    pictures : (N, 1, H, W), 0 outside of the film; H and W multiples of 8.

    Returns
    -------
    (N, 2, H, W) of about -2..2.
    """
    seen = (pictures > 0).to(pictures.dtype)
    count = seen.sum(dim=(2, 3), keepdim=True).clamp_min(1)
    mean = pictures.sum(dim=(2, 3), keepdim=True) / count
    centred = (pictures - mean) * seen
    scale = (centred.square().sum(dim=(2, 3), keepdim=True) / count).sqrt().clamp_min(1e-4)
    standard = (centred / scale).clamp(-2.5, 2.5)
    coarse = functional.avg_pool2d(torch.cat([standard, standard.square(), seen], dim=1), 8)
    smooth = functional.avg_pool2d(coarse, 5, stride=1, padding=2, count_include_pad=False)
    smooth = functional.interpolate(smooth, size=pictures.shape[2:], mode="bilinear", align_corners=False)
    share = smooth[:, 2:].clamp_min(1e-2)
    local = smooth[:, :1] / share
    spread = (smooth[:, 1:2] / share - local.square()).clamp_min(0).sqrt() + 0.1
    levelled = ((standard - local) / spread * seen).clamp(-2.5, 2.5)
    return torch.cat([standard - 2.5 * (1 - seen), levelled], dim=1)
