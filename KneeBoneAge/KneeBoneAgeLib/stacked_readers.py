"""The readers of several networks (`readers`), stacked: one call reads the maps of all of them.

K is how many networks there are, B how many pictures. Both readers norm each map over all its values before they
weigh it, so they are given maps that are normed already: `level`. Where all networks find the landmarks with the same
weights, these are found once, and so is what is cut out of the picture there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .readers import CloseLook, MapReader, PointReader, cell_centres
from .regions import RegionReader
from .stacked import alike, normed_product_of, perceptron_of

NORM_EPS = 1e-5
"""Of the readers' group norms; `can_stack_readers` asks for it."""


def level(cells: Tensor) -> Tensor:
    """Maps (B, H, W, K, C) → (K, B, H, W, C), each map of mean 0 and standard deviation 1."""
    maps = cells.permute(3, 0, 1, 2, 4)
    return functional.layer_norm(maps, maps.shape[2:], eps=NORM_EPS)


class MapReaders:
    """`MapReader` of each network."""

    def __init__(self, readers: Sequence[MapReader]) -> None:
        self.cells = readers[0].cells
        self.squeeze = [
            normed_product_of([one[0] for one in stage], [one[1] for one in stage])
            for stage in zip(*(reader.squeeze for reader in readers), strict=True)
        ]
        self.linear = perceptron_of([reader.linear for reader in readers])

    def __call__(self, levels: Sequence[Tensor]) -> Tensor:
        """Maps (K, B, S, S, C) of the last stages → features (K, B, F)."""
        places = []
        for squeeze, side, one in zip(self.squeeze, self.cells, levels, strict=True):
            batch, rows, cols = one.shape[1:4]
            narrow = torch.relu_(squeeze(one.flatten(1, 3))).unflatten(1, (batch, rows, cols))
            grids = narrow.flatten(0, 1).permute(0, 3, 1, 2)
            if rows != side:
                grids = functional.interpolate(grids, (side, side), mode="bilinear", align_corners=False)
            places.append(grids.flatten(1).unflatten(0, (-1, batch)))
        return torch.relu(_through(self.linear, torch.cat(places, -1)))


class PointReaders:
    """`PointReader` of each network; with `one_backbone` they are given the same maps."""

    def __init__(self, readers: Sequence[PointReader], one_backbone: bool) -> None:
        self.networks = len(readers)
        once = one_backbone and all(alike(parts) for parts in zip(*map(_finder, readers), strict=True))
        finders = readers[:1] if once else readers
        self.lateral = [
            normed_product_of([one[0] for one in stage], [one[1] for one in stage])
            for stage in zip(*(reader.lateral for reader in finders), strict=True)
        ]
        merges: list[Any] = [reader.merge for reader in finders]
        self.merge = torch.cat([merge.weight.detach() for merge in merges])
        self.merge_bias = torch.cat([merge.bias.detach() for merge in merges])
        heads: list[tuple[Any, Any]] = [(reader.heat, reader.describe) for reader in finders]
        self.heads = torch.stack(
            [torch.cat([one.weight.detach().flatten(1) for one in pair]) for pair in heads]
        )
        self.heads_bias = torch.stack([torch.cat([one.bias.detach() for one in pair]) for pair in heads])[
            ..., None
        ]
        self.points = readers[0].heat.out_channels
        refines = [reader.refine for reader in finders if reader.refine is not None]
        self.refine = CloseLooks(refines) if refines else None
        looks = [reader.close for reader in readers if reader.close is not None]
        self.close = CloseLooks(looks) if looks else None
        self.linear = perceptron_of([reader.linear for reader in readers])
        measures = [reader.measure for reader in readers if reader.measure is not None]
        self.measure = perceptron_of(measures) if measures else None

    def __call__(self, window: Tensor, levels: Sequence[Tensor], field: float) -> tuple[Tensor, Tensor]:
        """Window (B, 1, W, W) of `field` crops and maps (K or 1, B, S, S, C), fine to coarse → features (K, B, F)
        and landmarks (K, B, P, 2), or (1, B, P, 2) where all have the same, -1 to 1 across the crop."""
        heat, described = self._heads(levels)
        side = levels[0].shape[2]
        share = torch.softmax(4 * heat, -1)
        places = share @ cell_centres(side, share.device)
        looks = [share @ described.transpose(2, 3), share.amax(-1, keepdim=True)]
        if self.refine is not None:
            for _ in range(PointReader.REFINED):
                places = places + self.refine(window, places)[0]
        if self.close is not None:
            correction, seen = self.close(window, places)
            places = places + correction
            looks.append(seen)
        places = places * field
        parts = [one.expand(self.networks, *one.shape[1:]).flatten(0, 1) for one in (places, *looks)]
        numbers = PointReader.numbers(*parts).unflatten(0, (self.networks, -1))
        found = _through(self.linear, numbers)
        if self.measure is not None:
            placed = PointReader.placed(numbers, self.points)
            found = torch.cat([found, _through(self.measure, placed)], dim=-1)
        return torch.relu(found), places

    def _heads(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Heat (K, B, P, cells) and description (K, B, D, cells), K = 1 where they are found once."""
        networks, batch = len(self.heads), levels[0].shape[1]
        merged: Tensor | None = None
        for lateral, one in zip(reversed(self.lateral), reversed(levels), strict=True):
            rows, cols = one.shape[2:4]
            # Of picture b and network k the maps lie at b * K + k, channels last.
            here = lateral(one.flatten(1, 3)).view(networks, batch, rows, cols, -1).transpose(0, 1)
            here = here.reshape(batch * networks, rows, cols, -1).permute(0, 3, 1, 2)
            if merged is not None:
                here = here + functional.interpolate(
                    merged, (rows, cols), mode="bilinear", align_corners=False
                )
            merged = here
        assert merged is not None
        rows, cols = merged.shape[2:]
        beside = torch.relu(merged).contiguous().view(batch, -1, rows, cols)
        seen = torch.relu_(functional.conv2d(beside, self.merge, self.merge_bias, padding=1, groups=networks))
        cells = seen.reshape(batch, networks, -1, rows * cols)
        found = self.heads @ cells + self.heads_bias
        heat, described = found.transpose(0, 1).split([self.points, found.shape[2] - self.points], 2)
        return heat, described


class CloseLooks:
    """`CloseLook` of each network."""

    def __init__(self, looks: Sequence[CloseLook]) -> None:
        self.networks, self.described = len(looks), looks[0].described
        self.hidden, self.hidden_bias, self.out, self.out_bias = (
            torch.cat([getattr(look, name).detach() for look in looks])
            for name in ("hidden", "hidden_bias", "out", "out_bias")
        )

    def __call__(self, window: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Window (B, 1, W, W) and places (K or 1, B, P, 2) → corrections (K, B, P, 2), or 0, and descriptions
        (K, B, P, D)."""
        points = places.shape[2]
        # Networks and points in one row: (K * P, B, …), every landmark's own weights.
        patch = CloseLook.patches(window, places.transpose(0, 1).flatten(1, 2)).transpose(0, 1)
        if len(patch) < len(self.hidden):
            patch = patch.repeat(self.networks, 1, 1)
        hidden = functional.gelu(torch.baddbmm(self.hidden_bias, patch, self.hidden))
        out = torch.baddbmm(self.out_bias, hidden, self.out)
        out = out.unflatten(0, (self.networks, points)).transpose(1, 2)
        return CloseLook.read(out, window.shape[-1], self.described)


class RegionReaders:
    """`RegionReader` of each network; those that are alike, of networks that find the same landmarks, read once."""

    def __init__(self, readers: Sequence[RegionReader]) -> None:
        self.readers, self.alike = list(readers), alike(readers)

    def __call__(self, image: Tensor, places: Tensor) -> Tensor:
        """Crops (B, 1, S, S) and landmarks (K or 1, B, P, 2) → features (K, B, F)."""
        networks = len(self.readers)
        if self.alike and len(places) == 1:
            return self.readers[0](image, places[0]).expand(networks, -1, -1)
        where = places.expand(networks, *places.shape[1:])
        return torch.stack([one(image, its) for one, its in zip(self.readers, where, strict=True)])


def _through(steps: Sequence[Callable[[Tensor], Tensor]], given: Tensor) -> Tensor:
    for step in steps:
        given = step(given)
    return given


def _finder(reader: PointReader) -> list[nn.Module]:
    """The parts that place the landmarks; what describes them on the maps is one of them."""
    parts = [reader.lateral, reader.merge, reader.heat, reader.describe, reader.refine]
    return [part for part in parts if part is not None]


def can_stack_readers(maps: MapReader | None, points: PointReader | None) -> bool:
    """Whether the classes here do all that these readers do."""
    norms = [one[0] for one in [*(maps.squeeze if maps else ()), *(points.lateral if points else ())]]
    return all(norm.num_groups == 1 and norm.eps == NORM_EPS for norm in norms)
