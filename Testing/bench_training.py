"""Whether batches are ready when training wants them, for a hand teacher and a knee student: part of `make bench`.

    python Testing/bench_training.py [--steps 8] [--rounds 2] [--threads N] [--workers N]

Images per second of Lightning's own loop with the loader that training uses, over the same loop on batches that lie in
memory already. Both are run in turn, several times, and the median of the rounds' ratios is printed, as one JSON
object. The pictures are invented grey values of the recipes' own sizes: nothing is learnt, only the time counts.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from KneeBoneAgeLib.crop import SIZE_PX
from KneeBoneAgeTrainingLib.batches import Part
from KneeBoneAgeTrainingLib.crop_cache import MARGIN, CropCache
from KneeBoneAgeTrainingLib.hand.batches import Films, HandData, Plan, StepBatches
from KneeBoneAgeTrainingLib.hand.films import Numbers
from KneeBoneAgeTrainingLib.hand.module import HandModule, new_teacher
from KneeBoneAgeTrainingLib.hand.pictures import HandPicture, kept_size, write_picture
from KneeBoneAgeTrainingLib.knee.batches import Lesson, StudentBatches, StudentData
from KneeBoneAgeTrainingLib.knee.labels import labels_of
from KneeBoneAgeTrainingLib.knee.module import StudentModule
from KneeBoneAgeTrainingLib.knee.recipe import LABEL, load_knee_recipe
from KneeBoneAgeTrainingLib.recipes import load_recipe
from KneeBoneAgeTrainingLib.runs.machine import Machine
from KneeBoneAgeTrainingLib.runs.trainer import AHEAD, new_trainer

FILMS, IN_MEMORY, KEY_POINTS = 240, 4, 37


class Clock(lightning.Callback):
    """When each step ended, on the device too: a GPU still works when Lightning says that the step is over."""

    def __init__(self) -> None:
        self.ended: list[float] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        device = trainer.strategy.root_device
        if device.type != "cpu":
            torch.get_device_module(device).synchronize()
        self.ended.append(time.perf_counter())

    def seconds_a_step(self, left_out: int) -> float:
        """Mean of the steps after the first ones, in which helpers start and what lies ready is used up."""
        ended = self.ended[left_out:]
        return (ended[-1] - ended[0]) / (len(ended) - 1)


class InMemory(lightning.LightningDataModule):
    """The same few batches again and again."""

    def __init__(self, batches: Sequence[Any], steps: int) -> None:
        super().__init__()
        self.batches, self.steps = batches, steps

    def train_dataloader(self) -> DataLoader[Any]:
        again: Any = [self.batches[step % len(self.batches)] for step in range(self.steps)]
        return DataLoader(again, batch_size=None)


@dataclass(frozen=True)
class Task:
    """What is learnt, the batches of each step, how a loader is made with so many workers, images a batch."""

    module: lightning.LightningModule
    batches: Dataset[Any]
    data: Callable[[int], lightning.LightningDataModule]
    precision: str
    images: int


def teacher(name: str, folder: Path) -> Task:
    """A hand teacher on invented pictures."""
    recipe, rng = load_recipe(name), np.random.default_rng(0)
    shape, paths = kept_size(recipe.image_size), []
    for number in range(FILMS):
        grey = rng.integers(1, 255, shape, dtype=np.uint8)
        points = rng.random((KEY_POINTS, 2)).astype(np.float32)
        paths.append(folder / f"{number}.safetensors")
        write_picture(paths[-1], HandPicture(grey, np.ones(shape, np.uint8), points, True))
    months = rng.uniform(20, 200, (2, FILMS)).astype(np.float32)
    films = Films(tuple(paths), Numbers(np.arange(FILMS) % 2, *months))
    plan = Plan.of(recipe, recipe.stages[0], (1, 0, 0), FILMS, 1)
    module = HandModule(new_teacher(recipe, plan.stage, (1, 0), fetch=False), plan)
    return Task(
        module, StepBatches(films, plan), lambda n: HandData(films, plan, n), recipe.precision, plan.batch
    )


def student(name: str) -> Task:
    """A knee student on invented crops."""
    knee, rng = load_knee_recipe(name), np.random.default_rng(0)
    side = round(SIZE_PX * MARGIN)
    months = rng.uniform(20, 200, FILMS).astype(np.float32)
    films: Any = [
        SimpleNamespace(sex="FM"[i % 2], age_months=months[i], patient_id=str(i)) for i in range(FILMS)
    ]
    labels = labels_of(films, months, np.full(FILMS, np.nan, np.float32))
    cache = CropCache([rng.integers(1, 255, (FILMS, side, side), dtype=np.uint8)], labels)
    recipe = knee.training(FILMS, 0)
    part = Part(cache, np.arange(FILMS), 1.0, LABEL, recipe.reader_sd_months)
    lesson = Lesson((part,), np.full(FILMS, recipe.reader_sd_months, np.float32), knee.augmentation)
    module = StudentModule.of(recipe, lesson)
    return Task(
        module,
        StudentBatches(lesson, recipe),
        lambda n: StudentData(lesson, recipe, n),
        knee.precision,
        recipe.batch,
    )


def compare(task: Task, machine: Machine, steps: int, rounds: int, folder: Path) -> dict[str, float]:
    """Images per second with the loader and from memory, and the median ratio of the rounds."""
    left_out = 2 + AHEAD * machine.loader_workers
    memory = InMemory([task.batches[step] for step in range(IN_MEMORY)], steps + left_out)

    def seconds(data: lightning.LightningDataModule) -> float:
        clock = Clock()
        trainer = new_trainer(
            machine, folder, clock, precision=task.precision, steps=steps + left_out, clip_norm=1.0
        )
        trainer.fit(task.module, datamodule=data)
        return clock.seconds_a_step(left_out)

    seconds(memory)
    pairs = [(seconds(memory), seconds(task.data(machine.loader_workers))) for _ in range(rounds)]
    loading, learning = cpu_ms(task)
    from_memory, loaded = (statistics.median(times) for times in zip(*pairs, strict=True))
    return {
        "images_per_second": round(task.images / loaded, 2),
        "images_per_second_from_memory": round(task.images / from_memory, 2),
        "loader_over_memory": round(statistics.median(one / other for one, other in pairs), 3),
        "cpu_ms_an_image": {"loading": round(loading, 2), "learning": round(learning, 2)},
    }


def cpu_ms(task: Task, times: int = 3) -> tuple[float, float]:
    """Processor time of making a batch, and of learning from one without the optimiser, per image: what the one costs
    where both must share the same cores."""
    images, spent = task.images * times, []
    batch = task.batches[0]
    for call in (lambda step: task.batches[step], lambda _: learn(task.module, batch)):
        call(0)
        began = time.process_time()
        for step in range(times):
            call(step)
        spent.append(1000 * (time.process_time() - began) / images)
    return spent[0], spent[1]


def learn(module: lightning.LightningModule, batch: Any) -> None:
    """A pass forwards and backwards."""
    loss: Any = module.cpu().training_step(batch, 0)
    loss.backward()
    module.zero_grad(set_to_none=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--teacher", default="convnext-hand", help="name of a hand recipe, or a file")
    parser.add_argument("--student", default="knee-transfer", help="name of a knee recipe, or a file")
    parser.add_argument("--steps", type=int, default=8, help="that are timed, in each part of a round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workers", type=int, default=Machine().workers)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.filterwarnings("ignore", module=r"lightning.*")
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    machine = Machine(given.device, workers=given.workers)
    found: dict[str, Any] = {"threads": given.threads, "workers": machine.loader_workers}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, task in (
            (given.teacher, teacher(given.teacher, folder)),
            (given.student, student(given.student)),
        ):
            found[name] = compare(task, machine, given.steps, given.rounds, folder)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
