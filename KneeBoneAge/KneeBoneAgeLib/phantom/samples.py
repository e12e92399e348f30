"""Three phantom children to try the module with, drawn on the spot as DICOM.

The first draw of one seed, whatever the estimates make of it: the school child happens to be far behind its age.
Exposure and processing are plain, and metal and casts are left out, because the module refuses them by design. No
torch is needed: Slicer has all that this imports.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .children import draw_children
from .finer import COARSER, finer
from .look import Look, expose
from .scenes import frontal_film
from .writing import FilmMeta, write_dicom

SEED = 2026
PIXEL_MM = 0.2
LOOK_STRENGTH = 0.4
"""Strength of the looks: 1 is the whole range of departments."""


@dataclass(frozen=True)
class Sample:
    """A child, its film, and how the file stores it."""

    number: int
    sex: str
    age_months: float
    kind: str
    right: bool = True
    monochrome: int = 2


SAMPLES = {
    "toddler": Sample(1, "F", 30.0, "single", right=False),
    "school age": Sample(2, "M", 102.0, "bilateral"),
    "adolescent": Sample(3, "F", 157.0, "single", monochrome=1),
}


def draw_sample(name: str, folder: str | os.PathLike[str]) -> Path:
    """Draw a child of `SAMPLES` into a folder; the same bytes each time. KeyError for another name."""
    sample = SAMPLES[name]
    child = draw_children(1, SEED + sample.number, [sample.age_months], [sample.sex], with_oracle=False)[0]
    rng = np.random.default_rng((SEED, sample.number))
    scene = frontal_film(
        child.indicators, sample.age_months, rng, sample.kind, sample.right, spacing_mm=COARSER * PIXEL_MM
    )
    scene = finer(scene)
    film = expose(scene, Look.draw(rng, LOOK_STRENGTH).without_hardware(), rng)
    sides = {knee.side for knee in scene.knees}
    meta = FilmMeta(
        number=sample.number,
        seed=SEED,
        sex=sample.sex,
        chronological_age_months=sample.age_months,
        side="B" if len(sides) == 2 else next(iter(sides), None),
        spacing_mm=PIXEL_MM,
        monochrome=sample.monochrome,
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return write_dicom(folder / f"KneeBoneAge-{name.replace(' ', '-')}.dcm", film, meta)
