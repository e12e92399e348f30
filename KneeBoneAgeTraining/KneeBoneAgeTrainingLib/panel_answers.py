"""The child process that looks at studies and recipes for the Slicer panel, which imports none of what that takes.

``python -m KneeBoneAgeTrainingLib.panel_answers`` speaks as `KneeBoneAgeLib.service` does: lines of JSON, one
request at a time, ``study`` and ``recipes`` and ``recipe``.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from KneeBoneAgeLib.problems import Problem
from KneeBoneAgeLib.service import own_stdout, serve

HAND, KNEE = "hand", "knee"
MOST_PROBLEMS = 500
"""Rows of problems.csv that the panel is given; the file has them all."""


class Answers:
    """Answers requests; see `KneeBoneAgeLib.service.serve`."""

    def __init__(self) -> None:
        self.actions: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "study": study,
            "recipes": recipes,
            "recipe": recipe,
        }

    def answer(self, request: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
        """The answer to one request; raises a Problem."""
        action = self.actions.get(request.get("do", ""))
        if action is None:
            known = ", ".join(self.actions)
            raise Problem("usage", f"unknown request {request.get('do')!r}", f"Use one of {known}.")
        return action(request)

    def forget(self) -> None:
        """Nothing is kept between two requests."""


def study(request: Mapping[str, Any]) -> dict[str, Any]:
    """What a study holds; its split is checked as training does."""
    from .cohort import study as studies
    from .cohort.records import SplitError, StudyError

    folder = Path(str(request.get("folder") or ""))
    try:
        found = studies.open_study(folder)
        numbers = json.loads((folder / studies.FLOW).read_text(encoding="utf-8"))
        rows, count = _problems(folder / studies.PROBLEMS)
    except SplitError as error:
        raise Problem("study", str(error), "Build the study again with kneeboneage cohort build.") from None
    except (StudyError, OSError, ValueError) as error:
        raise Problem("study", str(error), "Choose another folder, or build the study again.") from None
    picture = folder / studies.FLOW_PNG
    split = numbers.get("split") or {}
    return {
        "folder": str(folder),
        "kind": found.parameters.kind,
        "films": len(found.films),
        "patients": len({film.patient_id for film in found.films}),
        "test_films": (split.get("test") or {}).get("films", 0),
        "folds": len(split.get("folds") or ()),
        "removed": sum(step["removed"][_unit(numbers)] for step in numbers.get("steps") or ()),
        "problems": rows,
        "problem_count": count,
        "flow": str(picture) if picture.is_file() else None,
    }


def recipes(request: Mapping[str, Any]) -> dict[str, Any]:
    """The recipes that ship: for hand models, then for knee models."""
    from .knee.recipe import load_knee_recipe
    from .recipes import load_recipe, shipped_knee_recipes, shipped_recipes

    hand = [_facts(load_recipe(name), HAND) for name in shipped_recipes()]
    return {"recipes": hand + [_facts(load_knee_recipe(name), KNEE) for name in shipped_knee_recipes()]}


def recipe(request: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe of one's own, checked field by field."""
    from .knee.recipe import load_knee_recipe
    from .recipes import load_recipe

    path = Path(str(request.get("file") or ""))
    if not path.is_file():
        raise Problem("recipe", f"{path}: there is no such file", "Choose a recipe, a file in YAML.")
    # Only a hand recipe has an architecture and stages; what has neither is read as one for knees.
    text = path.read_text(encoding="utf-8", errors="replace")
    hand = any(line.startswith(("architecture:", "stages:")) for line in text.splitlines())
    try:
        return _facts(load_recipe(path), HAND) if hand else _facts(load_knee_recipe(path), KNEE)
    except ValueError as error:
        raise Problem("recipe", str(error), "Correct the file, or choose a recipe that ships.") from None


def _facts(found: Any, task: str) -> dict[str, Any]:
    if task == HAND:
        stages = [{"name": stage.name, "epochs": stage.epochs} for stage in found.stages]
    else:
        stages = [{"name": KNEE, "epochs": found.epochs}]
    return {
        "name": found.name,
        "description": " ".join(found.description.split()),
        "reference": " ".join(found.reference.split()),
        "task": task,
        "stages": stages,
    }


def _unit(numbers: Mapping[str, Any]) -> str:
    return "hand_films" if numbers.get("kind") == "hand" else "knee_films"


def _problems(path: Path) -> tuple[list[dict[str, str]], int]:
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    wanted = ("table", "line", "file", "what", "reason")
    return [{name: row.get(name, "") for name in wanted} for row in rows[:MOST_PROBLEMS]], len(rows)


def main() -> int:
    """Entry point of the child process; the exit code."""
    out = own_stdout()
    serve(_lines(), out, Answers())  # type: ignore[arg-type]
    return 0


def _lines() -> Iterator[str]:
    yield from iter(sys.stdin.readline, "")


if __name__ == "__main__":
    sys.exit(main())
