"""Train the age networks: pretraining on one cohort, close readers and heads, folds on another, calibration, gate.

    python -m KneeBoneAgeTrainingLib.age_training pretrain --run RUN --cache A --minutes 30
    python -m KneeBoneAgeTrainingLib.age_training landmarks --run RUN --cache A
    python -m KneeBoneAgeTrainingLib.age_training region 0 --run RUN --cache A
    python -m KneeBoneAgeTrainingLib.age_training regions  --run RUN --cache A
    python -m KneeBoneAgeTrainingLib.age_training views 0  --run RUN --cache A
    python -m KneeBoneAgeTrainingLib.age_training heads    --run RUN --cache A
    python -m KneeBoneAgeTrainingLib.age_training fold-views 0 --run RUN --cache B
    python -m KneeBoneAgeTrainingLib.age_training fold 0   --run RUN --cache B
    python -m KneeBoneAgeTrainingLib.age_training calibrate --run RUN --cache B

When the same line is typed again, a finished part is skipped, and pretraining or a fold of a whole network that was
stopped goes on from its last epoch; the other parts, of minutes each (a region: of an hour), begin again.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from numpy.typing import NDArray

from KneeBoneAgeLib.regions import KNEE_REGIONS

from . import batches
from .age_module import AgeModule, load_module
from .batches import Batches, Data, Part, knees_apart, parts_of
from .between_stages import (
    FULL_VIEW,
    HEADS,
    LANDMARKS,
    REGIONS,
    gather_regions,
    keep_views,
    refine_landmarks,
    renew_heads,
    teach_region,
    views_file,
)
from .cached_views import joined, load_views
from .crop_cache import KNEE, CropCache
from .folds import FOLDS, assign_folds
from .head_training import HeadRecipe, learn_heads
from .predicting import errors_months, predict
from .prior_training import fit_prior
from .recipe import Recipe
from .runs.record import RunError
from .runs.weights import save_state

log = logging.getLogger(__name__)

FOLD_HEADS = HeadRecipe(steps=200, batch=256, learning_rate=1e-3, ema_decay=0.98, seed=101)
"""How a fold's heads go on from those of all; a fold's number is added to the seed."""


class _LookAfterEpoch(lightning.Callback):
    """After an epoch: the averaged network's error on crops that are not learnt from."""

    def __init__(self, cache: CropCache, rows: NDArray[np.intp], every: int) -> None:
        self.cache, self.rows, self.every = cache, rows, every
        self.began = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        assert isinstance(module, AgeModule)
        last = module.global_step >= module.recipe.steps
        epoch = module.global_step // module.recipe.epoch_steps
        if not len(self.rows) or (epoch % self.every and not last):
            return
        size = module.recipe.size_px(module.global_step)
        prediction = predict(module.averaged, self.cache, self.rows, size)
        found = errors_months(prediction, module.averaged, self.cache.labels.take(self.rows))
        module.log_dict({f"held_out_{key}": value for key, value in found.items()})
        text = "  ".join(f"{key} {value:.2f}" for key, value in found.items())
        log.info("step %d  %.0f s  %s", module.global_step, time.monotonic() - self.began, text)


def train(
    module: AgeModule,
    parts: Sequence[Part],
    folder: Path,
    held_out: tuple[CropCache, NDArray[np.intp]],
    workers: int = 1,
) -> None:
    """Run Lightning's loop for the recipe's steps, or what is left of them after the last checkpoint.

    With `workers` the next batches are prepared in a process beside the loop; they are the same ones.
    """
    recipe = module.recipe
    epochs = -(-recipe.steps // recipe.epoch_steps)
    keep = ModelCheckpoint(
        folder, filename="last", every_n_epochs=1, save_top_k=1, enable_version_counter=False
    )
    trainer = lightning.Trainer(
        accelerator="cpu" if not torch.cuda.is_available() else "auto",
        devices=1,
        max_epochs=-1,
        max_steps=recipe.steps,
        gradient_clip_val=1.0,
        logger=CSVLogger(folder, name="log", version=0),
        log_every_n_steps=recipe.epoch_steps,
        callbacks=[keep, _LookAfterEpoch(*held_out, every=max(1, epochs // 10))],
        reload_dataloaders_every_n_epochs=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    last = folder / "last.ckpt"
    # The checkpoint is this run's own.
    trainer.fit(
        module,
        datamodule=Data(parts, recipe, workers),
        ckpt_path=last if last.exists() else None,
        weights_only=False,
    )


def seconds_a_step(module: AgeModule, parts: Sequence[Part], timed: int = 5) -> float:
    """Median time of a forward and backward pass with its batch, measured on this machine as it is now."""
    share = module.recipe.small_share
    mean = 0.0
    for small, weight in ((1.0, share), (0.0, 1 - share)):
        if not weight:
            continue
        recipe = replace(module.recipe, small_share=small, steps=timed + 2, epoch_steps=timed + 2)
        batches = iter(Batches(parts, recipe, epoch=0))
        times = []
        for _ in range(timed + 2):
            began = time.perf_counter()
            module.losses(next(batches))["loss"].backward()
            times.append(time.perf_counter() - began)
        mean += weight * float(np.median(times[2:]))
    module.zero_grad(set_to_none=True)
    return mean * 1.1  # optimiser, averaging, looking after an epoch


def settle_recipe(folder: Path, recipe: Recipe, parts: Sequence[Part], minutes: float | None) -> Recipe:
    """The recipe of a run that was begun, else this one, its steps measured where minutes are given."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.json"
    if path.exists():
        return Recipe.load(path)
    if minutes is not None:
        second = seconds_a_step(new_module(recipe, parts), parts)
        steps = max(20, int(minutes * 60 / second))
        log.info("%.2f s a step: %d steps in %.1f minutes", second, steps, minutes)
        recipe = replace(recipe, steps=steps)
    recipe.save(path)
    return recipe


def new_module(recipe: Recipe, parts: Sequence[Part]) -> AgeModule:
    torch.manual_seed(recipe.seed)
    labels = parts[0].cache.labels
    return AgeModule(recipe, labels.indicators.shape[1], labels.maturities.shape[1])


def pretrain(
    run: Path,
    cache: CropCache,
    recipe: Recipe,
    minutes: float | None,
    negatives: CropCache | None,
    start: Path | None = None,
) -> None:
    """Stage 1: indicators, maturities, true bone ages of one cohort; the prior first, from numbers alone.

    `start` is the folder of a finished pretraining whose weights this one goes on from, its prior among them: that of
    a clinic, whatever ages are shown here.
    """
    folder = run / "pretrain"
    if (folder / "module.safetensors").exists():
        return
    knees, held_out = knees_apart(cache)
    parts = parts_of(recipe, (cache, knees, "true"), None, cache, negatives)
    recipe = settle_recipe(folder, recipe, parts, minutes)
    module = new_module(recipe, parts)
    if start is not None:
        module.start_from(load_module(start))
    else:
        labels = cache.labels.take(knees)
        loss = fit_prior(
            module.network.prior,
            labels.sex,
            labels.age_months,
            labels.true_months,
            steps=recipe.prior_steps,
            seed=recipe.seed,
        )
        module.averaged.load_state_dict(module.network.state_dict())
        log.info("prior from %d knees: %.3f nats", len(knees), loss)
    train(module, parts, folder, (cache, held_out))
    save_state(folder / "module.safetensors", module)


def learn_fold(run: Path, fold: int, cache: CropCache) -> None:
    """Stage 2: one fold, whose heads go on from those of all folds with the other folds' children and those that these
    learnt from; its out-of-fold predictions go to `out_of_fold.npz`. They see the views with all structure alone: with
    the others too, drawn knees were read 0.7 % better, but adults' closed knees on real films up to 7 months younger.

    The backbone stays. Tuned as a whole on a few thousand crops (`train_fold`), a fold was off by 3.99 months on
    children that it had not seen, at a third of that learning rate by 3.91, the heads that it began with by 3.81. These
    figures are of networks whose landmarks were not refined yet."""
    folder = run / f"fold-{fold}"
    if (folder / "out_of_fold.npz").exists():
        return
    knees, fold_of = knees_of_folds(cache)
    others = torch.from_numpy(np.flatnonzero(fold_of != fold))
    learnt = [
        load_views(run / views_file(FULL_VIEW)),
        load_views(run / views_file(FULL_VIEW, of_folds=True)).take(others),
    ]
    module = load_module(run / HEADS)
    learn_heads(module, joined(learnt), replace(FOLD_HEADS, seed=FOLD_HEADS.seed + fold), fresh=False)
    folder.mkdir(exist_ok=True)
    module.recipe.save(folder / "recipe.json")
    _finish_fold(folder, module, cache, knees[fold_of == fold])


def knees_of_folds(cache: CropCache) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of the knees of a cohort, and the fold of each."""
    knees = np.flatnonzero(cache.labels.kind == KNEE)
    labels = cache.labels.take(knees)
    return knees, assign_folds(labels.patient_id, labels.age_months, labels.sex)


def train_fold(
    run: Path,
    fold: int,
    cache: CropCache,
    recipe: Recipe,
    minutes: float | None,
    replay: CropCache | None,
    negatives: CropCache | None,
) -> None:
    """Stage 2 for a run without heads of their own: one fold of the whole network, from the pretrained weights; its
    out-of-fold predictions go to `out_of_fold.npz`."""
    folder = run / f"fold-{fold}"
    if (folder / "out_of_fold.npz").exists():
        return
    knees, fold_of = knees_of_folds(cache)
    own, others = knees[fold_of == fold], knees[fold_of != fold]
    parts = parts_of(recipe, (cache, others, recipe.label), replay, cache, negatives)
    start = load_module(run / "pretrain")
    recipe = settle_recipe(folder, replace(recipe, network=start.recipe.network), parts, minutes)
    module = new_module(recipe, parts)
    module.start_from(start)
    rng = np.random.default_rng(0)
    train(module, parts, folder, (cache, rng.permutation(own)[: batches.EVALUATED]))
    _finish_fold(folder, module, cache, own)


def _finish_fold(folder: Path, module: AgeModule, cache: CropCache, own: NDArray[np.intp]) -> None:
    """Write a fold's weights, and what it says of its own children."""
    prediction = predict(module.averaged, cache, own)
    save_state(folder / "module.safetensors", module)
    unfinished = folder / "unfinished.npz"
    np.savez(
        unfinished,
        rows=own,
        features=prediction.features.astype(np.float16),
        log_likelihood=prediction.log_likelihood,
    )
    unfinished.replace(folder / "out_of_fold.npz")


NUMBERED = {
    "region": len(KNEE_REGIONS),
    "views": HeadRecipe().views,
    "fold-views": HeadRecipe().views,
    "fold": FOLDS,
}
"""Parts of a run of which there are several."""
PARTS = ("pretrain", LANDMARKS, "region", REGIONS, "views", HEADS, "fold-views", "fold", "calibrate")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of a run's parts."""
    parser = argparse.ArgumentParser(
        prog="age_training", description=__doc__.split("\n")[0] if __doc__ else None
    )
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("number", type=int, nargs="?", help="of the region, view or fold")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--cache", type=Path, required=True, help="folder of crops")
    parser.add_argument(
        "--replay", type=Path, help="crops of the pretraining cohort, mixed into a fold's batches"
    )
    parser.add_argument("--negatives", type=Path, help="crops that are not a frontal knee")
    parser.add_argument(
        "--start", type=Path, help="finished pretraining whose weights a longer one goes on from"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="length; the steps are measured once and written down")
    length.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="other settings of the recipe"
    )
    given = parser.parse_args(arguments)
    count = NUMBERED.get(given.part, 0)
    if count and given.number not in range(count):
        parser.error(f"{given.part}: which one, 0 to {count - 1}")
    if not count and given.number is not None:
        parser.error(f"{given.part}: takes no number")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    torch.set_num_threads(given.threads)
    try:
        run_part(given)
    except RunError as error:
        sys.exit(f"Error: {error}")


def run_part(given: argparse.Namespace) -> None:
    """One part of a run, as the command line says. Raises RunError where an earlier part is missing or another
    version's, or a setting is none."""
    cache = CropCache.load(given.cache)
    replay = CropCache.load(given.replay) if given.replay else None
    negatives = CropCache.load(given.negatives) if given.negatives else None
    if given.part == "calibrate":
        from .calibration import calibrate

        calibrate(given.run, cache, negatives)
        return
    if given.part == LANDMARKS:
        refine_landmarks(given.run, cache)
        return
    if given.part == "region":
        teach_region(given.run, cache, given.number)
        return
    if given.part == REGIONS:
        gather_regions(given.run)
        return
    if given.part in ("views", "fold-views"):
        keep_views(given.run, cache, given.number, of_folds=given.part == "fold-views")
        return
    if given.part == HEADS:
        renew_heads(given.run)
        return
    if given.part == "fold" and (given.run / HEADS / "module.safetensors").exists():
        learn_fold(given.run, given.number, cache)
        return
    stage = STAGES[given.part]
    changes = {name: json.loads(value) for name, value in (pair.split("=", 1) for pair in given.set)}
    try:
        recipe = Recipe.from_json({**replace(stage, steps=given.steps).to_json(), **changes})
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"--set {' '.join(given.set)}: not settings of a recipe ({error})") from None
    if given.part == "pretrain":
        pretrain(given.run, cache, recipe, given.minutes, negatives, given.start)
        return
    recipe = replace(recipe, seed=recipe.seed + given.number)
    train_fold(given.run, given.number, cache, recipe, given.minutes, replay, negatives)


STAGES = {
    "pretrain": Recipe(steps=1000, label="true", small_share=0.4, seed=1),
    "fold": Recipe(
        steps=300,
        label="assigned",
        learning_rate=6e-4,
        warm_up=0.1,
        replay_share=0.3,
        frozen_stages=0,
        seed=101,
    ),
}
"""What each stage is trained with unless told otherwise."""


if __name__ == "__main__":
    main()
