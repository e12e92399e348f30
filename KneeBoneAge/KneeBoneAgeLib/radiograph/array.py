"""From grey samples without a header (a picture file, a volume, an array from Slicer) to a Film."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..errors import FilmError
from . import grey
from .colour import grey_of_colour
from .film import Film, FilmFacts, Spacing, with_known
from .limits import check_size
from .polarity import bone_is_bright, thumbnail


def film_of_samples(
    path: str,
    samples: NDArray,
    spacing: Spacing,
    bone_bright: bool | None = None,
    facts: FilmFacts | None = None,
    notes: tuple[str, ...] = (),
) -> Film:
    """Film from (rows, columns) grey samples of any type.

    Up to 16 bits the whole range of the type is kept where the film uses half of it, otherwise the robust
    range of the film is stretched; real samples inside [0, 1] count as such a range.

    Parameters
    ----------
    bone_bright : bool or None
        None leaves it to the pixels.
    """
    facts = facts or FilmFacts()
    kind, bits = samples.dtype.kind, 8 * samples.dtype.itemsize
    coded = grey.code(samples)
    nominal = None
    if kind == "u" and bits <= 16:
        nominal = (0.0, 2.0**bits - 1)
    elif kind == "b" or (kind == "f" and coded.values[0] >= 0.0 and coded.values[-1] <= 1.0):
        nominal = (0.0, 1.0)
    levels = grey.stretch(coded.values, coded.counts, nominal)
    if bone_bright is None:
        bone_bright = bone_is_bright(levels[thumbnail(coded.codes)])
    return Film(
        pixels=grey.look_up(coded.codes, levels, inverted=not bone_bright),
        path=path,
        spacing_mm=spacing.mm,
        spacing_source=spacing.source,
        polarity="normal" if bone_bright else "inverted",
        sex=facts.sex,
        age_months=facts.age_months,
        side=facts.side,
        view=facts.view,
        body_part=facts.body_part,
        identifiers=facts.identifiers,
        notes=notes,
        bits_stored=bits,
    )


def film_from_array(
    pixels: NDArray,
    spacing_mm: tuple[float, float] | None = None,
    bone_bright: bool | None = None,
    *,
    sex: str | None = None,
    age_months: float | None = None,
    side: str | None = None,
    facts: FilmFacts | None = None,
    path: str = "",
) -> Film:
    """Film from an array in memory, for Slicer and for tests.

    Parameters
    ----------
    pixels : ndarray, (rows, columns), (1, rows, columns) or (rows, columns, 3 or 4)
        Grey samples of any type; with channels, unsigned and equal. Copied.
    spacing_mm : (row, column) or None
        None is uncalibrated.
    bone_bright : bool or None
        Whether large samples are bone; None leaves it to the pixels.
    sex, age_months, side
        What a person typed: recorded in `Film.typed`.
    facts : FilmFacts or None
        What a header said.

    Raises
    ------
    FilmError
        The array is no single grey film.
    ValueError
        A typed fact is impossible (see `with_known`).

    Examples
    --------
    >>> film_from_array(np.eye(8), (0.15, 0.15), bone_bright=True, sex="F").typed
    ('sex',)
    """
    name = path or "array"
    samples = np.asarray(pixels)
    if samples.dtype.kind not in "buif":
        raise FilmError(name, f"holds {samples.dtype}, not numbers")
    if samples.ndim == 3 and samples.shape[0] == 1:
        samples = samples[0]
    if samples.ndim == 3 and samples.shape[-1] == 1:
        samples = samples[..., 0]
    if samples.ndim not in (2, 3) or (samples.ndim == 3 and samples.shape[-1] not in (3, 4)):
        raise FilmError(name, f"has the shape {samples.shape}; a film has one slice of rows and columns")
    check_size(name, *samples.shape[:2])
    if samples.ndim == 3:
        samples = grey_of_colour(name, samples)
    spacing = Spacing()
    if spacing_mm is not None:
        row, column = (float(pitch) for pitch in spacing_mm)
        if not all(math.isfinite(pitch) and pitch > 0 for pitch in (row, column)):
            raise FilmError(name, f"has an impossible pixel spacing {spacing_mm}")
        spacing = Spacing((row, column), "array")
    film = film_of_samples(path, samples, spacing, bone_bright, facts)
    return with_known(film, sex=sex, age_months=age_months, side=side)
