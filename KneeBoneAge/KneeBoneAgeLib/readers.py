"""How the age network reads the maps of its backbone: place by place, and at landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


class MapReader(nn.Module):
    """Maps of the last stages → features (B, F) that know where in the crop something was seen.

    Pooling forgets the place, and most of what matures at the knee is a breadth, a height or a line at a known
    place of an aligned crop. Each map is normalised, squeezed to few channels and read by one linear layer.
    """

    def __init__(
        self,
        channels: Sequence[int],
        cells: Sequence[int],
        squeezed: Sequence[int],
        features: int,
        rank: int = 0,
    ) -> None:
        super().__init__()
        self.cells = list(cells)
        self.squeeze = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(1, wide), nn.Conv2d(wide, narrow, 1), nn.ReLU())
            for wide, narrow in zip(channels, squeezed, strict=True)
        )
        read = sum(narrow * side**2 for narrow, side in zip(squeezed, cells, strict=True))
        self.linear: nn.Module = nn.Linear(read, features)
        if rank:
            self.linear = nn.Sequential(nn.Linear(read, rank, bias=False), nn.Linear(rank, features))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, C, S, S), one a stage; of another side than trained with they are resampled."""
        places = []
        for squeeze, side, one in zip(self.squeeze, self.cells, maps, strict=True):
            narrow = squeeze(one)
            if narrow.shape[-1] != side:
                narrow = functional.interpolate(narrow, (side, side), mode="bilinear", align_corners=False)
            places.append(narrow.flatten(1))
        return torch.relu(self.linear(torch.cat(places, 1)))


@dataclass(frozen=True)
class Points:
    """Where landmarks were found: `places` (B, P, 2) as (x, y), -1 to 1 across the crop, and `log_share`
    (B, P, cells): how likely each cell of a grid of `side` x `side` over the window is to hold one."""

    places: Tensor
    log_share: Tensor
    side: int


class PointReader(nn.Module):
    """Maps of all stages → landmarks, and features (B, F) of where they lie and what they look like.

    A coarse-to-fine sum of the maps gives one heat-map a landmark; its soft maximum is the place to a fraction of a
    cell. Cells are too coarse to place an edge, so a `CloseLook` at the picture's own pixels corrects the place: with
    `refine` hidden units one that does only this, several times, each from where it last was; else one with `close`
    hidden units, once. The network gets the places, the shape coordinates of Bookstein (1986) on the
    femoral metaphysis (its two edges are the first two landmarks), which no shift, turn or scale changes, and what the
    maps and the pixels show at the places. With `hidden` units they are read by a perceptron of two hidden layers:
    what matures are ratios of distances, which no linear layer makes of coordinates. With `measured` features a second
    perceptron reads the places and shape coordinates alone: beside all that is seen there, their small differences
    are hardly learnt.
    """

    DESCRIBED, REFINED, PLACED = 8, 3, 4
    """Numbers that say what a place looks like; times that it is refined; numbers that say where it lies."""

    def __init__(
        self,
        channels: Sequence[int],
        points: int,
        width: int,
        features: int,
        close: int = 0,
        hidden: int = 0,
        refine: int = 0,
        measured: int = 0,
    ) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(1, wide), nn.Conv2d(wide, width, 1)) for wide in channels
        )
        self.merge = nn.Conv2d(width, width, 3, padding=1)
        self.heat = nn.Conv2d(width, points, 1)
        self.describe = nn.Conv2d(width, self.DESCRIBED, 1)
        self.refine = CloseLook(points, refine, 0) if refine else None
        self.close = CloseLook(points, close, self.DESCRIBED, corrects=not refine) if close else None
        described = self.DESCRIBED * (2 if close else 1)
        read = points * (self.PLACED + 1 + described)
        self.linear: nn.Module = perceptron(read, hidden, features) if hidden else nn.Linear(read, features)
        self.measure = perceptron(points * self.PLACED, hidden or measured, measured) if measured else None

    def forward(self, image: Tensor, maps: Sequence[Tensor], field: float) -> tuple[Tensor, Points]:
        """Window (B, 1, W, W) of `field` crops and its maps (B, C, S, S), fine to coarse."""
        merged: Tensor | None = None
        for lateral, one in zip(reversed(self.lateral), reversed(maps), strict=True):
            here = lateral(one)
            if merged is not None:
                here = here + functional.interpolate(
                    merged, here.shape[-2:], mode="bilinear", align_corners=False
                )
            merged = here
        assert merged is not None
        merged = torch.relu(self.merge(torch.relu(merged)))
        heat, described = self.heat(merged), self.describe(merged)
        with torch.autocast(
            image.device.type, enabled=False
        ):  # half precision would round places to half a pixel
            return self._read(image.float(), heat.float(), described.float(), field)

    def _read(self, image: Tensor, heat: Tensor, described: Tensor, field: float) -> tuple[Tensor, Points]:
        log_share = torch.log_softmax(4 * heat.flatten(2), dim=-1)
        share = log_share.exp()
        side = heat.shape[-1]
        places = share @ cell_centres(side, share.device)
        looks = [share @ described.flatten(2).transpose(1, 2), share.amax(-1, keepdim=True)]
        if self.refine is not None:
            for _ in range(self.REFINED):
                places = places + self.refine(image, places.detach())[0]
        if self.close is not None:
            correction, seen = self.close(image, places.detach())
            places = places + correction
            looks.append(seen)
        places = places * field
        numbers = self.numbers(places, *looks)
        features = self.linear(numbers)
        if self.measure is not None:
            features = torch.cat([features, self.measure(self.placed(numbers, places.shape[1]))], dim=1)
        return torch.relu(features), Points(places, log_share, side)

    @staticmethod
    def numbers(places: Tensor, *looks: Tensor) -> Tensor:
        """Places (B, P, 2) in the crop, -1 to 1, and what is seen there (B, P, …) → what `linear` is given, (B, R)."""
        return torch.cat([4 * places, 4 * shape_coordinates(places), *looks], dim=-1).flatten(1)

    @classmethod
    def placed(cls, numbers: Tensor, points: int) -> Tensor:
        """Of the `numbers` (..., R) of so many points, those that say where they lie: what `measure` is given."""
        return numbers.unflatten(-1, (points, -1))[..., : cls.PLACED].flatten(-2)


def perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two hidden layers of the same width."""
    first, second = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)
    return nn.Sequential(first, nn.GELU(), second, nn.GELU(), nn.Linear(hidden, outputs))


class CloseLook(nn.Module):
    """The picture's pixels around each landmark → how far beside the place it lies, where it `corrects` at all, and
    what it looks like (B, P, D).

    Each landmark has a perceptron of its own. It starts with no correction."""

    PATCH_PX = 16

    def __init__(self, points: int, hidden: int, described: int, corrects: bool = True) -> None:
        super().__init__()
        self.described, pixels = described, self.PATCH_PX**2
        self.hidden = nn.Parameter(torch.randn(points, pixels, hidden) * pixels**-0.5)
        self.hidden_bias = nn.Parameter(torch.zeros(points, 1, hidden))
        outputs = 2 * corrects + described
        self.out = nn.Parameter(torch.randn(points, hidden, outputs) * hidden**-0.5)
        self.out_bias = nn.Parameter(torch.zeros(points, 1, outputs))
        with torch.no_grad():
            self.out[..., : outputs - described] = 0.0

    def forward(self, image: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Window (B, 1, W, W) and places (B, P, 2), -1 to 1 across it → correction (B, P, 2), description."""
        return self.read(self._numbers(self.patches(image, places)), image.shape[-1], self.described)

    def describe(self, patches: Tensor) -> Tensor:
        """The description (B, P, D) for pixels (B, P, PATCH_PX ** 2) that are cut out already."""
        return self.read(self._numbers(patches), 1, self.described)[1]

    def _numbers(self, patches: Tensor) -> Tensor:
        # (P, B, …): every landmark's own weights
        hidden = functional.gelu(torch.baddbmm(self.hidden_bias, patches.transpose(0, 1), self.hidden))
        return torch.baddbmm(self.out_bias, hidden, self.out).transpose(0, 1)

    @staticmethod
    def read(out: Tensor, side: int, described: int) -> tuple[Tensor, Tensor]:
        """What the perceptrons give, (..., 2 + D) or, without correction, (..., D), of a window of `side` pixels →
        correction (..., 2), or 0, and description (..., D)."""
        first = out.shape[-1] - described
        correction = 8 / side * out[..., :first] if first else out.new_zeros(())
        return correction, out[..., first:]

    @classmethod
    def patches(cls, image: Tensor, places: Tensor) -> Tensor:
        """Window (B, 1, W, W) and places (B, P, 2) → pixels around them, standardised, (B, P, PATCH_PX ** 2)."""
        pitch = 2 / image.shape[-1]
        offsets = (torch.arange(cls.PATCH_PX, device=image.device) - (cls.PATCH_PX - 1) / 2) * pitch
        square = torch.stack(torch.meshgrid(offsets, offsets, indexing="xy"), dim=-1).view(1, 1, -1, 2)
        patch = functional.grid_sample(
            image, places[:, :, None] + square, mode="bilinear", padding_mode="border", align_corners=False
        )[:, 0]
        patch = patch - patch.mean(-1, keepdim=True)
        return patch / (patch.std(-1, keepdim=True) + 0.05)


def cell_centres(side: int, device: torch.device) -> Tensor:
    """(x, y) of the cells of a grid of `side` x `side`, row by row, -1 to 1 across it, (side ** 2, 2)."""
    along = (torch.arange(side, device=device) + 0.5) * (2 / side) - 1
    return torch.stack([along.repeat(side), along.repeat_interleave(side)], dim=-1)


def shape_coordinates(places: Tensor) -> Tensor:
    """Points (..., P, 2) → (..., P, 2) in the frame whose baseline goes from point 0 at (-0.5, 0) to 1 at (0.5, 0)."""
    base = places[..., 1:2, :] - places[..., :1, :]
    away = places - (places[..., :1, :] + places[..., 1:2, :]) / 2
    square = (base**2).sum(-1) + 0.02  # keeps what is not yet found from growing without bounds
    along = (away * base).sum(-1) / square
    across = (away[..., 1] * base[..., 0] - away[..., 0] * base[..., 1]) / square
    return torch.stack([along, across], dim=-1)
