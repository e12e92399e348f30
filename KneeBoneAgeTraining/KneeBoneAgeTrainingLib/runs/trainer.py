"""Lightning's trainer as hand teachers and knee students use it, and the loader that feeds it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from torch.utils.data import DataLoader, Dataset, Sampler

from .machine import Machine

log = logging.getLogger(__name__)

AHEAD = 4
"""Batches that each helper prepares ahead."""


def new_trainer(
    machine: Machine,
    folder: Path,
    watch: lightning.Callback,
    *,
    precision: str,
    steps: int,
    clip_norm: float | None,
) -> lightning.Trainer:
    """A trainer for so many steps on the machine's devices, several of them by DistributedDataParallel.

    Batches are shared out by the data itself; checkpoints and rows are written by `watch`.
    """
    device = machine.torch_device.type
    return lightning.Trainer(
        accelerator={"cuda": "gpu"}.get(device, device),
        devices=machine.devices,
        num_nodes=machine.nodes,
        strategy="ddp" if machine.world > 1 else "auto",
        sync_batchnorm=machine.world > 1 and device == "cuda",
        use_distributed_sampler=False,
        precision=machine.precision(precision),
        max_epochs=-1,
        max_steps=steps,
        gradient_clip_val=clip_norm,
        logger=tensorboard(folder),
        callbacks=[watch],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def tensorboard(folder: Path) -> Logger | bool:
    """A logger that writes into ``folder/tensorboard``; False where nothing is installed that could."""
    try:
        return TensorBoardLogger(folder, name="tensorboard", version="", default_hp_metric=False)
    except ModuleNotFoundError:
        log.info("no TensorBoard files: neither tensorboard nor tensorboardX is installed")
        return False


class Steps(Sampler[int]):
    """The steps that are left; asked for anew when a loader starts."""

    def __init__(self, first: Callable[[], int], steps: int) -> None:
        self.first, self.steps = first, steps

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first(), self.steps))

    def __len__(self) -> int:
        return self.steps


def step_loader(
    batches: Dataset[Any], trainer: lightning.Trainer, steps: int, workers: int
) -> DataLoader[Any]:
    """Item i of ``batches`` is the batch of step i; from the trainer's step to the last in one pass, so that a run
    goes on at any step. ``workers`` processes prepare them beside the loop (0: the loop itself does)."""
    return DataLoader(
        batches,
        batch_size=None,
        sampler=Steps(lambda: trainer.global_step, steps),
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        pin_memory=trainer.strategy.root_device.type == "cuda",
    )
