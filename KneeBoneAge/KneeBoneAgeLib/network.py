"""The age network: what the picture says about bone age, times what sex and chronological age say.

The ConvNeXt (timm) gives for either sex a log-likelihood over month bins, log p(image | bone age, sex): crops lie
alike, so its last maps are read pooled and place by place. A small network of numbers gives
log p(bone age | chronological age, sex). Their sum, normalised, is the posterior (Bayes). So either number may be
missing: without an age the prior is the marginal one, without a sex both are summed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

FEMALE, MALE, UNKNOWN_SEX = 0, 1, 2
MONTHS_MAX = 240.0


def encode_sex(sex: str | None) -> int:
    """ "F", "M" or None as the network counts them."""
    return {"F": FEMALE, "M": MALE, None: UNKNOWN_SEX}[sex]


@dataclass(frozen=True)
class AgeNetworkConfig:
    """Everything that rebuilds an `AgeNetwork`; JSON-able by `to_json` and back by `from_json`.

    `backbone_options` are timm's own keyword arguments; `image_size` is the side of the crop in pixels.
    `map_channels` are what the last stages' maps are squeezed to before they are read place by place (none: they
    are not), `map_features` what is read from them.
    """

    backbone: str = "convnext_atto"
    backbone_options: dict[str, Any] = field(
        default_factory=lambda: {"ls_init_value": None, "act_layer": "relu"}
    )
    image_size: int = 160
    bins: int = 120
    spline_knots: int = 24
    prior_width: int = 32
    prior_parts: int = 5
    map_channels: tuple[int, ...] = (8, 40)
    map_features: int = 128

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "map_channels": list(self.map_channels)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> AgeNetworkConfig:
        return cls(**{**values, "map_channels": tuple(values.get("map_channels", ()))})


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


class MapReader(nn.Module):
    """Maps of the last stages → features (B, F) that know where in the crop something was seen.

    Pooling forgets the place, and most of what matures at the knee is a breadth, a height or a line at a known
    place of an aligned crop. Each map is normalised, squeezed to few channels and read by one linear layer.
    """

    def __init__(
        self, channels: Sequence[int], cells: Sequence[int], squeezed: Sequence[int], features: int
    ) -> None:
        super().__init__()
        self.cells = list(cells)
        self.squeeze = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(1, wide), nn.Conv2d(wide, narrow, 1), nn.ReLU())
            for wide, narrow in zip(channels, squeezed, strict=True)
        )
        read = sum(narrow * side**2 for narrow, side in zip(squeezed, cells, strict=True))
        self.linear = nn.Linear(read, features)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, C, S, S), one a stage; of another side than trained with they are resampled."""
        places = []
        for squeeze, side, one in zip(self.squeeze, self.cells, maps, strict=True):
            narrow = squeeze(one)
            if narrow.shape[-1] != side:
                narrow = functional.interpolate(narrow, (side, side), mode="bilinear", align_corners=False)
            places.append(narrow.flatten(1))
        return torch.relu(self.linear(torch.cat(places, 1)))


class LikelihoodHead(nn.Module):
    """Features (B, F) → log p(image | bone age, sex) up to a constant of the image, (B, 2, bins).

    A Gaussian of the age that the picture looks like, plus a spline for what is not Gaussian: plateaus
    of a grown knee, skewness, and how well either sex fits.
    """

    centres: Tensor
    basis: Tensor

    def __init__(self, features: int, bins: int, knots: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2 * (2 + knots))
        nn.init.trunc_normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("centres", bin_centres(bins), persistent=False)
        self.register_buffer("basis", spline_basis(bins, knots), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        raw = self.linear(features).view(len(features), 2, -1)
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


class AgeNetwork(nn.Module):
    """Crop, sex and chronological age → distribution over month bins.

    >>> network = AgeNetwork(AgeNetworkConfig())
    >>> p = network(torch.zeros(1, 1, 160, 160), torch.tensor([2]), torch.tensor([float("nan")]))
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
        self.map_reader: MapReader | None = None
        self.map_stages = list(range(len(backbone.stages)))[-len(config.map_channels) :]
        if config.map_channels:
            about = [backbone.feature_info[stage] for stage in self.map_stages]
            self.map_reader = MapReader(
                [a["num_chs"] for a in about],
                [config.image_size // a["reduction"] for a in about],
                config.map_channels,
                config.map_features,
            )
            self.feature_count += config.map_features
        self.head = LikelihoodHead(self.feature_count, config.bins, config.spline_knots)
        self.prior = AgePrior(config.bins, config.prior_width, config.prior_parts)

    def features(self, image: Tensor) -> Tensor:
        """Normalised crops (B, 1, S, S) → pooled features, then what was read place by place, (B, F)."""
        if self.map_reader is None:
            return self.backbone(image)
        last, maps = self.backbone.forward_intermediates(image, indices=self.map_stages)
        return torch.cat([self.backbone.forward_head(last), self.map_reader(maps)], dim=1)

    def log_likelihood(self, features: Tensor) -> Tensor:
        """Features (B, F) → log p(image | bone age, sex), (B, 2, bins)."""
        return self.head(features)

    def log_posterior(self, log_likelihood: Tensor, sex: Tensor, age_months: Tensor) -> Tensor:
        """Likelihood (B, 2, bins), sex (B,) 0 F, 1 M, 2 missing, age (B,) or NaN → log p, (B, bins)."""
        joint = log_likelihood + self.prior(age_months)
        rows = torch.arange(len(sex), device=sex.device)
        one = joint[rows, sex.clamp(max=1)]
        logits = torch.where((sex == UNKNOWN_SEX)[:, None], joint.logsumexp(1), one)
        return torch.log_softmax(logits, dim=-1)

    def forward(self, image: Tensor, sex: Tensor, age_months: Tensor) -> Tensor:
        """Image (B, 1, S, S), sex (B,) int64, age (B,) months or NaN → probabilities (B, bins)."""
        likelihood = self.log_likelihood(self.features(image))
        return self.log_posterior(likelihood, sex, age_months).exp()


def _timm_options(options: dict[str, Any]) -> dict[str, Any]:
    """JSON gives lists where timm wants tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
