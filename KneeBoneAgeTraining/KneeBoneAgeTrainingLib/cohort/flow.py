"""The flow diagram as numbers: what was read, what each step removed, what is left."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from .building import Cohort
from .records import HAND, KNEE, PATIENT, Problem
from .rules import NO_FILM, NO_HAND, SPARE_HAND, Counts, Step

PAIRING = (NO_HAND, SPARE_HAND)


def flow(cohort: Cohort) -> dict[str, Any]:
    """What flow.json holds.

    Counts are of patients, knee films and hand films; a film is a row, so that a bilateral film that is listed for each
    side counts twice. Patients are the rows of patients tables and those that only films name.
    """
    first = cohort.steps[0].before
    problems = _problems(cohort.problems)
    read = Counts(
        first.patients + problems.patients,
        first.knee_films + problems.knee_films,
        first.hand_films + problems.hand_films,
    )
    return {
        "kind": cohort.parameters.kind,
        "read": asdict(read),
        "unknown_part": sum(problem.kind == "" for problem in cohort.problems),
        "problems": {
            **asdict(problems),
            "reasons": dict(sorted(Counter(problem.what for problem in cohort.problems).items())),
        },
        "usable": asdict(first),
        "steps": [_step(step) for step in cohort.steps],
        "kept": asdict(cohort.steps[-1].after),
        "split": {
            "test": _place(cohort, None),
            "folds": [_place(cohort, fold) for fold in range(cohort.parameters.folds)],
        },
    }


def _problems(problems: tuple[Problem, ...]) -> Counts:
    count = Counter(problem.kind for problem in problems)
    return Counts(count[PATIENT], count[KNEE], count[HAND])


def _step(step: Step) -> dict[str, Any]:
    stage = "usable" if step.rule == NO_FILM else "pairing" if step.rule in PAIRING else "rule"
    return {**asdict(step), "stage": stage}


def _place(cohort: Cohort, fold: int | None) -> dict[str, int]:
    pairs = [pair for pair, place in zip(cohort.pairs, cohort.places, strict=True) if place.fold == fold]
    return {
        "patients": len({pair.film.patient_id for pair in pairs}),
        "films": len(pairs),
        "female": len({pair.film.patient_id for pair in pairs if pair.film.sex == "F"}),
    }


def adds_up(numbers: dict[str, Any]) -> bool:
    """Whether each step of a flow starts with what the one before left, and the last leaves what was kept."""
    units = ("patients", "knee_films", "hand_films")
    now = {unit: numbers["read"][unit] - numbers["problems"][unit] for unit in units}
    for step in numbers["steps"]:
        if any(step["before"][unit] != now[unit] for unit in units):
            return False
        now = {unit: now[unit] - step["removed"][unit] for unit in units}
        if any(step["after"][unit] != now[unit] for unit in units):
            return False
    placed = [numbers["split"]["test"], *numbers["split"]["folds"]]
    unit = "hand_films" if numbers["kind"] == "hand" else "knee_films"
    return all(now[unit] == numbers["kept"][unit] for unit in units) and (
        now[unit] == sum(place["films"] for place in placed)
        and now["patients"] == sum(place["patients"] for place in placed)
    )
