"""From a child to the film of its left hand, with the truth about it.

Where the hand lies on the film, how much of the film it fills, and how the film is exposed do not depend on the
child's age.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from ..children import BONE_AGE_CAP_MONTHS, Child
from ..look import Look, expose
from ..solids import Canvas, Pose
from ..texture import add_texture
from .anatomy import KEY_POINTS, Build, Posture, draw_bones, draw_flesh, hand_points
from .maturation import HandMaturity

DAYS_PER_MONTH = 30.4375
TEXTS = ("L HAND PA", "LEFT", "PA", "L", "HAND", "BONE AGE", "L HAND", "09:15", "MC", "1/1")
REGIONS = ("hand", "carpal", "metacarpal_phalangeal")
"""Names of the boxes: all of the hand with the wrist joint; wrist with the ends of radius and ulna; metacarpals and
proximal phalanges of the four fingers."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class HandFilm:
    """A film of a phantom's left hand.

    Attributes
    ----------
    pixels : float32 (rows, cols) in [0, 1], bone bright
    key_points : dict of str to (x, y), pixels of the film, by `KEY_POINTS`
    boxes : dict of str to (x0, y0, x1, y1), pixels of the film, by `REGIONS`
    mask : bool (rows, cols), hand with wrist and forearm, also where the collimator hides them
    spacing_mm : pixel size at the detector
    """

    pixels: np.ndarray
    key_points: dict[str, tuple[float, float]]
    boxes: dict[str, Box]
    mask: np.ndarray
    spacing_mm: float


@dataclass(frozen=True)
class HandScene:
    """The beam paths of a hand and where its points lie: what `look.expose` takes."""

    canvas: Canvas
    key_points: dict[str, tuple[float, float]]
    size: float
    """Of the hand, in units of a mean adult's."""

    @property
    def unit_px(self) -> float:
        """About a metacarpal's length in pixels."""
        return 60 * self.size / self.canvas.spacing_mm

    def at_adult_size(self) -> HandScene:
        """The same beam paths on pixels of an adult's film: letters, blur and noise then have the same proportion
        to the hand at every age, and tell nothing about it."""
        canvas = copy(self.canvas)
        canvas.spacing_mm = self.canvas.spacing_mm / self.size
        return replace(self, canvas=canvas, size=1.0)

    @property
    def knees(self) -> tuple[_Spot, ...]:
        """Places that labels and the collimator leave free; the plates of the forearm lie off its points."""
        widths = {"radius": 0.62, "ulna": 0.62}
        return tuple(
            _Spot(point, widths.get(name, 0.34) * self.unit_px) for name, point in self.key_points.items()
        )


@dataclass(frozen=True)
class _Spot:
    centre_px: tuple[float, float]
    width_px: float
    angle_deg: float = 0.0
    side: str = "L"


def aged(child: Child, days: float) -> Child:
    """The same child some days later (or earlier, when negative), as far as its hand goes: clock and ages move on
    together; what its knee shows is left as it was."""
    months = days / DAYS_PER_MONTH
    clock = child.latent_age_months + months
    true = float(np.clip(clock, 0.0, BONE_AGE_CAP_MONTHS[child.sex]))
    return replace(
        child,
        chronological_age_months=child.chronological_age_months + months,
        latent_age_months=clock,
        true_bone_age_months=true,
    )


def draw_hand(child: Child, rng: np.random.Generator, pixels: int) -> HandFilm:
    """The film of a child's left hand at the child's age.

    Parameters
    ----------
    child : Child
        Its bones mature by its clock and deviations of its own (`HandMaturity.of`).
    rng : numpy Generator
        How the hand lies, and the look of the film.
    pixels : int
        Pixels of the film's longer side.
    """
    scene = hand_scene(child, rng, pixels)
    film = expose(scene.at_adult_size(), hand_look(rng), rng)
    return HandFilm(film, scene.key_points, region_boxes(scene), hand_mask(scene), scene.canvas.spacing_mm)


def hand_look(rng: np.random.Generator) -> Look:
    """A look as departments deliver it for a hand: softer beam, no metal, other writing."""
    look = Look.draw(rng).without_hardware()
    labels = tuple(
        label if label.text in ("SIDE", "LOGO") else replace(label, text=str(rng.choice(TEXTS)))
        for label in look.labels
    )
    beam = replace(
        look.beam,
        kvp=float(rng.uniform(46, 60)),
        magnification=1.03,
        scatter_to_primary=0.5 * look.beam.scatter_to_primary,
    )
    # A hand is thin: departments show it brighter than a knee.
    processing = replace(
        look.processing, white=0.5 * look.processing.white, gamma=1 + 0.6 * (look.processing.gamma - 1)
    )
    return replace(look, beam=beam, processing=processing, labels=labels, table_lines=0)


def hand_scene(
    child: Child,
    rng: np.random.Generator,
    pixels: int,
    maturity: HandMaturity | None = None,
) -> HandScene:
    """Beam paths of a child's hand; ``maturity`` replaces the child's own."""
    build, posture = Build.of(child), Posture.draw(rng, child.chronological_age_months / 12)
    points = hand_points(build, posture)
    canvas, place = placed(points, build, posture, rng, pixels)
    draw_flesh(canvas, place, build, posture)
    draw_bones(canvas, place, maturity or HandMaturity.of(child), build, posture)
    add_texture(canvas, build.texture, rng)
    on_film = {name: _to_pixels(place, point, canvas.spacing_mm) for name, point in points.items()}
    return HandScene(canvas, on_film, build.size)


def hand_mask(scene: HandScene) -> np.ndarray:
    """bool (rows, cols): where there is soft tissue."""
    return scene.canvas.soft_mm > 1.8 * scene.size


def region_boxes(scene: HandScene) -> dict[str, Box]:
    """`REGIONS` as boxes (x0, y0, x1, y1) in pixels, cut at the film's edges."""
    rows, columns = scene.canvas.shape
    carpal = ("radius", "ulna", "capitate", "hamate", "lunate", "scaphoid", "trapezium", "triquetrum")
    middle = [f"{bone}_{end}" for i in range(2, 6) for bone, end in (
        (f"metacarpal_{i}", "base"), (f"metacarpal_{i}", "head"), (f"proximal_{i}", "base"))]  # fmt: skip
    middle += [f"middle_{i}_base" for i in range(2, 6)]
    groups = {
        "hand": (KEY_POINTS, 0.27),
        "carpal": ((*carpal, *(f"metacarpal_{i}_base" for i in range(1, 6))), 0.24),
        "metacarpal_phalangeal": (tuple(middle), 0.17),
    }
    boxes = {}
    for name, (members, margin) in groups.items():
        xy = np.array([scene.key_points[m] for m in members])
        pad = margin * scene.unit_px
        low, high = xy.min(0) - pad, xy.max(0) + pad
        low, high = np.clip(low, 0, (columns, rows)), np.clip(high, 0, (columns, rows))
        boxes[name] = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    return boxes


def placed(
    points: dict[str, np.ndarray], build: Build, posture: Posture, rng: np.random.Generator, pixels: int
) -> tuple[Canvas, Pose]:
    """An empty canvas on which the hand fills a random share, and the pose of the hand's frame on it."""
    origin = Pose(0.0, 0.0, posture.turn, scale=posture.scale)
    xy = np.array([origin.to_film(*point) for point in points.values()])
    margin = 14 * build.size
    low, high = xy.min(0) - margin, xy.max(0) + margin
    extent = high - low
    share = rng.uniform(0.66, 0.93)
    height = extent[1] / share
    width = float(np.clip(height * rng.uniform(0.66, 0.95), extent[0] / 0.97, 1.25 * height))
    spacing = max(height, width) / pixels
    canvas = Canvas(max(8, round(height / spacing)), max(8, round(width / spacing)), spacing)
    free = np.array([width, height]) - extent
    at = np.array([np.clip(rng.normal(0.5, 0.16), 0.05, 0.95), np.clip(rng.normal(0.3, 0.15), 0.05, 0.85)])
    shift = free * at - low
    return canvas, Pose(float(shift[0]), float(shift[1]), posture.turn, scale=posture.scale)


def _to_pixels(place: Pose, point: np.ndarray, spacing_mm: float) -> tuple[float, float]:
    x, y = place.to_film(float(point[0]), float(point[1]))
    return x / spacing_mm, y / spacing_mm
