"""A test set and folds by patient, alike in sex and age; and the check that none of them leaks.

scikit-learn is no dependency, so `folds.assign_folds` deals the children out, once for the test set
and once for the folds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from ..folds import FOLDS, assign_folds
from .records import TEST, TRAIN, SplitError

TEST_SHARE = 0.2
FINEST = 20
"""A test share is taken as a fraction with at most this denominator; children are dealt out in groups of so many."""


@dataclass(frozen=True)
class Member:
    """What the split needs to know of a film. ``family_id`` binds children together, "" binds none."""

    patient_id: str
    sex: str
    age_months: float
    family_id: str = ""
    split: str = ""  # as given: train, test or ""
    file: str = ""

    @property
    def group(self) -> tuple[str, str]:
        """What must stay in one piece."""
        return ("family", self.family_id) if self.family_id else ("patient", self.patient_id)


@dataclass(frozen=True)
class Place:
    """Where a film is: the test set (fold None) or a training fold, from 0."""

    split: str
    fold: int | None = None

    def __str__(self) -> str:
        return "test" if self.split == TEST else f"fold {self.fold}"


@dataclass(frozen=True)
class PlacedFilm:
    """A row of folds.csv; ``same`` are further names that must stay together (family, hash of the film, hand film)."""

    patient_id: str
    file: str
    place: Place
    same: tuple[str, ...] = ()


def split_films(
    members: Sequence[Member],
    *,
    test_share: float = TEST_SHARE,
    folds: int = FOLDS,
    seed: int = 0,
    given: bool = False,
) -> list[Place]:
    """Place of each film, in the order given; the same members and seed give the same places.

    Parameters
    ----------
    test_share : share of children in the test set, 0 to 0.5, to the nearest twentieth.
    given : take the test set from ``split`` of the members instead.

    Raises
    ------
    SplitError
        A child (or family) is given both for training and for testing.
    """
    groups: defaultdict[tuple[str, str], list[Member]] = defaultdict(list)
    for member in members:
        groups[member.group].append(member)
    names = list(groups)
    test = _given_test(groups) if given else _drawn_test(groups, names, test_share, seed)
    training = [name for name in names if name not in test]
    places = {name: Place(TEST) for name in test}
    if training:
        dealt = _deal(groups, training, folds, seed + 1)
        places |= {name: Place(TRAIN, fold) for name, fold in zip(training, dealt, strict=True)}
    return [places[member.group] for member in members]


def _deal(
    groups: dict[tuple[str, str], list[Member]], names: Sequence[tuple[str, str]], hands: int, seed: int
) -> list[int]:
    ages = [sum(m.age_months for m in groups[name]) / len(groups[name]) for name in names]
    sexes = [min(m.sex for m in groups[name]) for name in names]
    return assign_folds(["/".join(name) for name in names], ages, sexes, folds=hands, seed=seed).tolist()


def _drawn_test(
    groups: dict[tuple[str, str], list[Member]], names: Sequence[tuple[str, str]], share: float, seed: int
) -> set[tuple[str, str]]:
    part = Fraction(share).limit_denominator(FINEST)
    if not names or not part:
        return set()
    dealt = _deal(groups, names, part.denominator, seed)
    return {name for name, hand in zip(names, dealt, strict=True) if hand < part.numerator}


def _given_test(groups: dict[tuple[str, str], list[Member]]) -> set[tuple[str, str]]:
    test = set()
    for name, members in groups.items():
        said = {member.split or TRAIN for member in members}
        if len(said) > 1:
            raise SplitError(
                f"the {name[0]} of {members[0].file} is given both for training and for testing; "
                "correct the column split, or let the test set be drawn (--test-split drawn)"
            )
        if said == {TEST}:
            test.add(name)
    return test


def check_split(films: Iterable[PlacedFilm], *, folds: int = FOLDS, needs_test: bool = True) -> None:
    """Check that a split can be trained on; to be called before any training.

    Raises
    ------
    SplitError
        A child, a family, a film (by name or by hash) or a hand film is in two places; a fold or the test set is
        empty; a fold has no number from 0 to ``folds`` − 1; there is no film.
    """
    films = list(films)
    if not films:
        raise SplitError("the study has no film")
    seen: dict[tuple[str, str], PlacedFilm] = {}
    for film in films:
        place = film.place
        right = place.split == TEST and place.fold is None
        right |= place.split == TRAIN and place.fold is not None and 0 <= place.fold < folds
        if not right:
            raise SplitError(
                f"{film.file}: split {place.split!r} with fold {place.fold!r}; "
                f"test has no fold, train one from 0 to {folds - 1}"
            )
        for what, name in [("patient", film.patient_id), ("file", film.file), *(("", n) for n in film.same)]:
            first = seen.setdefault((what, name), film)
            if first.place != place:
                raise SplitError(
                    f"the split leaks: {what} {name} is in {first.place} ({first.file}) and in {place} "
                    f"({film.file}); build the study again"
                )
    full = {film.place for film in films}
    empty = [str(fold) for fold in range(folds) if Place(TRAIN, fold) not in full]
    if empty:
        raise SplitError(f"fold {', '.join(empty)} is empty: there are too few children for {folds} folds")
    if needs_test and Place(TEST) not in full:
        raise SplitError("the test set is empty: there are too few children")
