"""Reading a film: a radiograph file or array becomes one settled `Film`, or a `FilmError` with the reason."""

from __future__ import annotations

import os

from ..errors import FilmError
from .array import film_from_array
from .film import Film, FilmFacts, FilmIdentifiers, with_known
from .limits import check_file, why

__all__ = ["Film", "FilmFacts", "FilmIdentifiers", "film_from_array", "read_film", "with_known"]

HEAD_BYTES = 4096


def read_film(path: str | os.PathLike[str]) -> Film:
    """Read one radiograph, whatever its kind; the content decides, not the name of the file.

    DICOM (single-frame projection images, every transfer syntax with a decoder), PNG, JPEG, TIFF, BMP (grey,
    also when stored as RGB or RGBA), NRRD, MetaImage and NIfTI of one slice.

    Raises
    ------
    FilmError
        The file is no single film: damaged, cut short, several frames, colour, too large, or no image at all.
    """
    from .dicom import is_dicom, looks_like_bare_dataset, read_dicom
    from .picture import picture_format, read_picture
    from .volume import is_volume, read_volume

    name = os.fspath(path)
    check_file(name)
    try:
        with open(name, "rb") as stream:
            head = stream.read(HEAD_BYTES)
            kind = picture_format(head)
            stream.seek(0)
            if is_dicom(head):
                return read_dicom(name, stream.read())
            if kind is not None:
                return read_picture(name, stream.read(), kind)
        if is_volume(head):
            return read_volume(name)
    except FilmError:
        raise
    except (OSError, MemoryError, RecursionError) as error:
        raise FilmError(name, f"cannot be read: {why(error)}") from error
    if looks_like_bare_dataset(head):
        raise FilmError(
            name, "looks like DICOM without file meta information, so its transfer syntax is unknown"
        )
    raise FilmError(name, "is no image that can be read (DICOM, PNG, JPEG, TIFF, BMP, NRRD, MHA, NIfTI)")
