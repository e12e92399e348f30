"""Where a run is trained: device, processes, and which of them writes the files."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import torch

from .record import RunError


def cores() -> int:
    """Processor cores that this process may use: fewer than there are where it is bound to some (taskset, SLURM, the
    cpuset of a container). A share of processor time (``docker run --cpus``, a quota of cgroups) is not seen."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Machine:
    """Where a run is trained. `device` is auto, cpu, cuda or mps; `devices` of each of `nodes` machines work on it.

    `workers` processes prepare batches and pictures beside the loop.
    """

    device: str = "auto"
    devices: int = 1
    nodes: int = 1
    workers: int = field(default_factory=lambda: max(1, min(8, cores() - 1)))

    @property
    def world(self) -> int:
        return self.devices * self.nodes

    @property
    def loader_workers(self) -> int:
        """Processes beside each of the devices of this machine."""
        return self.workers if self.devices == 1 else min(self.workers, max(1, self.workers // self.devices))

    @property
    def torch_device(self) -> torch.device:
        """Where one device alone predicts. Raises RunError where the device that is named is not available."""
        if self.device in ("auto", "cuda") and torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if self.device in ("auto", "mps") and torch.backends.mps.is_available():
            return torch.device("mps")
        if self.device not in ("auto", "cpu"):
            raise RunError(
                f"device {self.device!r} is not available to PyTorch {torch.__version__} on this machine; use --device "
                "auto or --device cpu, or install a PyTorch and a driver for it"
            )
        return torch.device("cpu")

    def check(self) -> None:
        """Raises RunError where the device that is named is not available."""
        _ = self.torch_device

    def precision(self, wanted: str) -> Any:
        """Lightning's name of a recipe's precision."""
        if wanted != "auto":
            return "32-true" if wanted == "32" else wanted
        good = self.torch_device.type == "cuda" and torch.cuda.is_bf16_supported()
        return "bf16-mixed" if good else "32-true"


def is_main_process() -> bool:
    """Whether this process writes the run's files; others of the same run help it (DDP, torchrun, SLURM)."""
    if "RANK" in os.environ:
        return os.environ["RANK"] == "0"
    if "LOCAL_RANK" in os.environ:
        return os.environ["LOCAL_RANK"] == "0" and os.environ.get("NODE_RANK", "0") == "0"
    return (
        os.environ.get("SLURM_PROCID", "0") == "0"
        or "SLURM_JOB_NAME" in os.environ
        and (os.environ["SLURM_JOB_NAME"] in ("bash", "interactive"))
    )
