"""NRRD, MetaImage and NIfTI of one slice, and the 16-bit layouts that Pillow lacks, through SimpleITK."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from ..errors import FilmError
from .array import film_of_samples
from .colour import grey_of_colour
from .film import Film, Spacing
from .limits import check_size, why

NIFTI_HEADERS = {348: (344, (b"n+1\0", b"ni1\0")), 540: (4, (b"n+2\0", b"ni2\0"))}
"""Header size of NIfTI-1 and -2: where the magic stands, and what it says."""


def is_volume(head: bytes) -> bool:
    """Whether a file that starts with these bytes is NRRD, MetaImage or NIfTI, gzipped or not."""
    if head.startswith(b"\x1f\x8b"):
        try:
            head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, 1024)
        except zlib.error:
            return False
    if head.startswith(b"NRRD000"):
        return True
    if any(line.split(b"=")[0].strip() in (b"ObjectType", b"NDims") for line in head[:256].splitlines()):
        return True
    for size in (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")):
        at, magics = NIFTI_HEADERS.get(size, (0, ()))
        if head[at : at + 4] in magics:
            return True
    return False


def read_volume(path: str) -> Film:
    """Film from a volume file of one slice, the stored raster as it is. Raises FilmError.

    A pitch of exactly 1 mm is what these formats say when nobody told them: uncalibrated.
    """
    samples, pitch = read_slice(path)
    spacing = Spacing()
    if pitch is not None and pitch != (1.0, 1.0) and all(1e-3 <= mm <= 10 for mm in pitch):
        spacing = Spacing(pitch, "file")
    return film_of_samples(path, samples, spacing)


def read_slice(path: str) -> tuple[NDArray, tuple[float, float] | None]:
    """Grey samples (rows, columns) and pitch (row, column) in mm of a one-slice file. Raises FilmError."""
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(path)
    try:
        reader.ReadImageInformation()
        size, channels = reader.GetSize(), reader.GetNumberOfComponents()
        extent = [axis for axis, length in enumerate(size) if length > 1]
        if len(extent) != 2:
            raise FilmError(
                path, f"has {' x '.join(map(str, size))} pixels; a film has one slice of rows and columns"
            )
        column_axis, row_axis = extent
        check_size(path, size[row_axis], size[column_axis])
        if channels not in (1, 2, 3, 4):
            raise FilmError(path, f"has {channels} channels, which is no radiograph")
        pitch = (float(reader.GetSpacing()[row_axis]), float(reader.GetSpacing()[column_axis]))
        samples = np.array(SimpleITK.GetArrayViewFromImage(reader.Execute()))
    except FilmError:
        raise
    except Exception as error:
        reason = why(RuntimeError(str(error).rsplit("\n", 1)[-1].replace(path, "").strip()))
        raise FilmError(path, f"the picture cannot be read: {reason}") from error
    samples = samples.reshape(size[row_axis], size[column_axis], channels)
    if channels in (3, 4):
        return grey_of_colour(path, samples), pitch
    return np.ascontiguousarray(samples[..., 0]), pitch
