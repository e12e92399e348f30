"""Training of the knee finder on drawn films: a cache that grows while training streams over it.

    python -m KneeBoneAgeTrainingLib.finder_training draw --out DIR --count N --seed S
    python -m KneeBoneAgeTrainingLib.finder_training train --cache DIR --run RUN --minutes M --threads 1

Drawing may run in several processes with different seeds, before or beside the training. A run folder holds
`finder.safetensors` (float16) and `finder.json`, the log `metrics.csv`, and `last.ckpt` to resume from.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from KneeBoneAgeLib.crop import iou
from KneeBoneAgeLib.segmentation import (
    DEFAULT_CONFIG,
    FIBULA_REACH,
    LABELS,
    REFERENCE_ANGLE_DEG,
    REFERENCE_WIDTH_PX,
    STRIDE,
    FinderNetwork,
    Maps,
    decode,
)

from .finder_augmentation import Views, draw_views, plain_views

CACHE_PX = 224
"""Side of the cached pictures; the network trains on views of them."""

SHARD = 64
LABEL_WEIGHTS = (0.3, 1.0, 1.0, 4.0, 2.0)
"""Of the bones in the loss: a fibula is two cells thick."""

VALIDATION_EVERY = 40
"""One shard in so many is kept for watching the training and never trained on."""

Knee = tuple[float, float, float, float, bool]
"""Joint centre x, y and width in pixels, lean of the axis in degrees, fibula on the viewer's left."""


def write_shard(
    folder: Path, name: str, images: NDArray[np.uint8], labels: NDArray[np.uint8], knees: list[list[Knee]]
) -> None:
    """Add samples to a cache; the shard is seen by readers only when it is complete.

    Parameters
    ----------
    images : (n, CACHE_PX, CACHE_PX) grey values.
    labels : (n, CACHE_PX / 2, CACHE_PX / 2) indices into `KneeBoneAgeLib.segmentation.LABELS`.
    knees : n lists of knees in pixels of the images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}.images.npy", images)
    np.save(folder / f"{name}.labels.npy", labels)
    waiting = folder / f"{name}.knees.json.part"
    waiting.write_text(json.dumps(knees))
    os.replace(waiting, folder / f"{name}.knees.json")


def draw(folder: Path, count: int, seed: int, sample: Callable[..., Any] | None = None) -> None:
    """Draw ``count`` samples into a cache; shards that are there already are kept.

    Parameters
    ----------
    sample : called with (random generator, size in pixels); `drawing.finder_sample` unless given.
    """
    if sample is None:
        from .drawing import finder_sample

        sample = finder_sample
    start = time.monotonic()
    for number in range(math.ceil(count / SHARD)):
        name = f"{seed:05d}-{number:05d}"
        if (folder / f"{name}.knees.json").exists():
            continue
        rng = np.random.default_rng([seed, number])
        drawn = [sample(rng, CACHE_PX) for _ in range(min(SHARD, count - number * SHARD))]
        write_shard(
            folder,
            name,
            np.stack([np.round(np.clip(one.image, 0, 1) * 255).astype(np.uint8) for one in drawn]),
            np.stack([one.labels[::2, ::2].astype(np.uint8) for one in drawn]),
            [
                [(float(x), float(y), float(w), float(a), bool(f)) for x, y, w, a, f in one.knees]
                for one in drawn
            ],
        )
        print(f"{folder.name}: shard {name} after {time.monotonic() - start:.0f} s", flush=True)


class Cache:
    """The complete shards of a folder, memory-mapped; `refresh` picks up what was drawn since.

    Which shards are kept for validation depends on their names only, so a grown cache keeps them apart too.
    """

    def __init__(self, folder: Path, validation: bool = False) -> None:
        self.folder, self.validation = Path(folder), validation
        self._shards: dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8], list[list[Knee]]]] = {}
        self._places: list[tuple[str, int]] = []
        self.refresh()

    def refresh(self) -> None:
        for path in sorted(self.folder.glob("*.knees.json")):
            name = path.name.removesuffix(".knees.json")
            if (
                name in self._shards
                or (int(name.rsplit("-", 1)[-1]) % VALIDATION_EVERY == 1) != self.validation
            ):
                continue
            images = np.load(self.folder / f"{name}.images.npy", mmap_mode="r")
            labels = np.load(self.folder / f"{name}.labels.npy", mmap_mode="r")
            knees = json.loads(path.read_text())
            self._shards[name] = images, labels, knees
            self._places += [(name, row) for row in range(len(knees))]

    def __len__(self) -> int:
        return len(self._places)

    def take(self, indices: NDArray[np.intp]) -> tuple[Tensor, Tensor, list[list[Knee]]]:
        """Pictures (n, 1, S, S) in 0..1, labels (n, 1, S/2, S/2) as floats, and the knees."""
        rows = [(self._shards[name], row) for name, row in (self._places[i] for i in indices)]
        images = np.stack([shard[0][row] for shard, row in rows])
        labels = np.stack([shard[1][row] for shard, row in rows])
        return (
            torch.from_numpy(images)[:, None].float() / 255,
            torch.from_numpy(labels)[:, None].float(),
            [shard[2][row] for shard, row in rows],
        )


@dataclass(frozen=True)
class Targets:
    """What the maps should be, for a batch of N pictures on a grid of (h, w) cells and K joint cells.

    `heat` and `watched` (0 where nobody can say) are (N, h, w); `cells` (K, 3) are picture, row and column of
    the cells around joints, and `values` (K, 4) their offset x, y in cells, log width and angle. `fibula`
    (N, h, w) is 1 or 0 around joints whose fibula lies on the viewer's left or right, -1 elsewhere; `present`
    and `present_watched` are (N,).
    """

    heat: Tensor
    watched: Tensor
    cells: Tensor
    values: Tensor
    fibula: Tensor
    present: Tensor
    present_watched: Tensor


def make_targets(knees: list[list[Knee]], labels: Tensor) -> Targets:
    """Gaussians at joint centres, and the values that the 3 x 3 cells around each must tell.

    Where the fibula lies is told by the cells around the joint and the fibula's own (``labels``, (N, h, w)).
    A knee whose centre lies within a quarter width of the edge may be found or not.
    """
    rows, cols = labels.shape[1:]
    bones = (labels == LABELS.index("fibula")).numpy()
    heat = np.zeros((len(knees), rows, cols), np.float32)
    watched = np.ones_like(heat)
    fibula = np.full_like(heat, -1)
    present = np.zeros(len(knees), np.float32)
    present_watched = np.ones(len(knees), np.float32)
    cells: list[tuple[int, int, int]] = []
    values: list[tuple[float, ...]] = []
    down, across = np.mgrid[:rows, :cols] + 0.5
    for index, several in enumerate(knees):
        for x, y, width, angle, left in several:
            x, y, wide = x / STRIDE, y / STRIDE, width / STRIDE
            edge = min(x, y, cols - x, rows - y)
            squared = (across - x) ** 2 + (down - y) ** 2
            if edge < 0.25 * wide:
                if edge > -0.5 * wide:
                    watched[index][squared < (0.5 * wide) ** 2] = 0
                    present_watched[index] = 0
                continue
            present[index] = 1
            sigma = 0.6 + 0.08 * wide
            np.maximum(heat[index], np.exp(-squared / (2 * sigma**2)), out=heat[index])
            row, col = min(int(y), rows - 1), min(int(x), cols - 1)
            heat[index, row, col] = 1
            away = np.abs(across - x - (down - y) * -math.tan(math.radians(angle)))
            own = bones[index] & (away < wide) & (down - y > -0.5 * wide)
            fibula[index][own | (squared < max(1.5, FIBULA_REACH * wide) ** 2)] = float(left)
            log_width = math.log(width / REFERENCE_WIDTH_PX)
            for r in range(max(row - 1, 0), min(row + 2, rows)):
                for c in range(max(col - 1, 0), min(col + 2, cols)):
                    cells.append((index, r, c))
                    values.append((x - c - 0.5, y - r - 0.5, log_width, angle / REFERENCE_ANGLE_DEG))
        if present[index]:
            present_watched[index] = 1
    return Targets(
        torch.from_numpy(heat),
        torch.from_numpy(watched),
        torch.tensor(cells, dtype=torch.long).reshape(-1, 3),
        torch.tensor(values, dtype=torch.float32).reshape(-1, 4),
        torch.from_numpy(fibula),
        torch.from_numpy(present),
        torch.from_numpy(present_watched),
    )


def losses(maps: Maps, labels: Tensor, targets: Targets) -> dict[str, Tensor]:
    """Weighted parts of the loss, each a scalar.

    The heat-map's is the penalty-reduced focal loss of CenterNet (Zhou et al., Objects as Points, 2019).
    """
    probability = maps.heat.sigmoid().clamp(1e-4, 1 - 1e-4)
    at_centre = targets.heat >= 1
    hit = -((1 - probability) ** 2) * probability.log() * at_centre
    miss = -((1 - targets.heat) ** 4) * probability**2 * (1 - probability).log() * ~at_centre
    heat = ((hit + miss) * targets.watched).sum() / at_centre.sum().clamp_min(1)
    picture, row, col = targets.cells.unbind(1)
    count = max(len(picture), 1)

    def joint_loss(beta: float, got: Tensor, wanted: Tensor) -> Tensor:
        return functional.smooth_l1_loss(got, wanted, beta=beta, reduction="sum") / count

    offset, log_width, angle = targets.values.split([2, 1, 1], dim=1)
    told = targets.fibula >= 0
    return {
        "heat": heat,
        "offset": joint_loss(0.25, maps.offset[picture, :, row, col], offset),
        "width": 4.0 * joint_loss(0.05, maps.log_width[picture, row, col], log_width[:, 0]),
        "angle": joint_loss(0.1, maps.angle[picture, row, col], angle[:, 0]),
        "fibula": functional.binary_cross_entropy_with_logits(
            maps.fibula, targets.fibula.clamp_min(0), weight=told.float(), reduction="sum"
        )
        / told.sum().clamp_min(1),
        "labels": functional.cross_entropy(maps.labels, labels, weight=maps.labels.new_tensor(LABEL_WEIGHTS)),
        "present": 0.5
        * functional.binary_cross_entropy_with_logits(
            maps.present, targets.present, weight=targets.present_watched
        ),
    }


@dataclass(frozen=True)
class Recipe:
    """Settings of a run; it ends after ``minutes`` or ``steps``, whichever comes first."""

    minutes: float = 60.0
    steps: int = 1_000_000
    batch: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    ema: float = 0.998
    seed: int = 0


class Batches(torch.utils.data.IterableDataset[tuple[Views, Targets]]):
    """Endless augmented batches of a growing cache."""

    def __init__(self, cache: Cache, recipe: Recipe, size: int, first: int = 0) -> None:
        self.cache, self.recipe, self.size, self.number = cache, recipe, size, first

    def __iter__(self) -> Iterator[tuple[Views, Targets]]:
        while True:
            if self.number % 50 == 0:
                self.cache.refresh()
            rng = np.random.default_rng([self.recipe.seed, self.number])
            self.number += 1
            views = draw_views(
                *self.cache.take(rng.integers(len(self.cache), size=self.recipe.batch)), self.size, rng
            )
            yield views, make_targets(views.knees, views.labels)


class FinderTraining(lightning.LightningModule):
    """AdamW with a warm-up and cosine over the planned time, and a moving average of the weights."""

    def __init__(self, recipe: Recipe, config: dict[str, Any], log: Path) -> None:
        super().__init__()
        self.recipe, self.config, self.log_path = recipe, config, log
        self.network = FinderNetwork(config)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = torch.optim.swa_utils.AveragedModel(
            self.network,
            avg_fn=self._move,
            use_buffers=True,
        )
        self.spent = 0.0
        self._since = time.monotonic()
        self._sums: dict[str, float] = {}
        self._seen = 0

    def _move(self, average: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
        if not average.is_floating_point():
            return now
        keep = min(self.recipe.ema, (1 + int(count)) / (10 + int(count)))
        return average.lerp(now, 1 - keep)

    def start_from(self, weights: Path) -> None:
        """Go on from the weights of a finished finder, `finder.safetensors`; they must be of this architecture."""
        from safetensors.torch import load_file

        tensors = {n: v.float() if v.is_floating_point() else v for n, v in load_file(weights).items()}
        self.network.load_state_dict(tensors)
        self.averaged.load_state_dict(tensors)

    @property
    def averaged(self) -> FinderNetwork:
        """The network with the moving average of the weights."""
        network = self.average.module
        assert isinstance(network, FinderNetwork)
        return network

    @property
    def progress(self) -> float:
        """0 at the start and 1 at the end of the run."""
        return min(1.0, max(self.global_step / self.recipe.steps, self.spent / (60 * self.recipe.minutes)))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            self.network.parameters(), lr=self.recipe.learning_rate, weight_decay=self.recipe.weight_decay
        )

    def transfer_batch_to_device(
        self, batch: tuple[Views, Targets], device: torch.device, _: int
    ) -> tuple[Views, Targets]:
        views, targets = batch
        moved = {name: value.to(device) for name, value in vars(targets).items()}
        return (
            replace(views, pictures=views.pictures.to(device), labels=views.labels.to(device)),
            Targets(**moved),
        )

    def on_train_start(self) -> None:
        self._since = time.monotonic()

    def training_step(self, batch: tuple[Views, Targets], _: int) -> Tensor:
        views, targets = batch
        now = time.monotonic()
        # A machine that slept, or a long evaluation, is not training time.
        self.spent += min(now - self._since, 10.0)
        self._since = now
        warm = min(1.0, (self.global_step + 1) / min(200, 1 + 0.05 * self.recipe.steps))
        rate = self.recipe.learning_rate * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * self.progress)) / 2)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate
        maps = self.network(views.pictures.contiguous(memory_format=torch.channels_last))
        parts = losses(maps, views.labels, targets)
        for name, value in parts.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach())
        self._seen += 1
        if self.progress >= 1:
            self.trainer.should_stop = True
        return torch.stack(list(parts.values())).sum()

    def on_before_zero_grad(self, _: torch.optim.Optimizer) -> None:
        self.average.update_parameters(self.network)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["spent"] = self.spent

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.spent = checkpoint["spent"]

    def write_log(self, **more: float) -> None:
        """Append mean losses since the last row to the CSV log."""
        row = {"step": self.global_step, "minutes": round(self.spent / 60, 2)}
        row |= {name: round(total / max(self._seen, 1), 4) for name, total in sorted(self._sums.items())}
        row |= {name: round(value, 4) for name, value in more.items()}
        self._sums, self._seen = {}, 0
        fresh = not self.log_path.exists()
        with self.log_path.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(row)
            writer.writerow(row.values())
        print(" ".join(f"{name} {value}" for name, value in row.items()), flush=True)


class Watch(lightning.Callback):
    """Every so many minutes: log, try the averaged network on validation shards, save the run's files."""

    def __init__(self, cache: Cache, run: Path, every_minutes: float) -> None:
        self.cache, self.run, self.every = cache, run, 60 * every_minutes
        self.last = 0.0

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        assert isinstance(module, FinderTraining)
        self.last = module.spent

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, *_: object
    ) -> None:
        assert isinstance(module, FinderTraining)
        if module.spent - self.last >= self.every:
            self.last = module.spent
            self.save(trainer, module)

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        assert isinstance(module, FinderTraining)
        self.save(trainer, module)

    def save(self, trainer: lightning.Trainer, module: FinderTraining) -> None:
        self.cache.refresh()
        network = module.averaged
        module.write_log(
            **(evaluate(network, self.cache, module.config["size_px"]) if len(self.cache) else {})
        )
        write_finder(network, module.config, self.run)
        trainer.save_checkpoint(self.run / "last.ckpt")
        module._since = time.monotonic()


def evaluate(network: FinderNetwork, cache: Cache, size: int, most: int = 320) -> dict[str, float]:
    """Quality of single looks at plain validation pictures: no second look, so lower than the finder's.

    Returns
    -------
    Shares of knees (those not at the edge) with IoU of at least 0.6, 0.8 and right side; mean of log width
    error; false finds a picture.
    """
    network.eval()
    overlaps, sides, widths, false_finds = [], [], [], 0
    pictures = min(most, len(cache))
    for first in range(0, pictures, 16):
        views = plain_views(*cache.take(np.arange(first, min(first + 16, pictures))), size)
        with torch.inference_mode():
            maps = network(views.pictures)
        for index, knees in enumerate(views.knees):
            found = decode(maps, index, 0.3, 3)
            for x, y, width, _, left in knees:
                near = min(found, key=lambda joint: math.hypot(joint.x - x, joint.y - y), default=None)
                if min(x, y, size - x, size - y) < 0.25 * width:
                    found = [joint for joint in found if joint is not near]
                    continue
                if near is None or math.hypot(near.x - x, near.y - y) > width:
                    overlaps.append(0.0)
                    sides.append(False)
                    continue
                found.remove(near)
                box, wanted = (
                    (u - w, v - w, u + w, v + w) for u, v, w in ((near.x, near.y, near.width), (x, y, width))
                )
                overlaps.append(iou(box, wanted))
                sides.append((near.fibula_left >= 0.5) == left)
                widths.append(math.log(near.width / width))
            false_finds += len(found)
    return {
        "iou_60": float(np.mean(np.array(overlaps) >= 0.6)) if overlaps else 0.0,
        "iou_80": float(np.mean(np.array(overlaps) >= 0.8)) if overlaps else 0.0,
        "side": float(np.mean(sides)) if sides else 0.0,
        "width_bias": float(np.mean(widths)) if widths else 0.0,
        "false_finds": false_finds / max(pictures, 1),
    }


def write_finder(network: FinderNetwork, config: dict[str, Any], run: Path) -> None:
    """Write `finder.safetensors` (float16) and `finder.json`, which `KneeFinder` takes."""
    from safetensors.torch import save_file

    tensors = {
        name: value.half().contiguous() if value.is_floating_point() else value.contiguous()
        for name, value in network.state_dict().items()
    }
    save_file(tensors, run / "finder.safetensors")
    (run / "finder.json").write_text(json.dumps(config, indent=1) + "\n")


def train(
    cache: Path,
    run: Path,
    recipe: Recipe,
    threads: int = 1,
    config: dict[str, Any] | None = None,
    every_minutes: float = 4.0,
    patience_minutes: float = 30.0,
    start: Path | None = None,
) -> Path:
    """Train, or go on with, a finder on a cache that may still grow; returns the run folder.

    ``start`` is `finder.safetensors` of a finished finder whose weights a new run goes on from.

    Raises
    ------
    FileNotFoundError : nothing was drawn into the cache for ``patience_minutes``.
    """
    torch.set_num_threads(threads)
    lightning.seed_everything(recipe.seed, verbose=False)
    config = {**DEFAULT_CONFIG, **(config or {})}
    run.mkdir(parents=True, exist_ok=True)
    drawn = Cache(cache)
    waited = time.monotonic()
    while not len(drawn):
        if time.monotonic() - waited > 60 * patience_minutes:
            raise FileNotFoundError(
                f"{cache}: no shard to train on; run `finder_training draw --out {cache}`"
            )
        time.sleep(2)
        drawn.refresh()
    module = FinderTraining(recipe, config, run / "metrics.csv")
    last = run / "last.ckpt"
    if start is not None and not last.exists():
        module.start_from(start)
    first = torch.load(last, weights_only=True, mmap=True)["global_step"] if last.exists() else 0
    batches = Batches(drawn, recipe, config["size_px"], first)
    trainer = lightning.Trainer(
        accelerator="auto",
        devices=1,
        max_steps=recipe.steps,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=5.0,
        callbacks=[Watch(Cache(cache, validation=True), run, every_minutes)],
    )
    loader = torch.utils.data.DataLoader(batches, batch_size=None, num_workers=0)
    trainer.fit(module, loader, ckpt_path=last if last.exists() else None)
    return run


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="finder_training", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("draw", help="draw samples into a cache")
    drawing.add_argument("--out", type=Path, required=True)
    drawing.add_argument("--count", type=int, default=20_000)
    drawing.add_argument("--seed", type=int, default=1)
    training = commands.add_parser("train", help="train on a cache, or go on")
    training.add_argument("--cache", type=Path, required=True)
    training.add_argument("--run", type=Path, required=True)
    training.add_argument("--minutes", type=float, default=Recipe.minutes)
    training.add_argument("--steps", type=int, default=Recipe.steps)
    training.add_argument("--batch", type=int, default=Recipe.batch)
    training.add_argument("--learning-rate", type=float, default=Recipe.learning_rate)
    training.add_argument("--seed", type=int, default=Recipe.seed)
    training.add_argument("--threads", type=int, default=1)
    training.add_argument("--start", type=Path, help="finder.safetensors of a finished finder to go on from")
    given = parser.parse_args(arguments)
    if given.command == "draw":
        draw(given.out, given.count, given.seed)
        return
    recipe = Recipe(given.minutes, given.steps, given.batch, given.learning_rate, seed=given.seed)
    train(given.cache, given.run, recipe, given.threads, start=given.start)


if __name__ == "__main__":
    main()
