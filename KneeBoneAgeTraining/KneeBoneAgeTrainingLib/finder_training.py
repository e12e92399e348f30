"""Training of the knee finder on drawn films: a cache that grows while training streams over it.

    python -m KneeBoneAgeTrainingLib.finder_training draw --out DIR --count N --seed S
    python -m KneeBoneAgeTrainingLib.finder_training train --cache DIR --run RUN --minutes M --threads 1

Drawing may run in several processes with different seeds, before or beside the training. A run folder holds
`finder.safetensors` (float16) and `finder.json`, the log `metrics.csv`, and `last.ckpt` to resume from.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

from KneeBoneAgeLib.crop import iou
from KneeBoneAgeLib.finder_network import DEFAULT_CONFIG, FinderNetwork
from KneeBoneAgeLib.segmentation import decode

from .finder_augmentation import plain_views
from .finder_cache import Cache, draw
from .finder_module import Batches, FinderTraining, Recipe


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
