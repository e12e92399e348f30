"""What the rest of the library knows of a radiograph: one settled value, whatever the file was."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

MAX_AGE_MONTHS = 12 * 110
"""Older than this, a chronological age is a placeholder or a typing error."""


@dataclass(frozen=True)
class FilmIdentifiers:
    """DICOM UIDs that a result must point back to; None where the file has none."""

    study_uid: str | None = None
    series_uid: str | None = None
    instance_uid: str | None = None


@dataclass(frozen=True)
class FilmFacts:
    """Who and what a film shows, as far as its header says.

    `age_months` is the chronological age; `side` is the child's; `view` is "frontal", "lateral" or None.
    """

    sex: str | None = None
    age_months: float | None = None
    side: str | None = None
    view: str | None = None
    body_part: str | None = None
    identifiers: FilmIdentifiers = field(default_factory=FilmIdentifiers)


@dataclass(frozen=True)
class Spacing:
    """Pixel pitch in mm, (row, column), and where it was found.

    `magnification` is the factor that was divided out of a detector pitch, None if none was.
    """

    mm: tuple[float, float] | None = None
    source: str = "uncalibrated"
    magnification: float | None = None


@dataclass(frozen=True)
class Film:
    """A radiograph that has been read, its polarity and grey scale settled.

    Attributes
    ----------
    pixels : ndarray of float32, (rows, columns)
        In [0, 1], bone bright; modality and VOI LUT applied.
    path : str
        As the user gave it, "" for an array.
    spacing_mm : tuple of float or None
        (row, column) in mm; None is "uncalibrated". The best that the header offers for the plane of the
        knee: see `spacing_source`. "ImagerPixelSpacing" alone is the detector's pitch, larger than true by
        the unknown magnification.
    spacing_source : str
        "PixelSpacing", "ImagerPixelSpacing", "ImagerPixelSpacing/magnification",
        "NominalScannedPixelSpacing", "file", "array" or "uncalibrated".
    polarity : str
        "inverted" when the stored picture had bone dark and was turned, otherwise "normal".
    sex, age_months, side, view, body_part
        From the header or typed, None when unknown. "F" or "M"; chronological age in months; "R" or "L";
        "frontal" or "lateral".
    notes : tuple of str
        What a reader of the result should know; never identity.
    magnification : float or None
        Factor already divided out of `spacing_mm`; never divide again.
    photometric : str or None
        DICOM photometric interpretation as stored.
    bits_stored : int or None
        Significant bits of the stored samples.
    typed : tuple of str
        Names of the facts that a person gave, which win over the header.
    """

    pixels: NDArray[np.float32]
    path: str = ""
    spacing_mm: tuple[float, float] | None = None
    spacing_source: str = "uncalibrated"
    polarity: str = "normal"
    sex: str | None = None
    age_months: float | None = None
    side: str | None = None
    view: str | None = None
    body_part: str | None = None
    identifiers: FilmIdentifiers = field(default_factory=FilmIdentifiers)
    notes: tuple[str, ...] = ()
    magnification: float | None = None
    photometric: str | None = None
    bits_stored: int | None = None
    typed: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def columns(self) -> int:
        return int(self.pixels.shape[1])


def with_known(
    film: Film, sex: str | None = None, age_months: float | None = None, side: str | None = None
) -> Film:
    """The same film with what a person typed, which wins over the header and is recorded in `typed`.

    None leaves the header's value. A contradiction with the header becomes a note.

    Raises
    ------
    ValueError
        A sex other than F or M, an age that is no age, a side other than R or L.
    """
    if sex is not None and sex not in ("F", "M"):
        raise ValueError(f"sex must be F or M, not {sex!r}")
    if side is not None and side not in ("R", "L"):
        raise ValueError(f"side must be R or L, not {side!r}")
    if age_months is not None and not (math.isfinite(age_months) and 0 <= age_months <= MAX_AGE_MONTHS):
        raise ValueError(
            f"chronological age must lie between 0 and {MAX_AGE_MONTHS} months, not {age_months!r}"
        )
    notes = list(film.notes)
    known: dict[str, str | float] = {}
    if sex is not None:
        known["sex"] = sex
        if film.sex is not None and film.sex != sex:
            notes.append(f"sex typed as {sex}, the file says {film.sex}")
    if age_months is not None:
        known["age_months"] = float(age_months)
        if film.age_months is not None and abs(film.age_months - age_months) > 12:
            notes.append(f"age typed as {age_months:g} months, the file says {film.age_months:.1f}")
    if side is not None:
        known["side"] = side
        if film.side is not None and film.side != side:
            notes.append(f"side typed as {side}, the file says {film.side}")
    typed = film.typed + tuple(name for name in known if name not in film.typed)
    return replace(film, notes=tuple(notes), typed=typed, **known)  # type: ignore[arg-type]
