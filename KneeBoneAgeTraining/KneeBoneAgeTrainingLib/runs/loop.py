"""Small parts of a training loop that belong to no network: pace, groups of weights, moving average, stopping."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

HEARD = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):
    """Somebody asked the run to end; what is finished is on disk."""


class StopRequest:
    """Whether the process was asked to end (SIGTERM, or Ctrl-C); a second Ctrl-C ends it at once."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._listens = False

    def __bool__(self) -> bool:
        return self._asked.is_set()

    def ask(self) -> None:
        self._asked.set()

    def check(self) -> None:
        """Raise `Stopped` when asked."""
        if self._asked.is_set():
            raise Stopped

    def _heard(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self._asked.is_set():
            raise KeyboardInterrupt
        self._asked.set()

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Listen to the signals as long as the block runs; only the main thread can."""
        self._listens = threading.current_thread() is threading.main_thread()
        before = {number: signal.getsignal(number) for number in HEARD}
        self.listen_again()
        try:
            yield self
        finally:
            if self._listens:
                self._listens = False
                for number, handler in before.items():
                    signal.signal(number, handler)

    def listen_again(self) -> None:
        """Take the signals back from a library that has taken them; nothing where nobody listens."""
        if self._listens:
            for number in HEARD:
                signal.signal(number, self._heard)


def seed_of(*numbers: int) -> int:
    """One seed of 32 bits of several numbers: another one for any other numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint32)[0])


def pace(step: int, steps: int, warm_up: float, last_share: float) -> float:
    """Factor of the learning rate: a linear warm-up over a share of the steps, then a cosine down to `last_share`."""
    warm = max(1.0, warm_up * steps)
    if step < warm:
        return (step + 1) / warm
    done = min(1.0, (step - warm) / max(1.0, steps - warm))
    return last_share + (1 - last_share) * 0.5 * (1 + math.cos(math.pi * done))


def weight_groups(
    parameters: Iterable[tuple[str, nn.Parameter]], weight_decay: float
) -> list[dict[str, Any]]:
    """Of named parameters matrices and filters decay; norms and other vectors do not, and nothing that is called a
    bias, whatever its shape: where each landmark has a perceptron of its own, biases have three dimensions."""
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in parameters:
        if parameter.requires_grad:
            bias = name.rpartition(".")[2].endswith("bias")
            (others if bias or parameter.ndim <= 1 else decaying).append(parameter)
    return [
        {"params": decaying, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


@torch.no_grad()
def move_average(kept: nn.Module, now: nn.Module, step: int, decay: float) -> None:
    """Move the kept weights towards the present ones; faster at first, when there is little to average.

    Buffers that are learnt without gradients are averaged alike, whole numbers are taken over.
    """
    share = 1 - min(decay, (1 + step) / (10 + step))
    for old, new in zip(_state(kept), _state(now), strict=True):
        if old.is_floating_point():
            old.lerp_(new.to(old.dtype), share)
        else:
            old.copy_(new)


def _state(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
