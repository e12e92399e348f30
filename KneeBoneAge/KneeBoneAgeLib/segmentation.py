"""Finding the knees on a film: a small U-Net marks joints, their width, axis and fibula, and labels bones.

Two looks through the same network. The first sees the whole film, strongly reduced, and proposes joints. The
second sees four widths around each proposal; it decides whether that is a frontal knee and gives the final
centre, width, axis and side. Heat-map, offset and log width decide; the bone labels are for people.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .crop import (
    WIDTH_FACTOR,
    Floats,
    KneeCrop,
    block_means,
    film_from_crop,
    inside_fraction,
    sample,
    whole_film,
)
from .finder_network import (
    DEFAULT_CONFIG,
    LABELS,
    REFERENCE_ANGLE_DEG,
    REFERENCE_WIDTH_PX,
    STRIDE,
    FinderNetwork,
    Maps,
    fold_batch_norms,
)

if TYPE_CHECKING:
    from .radiograph.film import Film

FIBULA_REACH = 0.5
"""Radius around a joint, in widths, whose cells, like the fibula's own, tell on which side it lies."""

LEANING_DEG = 20.0
"""A proposal that leans more than this is looked at upright, too: most knees that lean far are refused unturned."""

FIBULA_UNCLEAR = "fibula unclear"
"""A note that begins like this says that a knee's side was not read off its fibula."""

OTHER_PARTS = frozenset(
    ["ABDOMEN", "ANKLE", "BREAST", "CHEST", "CLAVICLE", "CSPINE", "ELBOW", "FINGER", "FOOT", "HAND", "HEAD"]
    + ["JAW", "LSPINE", "PELVIS", "RIB", "SHOULDER", "SKULL", "SPINE", "THORAX", "TOE", "TSPINE", "WRIST"]
)
"""DICOM body parts (PS3.16 annex L) on whose films no knee is looked for."""


@dataclass(frozen=True)
class Finding:
    """What was found on one film.

    Attributes
    ----------
    knees : crops in the order viewer's left to right; empty when ``reason`` says why.
    reason : why nothing is cropped, in words; None when there is a knee.
    notes : what a reader must know, e.g. that header and fibula disagree on the side.
    """

    knees: tuple[KneeCrop, ...]
    reason: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Joint:
    """One decoded joint, in input pixels of the network; ``fibula_left`` is a probability (viewer's left)."""

    x: float
    y: float
    width: float
    angle_deg: float
    fibula_left: float
    score: float


def decode(maps: Maps, index: int, threshold: float, most: int) -> list[Joint]:
    """Peaks of the heat-map of one picture, best first, no two closer than 0.6 of a width."""
    heat = maps.heat[index].float().sigmoid()
    peak = functional.max_pool2d(heat[None, None], 3, stride=1, padding=1)[0, 0]
    ranked = (
        torch.where(heat >= peak, heat, torch.zeros_like(heat)).flatten().topk(min(8 * most, heat.numel()))
    )
    joints: list[Joint] = []
    for score, place in zip(ranked.values.tolist(), ranked.indices.tolist(), strict=True):
        if score < threshold or len(joints) == most:
            break
        joint = _read_joint(maps, index, heat, *divmod(place, heat.shape[1]))
        if all(math.hypot(joint.x - o.x, joint.y - o.y) > 0.6 * max(joint.width, o.width) for o in joints):
            joints.append(joint)
    return joints


def _read_joint(maps: Maps, index: int, heat: Tensor, row: int, col: int) -> Joint:
    """Mean of what the cells around a peak say about it, weighted by their heat."""
    rows = slice(max(row - 1, 0), row + 2)
    cols = slice(max(col - 1, 0), col + 2)
    weight = heat[rows, cols] / heat[rows, cols].sum()

    def mean(values: Tensor) -> float:
        return float((values.float() * weight).sum())

    down, across = torch.meshgrid(
        torch.arange(rows.start, rows.start + weight.shape[0], device=heat.device) + 0.5,
        torch.arange(cols.start, cols.start + weight.shape[1], device=heat.device) + 0.5,
        indexing="ij",
    )
    width = REFERENCE_WIDTH_PX * math.exp(min(max(mean(maps.log_width[index, rows, cols]), -3.0), 3.0))
    return Joint(
        x=STRIDE * mean(across + maps.offset[index, 0, rows, cols]),
        y=STRIDE * mean(down + maps.offset[index, 1, rows, cols]),
        width=width,
        angle_deg=REFERENCE_ANGLE_DEG * mean(maps.angle[index, rows, cols]),
        fibula_left=_fibula_left(maps, index, row, col, width / STRIDE),
        score=float(heat[row, col]),
    )


def _fibula_left(maps: Maps, index: int, row: int, col: int, width: float) -> float:
    """Probability that the fibula of the joint at this cell, ``width`` cells wide, lies on the viewer's left.

    The fibula's own cells tell it best; those around the joint help where it is hardly seen.
    """
    top, left = max(row - round(width / 2), 0), max(col - round(width), 0)
    rows, cols = slice(top, row + round(2 * width) + 1), slice(left, col + round(width) + 1)
    weight = maps.labels[index, :, rows, cols].float().softmax(dim=0)[LABELS.index("fibula")].clone()
    half = max(1, round(0.7 * FIBULA_REACH * width))
    weight[
        max(row - top - half, 0) : row - top + half + 1, max(col - left - half, 0) : col - left + half + 1
    ] += 0.1
    said = maps.fibula[index, rows, cols].float().clamp(-8, 8)
    return 1 / (1 + math.exp(-float((said * weight).sum() / weight.sum())))


class KneeFinder:
    """The network with its weights and thresholds, ready for films.

    Parameters
    ----------
    tensors : state dict of `FinderNetwork` (float16 is widened).
    config : as `DEFAULT_CONFIG`.

    Raises
    ------
    RuntimeError : the weights do not belong to the architecture.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], config: Mapping[str, Any], device: str | torch.device = "cpu"
    ) -> None:
        self.config = {**DEFAULT_CONFIG, **config}
        self.device = torch.device(device)
        network = FinderNetwork(self.config)
        network.load_state_dict(
            {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
        )
        fold_batch_norms(network.eval())
        network.to(self.device)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def find(
        self, film: Film, confirm: Callable[[Sequence[KneeCrop]], Sequence[bool]] | None = None
    ) -> Finding:
        """The frontal knees of a film, or the reason why there is none.

        ``confirm`` is asked of crops whose confidence is below the config's `confirm_threshold` whether each shows a
        knee; those that do not are left out.
        """
        reason = self._unsuitable(film)
        if reason:
            return Finding((), reason)
        reduced, block = _reduce(film.pixels, self.config["size_px"])
        proposals = self._propose(reduced)
        if not proposals:
            return Finding(
                (), "no frontal knee found on the film: lateral view, another body part, or too little of it"
            )
        looks = self._look_again(reduced, proposals)
        best = max(crop.confidence for crop in looks)
        sure = _distinct(
            [
                _scaled(crop, block)
                for crop in looks
                if crop.confidence >= self.config["knee_threshold"]
                and inside_fraction(crop.box_px, reduced.shape) > 0.5
                and _on_film(crop, reduced.shape)
            ],
            self.config["most_knees"],
        )
        doubtful = [crop for crop in sure if crop.confidence < self.config["confirm_threshold"]]
        if confirm is not None and doubtful:
            shown = zip(doubtful, confirm(doubtful), strict=True)
            false_finds = [crop for crop, is_knee in shown if not is_knee]
            sure = [crop for crop in sure if not any(crop is one for one in false_finds)]
        if not sure:
            return Finding(
                (),
                f"what looks like a knee at first is not a frontal knee on the film (confidence {best:.2f})",
            )
        knees, notes = settle_sides(sure, film.side, typed="side" in film.typed)
        return Finding(knees, None, notes)

    def masks(self, film: Film) -> NDArray[np.uint8]:
        """Label map (rows, cols) of the bones around the knees of a film, indices into `LABELS`."""
        rows, cols = film.pixels.shape
        labels = np.zeros((rows, cols), np.uint8)
        reduced, block = _reduce(film.pixels, self.config["size_px"])
        for crop in self.find(film).knees:
            view = replace(crop, mirrored=False, side_px=crop.side_px * 2, angle_deg=0.0)
            maps, size = self._see(reduced, [_scaled(view, 1 / block)])
            x0, y0, x1, y1 = view.box_px
            left, top, right, bottom = (max(0, int(v)) for v in (x0, y0, x1, y1))
            right, bottom = min(right, cols), min(bottom, rows)
            grid = functional.affine_grid(
                torch.tensor(
                    [
                        [(right - left) / (x1 - x0), 0, (left + right - x0 - x1) / (x1 - x0)],
                        [0, (bottom - top) / (y1 - y0), (top + bottom - y0 - y1) / (y1 - y0)],
                    ]
                )[None],
                [1, 1, bottom - top, right - left],
                align_corners=False,
            )
            shares = functional.grid_sample(
                maps.labels.float().cpu(), grid, padding_mode="border", align_corners=False
            )
            part = shares[0].argmax(dim=0).to(torch.uint8).numpy()
            region = labels[top:bottom, left:right]
            np.copyto(region, part, where=region == 0)
        return labels

    def _unsuitable(self, film: Film) -> str | None:
        """Why no knee needs to be looked for, from size, contrast and header."""
        rows, cols = film.pixels.shape
        if min(rows, cols) < 64:
            return f"film of {cols} x {rows} pixels is too small to show a knee (64 needed)"
        if film.view == "lateral":
            return "lateral view according to the header; only frontal films are used"
        part = (film.body_part or "").upper().replace(" ", "")
        if part in OTHER_PARTS:
            return f"body part {part} according to the header, not a knee"
        thinned = film.pixels[:: max(1, rows // 200), :: max(1, cols // 200)]
        low, high = np.percentile(thinned, (1, 99))
        if not high - low > 0.01:
            return "blank film: it shows no contrast"
        return None

    def _propose(self, reduced: Floats) -> list[KneeCrop]:
        """First look: joint proposals on the whole film."""
        matrix, shape = whole_film(reduced.shape, self.config["size_px"])
        maps = self._run(sample(reduced, matrix, shape)[None])
        proposals = decode(maps, 0, self.config["proposal_threshold"], self.config["most_knees"] + 1)
        return [_crop_of(joint, matrix) for joint in proposals]

    def _look_again(self, reduced: Floats, proposals: Sequence[KneeCrop]) -> list[KneeCrop]:
        """Second look: each proposal refined, or with confidence 0 when nothing is at its middle.

        One that leans is looked at upright, too. That look counts where it is the surer one and needs no confirming:
        leaning laterals look more like knees in it as well."""
        looks = self._refined(reduced, proposals, [0.0] * len(proposals))
        leaning = [number for number, crop in enumerate(proposals) if abs(crop.angle_deg) > LEANING_DEG]
        if leaning:
            leaners = [proposals[number] for number in leaning]
            upright = self._refined(reduced, leaners, [crop.angle_deg for crop in leaners])
            for number, crop in zip(leaning, upright, strict=True):
                if crop.confidence >= max(self.config["confirm_threshold"], looks[number].confidence):
                    looks[number] = crop
        return looks

    def _refined(
        self, reduced: Floats, proposals: Sequence[KneeCrop], angles_deg: Sequence[float]
    ) -> list[KneeCrop]:
        """Each proposal as a close-up turned by its angle shows it."""
        views = [
            replace(crop, side_px=crop.side_px * 2, angle_deg=angle, mirrored=False)
            for crop, angle in zip(proposals, angles_deg, strict=True)
        ]
        maps, size = self._see(reduced, views)
        refined = []
        for index, view in enumerate(views):
            near = [
                joint
                for joint in decode(maps, index, 0.02, 3)
                if math.hypot(joint.x - size / 2, joint.y - size / 2) < 0.6 * REFERENCE_WIDTH_PX
            ]
            if not near:
                refined.append(replace(proposals[index], confidence=0.0))
                continue
            present = float(maps.present[index].float().sigmoid())
            crop = _crop_of(near[0], film_from_crop(view, size))
            refined.append(replace(crop, confidence=math.sqrt(present * near[0].score)))
        return refined

    def _see(self, reduced: Floats, views: Sequence[KneeCrop]) -> tuple[Maps, int]:
        size = int(self.config["size_px"])
        cuts = [sample(reduced, film_from_crop(view, size), (size, size)) for view in views]
        return self._run(np.stack(cuts)), size

    def _run(self, pictures: NDArray[np.float32]) -> Maps:
        with torch.inference_mode():
            batch = torch.from_numpy(pictures)[:, None].to(self.device)
            return self.network(batch.contiguous(memory_format=torch.channels_last))


def _reduce(pixels: Floats, size: int) -> tuple[NDArray[np.float32], int]:
    """The film in block means, still fine enough for both looks, and the block's side in pixels."""
    matrix, _ = whole_film(pixels.shape, size)
    block = max(1, int(matrix[0, 0] / 4))
    return block_means(pixels, block), block


def _crop_of(joint: Joint, matrix: Floats) -> KneeCrop:
    """The crop on the film of a joint seen in an unmirrored view with this view-to-film matrix."""
    step, turn = math.hypot(matrix[0, 0], matrix[1, 0]), math.degrees(math.atan2(matrix[1, 0], matrix[0, 0]))
    x, y = matrix[:, :2] @ (joint.x, joint.y) + matrix[:, 2]
    left = joint.fibula_left >= 0.5
    return KneeCrop(
        centre_px=(float(x), float(y)),
        side_px=WIDTH_FACTOR * joint.width * step,
        angle_deg=joint.angle_deg + turn,
        side="unknown" if 0.4 < joint.fibula_left < 0.6 else "R" if left else "L",
        mirrored=not left,
        confidence=joint.score,
    )


def _scaled(crop: KneeCrop, factor: float) -> KneeCrop:
    x, y = crop.centre_px
    return replace(crop, centre_px=(x * factor, y * factor), side_px=crop.side_px * factor)


def _on_film(crop: KneeCrop, shape: tuple[int, int]) -> bool:
    """The joint centre itself is on the film: a knee more than half outside is none."""
    return 0 <= crop.centre_px[0] <= shape[1] and 0 <= crop.centre_px[1] <= shape[0]


def _distinct(crops: Sequence[KneeCrop], most: int) -> list[KneeCrop]:
    """The surest crops, none closer than 0.8 widths to a surer one."""
    kept: list[KneeCrop] = []
    for crop in sorted(crops, key=lambda one: -one.confidence):
        if all(math.dist(crop.centre_px, o.centre_px) > 0.8 * max(crop.width_px, o.width_px) for o in kept):
            kept.append(crop)
    return kept[:most]


def settle_sides(
    crops: Sequence[KneeCrop], header_side: str | None, typed: bool = False
) -> tuple[tuple[KneeCrop, ...], tuple[str, ...]]:
    """Order crops from the viewer's left to right and settle their sides.

    The fibula decides; two knees beside each other are a right and a left one (seen from the front, the right
    knee on the viewer's left); the header decides only where the fibula is unclear; a contradiction is noted.
    A side that was typed names the knee in any case, and the fibula says whether cutting must mirror.
    """
    ordered = sorted(crops, key=lambda one: one.centre_px[0])
    notes: list[str] = []
    if len(ordered) == 2 and {crop.side for crop in ordered} != {"R", "L"}:
        if any(crop.side != "unknown" for crop in ordered):
            notes.append(
                f"{FIBULA_UNCLEAR} on one of two knees: sides taken from their places, right knee on the left"
            )
        ordered = [
            replace(crop, side=side, mirrored=side == "L") for crop, side in zip(ordered, "RL", strict=True)
        ]
    elif len(ordered) == 1 and header_side in ("R", "L"):
        crop = ordered[0]
        if crop.side == "unknown":
            if typed:
                notes.append(f"{FIBULA_UNCLEAR}: side {header_side} as typed")
            else:
                notes.append(f"{FIBULA_UNCLEAR}: side {header_side} taken from the header")
            ordered = [replace(crop, side=header_side, mirrored=header_side == "L")]
        elif crop.side != header_side and typed:
            notes.append(f"the fibula shows a {crop.side} knee, typed is {header_side}: check the side")
            ordered = [replace(crop, side=header_side)]
        elif crop.side != header_side:
            notes.append(
                f"the fibula shows a {crop.side} knee, the header says {header_side}: check the side"
            )
    return tuple(ordered), tuple(notes)
