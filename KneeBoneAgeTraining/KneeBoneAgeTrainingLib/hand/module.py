"""What is learnt from a batch of hand films: the Lightning module around a teacher."""

from __future__ import annotations

import copy
from typing import Any

import lightning
import torch
from torch import Tensor

from ..recipes.schema import HandRecipe, Stage
from ..runs.loop import move_average, pace, seed_of, weight_groups
from ..teachers import Inputs, Teacher, build_teacher
from .batches import HandBatch, Plan


def inputs_of(recipe: HandRecipe, stage: Stage) -> Inputs:
    """What a stage gives the network."""
    return Inputs(recipe.image_size, stage.inputs.sex, stage.inputs.chronological_age)


def new_teacher(recipe: HandRecipe, stage: Stage, seed: tuple[int, ...], *, fetch: bool = True) -> Teacher:
    """A network with first weights, the same ones for the same seed."""
    torch.manual_seed(seed_of(*seed))
    return build_teacher(recipe.architecture, inputs_of(recipe, stage), fetch=fetch)


class HandModule(lightning.LightningModule):
    """A teacher, `network`, and the moving average of its weights, `averaged`, which is what is kept."""

    def __init__(self, network: Teacher, plan: Plan) -> None:
        super().__init__()
        self.network, self.plan = network, plan
        self.averaged: Teacher = network
        if plan.recipe.ema_decay:
            self.averaged = copy.deepcopy(network).requires_grad_(False).eval()

    def on_train_start(self) -> None:
        self.network.train()

    def on_train_batch_start(self, *_: Any) -> None:
        # Dropout follows from the step, so that a run that goes on draws what it would have drawn.
        torch.manual_seed(seed_of(*self.plan.seed, 2, self.global_step, self.global_rank))

    def training_step(self, batch: HandBatch, _: int) -> Tensor:
        outcome = self.network(batch.image, batch.sex, batch.age_months)
        return self.network.loss(outcome, batch.months, batch.truth)["loss"]

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.averaged is not self.network:
            move_average(self.averaged, self.network, self.global_step, self.plan.recipe.ema_decay)

    def configure_optimizers(self) -> Any:
        settings, rate = self.plan.recipe.optimiser, self.plan.stage.learning_rate
        groups = weight_groups(self.network.named_parameters(), settings.weight_decay)
        optimiser: torch.optim.Optimizer
        if settings.kind == "sgd":
            optimiser = torch.optim.SGD(
                groups, lr=rate, momentum=settings.momentum, nesterov=settings.momentum > 0
            )
        else:
            kind = torch.optim.AdamW if settings.kind == "adamw" else torch.optim.Adam
            optimiser = kind(groups, lr=rate, betas=(settings.momentum, 0.999))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser,
            lambda step: pace(step, self.plan.steps, self.plan.stage.warm_up, settings.last_share),
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
