"""PNG, JPEG, TIFF and BMP: grey films in picture files, 8 or 16 bits, whose polarity only the pixels can tell."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import FilmError
from . import grey
from .colour import chroma_is_negligible, grey_of_colour
from .film import Film, Spacing
from .limits import check_size, why
from .polarity import turn_bone_bright

if TYPE_CHECKING:
    from PIL.Image import Image

MAGIC = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"BM": "BMP"}
ORIENTATION_TAG = 0x0112


def picture_format(head: bytes) -> str | None:
    """Pillow's name for the format of a file that starts like this, None when it is no picture that we read."""
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)


def read_picture(path: str, content: bytes, kind: str) -> Film:
    """Film from the bytes of a picture file. Raises FilmError."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    notes: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(content), formats=(kind,)) as image:
                check_size(path, image.height, image.width)
                if getattr(image, "n_frames", 1) > 1 and kind != "JPEG":
                    raise FilmError(path, f"holds {image.n_frames} pictures; give a single film")
                turned = image.getexif().get(ORIENTATION_TAG, 1) not in (0, 1)
                if kind == "PNG" and content[24] == 16 and content[25] != 0:
                    samples = _with_simpleitk(path)
                else:
                    samples = _samples(path, image, content)
                if turned:
                    samples = np.asarray(ImageOps.exif_transpose(_carry(samples, image)))
                    notes.append("turned upright as its EXIF orientation says")
        except UnidentifiedImageError:
            if kind != "TIFF":
                raise FilmError(path, f"is no readable {kind} picture") from None
            samples = _with_simpleitk(path)
        except FilmError:
            raise
        except Exception as error:
            raise FilmError(path, f"the {kind} picture cannot be read: {why(error)}") from error
    return film_of_samples(samples, path, Spacing(), notes=tuple(notes))


def _samples(path: str, image: Image, content: bytes) -> NDArray:
    """Grey samples (rows, columns) of an opened picture; FilmError for a colour photograph."""
    from PIL import Image

    if image.format == "JPEG" and image.mode == "RGB":
        # Chroma is judged on a small decoding; the film itself is the luminance, which is three times faster to decode.
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as small:
            small.draft("RGB", (max(1, image.width // 8), max(1, image.height // 8)))
            if not chroma_is_negligible(np.asarray(small)):
                raise FilmError(path, "is a colour picture, not a radiograph")
        image.draft("L", image.size)
        return np.asarray(image)
    if image.mode in ("P", "PA", "LA", "La", "1"):
        image = image.convert("RGBA" if image.mode in ("P", "PA") else "L")
    if image.mode in ("RGB", "RGBA", "RGBX", "RGBa"):
        return grey_of_colour(path, np.asarray(image))
    if image.mode in ("L", "F") or image.mode.startswith("I"):
        return np.asarray(image)
    raise FilmError(path, f"is a colour picture ({image.mode}), not a radiograph")
