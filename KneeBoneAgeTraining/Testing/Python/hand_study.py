"""A tiny study of drawn hands for tests: five bars on a palm, longer and wider with bone age. No phantom, no child."""

from pathlib import Path

import numpy as np
from PIL import Image

from KneeBoneAgeTrainingLib.cohort.building import Inputs, Parameters, build
from KneeBoneAgeTrainingLib.cohort.study import write_study
from KneeBoneAgeTrainingLib.runs.record import write_table

BONET = "{kind: bonet, channels: [8, 16, 16], deform_after: 2, dense: 32, localiser_width: 8, drop_rate: 0.2}"
TINY_RECIPE = f"""
name: tiny
description: for tests
architecture: {BONET}
image_size: [32, 32]
stages:
  - {{name: with-sex, inputs: {{sex: true, chronological_age: false}}, epochs: 2, learning_rate: 3.0e-3}}
  - {{name: with-age, inputs: {{sex: true, chronological_age: true}}, epochs: 2, learning_rate: 1.0e-3}}
batch: 8
augmentation: {{rotation_deg: 5, noise: 0.02}}
folds: [0]
"""

SMALL = "{depths: [1, 1, 1, 1], dims: [8, 8, 16, 16]}"
AGE_NETWORK = f"{{kind: age-network, options: {{points: 4, map_channels: [], backbone_options: {SMALL}}}}}"
PLAIN_RECIPE = TINY_RECIPE.replace("name: tiny", "name: plain").replace(BONET, AGE_NETWORK)
"""Without batch statistics and dropout, so that a batch that is shared out teaches what the whole one does."""


def draw_hand(bone_age_months: float, rng: np.random.Generator) -> np.ndarray:
    """(96, 80) uint8: bright fingers and palm on a dark film, brighter the older."""
    film = np.full((96, 80), 8, np.uint8)
    grey = int(90 + bone_age_months / 2)
    film[50:90, 25:55] = grey
    for finger in range(5):
        x = 22 + 7 * finger + int(rng.integers(-1, 2))
        film[20 : 20 + 30, x : x + 2 + int(bone_age_months / 60)] = grey
    noise = rng.integers(0, 6, film.shape)
    return (film + noise).astype(np.uint8)


def make_study(folder: Path, children: int = 40, folds: int = 3, seed: int = 0) -> Path:
    """Draw the films and build a study of kind "hand"; its folder."""
    rng = np.random.default_rng(seed)
    (folder / "films").mkdir(parents=True)
    rows = []
    for child in range(children):
        age = float(rng.uniform(20, 200))
        bone_age = float(np.clip(age + rng.normal(0, 12), 5, 215))
        for visit in range(1 + child % 2):
            name = f"films/{child:03d}-{visit}.png"
            Image.fromarray(draw_hand(bone_age, rng)).save(folder / name)
            rows.append((name, f"C{child:03d}", "FM"[child % 2], round(age, 2), round(bone_age, 2)))
    write_table(folder / "hands.csv", ["file", "patient_id", "sex", "age_months", "bone_age_months"], rows)
    cohort = build(Inputs(hands=(folder / "hands.csv",)), Parameters(kind="hand", folds=folds), workers=1)
    return write_study(cohort, folder / "study")


def train_line(place: Path, out: str, *more: str, recipe: str = "tiny") -> list[str]:
    """The words that train a recipe of `place` on the study in it, on a CPU."""
    study, cache = place / "data" / "study", place / "hand-pictures"
    given = ["train", place / f"{recipe}.yaml", "--study", study, "--out", place / out, "--cache", cache]
    return [*map(str, given), "--device", "cpu", "--workers", "0", *more]
