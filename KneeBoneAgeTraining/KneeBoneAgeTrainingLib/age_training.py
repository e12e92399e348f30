"""Train the age networks: pretraining on one cohort, five folds on another, then calibration and gate.

    python -m KneeBoneAgeTrainingLib.age_training pretrain --run RUN --cache A --minutes 30
    python -m KneeBoneAgeTrainingLib.age_training fold 0   --run RUN --cache B --replay A --minutes 6
    python -m KneeBoneAgeTrainingLib.age_training calibrate --run RUN --cache B

A part that was stopped goes on from its last epoch when the same line is typed again; a finished one is
skipped.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from KneeBoneAgeLib.intervals import mean_months
from KneeBoneAgeLib.network import AgeNetwork, AgePrior

from .age_module import AgeModule
from .augmentation import cut_out
from .crop_cache import KNEE, CropCache, CropLabels
from .folds import FOLDS, assign_folds
from .recipe import TRUE_SD_MONTHS, Recipe

log = logging.getLogger(__name__)
EVALUATED = 400  # crops that are looked at after an epoch


@dataclass(frozen=True)
class Part:
    """Rows of a cache that make up `share` of every batch, with the label that is learnt from them."""

    cache: CropCache
    rows: NDArray[np.intp]
    share: float
    label: str
    label_sd_months: float


class Batches(IterableDataset[dict[str, Tensor]]):
    """The batches of one epoch; they follow from the recipe's seed and the epoch alone."""

    def __init__(self, parts: Sequence[Part], recipe: Recipe, epoch: int) -> None:
        self.parts, self.recipe, self.epoch = parts, recipe, epoch

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        rng = np.random.default_rng((self.recipe.seed, self.epoch))
        first = self.epoch * self.recipe.epoch_steps
        counts = _counts(self.recipe.batch, [part.share for part in self.parts])
        for step in range(first, min(first + self.recipe.epoch_steps, self.recipe.steps)):
            size = self.recipe.size_px(step)
            drawn = [
                _rows_of(part, rng.choice(part.rows, count), self.recipe, rng, size)
                for part, count in zip(self.parts, counts, strict=True)
                if count
            ]
            yield {key: torch.cat([d[key] for d in drawn]) for key in drawn[0]}


def _counts(batch: int, shares: Sequence[float]) -> list[int]:
    """Crops of each part; every part gets one at least, the first what is left."""
    others = [max(1, round(batch * share / sum(shares))) for share in shares[1:]]
    return [batch - sum(others), *others]


def _rows_of(
    part: Part, rows: NDArray[np.intp], recipe: Recipe, rng: np.random.Generator, size: int
) -> dict[str, Tensor]:
    known = part.cache.labels.take(rows)
    knee = known.kind == KNEE
    label = np.nan_to_num(getattr(known, f"{part.label}_months"))
    auxiliary = np.where(knee[:, None], np.concatenate([known.indicators, known.maturities], axis=1), np.nan)
    arrays = {
        "sex": known.sex.astype(np.int64),
        "sex_missing": rng.random(len(rows)) < recipe.missing_sex,
        "age_months": known.age_months.astype(np.float32),
        "label": label.astype(np.float32),
        "label_sd": np.full(len(rows), part.label_sd_months, np.float32),
        "indicators": auxiliary.astype(np.float32),
        "knee": knee,
    }
    batch = {key: torch.from_numpy(value) for key, value in arrays.items()}
    batch["image"] = cut_out(part.cache.images(rows), size, rng, recipe.jitter)
    return batch


class _Data(lightning.LightningDataModule):
    def __init__(self, parts: Sequence[Part], recipe: Recipe) -> None:
        super().__init__()
        self.parts, self.recipe = parts, recipe

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        # By steps: after a resumption Lightning's own count of epochs is one behind.
        step = self.trainer.global_step if self.trainer else 0
        return DataLoader(Batches(self.parts, self.recipe, step // self.recipe.epoch_steps), batch_size=None)


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


@dataclass(frozen=True)
class Prediction:
    """What a network says of N crops: pooled features (N, F) and log-likelihoods (N, 2, bins), float32."""

    features: NDArray[np.float32]
    log_likelihood: NDArray[np.float32]


@torch.inference_mode()
def predict(
    network: AgeNetwork, cache: CropCache, rows: NDArray[np.intp], size: int | None = None, batch: int = 16
) -> Prediction:
    """Features and likelihoods of unjittered crops, of the network's own or another side in pixels."""
    network.eval()
    size = size or network.config.image_size
    features, likelihood = [], []
    for start in range(0, len(rows), batch):
        images = cut_out(cache.images(rows[start : start + batch]), size)
        features.append(network.features(images))
        likelihood.append(network.log_likelihood(features[-1]))
    return Prediction(torch.cat(features).numpy(), torch.cat(likelihood).numpy())


@torch.inference_mode()
def posterior(
    network: AgeNetwork,
    log_likelihood: NDArray[np.float32],
    sex: NDArray[np.int64],
    age_months: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Likelihoods (N, 2, bins), sexes (2 = missing), ages (NaN = missing) → probabilities (N, bins)."""
    log_p = network.log_posterior(
        torch.from_numpy(log_likelihood),
        torch.from_numpy(sex.astype(np.int64)),
        torch.from_numpy(age_months.astype(np.float32)),
    )
    return log_p.exp().numpy()


def errors_months(prediction: Prediction, network: AgeNetwork, labels: CropLabels) -> dict[str, float]:
    """Mean absolute errors against the true (else the assigned) bone age; the oracle's where it is known."""
    target = np.where(np.isfinite(labels.true_months), labels.true_months, labels.assigned_months)
    means = {
        "mae": mean_months(posterior(network, prediction.log_likelihood, labels.sex, labels.age_months)),
        "mae_no_age": mean_months(
            posterior(network, prediction.log_likelihood, labels.sex, np.full_like(labels.age_months, np.nan))
        ),
        "oracle": labels.oracle_months,
        "oracle_no_age": labels.oracle_no_age_months,
    }
    return {key: float(np.abs(value - target).mean()) for key, value in means.items()}


def fit_prior(
    prior: AgePrior,
    sex: NDArray[np.int64],
    age_months: NDArray[np.float32],
    bone_age_months: NDArray[np.float32],
    *,
    steps: int = 600,
    seed: int = 0,
) -> float:
    """Learn p(bone age | chronological age, sex) from numbers (N,); returns the last loss, nats."""
    bins = prior.marginal.shape[1]
    width = 240.0 / bins
    # A value on the edge of two bins, as at the atlas's end, is shared by both, so that it keeps its mean.
    position = np.clip(bone_age_months / width - 0.5, 0, bins - 1)
    low = np.minimum(position.astype(int), bins - 2)
    part = (position - low).astype(np.float32)
    smoothing = np.exp(-0.5 * (np.arange(-6, 7) * width / 2.0) ** 2)
    for which in (0, 1):
        rows = sex == which
        histogram = np.zeros(bins)
        np.add.at(histogram, low[rows], 1 - part[rows])
        np.add.at(histogram, low[rows] + 1, part[rows])
        inner = np.convolve(histogram, smoothing / smoothing.sum(), mode="same")
        seen = np.flatnonzero(histogram)
        if len(seen):
            inner[seen[-1]] += inner[seen[-1] + 1 :].sum()
            inner[seen[-1] + 1 :] = 0  # smoothing must not reach beyond the atlas's end
        p = inner / max(inner.sum(), 1) * 0.998 + 0.002 / bins
        prior.marginal[which] = torch.from_numpy(np.log(p / p.sum())).float()
    generator = torch.Generator().manual_seed(seed)
    table = [
        torch.from_numpy(np.asarray(a))
        for a in (sex.astype(np.int64), age_months.astype(np.float32), low, part)
    ]
    prior.requires_grad_(True)
    optimizer = torch.optim.Adam(prior.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows_now = torch.randint(len(sex), (512,), generator=generator)
        s, age, i, share = (column[rows_now] for column in table)
        log_p = prior(age)[torch.arange(len(s)), s]
        here, above = log_p.gather(1, i[:, None])[:, 0], log_p.gather(1, i[:, None] + 1)[:, 0]
        loss = -torch.logaddexp(here + torch.log1p(-share + 1e-6), above + torch.log(share + 1e-6)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    prior.requires_grad_(False)
    return float(loss.detach())


def train(
    module: AgeModule, parts: Sequence[Part], folder: Path, held_out: tuple[CropCache, NDArray[np.intp]]
) -> None:
    """Run Lightning's loop for the recipe's steps, or what is left of them after the last checkpoint."""
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
        module, datamodule=_Data(parts, recipe), ckpt_path=last if last.exists() else None, weights_only=False
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


def load_module(folder: Path) -> AgeModule:
    """The finished module of a run's folder."""
    state = load_file(folder / "module.safetensors")
    outputs = state["indicator_head.weight"].shape[0]
    module = AgeModule(Recipe.load(folder / "recipe.json"), outputs, 0)
    module.load_state_dict(state)
    return module


def pretrain(
    run: Path,
    cache: CropCache,
    recipe: Recipe,
    minutes: float | None,
    negatives: CropCache | None,
    start: Path | None = None,
) -> None:
    """Stage 1: indicators, maturities, true bone ages of one cohort; the prior first, from numbers alone.

    `start` is the folder of a finished pretraining whose weights this one goes on from.
    """
    folder = run / "pretrain"
    if (folder / "module.safetensors").exists():
        return
    knees, held_out = _knees_apart(cache)
    parts = _parts(recipe, (cache, knees, "true"), None, cache, negatives)
    recipe = settle_recipe(folder, recipe, parts, minutes)
    module = new_module(recipe, parts)
    if start is not None:
        module.start_from(load_module(start))
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
    save_file(module.state_dict(), folder / "module.safetensors")


def train_fold(
    run: Path,
    fold: int,
    cache: CropCache,
    recipe: Recipe,
    minutes: float | None,
    replay: CropCache | None,
    negatives: CropCache | None,
) -> None:
    """Stage 2: one fold, from the pretrained weights; its out-of-fold predictions go to `out_of_fold.npz`."""
    folder = run / f"fold-{fold}"
    if (folder / "out_of_fold.npz").exists():
        return
    knees = np.flatnonzero(cache.labels.kind == KNEE)
    labels = cache.labels.take(knees)
    fold_of = assign_folds(labels.patient_id, labels.age_months, labels.sex)
    own, others = knees[fold_of == fold], knees[fold_of != fold]
    parts = _parts(recipe, (cache, others, recipe.label), replay, cache, negatives)
    recipe = settle_recipe(folder, recipe, parts, minutes)
    module = new_module(recipe, parts)
    module.start_from(load_module(run / "pretrain"))
    rng = np.random.default_rng(0)
    train(module, parts, folder, (cache, rng.permutation(own)[:EVALUATED]))
    prediction = predict(module.averaged, cache, own)
    save_file(module.state_dict(), folder / "module.safetensors")
    np.savez(
        folder / "out_of_fold.npz",
        rows=own,
        features=prediction.features.astype(np.float16),
        log_likelihood=prediction.log_likelihood,
    )


def _knees_apart(cache: CropCache) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of the knees to learn from, and of the last patients' (5 %, at most `EVALUATED`) to look at."""
    knees = np.flatnonzero(cache.labels.kind == KNEE)
    patients = cache.labels.patient_id[knees]
    names = np.unique(patients)
    looked_at = np.isin(patients, names[len(names) - max(1, min(EVALUATED, len(names) // 20)) :])
    return knees[~looked_at], knees[looked_at]


def _parts(
    recipe: Recipe,
    first: tuple[CropCache, NDArray[np.intp], str],
    replay: CropCache | None,
    cache: CropCache,
    negatives: CropCache | None,
) -> list[Part]:
    """The cohort; beside it the pretraining cohort (`replay`) and what is not a knee, where there are any."""
    parts = [
        Part(
            *first[:2],
            1.0,
            first[2],
            recipe.label_sd_months() if first[2] == recipe.label else TRUE_SD_MONTHS,
        )
    ]
    if replay is not None and recipe.replay_share:
        parts.append(Part(replay, _knees_apart(replay)[0], recipe.replay_share, "true", TRUE_SD_MONTHS))
    for source in (cache, negatives):
        if source is not None and (others := np.flatnonzero(source.labels.kind != KNEE)).size:
            parts.append(Part(source, others, recipe.negative_share, "true", TRUE_SD_MONTHS))
            break
    rest = sum(part.share for part in parts[1:])
    return [replace(parts[0], share=1 - rest), *parts[1:]]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of a run's parts."""
    parser = argparse.ArgumentParser(
        prog="age_training", description=__doc__.split("\n")[0] if __doc__ else None
    )
    parser.add_argument("part", choices=["pretrain", "fold", "calibrate"])
    parser.add_argument("fold", type=int, nargs="?", choices=range(FOLDS))
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
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    torch.set_num_threads(given.threads)
    cache = CropCache.load(given.cache)
    replay = CropCache.load(given.replay) if given.replay else None
    negatives = CropCache.load(given.negatives) if given.negatives else None
    if given.part == "calibrate":
        from .calibration import calibrate

        calibrate(given.run, cache, negatives)
        return
    stage = STAGES[given.part]
    changes = {name: json.loads(value) for name, value in (pair.split("=", 1) for pair in given.set)}
    recipe = Recipe.from_json({**replace(stage, steps=given.steps).to_json(), **changes})
    if given.part == "pretrain":
        pretrain(given.run, cache, recipe, given.minutes, negatives, given.start)
        return
    if given.fold is None:
        parser.error("fold: which one, 0 to 4")
    recipe = replace(recipe, seed=recipe.seed + given.fold)
    train_fold(given.run, given.fold, cache, recipe, given.minutes, replay, negatives)


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
