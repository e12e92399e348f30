"""The whole way in small, on the phantom: films, study, hand teacher, pseudo-labels, knee student, bundle, estimate.

    python -m KneeBoneAgeTrainingLib.demo_training [--out demo-training] [--knees 280]

Every step is a command line that is printed and can be typed again by itself; what is finished is not done again.
Made from the phantom: nothing is said about real children.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

SEED = 77
"""Of the virtual children; no shipped bundle has learnt from these."""


@dataclass(frozen=True)
class Step:
    """A command line of ``kneeboneage``; `made` exists when it is finished, None for one that is always run."""

    name: str
    call: tuple[str, ...]
    made: Path | None = None


def steps(out: Path, knees: int, finder: Path | None = None) -> list[Step]:
    """The demonstration's steps, in their order."""
    films, study, runs, labels = out / "phantom", out / "study", out / "runs", out / "labels.csv"
    bundle, teacher, student = out / "bundle", out / "runs" / "hand", out / "runs" / "knee"
    tables = [
        part for name in ("patients", "knees", "hands") for part in (f"--{name}", films / f"{name}.csv")
    ]
    found = ["--finder", finder] if finder else []

    def step(name: str, made: Path | None, *call: object) -> Step:
        return Step(name, tuple(map(str, call)), made)

    return [
        step(
            "phantom", films / "patients.csv",
            "phantom", films, "--knees", knees, "--seed", SEED, "--hands", "--format", "png",
        ),
        step("cohort", study / "study.json", "cohort", "build", study, *tables),
        step("hand teacher", None, "train", "demo-hand", "--study", study, "--out", teacher),
        step("pseudo-labels", labels, "pseudo-label", teacher, "--study", study, "--out", labels),
        step(
            "knee student", None, "knee-transfer", "--study", study, "--teacher", teacher, "--labels", labels,
            "--label", "both", "--recipe", "demo-knee", "--out", student, *found,
        ),
        step("runs", None, "runs", runs),
        step("export", bundle / "bundle.json", "export", student, bundle, "--name", "demo-training"),
        step("verify", None, "bundle", "verify", bundle),
        step("estimate", None, "estimate", films / "films" / "00000.png", "--bundle", bundle),
    ]  # fmt: skip


def program_of(command: str) -> list[str]:
    """What ``kneeboneage`` is for a command, whether or not the package is installed."""
    from .commands import app

    module = "KneeBoneAgeLib.cli"
    if command in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        module = "KneeBoneAgeTrainingLib.commands"
    call = "main" if module == "KneeBoneAgeLib.cli" else "app"
    return [sys.executable, "-c", f"from {module} import {call}; {call}()"]


def run(out: Path, knees: int, finder: Path | None = None) -> float:
    """Run the steps; minutes in all. Raises RuntimeError for one that failed."""
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    spent: list[tuple[str, float, float]] = []
    for step in steps(out, knees, finder):
        print(f"\n$ kneeboneage {shlex.join(step.call)}", flush=True)
        if step.made is not None and step.made.exists():
            print("(there already)", flush=True)
            continue
        start, busy = time.monotonic(), _children_s()
        done = subprocess.run([*program_of(step.call[0]), *step.call], check=False)
        spent.append((step.name, (time.monotonic() - start) / 60, (_children_s() - busy) / 60))
        print(f"({spent[-1][1]:.1f} minutes, {spent[-1][2]:.1f} of a core)", flush=True)
        if done.returncode:
            raise RuntimeError(
                f"{step.name} ended with {done.returncode}; type the line above again to see why"
            )
    whole = (time.monotonic() - began) / 60
    spent.append(("in all", whole, sum(cores for _, _, cores in spent)))
    print(f"\n{'':<14}  minutes  of a core")
    for name, clock, cores in spent:
        print(f"{name:<14}  {clock:7.1f}  {cores:9.1f}")
    return whole


def _children_s() -> float:
    """Processor time of all ended children, seconds."""
    times = os.times()
    return times.children_user + times.children_system


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("demo-training"))
    parser.add_argument("--knees", type=int, default=280, help="about 200 children of them have both films")
    parser.add_argument("--finder", type=Path, help="bundle whose finder finds the knees")
    given = parser.parse_args(arguments)
    try:
        run(given.out, given.knees, given.finder)
    except RuntimeError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
