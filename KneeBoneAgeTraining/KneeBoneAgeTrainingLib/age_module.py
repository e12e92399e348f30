"""What is learnt from a batch of crops: the Lightning module of the age networks and their losses."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import lightning
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from KneeBoneAgeLib.network import MONTHS_MAX, UNKNOWN_SEX, AgeNetwork, Points, bin_centres

from .recipe import TRUE_SD_MONTHS, Recipe
from .runs.loop import move_average, pace, weight_groups
from .runs.weights import save_state

ATLAS_END_MONTHS = (216.0, 228.0)
"""Bone age at which a hand atlas ends, girls and boys: a reader cannot assign more."""


def label_loss(log_p: Tensor, label: Tensor, sd: Tensor, sex: Tensor) -> Tensor:
    """Negative log-probability of noisy labels under distributions of the true bone age, (B,).

    The label is the true bone age plus reader error, cut off at the atlas's ends; so p over the true one is
    learnt although only labels are seen: -log sum_b p(b) N(label; b, sd), with the tail's mass at the ends.

    Parameters
    ----------
    log_p : (B, bins) log-probabilities over bins of 0 to 240 months.
    label, sd : (B,) months; labels with `sd` <= 1 month are taken as the true value, nothing was cut off.
    sex : (B,) 0 F, 1 M.
    """
    centres = bin_centres(log_p.shape[-1]).to(log_p)
    z = (label[:, None] - centres) / sd[:, None]
    width = MONTHS_MAX / log_p.shape[-1]
    kernel = -0.5 * z**2 - torch.log(sd[:, None]) + math.log(width / math.sqrt(2 * math.pi))
    noisy = sd > TRUE_SD_MONTHS
    end = torch.tensor(ATLAS_END_MONTHS).to(log_p)[sex]
    kernel = torch.where((noisy & (label >= end))[:, None], torch.special.log_ndtr(-z), kernel)
    kernel = torch.where((noisy & (label <= 0))[:, None], torch.special.log_ndtr(z), kernel)
    return -torch.logsumexp(log_p + kernel, dim=-1)


def of_own_sex(said: Tensor, sex: Tensor, outputs: tuple[int, int]) -> Tensor:
    """I indicators and the M maturities of girls and of boys, (B, I + 2 · M), `outputs` (I, M), sex (B,) 0 F, 1 M →
    indicators and the maturities of one's own sex, (B, I + M)."""
    indicators, maturities = outputs
    either = said[:, indicators:].unflatten(1, (2, maturities))
    own = either[torch.arange(len(sex), device=sex.device), sex.clamp(max=1)]
    return torch.cat([said[:, :indicators], own], dim=1)


def masked_smooth_l1(predicted: Tensor, target: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Smooth L1 over the entries whose target is not NaN, each counting by its `weight`; 0 where there is none."""
    known = torch.isfinite(target) * weight
    error = functional.smooth_l1_loss(predicted, torch.nan_to_num(target), reduction="none", beta=0.1)
    return (error * known).sum() / known.sum().clamp(min=1e-6)


def point_loss(points: Points, landmarks: Tensor, field: float) -> Tensor:
    """How far the first landmarks are from the true ones, (B, P, 2) of -1 to 1 across the crop; NaN where there is
    none or it lies outside of the window. The sum of distance (in hundredths of the window) and of the heat-map's
    cross-entropy with a Gaussian of 0.8 cells."""
    known, target = _within(landmarks, field)
    count, named = known.sum().clamp(min=1), landmarks.shape[1]
    cells = (torch.arange(points.side, device=target.device) + 0.5) * (2 / points.side) - 1
    sigma = 0.8 * 2 / points.side
    across, down = (
        torch.softmax(-0.5 * ((cells - target[..., axis, None]) / sigma) ** 2, -1) for axis in (0, 1)
    )
    gaussian = (down[..., :, None] * across[..., None, :]).flatten(2)
    entropy = -(gaussian * points.log_share[:, :named]).sum(-1)
    error = functional.smooth_l1_loss(
        50 * points.places[:, :named] / field, 50 * target, reduction="none"
    ).sum(-1)
    return ((error + 0.5 * entropy) * known).sum() / count


def _within(landmarks: Tensor, field: float) -> tuple[Tensor, Tensor]:
    """Which landmarks (B, P, 2) lie well within the window, (B, P), and where, -1 to 1 across it, (B, P, 2)."""
    known = (torch.nan_to_num(landmarks, nan=9.0).abs() < 0.97 * field).all(-1)
    return known, torch.where(
        known[..., None], torch.nan_to_num(landmarks), torch.zeros_like(landmarks)
    ) / field


class AgeModule(lightning.LightningModule):
    """An `AgeNetwork`, its running average `averaged` (what is kept), and heads that only training needs."""

    def __init__(self, recipe: Recipe, indicators: int, maturities: int) -> None:
        super().__init__()
        self.recipe = recipe
        self.network = AgeNetwork(recipe.network)
        self.indicator_head = nn.Linear(self.network.feature_count, indicators)
        # Girls' and boys' clocks differ: what a picture shows means one maturity in a girl, another in a boy.
        self.maturity_head = nn.Linear(self.network.feature_count, 2 * maturities)
        self.knee_head = nn.Linear(self.network.feature_count, 1)
        self.hold_still()
        self.averaged = copy.deepcopy(self.network).requires_grad_(False).eval()

    @property
    def outputs(self) -> tuple[int, int]:
        """How many indicators and maturities are learnt: what it is built with."""
        return self.indicator_head.out_features, self.maturity_head.out_features // 2

    def hold_still(self) -> None:
        """The prior is learnt from numbers alone; stem and first stages stay if the recipe says so."""
        self.network.prior.requires_grad_(False)
        if self.recipe.frozen_stages:
            self.network.backbone.stem.requires_grad_(False)
            for stage in self.network.backbone.stages[: self.recipe.frozen_stages]:
                stage.requires_grad_(False)
            for stage, norm in self._stage_norms():
                if stage < self.recipe.frozen_stages:
                    # PyTorch's GroupNorm crashes on a CPU when its weights want a gradient and its input does not.
                    norm.requires_grad_(False)

    def _stage_norms(self) -> list[tuple[int, nn.Module]]:
        """The first layer of what reads a stage's map, with the stage's number."""
        network, stages = self.network, len(self.network.backbone.stages)
        readers: list[nn.Module] = []
        if network.point_reader is not None:
            readers += network.point_reader.lateral
        found = [(stage, next(reader.children())) for stage, reader in enumerate(readers)]
        if network.map_reader is not None:
            squeeze = network.map_reader.squeeze
            first = stages - len(squeeze)
            found += [(first + i, next(reader.children())) for i, reader in enumerate(squeeze)]
        return found

    def start_from(self, other: AgeModule) -> None:
        """Take over the averaged weights and the training heads of another run."""
        self.network.load_state_dict(other.averaged.state_dict())
        self.averaged.load_state_dict(other.averaged.state_dict())
        self.indicator_head.load_state_dict(other.indicator_head.state_dict())
        self.maturity_head.load_state_dict(other.maturity_head.state_dict())
        self.knee_head.load_state_dict(other.knee_head.state_dict())

    def read_indicators(self, features: Tensor, sex: Tensor) -> Tensor:
        """Features (B, F), sex (B,) 0 F, 1 M → indicators and, of that sex, maturities, (B, I + M)."""
        return of_own_sex(
            torch.cat([self.indicator_head(features), self.maturity_head(features)], 1), sex, self.outputs
        )

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of a batch: age with and without chronological age, indicators, knee or not; their sum."""
        features, points = self.network.see(batch["image"])
        knee = batch["knee"].bool()
        count = knee.sum().clamp(min=1)
        likelihood = self.network.log_likelihood(features)
        nowhere = torch.full_like(batch["age_months"], torch.nan)
        shown_sex = torch.where(batch["sex_missing"], UNKNOWN_SEX, batch["sex"])

        def age_loss(age_months: Tensor) -> Tensor:
            log_p = self.network.log_posterior(likelihood, shown_sex, age_months)
            each = label_loss(log_p, batch["label"], batch["label_sd"], batch["sex"])
            return torch.where(knee, each, 0.0).sum() / count

        recipe = self.recipe
        found = {
            "with_age": age_loss(batch["age_months"]),
            "without_age": age_loss(nowhere),
            "indicators": masked_smooth_l1(self.read_indicators(features, batch["sex"]), batch["indicators"]),
            "knee": functional.binary_cross_entropy_with_logits(
                self.knee_head(features)[:, 0], batch["knee"].float()
            ),
        }
        found["points"] = (
            point_loss(points, batch["landmarks"], self.network.config.field)
            if points is not None
            else features.new_zeros(())
        )
        found["loss"] = (
            (found["with_age"] + found["without_age"]) / 2
            + recipe.point_weight * found["points"]
            + 10 * recipe.indicator_weight * found["indicators"]
            + recipe.knee_weight * found["knee"]
        )
        return found

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        found = self.losses(batch)
        self.log_dict(found, on_step=False, on_epoch=True, batch_size=len(batch["sex"]))
        return found["loss"]

    def on_train_batch_end(self, *_: Any) -> None:
        step, small_steps = self.global_step, int(self.recipe.small_share * self.recipe.steps)
        # Crops of another side start a new average.
        seen = step if step <= small_steps else step - small_steps
        move_average(self.averaged, self.network, seen, self.recipe.ema_decay)

    def configure_optimizers(self) -> Any:
        recipe = self.recipe
        learnt = [(name, p) for name, p in self.named_parameters() if not name.startswith("averaged")]
        groups = weight_groups(learnt, recipe.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.99), foreach=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: pace(step, recipe.steps, recipe.warm_up, 0.01)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def load_module(folder: Path) -> AgeModule:
    """The finished module of a run's folder."""
    state = load_file(folder / "module.safetensors")
    indicators, clocks = (len(state[f"{name}_head.bias"]) for name in ("indicator", "maturity"))
    module = AgeModule(Recipe.load(folder / "recipe.json"), indicators, clocks // 2)
    module.load_state_dict(state)
    return module


def save_module(folder: Path, module: AgeModule) -> None:
    """The inverse of `load_module`."""
    folder.mkdir(exist_ok=True)
    module.recipe.save(folder / "recipe.json")
    save_state(folder / "module.safetensors", module)
