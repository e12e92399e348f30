"""Knee crops: the geometry between a film and the square that the network sees, cutting and normalising.

This is the only file that converts coordinates. Three frames occur:

film      continuous (x, y) pixels of the original, x to the viewer's right, y down; pixel (column 0, row 0)
          covers [0, 1) x [0, 1), so its middle lies at (0.5, 0.5).
crop      continuous (u, v) pixels of the cut square of ``size`` pixels, same convention. The limb axis is
          upright and the fibula lies on the viewer's LEFT, as on the film of a right knee.
heat-map  grids of the finder; `segmentation` turns them into film coordinates with the functions here.

The angle of a crop is the lean of the limb axis: the direction towards the hip is (sin a, -cos a) in film
coordinates, so a positive angle leans to the viewer's right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn import functional

if TYPE_CHECKING:
    from .radiograph.film import Film

Floats = NDArray[np.floating[Any]]
Box = tuple[float, float, float, float]

SIZE_PX = 200
"""Side of a cut crop in pixels; the network looks at the middle of it (`network.AgeNetworkConfig.field`)."""

WIDTH_FACTOR = 2.0
"""Side of a crop in condylar (small children: metaphyseal) widths."""

LOW_PERCENTILE, HIGH_PERCENTILE = 1.0, 99.0

PREPROCESSING: dict[str, Any] = {
    "version": 1,
    "width_factor": WIDTH_FACTOR,
    "size_px": SIZE_PX,
    "upright": True,
    "fibula": "viewer's left",
    "resampling": "area average of the original pixels, outside of the film 0",
    "normalisation": "percentiles of the pixels above 0, scaled and clipped to -1..1",
    "percentiles": [LOW_PERCENTILE, HIGH_PERCENTILE],
}
"""What happens to a film before the network sees it. A bundle stores it and is refused when it differs."""


@dataclass(frozen=True)
class KneeCrop:
    """A square around one knee joint, in film coordinates (see the module's text).

    Attributes
    ----------
    centre_px : (x, y) of the middle of the joint line.
    side_px : side of the square, 2.0 widths of the knee.
    angle_deg : lean of the limb axis; the square is turned by it when it is cut.
    side : "R", "L" or "unknown": the child's knee.
    mirrored : True when the fibula lies on the viewer's right in the film, so that cutting must mirror.
    origin : "automatic" or "person".
    confidence : 0..1.
    """

    centre_px: tuple[float, float]
    side_px: float
    angle_deg: float = 0.0
    side: str = "unknown"
    mirrored: bool = False
    origin: str = "automatic"
    confidence: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.side_px) and self.side_px > 0):
            raise ValueError(f"side of a crop must be a positive number of pixels, not {self.side_px}")
        if not all(map(math.isfinite, (*self.centre_px, self.angle_deg))):
            raise ValueError(
                f"centre and angle of a crop must be finite, not {self.centre_px}, {self.angle_deg}"
            )

    @property
    def box_px(self) -> Box:
        """(x0, y0, x1, y1) of the square before it is turned; it may leave the film."""
        (x, y), half = self.centre_px, self.side_px / 2
        return x - half, y - half, x + half, y + half

    @property
    def width_px(self) -> float:
        """Condylar (metaphyseal) width that the side stands for."""
        return self.side_px / WIDTH_FACTOR


def film_from_crop(crop: KneeCrop, size: int, margin: float = 1.0) -> Floats:
    """2 x 3 affine matrix that takes (u, v, 1) of a cut of ``size`` pixels to (x, y) of the film."""
    step = crop.side_px * margin / size
    turn = math.radians(crop.angle_deg)
    across = step * (-1.0 if crop.mirrored else 1.0)
    linear = np.array(
        [[math.cos(turn) * across, -math.sin(turn) * step], [math.sin(turn) * across, math.cos(turn) * step]]
    )
    return np.column_stack([linear, np.asarray(crop.centre_px) - linear @ (size / 2, size / 2)])


def to_film(points: ArrayLike, crop: KneeCrop, size: int, margin: float = 1.0) -> Floats:
    """(u, v) points of a cut, shape (..., 2), as (x, y) points of the film."""
    matrix = film_from_crop(crop, size, margin)
    return np.asarray(points, float) @ matrix[:, :2].T + matrix[:, 2]


def to_crop(points: ArrayLike, crop: KneeCrop, size: int, margin: float = 1.0) -> Floats:
    """(x, y) points of the film, shape (..., 2), as (u, v) points of a cut."""
    matrix = film_from_crop(crop, size, margin)
    return (np.asarray(points, float) - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T


def cut(film_pixels: Floats, crop: KneeCrop, size: int = SIZE_PX, margin: float = 1.0) -> NDArray[np.float32]:
    """Cut the crop upright, fibula on the viewer's left, resampled once from the original pixels.

    Parameters
    ----------
    film_pixels : (rows, cols) pixels of the film.
    margin : the cut square is this many times larger than the crop's (augmentation, second look).

    Returns
    -------
    (size, size) float32 in the film's own grey values; 0 outside of the film.
    """
    return sample(film_pixels, film_from_crop(crop, size, margin), (size, size))


def letterbox(shape: tuple[int, int], size: int) -> Floats:
    """2 x 3 affine from (u, v) of a ``size`` square to a film of ``shape``, whole and centred in it."""
    rows, cols = shape
    step = max(rows, cols) / size
    return np.array([[step, 0.0, (cols - step * size) / 2], [0.0, step, (rows - step * size) / 2]])


def whole_film(shape: tuple[int, int], size: int) -> tuple[Floats, tuple[int, int]]:
    """View of a whole film of ``shape`` (rows, cols) with as many pixels as a 6:5 film at ``size`` has.

    A long film keeps its knees large this way and costs no more than another.

    Returns
    -------
    matrix, shape : 2 x 3 affine from (u, v) of the view to the film, and the view's (rows, cols),
        multiples of 32.
    """
    rows, cols = shape
    step = max(math.sqrt(rows * cols / (size * size * 5 / 6)), max(rows, cols) / (4 * size))
    height, width = (max(64, 32 * math.ceil(length / step / 32 - 0.15)) for length in shape)
    # Rounding to the grid may not leave a strip of the film out: shrink by the little that is missing.
    step = max(step, rows / height, cols / width)
    matrix = np.array([[step, 0.0, (cols - step * width) / 2], [0.0, step, (rows - step * height) / 2]])
    return matrix, (height, width)


def sample(film_pixels: Floats, matrix: Floats, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Resample a film on a turned grid without aliasing: block means of the film, then 2 x 2 points a pixel.

    Parameters
    ----------
    matrix : 2 x 3 affine from (u, v) of the new picture to (x, y) of the film.
    shape : (rows, cols) of the new picture.
    """
    rows, cols = shape
    corners = np.array([[0, 0], [cols, 0], [0, rows], [cols, rows]], float) @ matrix[:, :2].T + matrix[:, 2]
    step = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    block = max(1, int(step / 2))
    points = 2 if step > 1 else 1
    reach = 2 * block
    limits = np.array(film_pixels.shape[::-1])
    low = np.clip(np.floor(corners.min(axis=0)) - reach, 0, limits).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + reach, 0, limits).astype(int)
    if np.any(high <= low):
        return np.zeros(shape, np.float32)
    region = block_means(film_pixels[low[1] : high[1], low[0] : high[0]], block)
    # From the finer grid to the block means, both in grid_sample's coordinates of -1..1 from edge to edge.
    extent = np.array(region.shape[::-1]) * (block / 2)
    half = np.array([cols, rows]) / 2
    theta = np.column_stack(
        [matrix[:, :2] * half / extent[:, None], (matrix[:, :2] @ half + matrix[:, 2] - low) / extent - 1]
    )
    grid = _grid(theta, rows * points, cols * points)
    fine = functional.grid_sample(
        torch.from_numpy(region)[None, None], grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )[0, 0].numpy()
    if points == 1:
        return fine
    twice = fine[::2] + fine[1::2]
    return (twice[:, ::2] + twice[:, 1::2]) * np.float32(0.25)


def _grid(theta: Floats, rows: int, cols: int) -> torch.Tensor:
    """Middles of rows x cols cells of the square from -1 to 1, through the 2 x 3 affine: (1, rows, cols, 2) float32.

    The same as torch's affine_grid in a fifth of the time: x and y of a point are one complex number, and a sum.
    """
    across, down = ((2 * np.arange(count) + 1) / count - 1 for count in (cols, rows))
    of_x, of_y, origin = theta[0] + 1j * theta[1]
    points = np.add.outer((of_y * down + origin).astype(np.complex64), (of_x * across).astype(np.complex64))
    return torch.from_numpy(points.view(np.float32).reshape(1, rows, cols, 2))


def block_means(pixels: Floats, block: int) -> NDArray[np.float32]:
    """Means of block x block pixels; what is missing at the right and lower edge counts as 0."""
    if block == 1:
        return np.ascontiguousarray(pixels, dtype=np.float32)
    rows, cols = (-(-length // block) for length in pixels.shape)
    whole = pixels.shape[0] // block
    tall = np.zeros((rows, cols * block), np.float32)
    stacked = pixels[: whole * block].reshape(whole, block, pixels.shape[1])
    np.add.reduce(stacked, axis=1, dtype=np.float32, out=tall[:whole, : pixels.shape[1]])
    if rows > whole:
        tall[whole, : pixels.shape[1]] = pixels[whole * block :].sum(axis=0)
    means = tall[:, ::block].copy()
    for first in range(1, block):
        means += tall[:, first::block]
    means *= 1.0 / block**2
    return means


def normalise(patch: Floats) -> NDArray[np.float32]:
    """Scale grey values so that the 1st and 99th percentile become -1 and 1, and clip there.

    Pixels that are exactly 0 (outside of the film, collimated) do not count, so that black borders do not
    change what the bone looks like. A patch without contrast becomes 0.

    Parameters
    ----------
    patch : (rows, cols) or a batch (..., rows, cols); each picture is scaled on its own.
    """
    patch = np.asarray(patch, dtype=np.float32)
    if patch.ndim > 2:
        return np.stack([normalise(one) for one in patch]) if len(patch) else patch.copy()
    positive = patch > 0
    seen = patch.ravel() if positive.all() else patch[positive]
    if seen.size < 16:
        return np.zeros_like(patch)
    low, high = _values_at(
        seen, *(int(percentile / 100 * (seen.size - 1)) for percentile in (LOW_PERCENTILE, HIGH_PERCENTILE))
    )
    if high - low < 1e-6:
        return np.zeros_like(patch)
    scaled = patch - low
    scaled *= 2 / (high - low)
    scaled -= 1
    return np.clip(scaled, -1, 1, out=scaled)


def _values_at(values: Floats, low_rank: int, high_rank: int) -> tuple[float, float]:
    """The values that would stand at these two ranks, were all of them sorted.

    Where the ranks lie near the ends, only the ends are sorted; a sample says about where these begin.
    """
    some = np.sort(values[:: max(1, values.size // 512)])
    reach = some.size // 32
    ends = values[(values <= some[reach]) | (values >= some[-1 - reach])]
    ranks = [low_rank, ends.size - (values.size - high_rank)]
    if ranks[0] <= ranks[1]:
        low, high = np.partition(ends, ranks)[ranks]
        if low <= some[reach] and high >= some[-1 - reach]:
            return float(low), float(high)
    low, high = np.partition(values, [low_rank, high_rank])[[low_rank, high_rank]]
    return float(low), float(high)


def crop_from_box(box: Box, side: str | None = None, film: Film | None = None) -> KneeCrop:
    """A crop handed in by a person, used as it is: not moved, not turned, never refused for its place.

    Parameters
    ----------
    box : (x0, y0, x1, y1) in film pixels, corners in either order. The network sees squares, so a box that
        is not one becomes the square of its longer side around its middle, and `KneeCrop.box_px` says so.
    side : "R" or "L" of the child; without it the film's header is asked. A left knee is mirrored.

    Raises
    ------
    ValueError : the box has no area or misses the film.
    """
    x0, x1 = sorted((float(box[0]), float(box[2])))
    y0, y1 = sorted((float(box[1]), float(box[3])))
    if not all(map(math.isfinite, (x0, y0, x1, y1))) or x1 <= x0 or y1 <= y0:
        raise ValueError(f"crop {tuple(box)} has no area: give x0,y0,x1,y1 in pixels of the film")
    if film is not None:
        rows, cols = film.pixels.shape
        if x1 <= 0 or y1 <= 0 or x0 >= cols or y0 >= rows:
            raise ValueError(f"crop {tuple(box)} lies outside of the film of {cols} x {rows} pixels")
        side = side or film.side
    side = side if side in ("R", "L") else "unknown"
    return KneeCrop(
        centre_px=((x0 + x1) / 2, (y0 + y1) / 2),
        side_px=max(x1 - x0, y1 - y0),
        side=side,
        mirrored=side == "L",
        origin="person",
        confidence=1.0,
    )


def map_to_film(
    values: Floats, crop: KneeCrop, shape: tuple[int, int], margin: float = 1.0
) -> NDArray[np.float32]:
    """Lay a square map over a crop (saliency) back on the film.

    Parameters
    ----------
    values : (n, n) map that covers the crop, of any resolution.
    shape : (rows, cols) of the film.

    Returns
    -------
    (rows, cols) float32, bilinear, 0 outside of the crop.
    """
    size = values.shape[0]
    if values.shape != (size, size):
        raise ValueError(f"a map over a crop is square, not {values.shape}")
    film = np.zeros(shape, np.float32)
    corners = to_film([[0, 0], [size, 0], [0, size], [size, size]], crop, size, margin)
    limits = np.array(shape[::-1])
    low = np.clip(np.floor(corners.min(axis=0)), 0, limits).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)), 0, limits).astype(int)
    if np.any(high <= low):
        return film
    matrix = film_from_crop(crop, size, margin)
    inverse = np.linalg.inv(matrix[:, :2])
    # From -1..1 across the patch to -1..1 across the map, whose edge values reach to its edge.
    span = (high - low) / 2
    theta = np.column_stack(
        [inverse * span * (2 / size), (inverse @ (low + span - matrix[:, 2])) * (2 / size) - 1]
    )
    shape_of_patch = int(high[1] - low[1]), int(high[0] - low[0])
    grid = _grid(theta, *shape_of_patch)
    patch = functional.grid_sample(
        torch.from_numpy(np.ascontiguousarray(values, np.float32))[None, None],
        grid,
        padding_mode="border",
        align_corners=False,
    )[0, 0]
    patch[(grid[0].abs() > 1).any(dim=-1)] = 0
    film[low[1] : high[1], low[0] : high[0]] = patch.numpy()
    return film


def iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return common / (areas - common)


def inside_fraction(box: Box, shape: tuple[int, int]) -> float:
    """Share of a box's area that lies on a film of ``shape`` (rows, cols)."""
    width = max(0.0, min(box[2], shape[1]) - max(box[0], 0.0))
    height = max(0.0, min(box[3], shape[0]) - max(box[1], 0.0))
    return width * height / ((box[2] - box[0]) * (box[3] - box[1]))
