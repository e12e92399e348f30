"""Phantom pictures for training: crops of knees for the age networks, small films for the knee finder.

Both are drawn coarsely (a crop is 200 pixels wide, a film 256) by the same anatomy and the same image formation as the
phantom's full-size films; the crops are cut by the same `KneeBoneAgeLib.crop` as at estimating time.

    python -m KneeBoneAgeTrainingLib.drawing crops OUT --children 4000 --seed 11
    python -m KneeBoneAgeTrainingLib.drawing negatives OUT --children 2000 --seed 12
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from KneeBoneAgeLib.crop import SIZE_PX, KneeCrop, cut, sample, to_crop, whole_film
from KneeBoneAgeLib.network import MONTHS_MAX
from KneeBoneAgeLib.phantom.build import LANDMARKS, KneeTruth
from KneeBoneAgeLib.phantom.children import OLDEST_MONTHS, Child, draw_children, maturity_vector, posterior
from KneeBoneAgeLib.phantom.cohort import KIND_SHARES
from KneeBoneAgeLib.phantom.look import Look, expose
from KneeBoneAgeLib.phantom.maturation import INDICATOR_NAMES, SEXES
from KneeBoneAgeLib.phantom.props import add_knee_replacement
from KneeBoneAgeLib.phantom.scenes import Scene, frontal_film, knee_view, lateral_film, other_film

from .crop_cache import KNEE, MARGIN, POSTERIOR_BINS, CropCache, CropLabels

VIEW_PX = 440
"""Pixels of the surroundings of a knee (2.9 widths: 0.5 mm a pixel at 75 mm)."""

FILM_PIXEL_MM = (0.2, 0.5)
"""Least and largest pixel of the films that training crops are cut from; between them `VIEW_PX` to 2.9 widths."""

FINDER_KINDS = {
    "single": 0.21, "edge": 0.1, "bilateral": 0.09, "long": 0.05, "leg": 0.1,
    "closeup": 0.18, "lateral": 0.14, "other": 0.12, "empty": 0.01,
}  # fmt: skip
"""How often each kind of film is drawn for the finder; "closeup" is the surroundings of a knee or of a false find."""

CLOSEUP_KINDS = {"single": 0.26, "edge": 0.08, "bilateral": 0.08, "leg": 0.1, "lateral": 0.36, "other": 0.12}
"""How often a close-up is of each kind of film."""

SMALL_CHILDREN, SMALL_CHILDRENS_LATERALS = 0.3, 0.5
"""Share of children under six years on the finder's films, and on laterals: round ossification centres look much alike
from the front and from the side."""


@dataclass(frozen=True)
class FinderSample:
    """A small film with its truth.

    Attributes
    ----------
    image : (S, S) float32 in [0, 1], bone bright, letterboxed.
    labels : (S, S) uint8, `phantom.build.LABELS`.
    knees : tuple of (x, y, width, angle_deg, fibula_on_left) in pixels of the image.
    """

    image: np.ndarray
    labels: np.ndarray
    knees: tuple[tuple[float, float, float, float, bool], ...]


def crop_of(truth: KneeTruth) -> KneeCrop:
    """The reference crop of a drawn knee."""
    return KneeCrop(
        truth.centre_px, 2.0 * truth.width_px, truth.angle_deg, truth.side, mirrored=not truth.fibula_on_left
    )


def landmarks_in_crop(truth: KneeTruth) -> np.ndarray:
    """(P, 2) float32 `LANDMARKS` in the reference crop, -1 to 1 from edge to edge; NaN where there is none."""
    found = {name: (x, y) for name, x, y in truth.landmarks_px}
    points = np.array([found.get(name, (np.nan, np.nan)) for name in LANDMARKS])
    return (to_crop(points, crop_of(truth), 2) - 1).astype(np.float32)


def knee_crop(child: Child, rng: np.random.Generator, strength: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A crop of one knee of a child with `MARGIN` around it, (S, S) uint8 of the film's grey values; landmarks.

    It is cut from a whole film: field, collimation and processing are not those of the surroundings alone, and networks
    that never saw a film are 3 % less exact on films."""
    scene = _film_with_knee(child, rng)
    knee = scene.knees[int(rng.integers(len(scene.knees)))]
    return _cut_crop(scene, knee, rng, strength), landmarks_in_crop(knee)


def _surroundings(child: Child, rng: np.random.Generator) -> Scene:
    right = bool(rng.random() < 0.5)
    return knee_view(child.indicators, child.chronological_age_months, rng, VIEW_PX, right)


def _film_with_knee(child: Child, rng: np.random.Generator) -> Scene:
    """A whole frontal film of one of a cohort's kinds; the surroundings where no knee came to lie on it."""
    own = child.indicators
    width_mm = max(1.0, own.femur_width_ratio) * own.femur_metaphysis_mm
    pixel_mm = float(np.clip(2.9 * width_mm / VIEW_PX, *FILM_PIXEL_MM))
    for _ in range(5):
        kind = str(rng.choice(list(KIND_SHARES), p=list(KIND_SHARES.values())))
        right = bool(rng.random() < 0.5)
        scene = frontal_film(own, child.chronological_age_months, rng, kind, right, spacing_mm=pixel_mm)
        if scene.knees:
            return scene
    return _surroundings(child, rng)


def _cut_crop(scene: Scene, knee: KneeTruth, rng: np.random.Generator, strength: float) -> np.ndarray:
    film = expose(scene, Look.draw(rng, strength), rng)
    patch = cut(film, crop_of(knee), round(SIZE_PX * MARGIN), MARGIN)
    return (np.clip(patch, 0, 1) * 255 + 0.5).astype(np.uint8)


def negative_crop(kind: str, child: Child, rng: np.random.Generator) -> np.ndarray:
    """A crop that an estimate must refuse, as `knee_crop` gives one of a knee. ``kind`` is one of `NEGATIVES`."""
    if kind == "photograph":
        return _photograph(rng, round(SIZE_PX * MARGIN))
    age = child.chronological_age_months
    if kind == "lateral":
        scene = lateral_film(child.indicators, age, rng, pixels=480)
        leg = scene.legs[0]
        centre = np.array([leg.x_mm, leg.y_mm]) / scene.canvas.spacing_mm
        width = scene.unit_mm * leg.scale / scene.canvas.spacing_mm * np.exp(rng.normal(0, 0.2))
    elif kind == "other":
        scene = other_film(rng, age / 12, 400)
        rows, columns = scene.canvas.shape
        centre = np.array([columns, rows]) * rng.uniform(0.25, 0.75, 2)
        width = rng.uniform(0.1, 0.45) * min(rows, columns)
    elif kind == "implant":
        scene = _film_with_knee(child, rng)
        add_knee_replacement(scene.canvas.metal_mm, scene.canvas.spacing_mm, scene.knees[0], rng)
        return _cut_crop(scene, scene.knees[0], rng, 1.0)
    else:
        scene = frontal_film(child.indicators, age, rng, "leg", bool(rng.random() < 0.5), pixels=900)
        leg = scene.legs[0]
        unit = scene.unit_mm * leg.scale / scene.canvas.spacing_mm
        away = rng.choice([-1, 1]) * rng.uniform(1.3, 2.5) * unit
        centre = np.array([leg.x_mm, leg.y_mm]) / scene.canvas.spacing_mm + (0.3 * rng.normal() * unit, away)
        width = unit * np.exp(rng.normal(0, 0.25))
    film = expose(scene, Look.draw(rng), rng)
    crop = KneeCrop(
        (float(centre[0]), float(centre[1])),
        2.0 * float(width),
        rng.normal(0, 6),
        mirrored=bool(rng.random() < 0.5),
    )
    patch = cut(film, crop, round(SIZE_PX * MARGIN), MARGIN)
    return (np.clip(patch, 0, 1) * 255 + 0.5).astype(np.uint8)


NEGATIVES = ("lateral", "other", "implant", "shaft", "photograph", "lateral", "other", "other")


def _photograph(rng: np.random.Generator, size: int) -> np.ndarray:
    """Something that is no radiograph: shaded shapes over a 1/f texture, a page of text-like bars, or noise."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij")) + 1 / size
    plain = rng.random() < 0.4  # texture or noise alone
    steepness = 0.0 if plain and rng.random() < 0.5 else rng.uniform(0.0, 2.0)
    spectrum = np.fft.rfft2(rng.normal(size=(size, size))) / frequency**steepness
    picture = np.fft.irfft2(spectrum, s=(size, size))
    picture = (picture - picture.mean()) / (picture.std() + 1e-6)
    v, u = np.mgrid[0:size, 0:size] / size
    for _ in range(0 if plain else int(rng.integers(1, 12))):
        x, y, a, b = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.02, 0.4), rng.uniform(0.02, 0.4)
        inside = (
            (np.abs(u - x) < a) & (np.abs(v - y) < b)
            if rng.random() < 0.5
            else ((u - x) / a) ** 2 + ((v - y) / b) ** 2 < 1
        )
        picture[inside] = rng.normal(0, 2) + rng.uniform(0, 0.6) * picture[inside]
    low, high = np.percentile(picture, (0.5, 99.5))
    return (np.clip((picture - low) / (high - low + 1e-6), 0, 1) * 255).astype(np.uint8)


def finder_sample(rng: np.random.Generator, size: int = 192) -> FinderSample:
    """One film for the finder, of a random kind, child and look."""
    kind = str(rng.choice(list(FINDER_KINDS), p=list(FINDER_KINDS.values())))
    closeup = kind == "closeup"
    if closeup:
        kind = str(rng.choice(list(CLOSEUP_KINDS), p=list(CLOSEUP_KINDS.values())))
    small = rng.random() < (SMALL_CHILDRENS_LATERALS if kind == "lateral" else SMALL_CHILDREN)
    age = rng.uniform(0, 72) if small else rng.uniform(60, 228) if rng.random() < 0.5 else 228.0
    child = draw_children(
        1, int(rng.integers(2**31)), chronological_age_months=[min(age, 216.0)], with_oracle=False
    )[0]
    years = child.chronological_age_months / 12
    drawn = int(size * 1.6) if closeup else int(size * rng.choice([1.0, 1.25, 1.5]))
    if kind == "lateral":
        scene = lateral_film(child.indicators, child.chronological_age_months, rng, pixels=drawn)
    elif kind in ("other", "empty"):
        scene = other_film(rng, years, drawn, "empty" if kind == "empty" else None)
    else:
        scene = frontal_film(
            child.indicators,
            child.chronological_age_months,
            rng,
            kind,
            bool(rng.random() < 0.5),
            pixels=drawn,
        )
    look = Look.draw_strong(rng) if rng.random() < 0.6 else Look.draw(rng)
    film = expose(scene, look, rng)
    matrix = _closeup(scene, rng, size) if closeup else _whole(film.shape, rng, size)
    image = np.clip(sample(film, matrix, (size, size)), 0, 1).astype(np.float32)
    v, u = np.mgrid[0:size, 0:size] + 0.5
    columns = np.floor(matrix[0, 0] * u + matrix[0, 2]).astype(int)
    rows = np.floor(matrix[1, 1] * v + matrix[1, 2]).astype(int)
    inside = (columns >= 0) & (rows >= 0) & (columns < film.shape[1]) & (rows < film.shape[0])
    labels = np.zeros((size, size), np.uint8)
    labels[inside] = scene.canvas.labels[rows[inside], columns[inside]]
    step = matrix[0, 0]
    knees = []
    for knee in scene.knees:
        x, y = (knee.centre_px[0] - matrix[0, 2]) / step, (knee.centre_px[1] - matrix[1, 2]) / step
        if 0 <= x < size and 0 <= y < size:
            knees.append((x, y, knee.width_px / step, knee.angle_deg, knee.fibula_on_left))
    return FinderSample(image, labels, tuple(knees))


def _whole(shape: tuple[int, int], rng: np.random.Generator, size: int) -> np.ndarray:
    """The finder's first look at a film of ``shape``, or as much of it as a square of ``size`` holds."""
    step = float(whole_film(shape, size)[0][0, 0]) * np.exp(rng.normal(0, 0.06))

    def start(length: int) -> float:
        free = length - step * size
        return free / 2 if free < 0 else float(rng.uniform(0, free))

    return np.array([[step, 0.0, start(shape[1])], [0.0, step, start(shape[0])]])


def _closeup(scene: Scene, rng: np.random.Generator, size: int) -> np.ndarray:
    """The square around a candidate that the finder looks at a second time: a knee, or anything else."""
    rows, columns = scene.canvas.shape
    if scene.knees:
        knee = scene.knees[rng.integers(len(scene.knees))]
        side = 4.0 * knee.width_px * np.exp(rng.normal(0, 0.15))
        x, y = np.array(knee.centre_px) + rng.normal(0, 0.2, 2) * knee.width_px
    elif scene.kind == "lateral" and rng.random() < 0.7:
        # The joint of a lateral knee: what the first look is likeliest to take for a frontal one.
        leg = scene.legs[0]
        width = scene.unit_mm * leg.scale / scene.canvas.spacing_mm
        side = 4.0 * width * np.exp(rng.normal(0, 0.25))
        centre = np.array([leg.x_mm, leg.y_mm]) / scene.canvas.spacing_mm
        x, y = centre + rng.normal(0, 0.25, 2) * width
    else:
        side = rng.uniform(0.25, 1.0) * max(rows, columns)
        x, y = rng.uniform(0.25, 0.75) * columns, rng.uniform(0.25, 0.75) * rows
    step = side / size
    return np.array([[step, 0.0, x - side / 2], [0.0, step, y - side / 2]])


def _labels(
    children: list[Child], kinds: list[str], landmarks: list[np.ndarray], with_posterior: bool
) -> CropLabels:
    nothing = np.full((len(children), 2, POSTERIOR_BINS), np.nan, np.float16)

    def numbers(name: str) -> np.ndarray:
        return np.array([getattr(c, name) for c in children], np.float32)

    return CropLabels(
        sex=np.array([0 if c.sex == "F" else 1 for c in children], np.int64),
        age_months=numbers("chronological_age_months"),
        true_months=numbers("true_bone_age_months"),
        assigned_months=numbers("bone_age_months"),
        pseudo_months=numbers("pseudo_label_months"),
        patient_id=np.array([c.patient_id for c in children], np.str_),
        indicators=np.array([c.indicators.as_vector() for c in children], np.float32),
        maturities=np.array([maturity_vector(c) for c in children], np.float32),
        kind=np.array(kinds, np.str_),
        oracle_months=numbers("oracle_months"),
        oracle_no_age_months=numbers("oracle_no_age_months"),
        landmarks=np.stack(landmarks),
        posterior=posteriors(children) if with_posterior else nothing,
    )


def posteriors(children: Sequence[Child]) -> np.ndarray:
    """(N, 2, `POSTERIOR_BINS`) float16 what the oracle says of each child, with and without chronological age."""
    found = np.zeros((len(children), 2, POSTERIOR_BINS), np.float16)
    for sex in SEXES:
        rows = [row for row, child in enumerate(children) if child.sex == sex]
        if not rows:
            continue
        some = [children[row] for row in rows]
        maturities = np.array([[child.maturities[name] for name in INDICATOR_NAMES] for child in some])
        keeper = np.array([child.keeps_line for child in some])
        ages = np.array([child.chronological_age_months for child in some])
        for kind, known in enumerate((ages, None)):
            months, share = posterior(sex, maturities, keeper, known)
            # Between the centres of two bins: but for the youngest month the mean stays what it is.
            place = np.clip(months / MONTHS_MAX * POSTERIOR_BINS - 0.5, 0, POSTERIOR_BINS - 1)
            lower = np.minimum(place.astype(int), POSTERIOR_BINS - 2)
            binned = np.zeros((len(rows), POSTERIOR_BINS))
            np.add.at(binned.T, lower, (share * (1 - (place - lower))).T)
            np.add.at(binned.T, lower + 1, (share * (place - lower)).T)
            found[rows, kind] = binned
    return found


def _even_ages(children: int, seed: int, youngest: float) -> np.ndarray:
    """Chronological ages (months) of so many children, from the youngest up to the clinic's oldest."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2, 0)))
    return rng.uniform(youngest, OLDEST_MONTHS, children)


def draw_crops(
    out: Path,
    children: int,
    seed: int,
    *,
    negatives: bool = False,
    oracle: bool = False,
    even_ages: float | None = None,
    part: int = 250,
    worker: int = 0,
    workers: int = 1,
) -> None:
    """Draw one crop a child into a cache, in parts; parts that are there already are kept (resume).

    Workers share the parts: worker ``k`` of ``n`` draws parts k, k + n, … With ``negatives``, a picture a child
    that is not a frontal knee fit for reading, of the kinds of `NEGATIVES` in turn. With ``even_ages`` every age from
    so many months on is as frequent as any other; a clinic sees few small children and few who are grown.
    """
    if even_ages is not None and not 0 <= even_ages < OLDEST_MONTHS:
        raise ValueError(f"even ages from {even_ages:g} months on: give 0 to less than {OLDEST_MONTHS:g}")
    ages = None if even_ages is None else _even_ages(children, seed, even_ages)
    everybody = draw_children(children, seed, ages, with_oracle=oracle)
    parts = -(-children // part)
    for number in range(worker, parts, workers):
        if (out / f"images-{number:04d}.npy").exists():
            continue
        some = everybody[number * part : (number + 1) * part]
        nowhere = np.full((len(LANDMARKS), 2), np.nan, np.float32)
        drawn, kinds = [], []
        for i, child in enumerate(some):
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1, number * part + i)))
            kinds.append(NEGATIVES[i % len(NEGATIVES)] if negatives else KNEE)
            drawn.append(
                (negative_crop(kinds[-1], child, rng), nowhere) if negatives else knee_crop(child, rng)
            )
        pictures, landmarks = zip(*drawn, strict=True)
        CropCache.write(out, number, np.stack(pictures), _labels(some, kinds, list(landmarks), oracle))
        print(f"{out.name}: part {number + 1} of {parts}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("kind", choices=["crops", "negatives"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--children", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--worker", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--oracle", action="store_true")
    parser.add_argument(
        "--even-ages",
        type=float,
        metavar="YOUNGEST",
        help="every age from so many months on as frequent as any other",
    )
    given = parser.parse_args(arguments)
    if given.even_ages is not None and not 0 <= given.even_ages < OLDEST_MONTHS:
        parser.error(f"--even-ages {given.even_ages:g}: give 0 to less than {OLDEST_MONTHS:g} months")
    draw_crops(
        given.out,
        given.children,
        given.seed,
        negatives=given.kind == "negatives",
        oracle=given.oracle,
        even_ages=given.even_ages,
        worker=given.worker,
        workers=given.workers,
    )


if __name__ == "__main__":
    main()
