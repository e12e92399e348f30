"""Why a number: where on the film the ensemble's bone age comes from.

Grad-CAM and integrated gradients (Sundararajan 2017), both through captum, on the mean bone age of all folds. A map is
a hint, not a proof: see the weight-randomisation check in the tests (Adebayo 2018).

Grad-CAM is taken element by element (HiResCAM, Draelos and Carin 2020), not with each channel's mean gradient
(Selvaraju 2017): these networks read their maps place by place, and a mean over all places forgets which place it was.
Its absolute value is shown: what makes a knee look younger and what makes it look older count alike. What the readers
see in the pixels beside the maps is added.
What the maps are worth, mean of 12 phantom knees (`Testing/evaluate_maps.py`; in brackets 12 others): share of the map
on bone, which is 0.33 (0.32) of the crop; within 5 px (of 200) of a physis of femur or tibia, 0.05 (0.05) of it; and
by how many months the estimate changes where the 40 of 400 cells that are marked most become the mean grey,
2.0 (1.5) for random cells. With each channel's mean gradient less than its area's share lay on bone.

====================  ============  ============  ===========
map                   on bone       near physes   change
====================  ============  ============  ===========
element by element    0.47 (0.47)   0.12 (0.12)   7.2 (7.8)
integrated gradients  0.73 (0.71)   0.25 (0.21)   13.7 (11.6)
====================  ============  ============  ===========
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from .crop import KneeCrop, map_to_film
from .network import MONTHS_MAX, AgeNetwork, encode_sex

if TYPE_CHECKING:
    from .estimator import Estimator
    from .radiograph.film import Film

METHODS = ("gradcam", "integrated-gradients")
INTEGRATION_STEPS = 12
CAM_STAGE = 2
"""The third of four ConvNeXt stages: its map has 16 image pixels a cell, fine enough to tell femur from tibia."""


class BoneAge(nn.Module):
    """One fold as a function of the image alone: (B, 1, S, S) → mean bone age (B,), months."""

    def __init__(self, network: AgeNetwork, sex: str | None, age_months: float | None) -> None:
        super().__init__()
        self.network = network
        self.sex = encode_sex(sex)
        self.age = math.nan if age_months is None else age_months

    def forward(self, images: Tensor) -> Tensor:
        sex = torch.full((len(images),), self.sex, device=images.device)
        age = torch.full((len(images),), self.age, device=images.device)
        probabilities = self.network(images, sex, age)
        bins = probabilities.shape[1]
        months = (torch.arange(bins, device=images.device) + 0.5) * MONTHS_MAX / bins
        return probabilities @ months


def explain(
    estimator: Estimator, film: Film, crop: KneeCrop, method: str = "integrated-gradients"
) -> NDArray[np.float32]:
    """Saliency of a knee on its film.

    Parameters
    ----------
    method : one of `METHODS`.

    Returns
    -------
    (rows, cols) of the film, 0 to 1, 0 outside of the crop.

    Raises
    ------
    ValueError : for another method.
    """
    values = saliency(estimator, film, crop, method)
    return map_to_film(values, crop, film.pixels.shape)


def saliency(
    estimator: Estimator, film: Film, crop: KneeCrop, method: str = "integrated-gradients"
) -> NDArray[np.float32]:
    """The same in the frame of the crop: (S, S), 0 to 1."""
    if method not in METHODS:
        raise ValueError(f"method {method!r}: choose {' or '.join(METHODS)}")
    image = estimator.patches(film, [crop])
    folds = [BoneAge(network, film.sex, film.age_months) for network in estimator.folds]
    one = _grad_cam if method == "gradcam" else _integrated_gradients
    total = torch.stack([one(fold, image) for fold in folds]).mean(0)
    total = total - total.min()
    return (total / total.max().clamp_min(1e-12)).cpu().numpy().astype(np.float32)


def _grad_cam(fold: BoneAge, image: Tensor) -> Tensor:
    """Each cell by its own gradient; Grad-CAM's mean over the picture forgets where a network reads place by place.

    What a cell does through the map and what its pixels do through the readers that look at them closely are both in
    months, and are added."""
    from captum.attr import LayerGradientXActivation

    network = fold.network
    layers = [network.backbone.stages[CAM_STAGE], network.pixels]
    attribute = LayerGradientXActivation(fold, layers if network.point_reader is not None else layers[:1])
    through_map, *through_pixels = (part.sum(1, keepdim=True) for part in attribute.attribute(image))
    side = image.shape[-1]
    window, across = network.window_px(side), through_map.shape[-1]
    values = functional.interpolate(through_map.abs(), (window, window), mode="bicubic", align_corners=False)
    before = (side - window) // 2
    after = side - window - before
    values = functional.pad(values, (before, after, before, after))
    for part in through_pixels:
        # Cells about as large as the map's, but of the whole crop.
        count = round(across * side / window)
        cells = (side / count) ** 2 * functional.adaptive_avg_pool2d(part, count).abs()
        values += functional.interpolate(cells, (side, side), mode="bicubic", align_corners=False)
    return values[0, 0].detach()


def _integrated_gradients(fold: BoneAge, image: Tensor) -> Tensor:
    """Path from a featureless film (the crop's mean grey) to the crop; smoothed over 3 pixels to be readable."""
    from captum.attr import IntegratedGradients

    baseline = torch.full_like(image, float(image.mean()))
    values = IntegratedGradients(fold).attribute(
        image, baseline, n_steps=INTEGRATION_STEPS, internal_batch_size=8
    )
    kernel = torch.ones(1, 1, 7, 7, device=image.device) / 49
    return functional.conv2d(values.abs().float(), kernel, padding=3)[0, 0].detach()
