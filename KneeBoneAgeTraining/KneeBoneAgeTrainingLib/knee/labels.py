"""What the knees of a study are taught: readers' bone ages, pseudo-labels of hand models, or both.

A reader's bone age of the knee film itself comes first, then that of the hand film it is paired with. A label that was
read off the hand film belongs to that film's date. It is moved by the months between both films (difference of the
ages), as if a month of bone age passed in a month, within 0 and the atlas's end; a label at the atlas's end stays
there. Where an age is missing, or only known to the year, the direction is unknown and nothing is moved; `study`
pairs no more than a few months apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from KneeBoneAgeLib.network import UNKNOWN_SEX, encode_sex
from KneeBoneAgeLib.phantom.build import LANDMARKS
from KneeBoneAgeLib.phantom.maturation import INDICATOR_NAMES
from KneeBoneAgeLib.radiograph.header import DAYS_PER_MONTH

from ..age_module import ATLAS_END_MONTHS
from ..cohort.study import Study, StudyFilm
from ..crop_cache import KNEE, POSTERIOR_BINS, CropCache, CropLabels
from ..runs.record import RunError, read_rows
from .pictures import Knee, LeftOut, PreparedKnees
from .recipe import KneeRecipe

READERS, PSEUDO, BOTH = "readers", "pseudo", "both"
LABEL_KINDS = (READERS, PSEUDO, BOTH)
DAYS_OFF = 3
"""Days by which the difference of two ages may miss the days between two films, so that it is believed."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class PseudoLabels:
    """Bone ages that hand models gave, by the hand film's name in the study: months and spread."""

    path: Path
    of: dict[str, tuple[float, float]]
    model: str = ""
    run_sha256: str = ""

    @classmethod
    def read(cls, path: Path) -> PseudoLabels:
        """Raises RunError for a table that `kneeboneage pseudo-label` did not write."""
        rows = read_rows(path)
        if not rows:
            raise RunError(
                f"{path}: holds no labels; write it with `kneeboneage pseudo-label RUN --study … --out …`"
            )
        try:
            of = {
                row["file"]: (float(row["pseudo_label_months"]), float(row["spread_months"] or 0))
                for row in rows
            }
        except (KeyError, ValueError) as error:
            raise RunError(
                f"{path}: is no table of pseudo-labels ({error}); `kneeboneage pseudo-label` writes one"
            ) from None
        return cls(path, of, rows[0].get("model", ""), rows[0].get("run_sha256", ""))


@dataclass(frozen=True)
class Taught:
    """Crops with their labels: `cache.labels.assigned_months` is what is learnt, with `sd_months` (N,) about the truth.

    `reader_months` and `pseudo_months` (N,) are at the knee film's date, NaN where there is none; `fold` (N,) is -1 in
    the test set.
    """

    cache: CropCache
    sd_months: Floats
    reader_months: Floats
    pseudo_months: Floats
    fold: NDArray[np.int64]
    knees: tuple[Knee, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def judged_months(self) -> Floats:
        """What estimates are compared with: a reader's bone age, where there is none the pseudo-label."""
        return np.where(np.isfinite(self.reader_months), self.reader_months, self.pseudo_months)

    @property
    def from_readers(self) -> int:
        """Crops that learn from a reader's bone age."""
        return int((self.cache.labels.assigned_months == self.reader_months).sum())


def moved_months(film: StudyFilm, months: float) -> float:
    """A bone age of the paired hand film → at the date of the knee film."""
    ends = ATLAS_END_MONTHS[encode_sex(film.sex or None) % 2]
    if film.age_months is None or film.hand_age_months is None or months >= ends:
        return months
    later = film.age_months - film.hand_age_months
    if film.days_between is None or abs(abs(later) * DAYS_PER_MONTH - film.days_between) > DAYS_OFF:
        return months
    return float(np.clip(months + later, 0.0, ends))


def reader_months(film: StudyFilm) -> float:
    """A reader's bone age at the date of the knee film; NaN where there is none."""
    if film.bone_age_months is not None:
        return film.bone_age_months
    return moved_months(film, film.hand_bone_age_months) if film.hand_bone_age_months is not None else np.nan


def teach(
    study: Study, prepared: PreparedKnees, kind: str, pseudo: PseudoLabels | None, recipe: KneeRecipe
) -> Taught:
    """Join crops with labels; knees that cannot be learnt from are listed.

    Raises
    ------
    RunError
        Pseudo-labels are wanted and there are none, or no knee has a label.
    """
    if kind != READERS and pseudo is None:
        raise RunError(f"--label {kind} needs --labels, the table that `kneeboneage pseudo-label` writes")
    left_out = list(prepared.left_out)
    rows: list[int] = []
    values: list[tuple[float, float, float, float]] = []
    for row, knee in enumerate(prepared.knees):
        film = study.films[knee.film]
        read = reader_months(film)
        given, spread = pseudo.of.get(film.hand_file, (np.nan, 0.0)) if pseudo else (np.nan, 0.0)
        given = moved_months(film, given) if np.isfinite(given) else np.nan
        by_reader = kind != PSEUDO and np.isfinite(read)
        label = read if by_reader else given if kind != READERS else np.nan
        if not film.sex:
            left_out.append(LeftOut(film.file, film.patient_id, knee.side, "the child's sex is unknown"))
        elif not np.isfinite(label):
            what = {READERS: "reader's bone age", PSEUDO: "pseudo-label", BOTH: "label"}[kind]
            left_out.append(LeftOut(film.file, film.patient_id, knee.side, f"there is no {what}"))
        else:
            sd = recipe.reader_sd_months if by_reader else float(np.hypot(recipe.pseudo_sd_months, spread))
            rows.append(row)
            values.append((label, sd, read, given))
    if not rows:
        raise RunError(f"{study.folder}: no knee has a crop and a label; see {prepared.folder}")
    label_months, sd_months, read_months, given_months = np.array(values, np.float32).T
    knees = tuple(prepared.knees[row] for row in rows)
    films = [study.films[knee.film] for knee in knees]
    places = [study.places[knee.film] for knee in knees]
    labels = labels_of(films, label_months, given_months)
    return Taught(
        CropCache(_taken(prepared.pictures, rows), labels),
        sd_months,
        read_months,
        given_months,
        np.array([-1 if place.fold is None else place.fold for place in places], np.int64),
        knees,
        tuple(left_out),
    )


def labels_of(films: Sequence[StudyFilm], label_months: Floats, pseudo_months: Floats) -> CropLabels:
    """What is known of a crop of each film; of what only the phantom knows nothing is."""
    count = len(films)
    unknown = np.full(count, np.nan, np.float32)
    sexes = np.array([encode_sex(film.sex or None) for film in films], np.int64)
    assert UNKNOWN_SEX not in sexes
    return CropLabels(
        sex=sexes,
        age_months=np.array([np.nan if f.age_months is None else f.age_months for f in films], np.float32),
        true_months=unknown,
        assigned_months=label_months,
        pseudo_months=pseudo_months,
        patient_id=np.array([film.patient_id for film in films], np.str_),
        indicators=np.full((count, len(INDICATOR_NAMES)), np.nan, np.float32),
        maturities=np.full((count, len(INDICATOR_NAMES)), np.nan, np.float32),
        kind=np.full(count, KNEE),
        oracle_months=unknown,
        oracle_no_age_months=unknown,
        landmarks=np.full((count, len(LANDMARKS), 2), np.nan, np.float32),
        posterior=np.full((count, 2, POSTERIOR_BINS), np.nan, np.float16),
    )


def _taken(parts: Sequence[NDArray[np.uint8]], rows: Sequence[int]) -> list[NDArray[np.uint8]]:
    """The chosen rows of all parts, in order; a part of which all are chosen stays memory-mapped."""
    chosen, found, start = np.array(rows), [], 0
    for part in parts:
        own = chosen[(chosen >= start) & (chosen < start + len(part))] - start
        if own.size:
            found.append(part if own.size == len(part) else np.asarray(part)[own])
        start += len(part)
    return found
