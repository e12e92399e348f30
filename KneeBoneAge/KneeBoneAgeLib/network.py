"""The age network: what the picture says about bone age, times what sex and chronological age say.

The ConvNeXt (timm) gives for either sex a log-likelihood over month bins, log p(image | bone age, sex): crops lie
alike, so its last maps are read pooled and place by place; and since maturing shows in breadths, heights and lines, it
finds the landmarks that these are measured between. A small network of numbers gives
log p(bone age | chronological age, sex). Their sum, normalised, is the posterior (Bayes). So either number may be
missing: without an age the prior is the marginal one, without a sex both are summed over.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, get_type_hints

import timm
import torch
from torch import Tensor, nn

from .readers import MapReader, PointReader, Points, perceptron
from .regions import POINTS_NEEDED, RegionReader

FEMALE, MALE, UNKNOWN_SEX = 0, 1, 2
MONTHS_MAX = 240.0


def encode_sex(sex: str | None) -> int:
    """ "F", "M" or None as the network counts them."""
    return {"F": FEMALE, "M": MALE, None: UNKNOWN_SEX}[sex]


_NEEDED = frozenset(["image_size", "bins", "spline_knots", "prior_width", "prior_parts"])
"""Sizes of an `AgeNetworkConfig` of parts that no network is without."""


@dataclass(frozen=True)
class AgeNetworkConfig:
    """Everything that rebuilds an `AgeNetwork`; JSON-able by `to_json` and back by `from_json`.

    `backbone_options` are timm's own keyword arguments; beside the readers one block in the last stage is enough.
    `image_size` is the side of the crop in pixels, `field` the share of it, around the joint, that the backbone sees.
    `map_channels` are what the last stages' maps are squeezed to before they are read place by place (none: they are
    not), `map_features` what is read from them, `map_rank` of what rank that reading is (0: full; a finished network is
    stored smaller with less). `points` is how many landmarks are found (none: no landmarks); `point_width`,
    `point_features` and `point_hidden` (0: a linear layer) size their reader, `close_hidden` what it reads of the
    picture's own pixels around each landmark (0: nothing), `refine_hidden` what refines the landmarks by these pixels
    (0: what reads them corrects the landmarks, once), `measure_features` what is read of where they lie alone (0: they
    are not measured apart), `region_features` what is read of each region of the crop that is looked at closely (0:
    none is), with `region_blocks` residual blocks at each of its two coarser scales; `head_hidden` are the units of the
    perceptron that the likelihood has beside its linear layer (0: none).
    """

    backbone: str = "convnext_atto"
    backbone_options: dict[str, Any] = field(
        default_factory=lambda: {"ls_init_value": None, "act_layer": "relu", "depths": [2, 2, 6, 1]}
    )
    image_size: int = 200
    field: float = 0.8
    bins: int = 120
    spline_knots: int = 24
    prior_width: int = 32
    prior_parts: int = 5
    map_channels: tuple[int, ...] = (8, 40)
    map_features: int = 128
    map_rank: int = 0
    points: int = 31
    point_width: int = 32
    point_features: int = 192
    point_hidden: int = 256
    close_hidden: int = 24
    refine_hidden: int = 0
    measure_features: int = 0
    region_features: int = 0
    region_blocks: int = 2
    head_hidden: int = 0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "map_channels": list(self.map_channels)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> AgeNetworkConfig:
        """What `to_json` gave; a part that is not named is one that this network does not have. Raises ValueError or
        TypeError for a network with parts that are not known (any more)."""
        absent = {"map_channels": (), "points": 0, "field": 1.0, "point_hidden": 0, "close_hidden": 0}
        known = {**absent, **values}
        known.pop("physis_features", None)
        if known.pop("physes", ()):
            raise ValueError("it reads strips along the physes, which are now parts of regions")
        if known.get("region_features") and "region_blocks" not in known:
            raise ValueError("it reads regions as an earlier version did")
        for name, kind in get_type_hints(cls).items():
            least, value = int(name in _NEEDED), known.get(name, 1)
            if kind is int and (type(value) is not int or value < least):
                raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
        return cls(**{**known, "map_channels": tuple(known["map_channels"])})


def bin_centres(bins: int) -> Tensor:
    """Centres of `bins` equal bins of 0 to 240 months, shape (bins,), months."""
    width = MONTHS_MAX / bins
    return (torch.arange(bins, dtype=torch.float32) + 0.5) * width


def spline_basis(bins: int, knots: int) -> Tensor:
    """Uniform cubic B-splines over the bins, shape (bins, knots); rows sum to one away from the ends."""
    position = bin_centres(bins) / MONTHS_MAX * (knots - 1)
    distance = (position[:, None] - torch.arange(knots)[None, :]).abs()
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance).clamp(min=0) ** 3 / 6
    return torch.where(distance < 1, near, far)


class LikelihoodHead(nn.Module):
    """Features (B, F) → log p(image | bone age, sex) up to a constant of the image, (B, 2, bins).

    A Gaussian of the age that the picture looks like, plus a spline for what is not Gaussian: plateaus
    of a grown knee, skewness, and how well either sex fits. Its numbers are linear in the features, plus, with `hidden`
    units, what a perceptron makes of all but the first `rough` ones, at first nothing: what a closed physis says of the
    others is no sum.
    """

    centres: Tensor
    basis: Tensor

    def __init__(self, features: int, bins: int, knots: int, hidden: int = 0, rough: int = 0) -> None:
        super().__init__()
        self.rough = rough
        self.linear = nn.Linear(features, 2 * (2 + knots))
        nn.init.trunc_normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)
        self.bent = perceptron(features - rough, hidden, self.linear.out_features) if hidden else None
        if self.bent is not None:
            last: Any = self.bent[-1]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.register_buffer("centres", bin_centres(bins), persistent=False)
        self.register_buffer("basis", spline_basis(bins, knots), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        raw: Tensor = self.linear(features)
        return self.of_numbers(raw if self.bent is None else raw + self.bent(features[..., self.rough :]))

    def of_numbers(self, raw: Tensor) -> Tensor:
        """What the layers give, (..., 2 * (2 + knots)) → (..., 2, bins)."""
        raw = raw.unflatten(-1, (2, -1))
        looks_like = 120 + 60 * raw[..., :1]
        spread = 30 * torch.exp(raw[..., 1:2].clamp(-3.4, 1.6))  # 1 to 150 months
        gauss = -0.5 * ((self.centres - looks_like) / spread) ** 2
        return gauss + 4 * raw[..., 2:] @ self.basis.T


class AgePrior(nn.Module):
    """log p(bone age | chronological age, sex) of both sexes, (B,) months with NaN = missing → (B, 2, bins).

    With an age: a mixture of Gaussians around it, whose parameters a small network gives. Without:
    the smoothed histogram of the training cohort, kept in `marginal`.
    """

    edges: Tensor
    start: Tensor
    marginal: Tensor

    def __init__(self, bins: int, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.knots = 14
        edges = torch.linspace(0, MONTHS_MAX, bins + 1)
        self.register_buffer("edges", edges, persistent=False)
        # The parts start beside each other, on both sides of chronological age.
        self.register_buffer(
            "start", torch.linspace(-30, 30, parts) if parts > 1 else torch.zeros(1), persistent=False
        )
        self.register_buffer("marginal", torch.full((2, bins), -float(torch.log(torch.tensor(float(bins))))))
        self.hidden = nn.Linear(self.knots + 2, width)
        self.out = nn.Linear(width, 3 * parts)
        nn.init.trunc_normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)

    def forward(self, age_months: Tensor) -> Tensor:
        known = torch.isfinite(age_months)
        age = torch.where(known, age_months, torch.zeros_like(age_months)).clamp(0, MONTHS_MAX)
        position = age[:, None] / MONTHS_MAX * (self.knots - 1)
        radial = torch.exp(-0.5 * (position - torch.arange(self.knots, device=age.device)) ** 2)
        sexes = torch.eye(2, device=age.device).expand(len(age), 2, 2)
        inputs = torch.cat([radial[:, None, :].expand(-1, 2, -1), sexes], dim=-1)
        weight, shift, spread = self.out(torch.relu(self.hidden(inputs))).chunk(3, dim=-1)
        centre = age[:, None, None] + 30 * shift + self.start
        scale = 10 * torch.exp(spread.clamp(-4.0, 2.5))
        cdf = torch.special.ndtr((self.edges - centre[..., None]) / scale[..., None])
        parts = (cdf[..., 1:] - cdf[..., :-1]) * weight.softmax(-1)[..., None]
        mixture = torch.log_softmax((parts.sum(-2) + 1e-7).log(), dim=-1)
        return torch.where(known[:, None, None], mixture, self.marginal.expand_as(mixture))


def with_map_rank(network: AgeNetwork, rank: int) -> AgeNetwork:
    """The same network with the map reader's weights as the nearest product of that rank (Eckart, Young 1936); the
    network itself where that would not make it smaller."""
    reader = network.map_reader
    if reader is None or network.config.map_rank:
        return network
    if rank >= min(network.state_dict()["map_reader.linear.weight"].shape):
        return network
    smaller = AgeNetwork(replace(network.config, map_rank=rank))
    state = network.state_dict()
    weight, bias = (state.pop(f"map_reader.linear.{name}") for name in ("weight", "bias"))
    left, strength, right = torch.linalg.svd(weight.float(), full_matrices=False)
    root = strength[:rank].sqrt()
    state["map_reader.linear.0.weight"] = root[:, None] * right[:rank]
    state["map_reader.linear.1.weight"] = left[:, :rank] * root
    state["map_reader.linear.1.bias"] = bias
    smaller.load_state_dict(state)
    return smaller.eval()


def log_posterior(joint: Tensor, sex: Tensor) -> Tensor:
    """log p(image, bone age | sex) of both sexes up to a constant, (..., B, 2, bins), sex (B,) 0 F, 1 M, 2 missing →
    log p(bone age | image), (..., B, bins)."""
    one = torch.where((sex == MALE)[:, None], joint[..., 1, :], joint[..., 0, :])
    logits = torch.where((sex == UNKNOWN_SEX)[:, None], joint.logsumexp(-2), one)
    return torch.log_softmax(logits, dim=-1)


class AgeNetwork(nn.Module):
    """Crop, sex and chronological age → distribution over month bins.

    >>> network = AgeNetwork(AgeNetworkConfig())
    >>> p = network(torch.zeros(1, 1, 200, 200), torch.tensor([2]), torch.tensor([float("nan")]))
    >>> p.shape
    torch.Size([1, 120])
    """

    def __init__(self, config: AgeNetworkConfig) -> None:
        super().__init__()
        self.config = config
        backbone: Any = timm.create_model(
            config.backbone,
            pretrained=False,
            in_chans=1,
            num_classes=0,
            **_timm_options(config.backbone_options),
        )
        self.backbone = backbone
        self.feature_count: int = backbone.num_features
        stages = [backbone.feature_info[stage] for stage in range(len(backbone.stages))]
        last = stages[len(stages) - len(config.map_channels) :]
        self.map_reader = MapReader(
            [stage["num_chs"] for stage in last],
            [self.window_px(config.image_size) // stage["reduction"] for stage in last],
            config.map_channels,
            config.map_features,
            config.map_rank,
        ) if config.map_channels else None  # fmt: skip
        self.point_reader = PointReader(
            [stage["num_chs"] for stage in stages],
            config.points,
            config.point_width,
            config.point_features,
            config.close_hidden,
            config.point_hidden,
            config.refine_hidden,
            config.measure_features,
        ) if config.points else None  # fmt: skip
        self.feature_count += config.map_features * bool(config.map_channels)
        rough = self.feature_count  # of the backbone: on real films they leave what drawn ones have
        self.feature_count += (config.point_features + config.measure_features) * bool(config.points)
        self.region_reader = None
        if config.region_features:
            if config.points < POINTS_NEEDED:
                raise ValueError(f"a network of {config.points} landmarks: the regions need {POINTS_NEEDED}")
            self.region_reader = RegionReader(config.region_features, config.region_blocks)
            self.feature_count += self.region_reader.feature_count
        if config.head_hidden and self.feature_count == rough:
            raise ValueError("a perceptron beside the linear likelihood needs landmarks to read")
        self.pixels = (
            nn.Identity()
        )  # what the readers look at beside the maps: a place to explain the number by
        self.head = LikelihoodHead(
            self.feature_count, config.bins, config.spline_knots, config.head_hidden, rough
        )
        self.prior = AgePrior(config.bins, config.prior_width, config.prior_parts)

    def window_px(self, side: int) -> int:
        """Side in pixels of the middle of a crop of `side` pixels that the backbone sees."""
        return round(self.config.field * side)

    def features(self, image: Tensor) -> Tensor:
        """Normalised crops (B, 1, S, S) → pooled features, what was read place by place, at landmarks and of regions,
        (B, F)."""
        return self.see(image)[0]

    def see(self, image: Tensor) -> tuple[Tensor, Points | None]:
        """The features, and the landmarks where the network finds them."""
        last, maps = self.backbone.forward_intermediates(self.window(image))
        features, points = [self.backbone.forward_head(last)], None
        # A tensor of its own: what is asked of it is asked of the readers alone.
        pixels = self.pixels(image.view_as(image))
        if self.map_reader is not None:
            features.append(self.map_reader(maps[len(maps) - len(self.config.map_channels) :]))
        if self.point_reader is not None:
            window = self.window(pixels)
            read, points = self.point_reader(window, maps, window.shape[-1] / image.shape[-1])
            features.append(read)
        if self.region_reader is not None and points is not None:
            features.append(self.region_reader(pixels, points.places))
        return torch.cat(features, dim=1), points

    def window(self, image: Tensor) -> Tensor:
        """Crops (B, 1, S, S) → their middle (B, 1, W, W), which the backbone sees."""
        side = image.shape[-1]
        window = self.window_px(side)
        margin = (side - window) // 2
        return image[..., margin : margin + window, margin : margin + window]

    def log_likelihood(self, features: Tensor) -> Tensor:
        """Features (B, F) → log p(image | bone age, sex), (B, 2, bins)."""
        return self.head(features)

    def log_posterior(self, log_likelihood: Tensor, sex: Tensor, age_months: Tensor) -> Tensor:
        """Likelihood (B, 2, bins), sex (B,) 0 F, 1 M, 2 missing, age (B,) or NaN → log p, (B, bins)."""
        return log_posterior(log_likelihood + self.prior(age_months), sex)

    def forward(self, image: Tensor, sex: Tensor, age_months: Tensor) -> Tensor:
        """Image (B, 1, S, S), sex (B,) int64, age (B,) months or NaN → probabilities (B, bins)."""
        likelihood = self.log_likelihood(self.features(image))
        return self.log_posterior(likelihood, sex, age_months).exp()


def _timm_options(options: dict[str, Any]) -> dict[str, Any]:
    """JSON gives lists where timm wants tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
