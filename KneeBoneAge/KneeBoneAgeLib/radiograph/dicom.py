"""DICOM projection images: decode one frame within bounds, then settle grey scale, polarity and facts."""

from __future__ import annotations

import io
import logging
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FilmError
from . import grey, header
from .colour import grey_of_colour
from .film import Film
from .limits import MAX_FILE_BYTES, check_size, why

if TYPE_CHECKING:
    from pydicom import Dataset

DEFLATED = b"1.2.840.10008.1.2.1.99"
META_START = 144
"""Bytes before the second element of the file meta information: preamble, prefix and its group length."""
CROSS_SECTIONAL = {"CT", "MR", "PT", "NM", "US", "OPT", "IVUS"}
"""Modalities that are no projection radiograph (a CT localizer is one)."""
NO_DECODER = "this installation has no decoder for its transfer syntax"


def is_dicom(head: bytes) -> bool:
    """Whether the first 132 bytes are a DICOM file's."""
    return head[128:132] == b"DICM"


def looks_like_bare_dataset(head: bytes) -> bool:
    """Whether the file starts like a DICOM data set without preamble and file meta information."""
    return any(
        group in head[:16] for group in (b"\x02\0\0\0UL", b"\x08\0\x05\0CS", b"\x08\0\0\0", b"\x08\0\x08\0CS")
    )


def read_dicom(path: str, content: bytes) -> Film:
    """Film from the bytes of a DICOM file. Raises FilmError."""
    with quiet_pydicom():
        dataset = _parse(path, content)
        samples, bits = _decode(path, dataset)
        facts, notes = header.facts(dataset)
        spacing, spacing_notes = header.spacing(dataset)
        inverted = _is_inverted(dataset)
        coded = _coded(dataset, samples, bits)
        levels, grey_notes = _levels(dataset, coded, inverted, 2**bits)
    pixels = grey.look_up(coded.codes, levels, inverted)
    return Film(
        pixels=pixels,
        path=path,
        spacing_mm=spacing.mm,
        spacing_source=spacing.source,
        polarity="inverted" if inverted else "normal",
        sex=facts.sex,
        age_months=facts.age_months,
        side=facts.side,
        view=facts.view,
        body_part=facts.body_part,
        identifiers=facts.identifiers,
        notes=tuple(notes + spacing_notes + grey_notes),
        magnification=spacing.magnification,
        photometric=header.text(dataset, "PhotometricInterpretation"),
        bits_stored=bits,
    )


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silence pydicom: its complaints quote values, and values are identity."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(level)


def _parse(path: str, content: bytes) -> Dataset:
    import pydicom

    _check_deflated(path, content)
    try:
        dataset = pydicom.dcmread(io.BytesIO(content))
    except Exception as error:
        raise FilmError(
            path, f"the DICOM data set cannot be read; it may be cut short ({type(error).__name__})"
        ) from error
    if not dataset.file_meta.get("TransferSyntaxUID"):
        raise FilmError(path, "has no transfer syntax, so its pixels cannot be read")
    return dataset


def _check_deflated(path: str, content: bytes) -> None:
    """Raise FilmError when a deflated data set unpacks to more than a file may be; pydicom sets no bound."""
    start = META_START + int.from_bytes(
        content[META_START - 4 : META_START], "little"
    )  # after the file meta information
    if DEFLATED not in content[META_START:start]:
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total, pending = 0, content[start:]
    while pending and not inflater.eof:
        try:
            total += len(inflater.decompress(pending, 1 << 22))
        except zlib.error as error:
            raise FilmError(path, "the deflated data set is damaged") from error
        pending = inflater.unconsumed_tail
        if total > MAX_FILE_BYTES:
            raise FilmError(path, f"unpacks to more than {MAX_FILE_BYTES >> 20} MiB, too large for one film")


def _integer(path: str, dataset: Dataset, keyword: str, default: int | None = None) -> int:
    values = header.numbers(dataset, keyword)
    if values:
        return int(values[0])
    if default is None:
        raise FilmError(path, f"the header lacks {keyword}, so the pixels cannot be read")
    return default


def _decode(path: str, dataset: Dataset) -> tuple[NDArray, int]:
    """Stored samples (rows, columns) as they are, unused bits included, and how many bits count."""
    from pydicom.pixels import pixel_array

    keyword = next((k for k in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if k in dataset), None)
    if keyword is None:
        raise FilmError(path, "holds no pixel data")
    frames = _integer(path, dataset, "NumberOfFrames", 1)
    if frames > 1:
        raise FilmError(path, f"holds {frames} frames; give a single film")
    rows, columns = _integer(path, dataset, "Rows"), _integer(path, dataset, "Columns")
    check_size(path, rows, columns)
    allocated = _integer(path, dataset, "BitsAllocated")
    stored = min(_integer(path, dataset, "BitsStored", allocated), allocated)
    channels = _integer(path, dataset, "SamplesPerPixel", 1)
    photometric = (header.text(dataset, "PhotometricInterpretation") or "").upper()
    if photometric == "PALETTE COLOR" or channels not in (1, 3):
        raise FilmError(
            path, f"is a colour picture ({photometric or f'{channels} samples a pixel'}), not a radiograph"
        )
    data = dataset[keyword].value
    if not data:
        raise FilmError(path, "holds no pixel data")
    precision = 0
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        precision = _check_stream(path, dataset, rows, columns)
    else:
        shared = 2 if photometric == "YBR_FULL_422" else channels
        expected = (rows * columns * shared * allocated + 7) // 8
        if len(data) < expected:
            raise FilmError(path, f"the pixel data are cut short: {len(data)} bytes of {expected}")
    try:
        samples = pixel_array(dataset, raw=True, view_only=True, correct_unused_bits=False)
    except FilmError:
        raise
    except (RuntimeError, NotImplementedError) as error:
        missing = "plugin" in str(error) or "decod" in str(error) and "missing" in str(error)
        name = dataset.file_meta.TransferSyntaxUID.name
        reason = (
            f"{NO_DECODER} ({name})"
            if missing
            else f"the pixel data cannot be decoded ({name}): {why(error)}"
        )
        raise FilmError(path, reason) from error
    except Exception as error:
        raise FilmError(path, f"the pixel data cannot be decoded: {why(error)}") from error
    if channels == 3:
        samples = grey_of_colour(path, samples, luminance_first=photometric.startswith("YBR"))
    if samples.shape != (rows, columns):
        raise FilmError(
            path, f"the header says {rows} x {columns} pixels, the pixel data have {samples.shape}"
        )
    modality = (header.text(dataset, "Modality") or "").upper()
    if modality in CROSS_SECTIONAL and "LOCALIZER" not in (header.get(dataset, "ImageType") or ()):
        raise FilmError(path, f"is no radiograph: modality {modality}")
    if precision > stored and samples.dtype.kind == "u" and int(samples.max()) >> stored:
        stored = precision  # the stream is right where it contradicts the header
    return samples, stored


def _check_stream(path: str, dataset: Dataset, rows: int, columns: int) -> int:
    """Bits a sample of the compressed frame that may all count, 0 where unknown or shared with overlays.

    Nothing is decoded: FilmError when the sizes in stream and header disagree.
    """
    from pydicom.encaps import get_frame

    try:
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    except Exception as error:
        raise FilmError(path, f"the compressed pixel data cannot be read: {why(error)}") from error
    if not frame:
        raise FilmError(path, "holds no pixel data")
    described = stream_size(frame)
    if described is None:
        return 0
    height, width, precision = described
    if (height and height != rows) or width != columns:
        raise FilmError(
            path, f"the header says {rows} x {columns} pixels, the compressed picture {height} x {width}"
        )
    overlay_bits = (
        (group, 0x0102) for group in range(0x6000, 0x6020, 2)
    )  # OverlayBitPosition; 0 is a plane of its own
    embedded_overlay = any(tag in dataset and dataset[tag].value for tag in overlay_bits)
    return 0 if embedded_overlay else min(precision, 16)


def stream_size(frame: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, bits) of a JPEG, JPEG-LS or JPEG 2000 stream, None for others.

    Markers of ITU-T T.81 table B.1, T.87 (SOF55) and T.800 A.5.1 (SIZ).
    """
    start = -1
    if (
        frame[:4] == b"\xff\x4f\xff\x51" or frame[4:8] == b"jP  "
    ):  # bare or boxed; other bytes may look like it
        start = frame[:4096].find(b"\xff\x4f\xff\x51")
    if start >= 0 and len(frame) >= start + 43:
        x1, y1, x0, y0 = (
            int.from_bytes(frame[start + 8 + 4 * i : start + 12 + 4 * i], "big") for i in range(4)
        )
        return y1 - y0, x1 - x0, (frame[start + 42] & 0x7F) + 1
    if frame[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 < len(frame):
        if frame[at] != 0xFF:
            return None
        marker = frame[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            return (
                int.from_bytes(frame[at + 5 : at + 7], "big"),
                int.from_bytes(frame[at + 7 : at + 9], "big"),
                frame[at + 4],
            )
        at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


def _is_inverted(dataset: Dataset) -> bool:
    """Whether small values are white: MONOCHROME1 or presentation LUT shape INVERSE, which say the same.

    DX images state it twice (PS3.3 C.8.11.3.1.2), so the two are never applied one after the other.
    """
    photometric = (header.text(dataset, "PhotometricInterpretation") or "").upper()
    return (
        photometric == "MONOCHROME1"
        or (header.text(dataset, "PresentationLUTShape") or "").upper() == "INVERSE"
    )


def _coded(dataset: Dataset, samples: NDArray, bits: int) -> grey.Coded:
    """Codes with the values after sign, unused bits (where old overlays live) and the modality LUT."""
    coded = grey.code(samples)
    stored = coded.values
    if samples.dtype.kind in "ui" and samples.dtype.itemsize <= 2:
        width = 8 * samples.dtype.itemsize
        high = next(iter(header.numbers(dataset, "HighBit")), bits - 1)
        shift = int(high) + 1 - bits if bits - 1 <= high < width else 0
        plain = (np.arange(2**width, dtype=np.int64) >> shift) & (2**bits - 1)
        if samples.dtype.kind == "i":
            plain = np.where(plain >> (bits - 1), plain - 2**bits, plain)
        stored = plain.astype(np.float64)
    counts = coded.counts
    padding = header.numbers(dataset, "PixelPaddingValue")
    if padding:
        limit = header.numbers(dataset, "PixelPaddingRangeLimit") or padding
        padded = (stored >= min(padding[0], limit[0])) & (stored <= max(padding[0], limit[0]))
        if 0 < counts[padded].sum() < counts.sum():
            counts = np.where(padded, 0, counts)
    return grey.Coded(coded.codes, _modality(dataset, stored), counts)


def _lut(dataset: Dataset, keyword: str) -> tuple[NDArray[np.float64], int] | None:
    """Table and first mapped value of the first usable item of a LUT sequence (PS3.3 C.11.1.1.1)."""
    for item in header._sequence(dataset, keyword):
        descriptor = header.numbers(item, "LUTDescriptor")
        data: Any = header.get(item, "LUTData")
        if len(descriptor) != 3 or data is None:
            continue
        entries, first, bits = int(descriptor[0]) or 65536, int(descriptor[1]), int(descriptor[2])
        if isinstance(data, bytes):
            narrow = len(data) < 2 * entries
            order = "<" if dataset.original_encoding[1] in (True, None) else ">"
            table = np.frombuffer(data, np.uint8 if narrow else f"{order}u2").astype(np.float64)
        else:
            table = np.asarray(data, dtype=np.float64).ravel()
        table = np.where(table < 0, table + 65536, table)[:entries]
        if table.size and bits > 0:
            return table, first
    return None


def _apply(lut: tuple[NDArray[np.float64], int], values: grey.Values) -> grey.Values:
    table, first = lut
    if values.min() >= 0 > first:
        first += 65536  # an unsigned first value that was read as signed
    return table[np.clip(np.rint(values) - first, 0, table.size - 1).astype(np.int64)]


def _modality(dataset: Dataset, stored: grey.Values) -> grey.Values:
    lut = _lut(dataset, "ModalityLUTSequence")
    if lut is not None:
        return _apply(lut, stored)
    slope = next(iter(header.numbers(dataset, "RescaleSlope")), 1.0) or 1.0
    return stored * slope + next(iter(header.numbers(dataset, "RescaleIntercept")), 0.0)


def _levels(dataset: Dataset, coded: grey.Coded, inverted: bool, steps: int) -> tuple[grey.Values, list[str]]:
    """Levels in [0, 1] of every code through the VOI LUT or window, before the polarity is turned."""
    values, counts = coded.values, coded.counts
    table = _lut(dataset, "VOILUTSequence")
    if table is not None and np.ptp(table[0]) > 0:
        curve = _apply(table, values)
        curve = (curve - table[0].min()) / np.ptp(table[0])
        if not grey.destroys(curve, values, counts, inverted):
            return curve, []
        return grey.stretch(values, counts, None), ["the VOI LUT hid most of the film and was not used"]
    centre, width = header.numbers(dataset, "WindowCenter"), header.numbers(dataset, "WindowWidth")
    function = (header.text(dataset, "VOILUTFunction") or "LINEAR").upper()
    if centre and width and width[0] > 0:
        if function == "SIGMOID":
            exponent = np.clip(-4 * (values - centre[0]) / width[0], -60, 60)
            curve = 1 / (1 + np.exp(exponent))
            if not grey.destroys(curve, values, counts, inverted):
                return curve, []
        elif width[0] >= 1 or function == "LINEAR_EXACT":
            curve, widened = grey.window(
                values, counts, centre[0], width[0], inverted, function == "LINEAR_EXACT"
            )
            return curve, (["the window hid part of the film and was widened"] if widened else [])
        return grey.stretch(values, counts, None), ["the window hid most of the film and was not used"]
    identity = values.min() >= 0 and values.max() <= steps - 1
    return grey.stretch(values, counts, (0.0, steps - 1.0) if identity else None), []
