"""Make the bundle that ships: draw the phantom, train finder and folds, calibrate, export. Resumable.

    python -m KneeBoneAgeTrainingLib.default_bundle [--run runs/bundle] [--out FOLDER]

Every stage is a command of its own in a child process with a log in the run folder; what is finished is skipped, so
the same line goes on where it was stopped. Two stages run side by side, one core each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from KneeBoneAgeLib.network import AgeNetworkConfig
from KneeBoneAgeLib.regions import KNEE_REGIONS
from KneeBoneAgeLib.version import VERSION

from .between_stages import FULL_VIEW
from .drawing import CLOSEUP_KINDS, FINDER_KINDS
from .folds import FOLDS
from .head_training import HeadRecipe
from .landmark_training import HEAD_HIDDEN, LandmarkRecipe
from .region_training import REGION_FEATURES, RegionRecipe


@dataclass(frozen=True)
class Cohort:
    """So many children (or films) of one seed, their ages as in the clinic or, from `even_ages` (months) on, each as
    frequent."""

    count: int
    seed: int
    even_ages: float | None = None


@dataclass(frozen=True)
class Plan:
    """How much is drawn and trained; the seeds of the cohorts differ, so no child is in two of them.

    ``pretraining`` and ``refining`` teach what all folds start from, ``folds`` are the children of the five folds.
    """

    pretraining: tuple[Cohort, ...] = (Cohort(10_000, 101),)
    refining: tuple[Cohort, ...] = (
        Cohort(12_000, 601),
        Cohort(15_000, 701, even_ages=6.0),
        Cohort(10_000, 802, even_ages=6.0),
        Cohort(8_000, 803, even_ages=144.0),  # physes that close, lines that fade
        Cohort(12_000, 901),
        Cohort(4_000, 902, even_ages=6.0),
        Cohort(4_000, 903, even_ages=144.0),
    )
    folds: tuple[Cohort, ...] = (Cohort(2_500, 608),)
    negatives: tuple[Cohort, ...] = (Cohort(3_000, 503), Cohort(3_000, 504, even_ages=6.0))
    finder: tuple[Cohort, ...] = (Cohort(8_000, 4), Cohort(7_000, 5), Cohort(7_000, 6))
    finder_minutes: float = 60.0
    pretraining_steps: int = 1_700
    refining_steps: int = 4_000

    @property
    def children(self) -> int:
        """Children whose bone age was learnt from."""
        return sum(c.count for c in (*self.pretraining, *self.refining, *self.folds))

    @property
    def films(self) -> int:
        """Pictures in all."""
        return self.children + sum(c.count for c in (*self.negatives, *self.finder))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of all cohorts."""
        cohorts = (*self.pretraining, *self.refining, *self.folds, *self.negatives, *self.finder)
        return tuple(c.seed for c in cohorts)


PLAN = Plan()
REFINING_JITTER = (
    '{"scale": 0.08, "shift": 0.05, "rotation_deg": 5.0, "gamma": 0.25, "blur_px": 0.6, "noise": 0.04,'
    ' "shading": 0.15, "occlusion": 0.04, "texture": 0.06, "lines": 3.5, "clouds": 0.12}'
)
"""Little blur, so that thin lines (bridges, scars) can be read; streaks, clouds and stray lines as strong as on real
films."""


def stages(run: Path, plan: Plan = PLAN) -> list[list[tuple[str, list[str]]]]:
    """Rounds of stages; those of a round run side by side. A stage is its name and the module call behind it."""
    drawing, finder, age = (
        f"KneeBoneAgeTrainingLib.{m}" for m in ("drawing", "finder_training", "age_training")
    )
    films = str(run / "finder-cache")
    ages, refined = str(run / "age-pretrained"), str(run / "age")

    def crops(name: str, cohort: Cohort, kind: str = "crops", *more: str) -> tuple[str, list[str]]:
        out = run / name / str(cohort.seed)
        numbers = ["--children", str(cohort.count), "--seed", str(cohort.seed)]
        if cohort.even_ages is not None:
            numbers += ["--even-ages", str(cohort.even_ages)]
        return f"{name}-{cohort.seed}", [drawing, kind, str(out), *numbers, *more]

    def learn(
        name: str, part: str, run_folder: str, cache: str, steps: int, *more: str
    ) -> tuple[str, list[str]]:
        shared = ["--cache", str(run / cache), "--negatives", str(run / "negatives"), "--steps", str(steps)]
        return name, [age, *part.split(), "--run", run_folder, *shared, *more]

    drawn = [
        *(crops("pretraining", c) for c in plan.pretraining),
        *(
            (
                f"films-{c.seed}",
                [finder, "draw", "--out", films, "--count", str(c.count), "--seed", str(c.seed)],
            )
            for c in plan.finder
        ),
        *(crops("negatives", c, "negatives") for c in plan.negatives),
        *(crops("refining", c, "crops", "--oracle") for c in plan.refining),
        *(crops("folds", c, "crops", "--oracle") for c in plan.folds),
    ]
    of_folds = ["--run", refined, "--cache", str(run / "folds")]
    folds = [(f"fold-{k}", [age, "fold", str(k), *of_folds]) for k in range(FOLDS)]
    alone = ["--threads", "2"]
    kept = ["--run", refined, "--cache", str(run / "refining")]
    regions = [(f"region-{k}", [age, "region", str(k), *kept]) for k in range(len(KNEE_REGIONS))]
    minutes = ["--minutes", str(plan.finder_minutes)]
    refining = ["--start", f"{ages}/pretrain", "--set", "small_share=0", "batch=16", "learning_rate=0.001"]
    refining += ["warm_up=0.03", f"jitter={REFINING_JITTER}"]
    return [
        *(drawn[k : k + 2] for k in range(0, len(drawn), 2)),
        [
            ("finder", [finder, "train", "--cache", films, "--run", str(run / "finder"), *minutes]),
            learn(
                "pretrain",
                "pretrain",
                ages,
                "pretraining",
                plan.pretraining_steps,
                "--set",
                "small_share=0.4",
            ),
        ],
        [learn("refine", "pretrain", refined, "refining", plan.refining_steps, *refining)],
        [("landmarks", [age, "landmarks", *kept, *alone])],
        *(regions[k : k + 2] for k in range(0, len(regions), 2)),
        [("regions", [age, "regions", *kept, *alone])],
        [(f"views-{k}", [age, "views", str(k), *kept]) for k in range(HeadRecipe().views)],
        [("fold-views", [age, "fold-views", str(FULL_VIEW), *of_folds])],
        [("heads", [age, "heads", *kept, *alone])],
        *(folds[k : k + 2] for k in range(0, FOLDS, 2)),
        [learn("calibrate", "calibrate", refined, "folds", 1)],
    ]


def settle_plan(run: Path, plan: Plan = PLAN) -> None:
    """Write plan and stages into a new run's folder. Raises ValueError for a run that was begun with others: its
    cohorts would be mixed with this plan's."""
    calls = stages(Path("RUN"), plan)
    known = {
        "version": VERSION,
        "plan": asdict(plan),
        "stages": calls,
        "recipes": [asdict(recipe()) for recipe in (LandmarkRecipe, RegionRecipe, HeadRecipe)],
        "network": asdict(AgeNetworkConfig(region_features=REGION_FEATURES, head_hidden=HEAD_HIDDEN)),
        "regions": [asdict(region) for region in KNEE_REGIONS],
        "films": [FINDER_KINDS, CLOSEUP_KINDS],
    }
    wanted = json.dumps(known, indent=2) + "\n"
    path = run / "plan.json"
    if path.exists() and path.read_text() == wanted:
        return
    if path.exists() or (run.exists() and any(run.iterdir())):
        raise ValueError(f"{run} was begun with another plan or version; give a new folder with --run")
    run.mkdir(parents=True, exist_ok=True)
    unfinished = run / "plan.unfinished"
    unfinished.write_text(wanted)
    unfinished.replace(path)


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
    try:
        settle_plan(given.run)
    except ValueError as error:
        sys.exit(f"Error: {error}")
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
