"""From a hand film to the picture that a network sees: find the hand, cut it, resample, normalise; kept on disk.

Right hands are mirrored: atlases of bone age show left ones.

The hand is what stands out from the dark background; the cut reaches `MARGIN` times as far as its box and has the
sides' ratio of the network's input (Deeplasia cuts the same way, doi 10.1007/s00247-023-05789-1). What is kept reaches
`REACH` times further, so that training can shift, turn and scale. A kept picture belongs to the film's bytes, its
truth file and the preprocessing: when one of them changes, it is made again.

Truth (optional, for networks that learn key points or a mask), as the phantom writes it: to ``FOLDER/films/name.png``
belong ``FOLDER/truth/name.json`` with ``key_points`` {name: [x, y]} in pixels of the film, and the mask
``FOLDER/masks/name.png``, not 0 on the hand.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.filters import threshold_otsu

from KneeBoneAgeLib.crop import HIGH_PERCENTILE, LOW_PERCENTILE, block_means, normalise, sample
from KneeBoneAgeLib.radiograph import read_film

from .films import HandFilm

Floats = NDArray[np.floating[Any]]

MARGIN = 1.15
REACH = 1.15
FINDER_PX = 192
"""Longer side of the small film in which the hand is looked for."""

OUTSTANDING, JOINED_CELLS = 0.5, 6
"""Share of Otsu's threshold above which something stands out; cells of the small film across which bones are joined."""

PREPROCESSING: dict[str, Any] = {
    "version": 1,
    "hand": "largest group of what stands out from its surroundings, without white strips at the edges",
    "margin": MARGIN,
    "right hands": "mirrored",
    "resampling": "area average of the original pixels, outside of the film 0",
    "normalisation": "percentiles of the pixels above 0, scaled and clipped to -1..1",
    "percentiles": [LOW_PERCENTILE, HIGH_PERCENTILE],
}
"""What happens to a film before a hand network sees it; kept with the weights."""


def preprocessing_sha256() -> str:
    """A name for what is done to films, the same as long as nothing of it changes."""
    return hashlib.sha256(json.dumps([PREPROCESSING, REACH], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class HandPlace:
    """Where the hand lies: `box_px` (x0, y0, x1, y1) in film pixels; `mask` of the film made `step` times smaller.

    `found` is False where nothing stood out and the whole film is taken.
    """

    box_px: tuple[float, float, float, float]
    mask: NDArray[np.bool_]
    step: int
    found: bool


@dataclass(frozen=True)
class HandPicture:
    """A kept picture: `grey` (H, W) uint8, a multiple of the film's, not normalised.

    `mask` (H, W) uint8 is 1 on the hand; `key_points` (K, 2) are in shares of width and height, NaN where unknown; K
    is 0 where the film has no truth.
    """

    grey: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    key_points: NDArray[np.float32]
    found: bool


def find_hand(pixels: Floats) -> HandPlace:
    """The hand on a film, (rows, cols) of 0 to 1 with bone bright."""
    rows, cols = pixels.shape
    step = max(1, -(-max(rows, cols) // FINDER_PX))
    small = ndimage.gaussian_filter(block_means(pixels, step), 0.7)
    whole = HandPlace((0.0, 0.0, float(cols), float(rows)), np.ones(small.shape, bool), step, False)
    small = np.where(_frame(small), 0, small)
    # Fingertips are faint and the background is not even: what counts is how far something stands out around it.
    outstanding = ndimage.white_tophat(
        np.sqrt(np.clip(small, 0, None)), size=(FINDER_PX // 3, FINDER_PX // 3)
    )
    exposed = outstanding[small > 0]
    if exposed.size < 64 or np.ptp(exposed) < 1e-3:
        return whole
    bright = (outstanding > OUTSTANDING * threshold_otsu(exposed)) & (small > 0)
    bright = ndimage.binary_opening(bright, np.ones((2, 2), bool))
    joined = ndimage.binary_dilation(bright, iterations=JOINED_CELLS)
    parts, count = ndimage.label(joined)
    if not count:
        return whole
    sizes = ndimage.sum_labels(bright, parts, np.arange(1, count + 1))
    hand = ndimage.binary_fill_holes(parts == 1 + int(np.argmax(sizes)))
    assert hand is not None
    mask = ndimage.binary_erosion(hand, iterations=JOINED_CELLS - 1) | (bright & hand)
    if not 0.03 < mask.mean() < 0.9:
        return whole
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x0, y0, x1, y1 = (float(v * step) for v in (xs[0], ys[0], xs[-1] + 1, ys[-1] + 1))
    return HandPlace((x0, y0, min(cols, x1), min(rows, y1)), mask, step, True)


def _frame(small: Floats) -> NDArray[np.bool_]:
    """White strips at the edges of a film: what the collimator kept from being exposed."""
    parts, count = ndimage.label(small > 0.93 * small.max())
    edges = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    shares = np.bincount(edges, minlength=count + 1) / sum(small.shape) / 2
    strips = [part for part in range(1, count + 1) if shares[part] > 0.04]
    return ndimage.binary_dilation(np.isin(parts, strips), iterations=2)


def kept_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a kept picture; the network's lies in its middle, whole pixels away from the edges."""
    rows, cols = (side + 2 * math.ceil(side * (REACH - 1) / 2) for side in image_size)
    return rows, cols


def view_of(place: HandPlace, image_size: tuple[int, int], mirrored: bool = False) -> Floats:
    """2 x 3 affine from pixels (u, v) of the kept picture to (x, y) of the film."""
    rows, cols = image_size
    height, width = kept_size(image_size)
    x0, y0, x1, y1 = place.box_px
    step = max((y1 - y0) / rows, (x1 - x0) / cols) * MARGIN
    left, top = (x0 + x1 - step * width) / 2, (y0 + y1 - step * height) / 2
    across = [-step, 0, left + step * width] if mirrored else [step, 0, left]
    return np.array([across, [0, step, top]])


def prepare_picture(film: HandFilm, image_size: tuple[int, int]) -> HandPicture:
    """Read a film and cut the hand out of it.

    Raises
    ------
    FilmError
        The file is no film that can be read.
    """
    pixels = read_film(film.path).pixels
    place = find_hand(pixels)
    matrix, shape = view_of(place, image_size, film.side == "R"), kept_size(image_size)
    grey = sample(pixels, matrix, shape)
    # A faint film is spread over the 255 steps; normalise() takes the factor out again.
    grey = np.round(np.clip(grey / max(float(np.quantile(grey, 0.9995)), 1e-3), 0, 1) * 255)
    truth = truth_file(film.path)
    key_points = np.empty((0, 2), np.float32)
    mask, step = place.mask.astype(np.float32), float(place.step)
    if truth is not None:
        key_points = _key_points(truth, matrix, shape)
        drawn = truth.parent.with_name("masks") / f"{truth.stem}.png"
        if drawn.exists():
            with Image.open(drawn) as picture:
                white = np.asarray(picture.convert("L"))
            mask, step = (white > 0).astype(np.float32), pixels.shape[0] / white.shape[0]
    inside = sample(mask, matrix / step, shape) > 0.5
    return HandPicture(grey.astype(np.uint8), inside.astype(np.uint8), key_points, place.found)


def network_picture(picture: HandPicture, image_size: tuple[int, int]) -> NDArray[np.float32]:
    """What the network sees of a kept picture: its middle, normalised, (rows, cols) of -1 to 1."""
    rows, cols = image_size
    top, left = (picture.grey.shape[0] - rows) // 2, (picture.grey.shape[1] - cols) // 2
    middle = picture.grey[top : top + rows, left : left + cols]
    return normalise(middle.astype(np.float32) / 255)


def truth_file(film: Path) -> Path | None:
    """The file that says where key points of a film are, None where there is none."""
    path = film.parent.with_name("truth") / f"{film.name.partition('.')[0]}.json"
    return path if path.is_file() else None


def _key_points(truth: Path, matrix: Floats, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Key points in shares of the view, in the file's order."""
    try:
        given = json.loads(truth.read_text(encoding="utf-8"))["key_points"]
        points = np.array([given[name] or (np.nan, np.nan) for name in given], float).reshape(-1, 2)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{truth}: holds no key points ({error}); correct or remove it") from None
    seen = (points - matrix[:, 2]) / np.diag(matrix[:, :2])  # nothing is turned
    return (seen / np.array(shape[::-1])).astype(np.float32)


@dataclass(frozen=True)
class PictureCache:
    """Pictures of films for one size of input, in ``folder/KEY``; missing ones are made by `prepare`."""

    folder: Path
    image_size: tuple[int, int]

    @property
    def place(self) -> Path:
        """Where they lie; another preprocessing or size is another folder."""
        rows, cols = self.image_size
        return self.folder / f"{rows}x{cols}-{preprocessing_sha256()[:12]}"

    def path(self, film: HandFilm) -> Path:
        """The file of a film's picture."""
        truth = truth_file(film.path)
        more = "-" + hashlib.sha256(truth.read_bytes()).hexdigest()[:12] if truth else ""
        return self.place / f"{film.sha256}{'-R' if film.side == 'R' else ''}{more}.safetensors"

    def prepare(
        self,
        films: Sequence[HandFilm],
        *,
        workers: int = 1,
        progress: Callable[[int, int], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> list[Path]:
        """Make the pictures that are missing; the files of all, in the order of the films.

        Parameters
        ----------
        workers : processes.
        progress : called with (pictures made, pictures to make).
        check : called after each; what it raises ends the work.

        Raises
        ------
        FilmError
            A film cannot be read.
        """
        paths = [self.path(film) for film in films]
        missing = {path: film for path, film in zip(paths, films, strict=True) if not path.exists()}
        self.place.mkdir(parents=True, exist_ok=True)
        make = partial(_make, image_size=self.image_size)
        jobs = [(film, path) for path, film in missing.items()]

        def watched(done: int) -> None:
            if progress:
                progress(done, len(jobs))
            if check:
                check()

        if workers > 1 and len(jobs) > 64:
            with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
                try:
                    for done, _ in enumerate(pool.map(make, jobs, chunksize=4), start=1):
                        watched(done)
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
        else:
            for done, job in enumerate(jobs, start=1):
                make(job)
                watched(done)
        return paths


def _make(job: tuple[HandFilm, Path], image_size: tuple[int, int]) -> None:
    film, path = job
    write_picture(path, prepare_picture(film, image_size))


def write_picture(path: Path, picture: HandPicture) -> None:
    """Keep a picture; `load_picture` gives it back. Written whole or not at all."""
    content: dict[str, NDArray[Any]] = {
        "grey": picture.grey,
        "mask": np.packbits(picture.mask),
        "key_points": picture.key_points,
        "found": np.array(picture.found),
    }
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(safetensors.numpy.save(content))
    unfinished.replace(path)


def load_picture(path: Path) -> HandPicture:
    """A kept picture."""
    arrays = safetensors.numpy.load(path.read_bytes())
    grey = arrays["grey"]
    mask = np.unpackbits(arrays["mask"], count=grey.size).reshape(grey.shape)
    return HandPicture(grey, mask, arrays["key_points"], bool(arrays["found"]))
