"""Cohort, rules: every exclusion, the nearest hand film and the border of three months, and counts that add up."""

import datetime
from pathlib import Path

import pytest

from KneeBoneAgeTrainingLib.cohort.joining import join
from KneeBoneAgeTrainingLib.cohort.pairing import compare, months_after, nearest
from KneeBoneAgeTrainingLib.cohort.records import FilmRow, PatientRow, Source
from KneeBoneAgeTrainingLib.cohort.rules import apply_rules

DAY = datetime.date(2020, 1, 15)
ALL = frozenset({"physeal_trauma", "skeletal_dysplasia", "genetic_disorder", "endocrinopathy"})
lines = iter(range(1, 10_000))


def film(part, patient, day=DAY, age=120.0, **facts):
    line = next(lines)
    facts = {"sex": "F", "sha256": f"{line:064}"} | facts
    return FilmRow(
        Source(f"{part}s.csv", line), Path(f"{line}.png"), part, patient, date=day, age_months=age, **facts
    )


def child(name, *conditions, **facts):
    return PatientRow(
        Source("patients.csv", next(lines)), name, "F", conditions=frozenset(conditions), **facts
    )


def ruled(patients, films, kind="paired", **chosen):
    settings = {"max_age_months": 216, "within_months": 3, "stated": ALL} | chosen
    joined = join(patients, films, kind)
    assert not joined.problems
    return apply_rules(joined, kind, **settings)


def removed(result):
    return {
        step.rule: (step.removed.patients, step.removed.knee_films, step.removed.hand_films)
        for step in result.steps
        if any((step.removed.patients, step.removed.knee_films, step.removed.hand_films))
    }


@pytest.mark.parametrize(
    ("condition", "rule"),
    [
        ("physeal_trauma", "physeal_trauma"),
        ("skeletal_dysplasia", "dysplasia_or_genetic_disorder"),
        ("genetic_disorder", "dysplasia_or_genetic_disorder"),
        ("endocrinopathy", "endocrinopathy"),
    ],
)
def test_each_stated_condition_excludes_the_child_with_all_films_and_is_counted(condition, rule):
    films = [film(part, name) for name in ("A", "B") for part in ("knee", "knee", "hand")]
    result = ruled([child("A"), child("B", condition)], films)
    assert {pair.film.patient_id for pair in result.pairs} == {"A"}
    assert removed(result) == {rule: (1, 2, 1)}
    assert {(e.kind, e.patient_id, e.rule) for e in result.exclusions} == {
        (kind, "B", rule) for kind in ("patient", "knee", "hand")
    }


def test_a_trauma_of_one_knee_excludes_that_film_alone():
    films = [
        film("knee", "A", side="R", conditions=frozenset({"physeal_trauma"})),
        film("knee", "A", side="L"),
        film("hand", "A"),
    ]
    result = ruled([child("A")], films)
    assert [pair.film.side for pair in result.pairs] == ["L"]
    assert removed(result) == {"physeal_trauma": (0, 1, 0)}


@pytest.mark.parametrize(("age", "stays"), [(215.9, True), (216.0, True), (216.1, False)])
def test_eighteen_years_is_the_oldest_and_a_hand_film_may_be_older(age, stays):
    films = [film("knee", "A", age=age), film("hand", "A", age=217.0)]
    result = ruled([child("A")], films)
    assert bool(result.pairs) is stays
    assert removed(result) == ({} if stays else {"age": (1, 1, 1)})


def test_only_views_that_are_stated_and_not_frontal_are_excluded():
    films = [film("knee", "A", view=view) for view in ("", "frontal", "lateral", "other")]
    result = ruled([child("A")], [*films, film("hand", "A")])
    assert [pair.film.view for pair in result.pairs] == ["", "frontal"]
    assert removed(result) == {"not_frontal": (0, 2, 0)}


def test_a_rule_that_no_table_speaks_of_is_marked_as_not_stated():
    result = ruled(
        [child("A")], [film("knee", "A"), film("hand", "A")], stated=frozenset({"genetic_disorder"})
    )
    assert {step.rule: step.stated for step in result.steps} == {
        "no_film": True,
        "not_frontal": True,
        "physeal_trauma": False,
        "dysplasia_or_genetic_disorder": True,
        "endocrinopathy": False,
        "age": True,
        "no_hand_film": True,
        "hand_not_nearest": True,
    }


def test_each_knee_film_takes_the_nearest_hand_film_and_the_others_are_counted():
    knees = [film("knee", "A", DAY), film("knee", "A", DAY + datetime.timedelta(days=60))]
    hands = [film("hand", "A", DAY + datetime.timedelta(days=days)) for days in (-20, 12, 55, 89)]
    result = ruled([child("A")], [*knees, *hands])
    assert [(pair.match.hand.source, pair.match.days) for pair in result.pairs] == [
        (hands[1].source, 12),
        (hands[2].source, 5),
    ]
    assert removed(result) == {"hand_not_nearest": (0, 0, 2)}


def test_a_hand_film_of_another_child_is_never_taken():
    result = ruled([child("A"), child("B")], [film("knee", "A"), film("hand", "B")])
    assert not result.pairs
    assert removed(result) == {"no_film": (1, 0, 1), "no_hand_film": (1, 1, 0)}


@pytest.mark.parametrize(
    ("knee", "hand", "within"),
    [
        ("2020-01-15", "2020-04-15", True),
        ("2020-01-15", "2020-04-16", False),
        ("2020-04-15", "2020-01-15", True),
        ("2020-04-15", "2020-01-14", False),
        ("2019-07-15", "2019-10-15", True),
        ("2019-11-30", "2020-02-29", True),
        ("2019-11-30", "2020-03-01", False),
        ("2020-12-31", "2021-03-31", True),
    ],
)
def test_exactly_three_calendar_months_are_within_and_a_day_more_is_not(knee, hand, within):
    one = film("knee", "A", datetime.date.fromisoformat(knee))
    other = film("hand", "A", datetime.date.fromisoformat(hand))
    assert (compare(one, other, 3) is not None) is within


def test_without_dates_ages_are_compared_and_three_months_are_within():
    knee = film("knee", "A", None, 120.1)
    assert compare(knee, film("hand", "A", None, 123.1), 3).days == 91
    assert compare(knee, film("hand", "A", None, 123.11), 3) is None
    assert compare(knee, film("hand", "A", None, 117.1), 3).counted_from == "ages"
    assert compare(knee, film("hand", "A", None, 120.0, age_exact=False), 3) is None


def test_of_two_hand_films_of_one_day_the_left_is_taken():
    hands = [film("hand", "A", side="R"), film("hand", "A", side="L"), film("hand", "A", side="")]
    assert nearest(film("knee", "A"), hands, 3).hand.side == "L"
    assert nearest(film("knee", "A"), [], 3) is None


def test_the_months_between_are_a_parameter():
    films = [film("knee", "A"), film("hand", "A", DAY + datetime.timedelta(days=150))]
    assert not ruled([child("A")], films).pairs
    assert len(ruled([child("A")], films, within_months=6).pairs) == 1
    assert months_after(datetime.date(2020, 1, 31), 1) == datetime.date(2020, 2, 29)


def test_a_patient_leaves_with_the_last_knee_film():
    films = [film("knee", "A"), film("knee", "A", age=220.0), film("knee", "B", age=220.0), film("hand", "A")]
    result = ruled([child("A"), child("B"), child("C")], films)
    assert removed(result) == {"no_film": (1, 0, 0), "age": (1, 2, 0)}
    assert [(e.patient_id, e.rule) for e in result.exclusions if e.kind == "patient"] == [
        ("C", "no_film"),
        ("B", "age"),
    ]


def test_each_step_starts_where_the_one_before_ended():
    films = [
        film("knee", name, age=age) for name, age in (("A", 100.0), ("B", 230.0), ("C", 90.0), ("D", 80.0))
    ]
    films += [film("hand", name) for name in "ABD"]
    result = ruled([child("A"), child("B"), child("C"), child("D", "endocrinopathy")], films)
    for one, other in zip(result.steps, result.steps[1:], strict=False):
        assert one.after == other.before
    for step in result.steps:
        assert step.before - step.removed == step.after
    assert result.steps[-1].after.knee_films == len(result.pairs) == 1


def test_studies_of_one_kind_alone_pair_nothing_and_take_bone_age_for_a_missing_age():
    hands = [film("hand", "A", None, None, bone_age_months=90.0), film("hand", "B", None, 230.0)]
    result = ruled([], hands, kind="hand")
    assert [pair.film.patient_id for pair in result.pairs] == ["A"]
    assert result.pairs[0].match is None
    assert removed(result) == {"age": (1, 0, 1)}


def test_a_knee_film_that_can_be_compared_with_no_hand_film_is_a_problem_not_an_exclusion():
    joined = join(
        [child("A")], [film("knee", "A", DAY, 120.0, age_exact=False), film("hand", "A", None)], "paired"
    )
    result = apply_rules(joined, "paired", max_age_months=216, within_months=3, stated=ALL)
    assert [problem.what for problem in result.problems] == ["no date"]
    assert not result.pairs
