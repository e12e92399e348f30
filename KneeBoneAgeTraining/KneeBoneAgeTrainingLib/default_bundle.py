"""Make the bundle that ships: draw the phantom, train finder and folds, calibrate, export. Resumable.

    python -m KneeBoneAgeTrainingLib.default_bundle [--run runs/bundle] [--out FOLDER]

Every stage is a command of its own in a child process with a log in the run folder; what is finished is skipped, so
the same line goes on where it was stopped. Two stages run side by side, one core each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .folds import FOLDS


@dataclass(frozen=True)
class Plan:
    """How much is drawn and trained; the seeds of the cohorts differ, so no child is in two of them."""

    pretraining_children: int = 10_000
    pretraining_seed: int = 101
    children: int = 2_500
    seed: int = 102
    negatives: int = 1_500
    negatives_seed: int = 103
    finder_films: int = 16_000
    finder_seed: int = 2
    finder_minutes: float = 40.0
    pretraining_steps: int = 1_500
    fold_steps: int = 150


PLAN = Plan()


def stages(run: Path, plan: Plan = PLAN) -> list[list[tuple[str, list[str]]]]:
    """Rounds of stages; those of a round run side by side. A stage is its name and the module call behind it."""
    drawing, finder, age = (
        f"KneeBoneAgeTrainingLib.{m}" for m in ("drawing", "finder_training", "age_training")
    )
    crops_a, crops_b, negatives, films = (
        str(run / n) for n in ("crops-a", "crops-b", "crops-n", "finder-cache")
    )

    def crops(out: str, children: int, seed: int, *more: str) -> list[str]:
        return [drawing, more[0], out, "--children", str(children), "--seed", str(seed), *more[1:]]

    fold_calls = [
        (
            f"fold-{k}",
            [age, "fold", str(k), "--run", str(run / "age"), "--cache", crops_b, "--replay", crops_a]
            + ["--negatives", negatives, "--steps", str(plan.fold_steps), "--set", "ema_decay=0.97"],
        )
        for k in range(FOLDS)
    ]
    return [
        [
            ("crops-a", crops(crops_a, plan.pretraining_children, plan.pretraining_seed, "crops")),
            (
                "films",
                [
                    finder,
                    "draw",
                    "--out",
                    films,
                    "--count",
                    str(plan.finder_films),
                    "--seed",
                    str(plan.finder_seed),
                ],
            ),
        ],
        [
            ("crops-b", crops(crops_b, plan.children, plan.seed, "crops", "--oracle")),
            ("crops-n", crops(negatives, plan.negatives, plan.negatives_seed, "negatives")),
        ],
        [
            (
                "finder",
                [
                    finder,
                    "train",
                    "--cache",
                    films,
                    "--run",
                    str(run / "finder"),
                    "--minutes",
                    str(plan.finder_minutes),
                ],
            ),
            (
                "pretrain",
                [age, "pretrain", "--run", str(run / "age"), "--cache", crops_a, "--negatives", negatives]
                + ["--steps", str(plan.pretraining_steps), "--set", "small_share=0.45"],
            ),
        ],
        *(fold_calls[k : k + 2] for k in range(0, FOLDS, 2)),
        [
            (
                "calibrate",
                [age, "calibrate", "--run", str(run / "age"), "--cache", crops_b, "--negatives", negatives],
            )
        ],
    ]


def run_round(run: Path, calls: Sequence[tuple[str, list[str]]]) -> None:
    """Run the stages of a round side by side; RuntimeError names the log of the first that failed."""
    children = []
    for name, call in calls:
        log = (run / f"{name}.log").open("ab")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"} if len(calls) > 1 else dict(os.environ)
        children.append(
            (name, subprocess.Popen([sys.executable, "-m", *call], stdout=log, stderr=log, env=environment))
        )
        log.close()
    try:
        for name, child in children:
            if child.wait():
                raise RuntimeError(
                    f"stage {name} ended with {child.returncode}; see {run / name}.log, then run it again"
                )
    finally:
        for _, child in children:
            if child.poll() is None:
                child.terminate()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--run", type=Path, default=Path("runs/bundle"))
    parser.add_argument(
        "--out", type=Path, help="the bundle's folder; the library's default bundle unless given"
    )
    given = parser.parse_args(arguments)
    given.run.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for calls in stages(given.run):
        names = ", ".join(name for name, _ in calls)
        print(f"{(time.monotonic() - began) / 60:6.1f} min  {names}", flush=True)
        run_round(given.run, calls)
    from KneeBoneAgeLib.bundle import card, default_bundle_path

    from .export import export

    print(card(export(given.run, given.out or default_bundle_path(), PLAN)))


if __name__ == "__main__":
    main()
