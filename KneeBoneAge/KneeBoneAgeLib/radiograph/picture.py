"""PNG, JPEG, TIFF and BMP: grey films of 8 or 16 bits, whose polarity only the pixels can tell."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import FilmError
from .array import film_of_samples
from .colour import chroma_is_negligible, grey_of_colour
from .film import Film, Spacing
from .limits import check_size, why
from .volume import read_slice

if TYPE_CHECKING:
    from PIL.Image import Image

MAGIC = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"BM": "BMP",
}
ORIENTATION_TAG = 0x0112
PNG_DEPTH, PNG_COLOUR_TYPE = 24, 25
"""Offsets of these bytes in a PNG file (IHDR)."""


def picture_format(head: bytes) -> str | None:
    """Pillow's name for the format of a file that starts like this, None when it is none that we read."""
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)


def read_picture(path: str, content: bytes, kind: str) -> Film:
    """Film from the bytes of a picture file.

    The resolution tags of pictures (dots per inch) describe printing, so the film is uncalibrated.

    Raises
    ------
    FilmError
    """
    from PIL import Image, UnidentifiedImageError

    orientation = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(content), formats=(kind,)) as image:
                check_size(path, image.height, image.width)
                frames = getattr(image, "n_frames", 1)
                if frames > 1:
                    raise FilmError(path, f"holds {frames} pictures; give a single film")
                orientation = int(image.getexif().get(ORIENTATION_TAG, 1))
                if kind == "PNG" and content[PNG_DEPTH] == 16 and content[PNG_COLOUR_TYPE] != 0:
                    samples, _ = read_slice(path)  # Pillow halves the depth
                else:
                    samples = _samples(path, image, content)
        except FilmError:
            raise
        except UnidentifiedImageError:
            if kind != "TIFF":
                raise FilmError(
                    path, f"is no readable {kind} picture; it may be damaged or cut short"
                ) from None
            samples, _ = read_slice(path)
        except Exception as error:
            raise FilmError(path, f"the {kind} picture cannot be read: {why(error)}") from error
    notes: tuple[str, ...] = ()
    if 2 <= orientation <= 8:
        samples = _upright(samples, orientation)
        notes = (
            "turned upright as its EXIF orientation says; pixel coordinates are those of the turned picture",
        )
    return film_of_samples(path, samples, Spacing(), notes=notes)


def _samples(path: str, image: Image, content: bytes) -> NDArray:
    """Grey samples (rows, columns) of an opened picture; FilmError for a colour photograph."""
    from PIL import Image

    if image.format == "JPEG" and image.mode == "RGB":
        # Colour is judged on a small decoding; luminance alone is three times faster to decode.
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as small:
            small.draft("RGB", (max(1, image.width // 8), max(1, image.height // 8)))
            if not chroma_is_negligible(np.asarray(small)):
                raise FilmError(path, "is a colour picture, not a radiograph")
        image.draft("L", image.size)
        return np.asarray(image if image.mode == "L" else image.convert("L"))
    if image.mode in ("P", "PA"):
        image = image.convert("RGB")
    elif image.mode in ("LA", "La", "1"):
        image = image.convert("L")
    if image.mode in ("RGB", "RGBA", "RGBX"):
        return grey_of_colour(path, np.asarray(image))
    if image.mode in ("L", "F") or image.mode.startswith("I"):
        return np.asarray(image)
    raise FilmError(path, f"is a colour picture ({image.mode}), not a radiograph")


def _upright(samples: NDArray, orientation: int) -> NDArray:
    """The picture as a viewer shows it, EXIF orientation 2 to 8 (mirrors and quarter turns)."""
    if orientation in (5, 6, 7, 8):
        samples = samples.T
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return np.ascontiguousarray(samples)
