"""Cohort, split: by patient and family, alike in sex and age, repeatable, and refused when it leaks."""

import dataclasses

import numpy as np
import pytest

from KneeBoneAgeTrainingLib.cohort.records import SplitError
from KneeBoneAgeTrainingLib.cohort.split import Member, Place, PlacedFilm, check_split, split_films


def children(count, films=3, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Member(f"C{number}", sex, age + visit)
        for number, (sex, age) in enumerate(
            zip(rng.choice(["F", "M"], count, p=[0.4, 0.6]), rng.uniform(12, 216, count), strict=True)
        )
        for visit in range(1 + number % films)
    ]


def placed(members, places):
    return [
        PlacedFilm(member.patient_id, f"{index}.png", place)
        for index, (member, place) in enumerate(zip(members, places, strict=True))
    ]


def by(members, places, key):
    groups = {}
    for member, place in zip(members, places, strict=True):
        groups.setdefault(key(member), set()).add(place)
    return groups


def test_both_knees_and_repeat_visits_of_a_child_share_one_place():
    members = children(211)
    places = split_films(members)
    assert all(len(group) == 1 for group in by(members, places, lambda m: m.patient_id).values())
    check_split(placed(members, places))


def test_twins_and_other_children_of_a_family_share_one_place():
    members = [
        dataclasses.replace(member, family_id=f"T{int(member.patient_id[1:]) // 2}")
        for member in children(100)
    ]
    places = split_films(members)
    assert all(len(group) == 1 for group in by(members, places, lambda m: m.family_id).values())
    loose = split_films([dataclasses.replace(member, family_id="") for member in members])
    assert any(len(group) > 1 for group in by(members, loose, lambda m: m.family_id).values())


def test_a_family_and_a_patient_of_one_name_are_not_mixed_up():
    members = [Member("A", "F", 50, family_id="B"), Member("B", "F", 90)]
    assert members[0].group != members[1].group


@pytest.mark.parametrize("share", [0.2, 0.1, 0.15, 0.0])
def test_the_test_set_has_its_share_of_children_and_the_folds_are_even(share):
    members = children(400, films=1)
    places = split_films(members, test_share=share)
    test = sum(place.split == "test" for place in places)
    assert abs(test - share * 400) <= 3
    sizes = [places.count(Place("train", fold)) for fold in range(5)]
    assert sum(sizes) + test == 400
    assert max(sizes) - min(sizes) <= 1
    check_split(placed(members, places), needs_test=share > 0)


def test_all_parts_are_alike_in_sex_and_age():
    members = children(600, films=1)
    places = split_films(members)
    girls = np.mean([member.sex == "F" for member in members])
    for place in {*places}:
        part = [member for member, where in zip(members, places, strict=True) if where == place]
        assert abs(np.mean([member.sex == "F" for member in part]) - girls) < 0.04
        for sex in "FM":
            whole = np.quantile([m.age_months for m in members if m.sex == sex], [0.25, 0.5, 0.75])
            here = np.quantile([m.age_months for m in part if m.sex == sex], [0.25, 0.5, 0.75])
            assert np.abs(here - whole).max() < 15


def test_the_same_seed_gives_the_same_split_in_any_order_and_another_one_another():
    members = children(90)
    places = split_films(members, seed=3)
    order = np.random.default_rng(1).permutation(len(members))
    shuffled = split_films([members[i] for i in order], seed=3)
    assert [places[i] for i in order] == shuffled
    assert split_films(members, seed=4) != places


def test_a_given_test_set_is_kept_and_the_rest_goes_into_folds():
    members = [
        dataclasses.replace(member, split="test" if member.patient_id < "C3" else "")
        for member in children(80)
    ]
    places = split_films(members, given=True)
    for member, place in zip(members, places, strict=True):
        assert (place.split == "test") == (member.split == "test")
    check_split(placed(members, places))


def test_a_child_that_is_given_for_training_and_for_testing_is_refused():
    members = [Member("A", "F", 90, split="train", file="a.png"), Member("A", "F", 95, split="test")]
    with pytest.raises(SplitError, match="patient of a.png is given both"):
        split_films(members, given=True)


def good_split():
    return [PlacedFilm(f"C{i}", f"{i}.png", Place("train", i)) for i in range(5)] + [
        PlacedFilm("C9", "9.png", Place("test"))
    ]


@pytest.mark.parametrize(
    ("leak", "why"),
    [
        (PlacedFilm("C1", "x.png", Place("test")), r"leaks: patient C1 is in fold 1 \(1.png\) and in test"),
        (PlacedFilm("C1", "x.png", Place("train", 2)), "leaks: patient C1 is in fold 1"),
        (PlacedFilm("CX", "1.png", Place("test")), "leaks: file 1.png"),
        (PlacedFilm("CX", "x.png", Place("train", 5)), "0 to 4"),
        (PlacedFilm("CX", "x.png", Place("test", 2)), "test has no fold"),
        (PlacedFilm("CX", "x.png", Place("train")), "fold None"),
        (PlacedFilm("CX", "x.png", Place("validation", 1)), "validation"),
    ],
)
def test_a_split_that_leaks_is_refused_with_the_child_and_both_films(leak, why):
    check_split(good_split())
    with pytest.raises(SplitError, match=why):
        check_split([*good_split(), leak])


def test_films_that_must_stay_together_are_checked_by_their_further_names():
    apart = [
        PlacedFilm("CX", "x.png", Place("train", 1), ("family T1",)),
        PlacedFilm("CY", "y.png", Place("train", 2), ("family T1",)),
    ]
    with pytest.raises(SplitError, match="family T1"):
        check_split([*good_split(), *apart])


def test_empty_parts_are_refused():
    with pytest.raises(SplitError, match="no film"):
        check_split([])
    with pytest.raises(SplitError, match="fold 3, 4 is empty"):
        check_split([film for film in good_split() if film.place.fold not in (3, 4)])
    with pytest.raises(SplitError, match="test set is empty"):
        check_split(good_split()[:5])
    check_split(good_split()[:5], needs_test=False)
