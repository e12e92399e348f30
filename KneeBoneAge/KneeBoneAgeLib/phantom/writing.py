"""Writing phantom films: DX Image Storage – For Presentation as `dciodvfy` accepts it, and plain grey PNG.

The same pixels, description and seed give the same bytes: dates are fixed, identifiers are derived from the
seed, and files appear whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

UID_ROOT = "2.25."
FIXED_DATE, FIXED_TIME = "20240101", "120000"
IMAGE_COMMENTS = "phantom, not a person"
INSTITUTION = "KneeBoneAge phantom"
SOFTWARE = "KneeBoneAge phantom 1"

KNEE = ("72696002", "SCT", "Knee")
ANTERO_POSTERIOR = ("399348003", "SCT", "antero-posterior")
LATERAL = ("399067008", "SCT", "lateral projection")
OTHER_REGIONS = {
    "HAND": ("85562004", "SCT", "Hand"),
    "FOOT": ("56459004", "SCT", "Foot"),
    "ANKLE": ("70258002", "SCT", "Ankle joint"),
    "ELBOW": ("16953009", "SCT", "Elbow joint"),
    "FOREARM": ("14975008", "SCT", "Forearm"),
    "HIP": ("24136001", "SCT", "Hip joint"),
    "CHEST": ("51185008", "SCT", "Chest"),
    "SHOULDER": ("16982005", "SCT", "Shoulder"),
    "LEG": ("30021000", "SCT", "Lower leg"),
    "THIGH": ("68367000", "SCT", "Thigh"),
    "SPINE": ("421060004", "SCT", "Spine"),
    "PELVIS": ("12921003", "SCT", "Pelvis"),
}
REGIONS = {"KNEE": KNEE, **OTHER_REGIONS}


@dataclass(frozen=True)
class FilmMeta:
    """What is said about a film in its header.

    Attributes
    ----------
    number : int
        Number of the phantom child; the patient's ID is PHANTOM-<number, 6 digits>.
    seed : int
        With `number` and `instance` it decides every UID.
    side : "R" | "L" | "B" | None
        Side of the child, B for both; None for unpaired or unknown.
    view : "AP" | "LL"
    body_part : str
        A key of REGIONS.
    spacing_mm : float
        Pixel size at the detector (ImagerPixelSpacing).
    bits_stored : int
        10 to 16.
    monochrome : 1 | 2
        1 stores bone dark with an inverse presentation look-up table shape.
    window : (centre, width) or None
        In stored values; None spans all of them.
    compression : "none" | "rle" | "j2k"
        j2k is lossless and needs pylibjpeg-openjpeg.
    """

    number: int
    seed: int = 0
    instance: int = 1
    sex: str | None = None
    chronological_age_months: float | None = None
    with_birth_date: bool = False
    with_age: bool = True
    side: str | None = None
    view: str = "AP"
    body_part: str = "KNEE"
    spacing_mm: float = 0.15
    magnification: float = 1.08
    source_detector_mm: float = 1100.0
    kvp: float = 60.0
    bits_stored: int = 12
    monochrome: int = 2
    window: tuple[float, float] | None = None
    burned_in: bool = False
    scanner: str = "DIRECT"
    compression: str = "none"

    @property
    def patient_id(self) -> str:
        return f"PHANTOM-{self.number:06d}"

    def uid(self, what: str) -> str:
        """A UID under 2.25 for "study", "series" or "instance": a UUID (ITU-T X.667) from a hash."""
        parts = ["KneeBoneAge phantom", str(self.seed), str(self.number), what]
        if what == "instance":
            parts.append(str(self.instance))
        digest = bytearray(hashlib.sha256("/".join(parts).encode()).digest()[:16])
        digest[6] = digest[6] & 0x0F | 0x80  # version 8: made by an application
        digest[8] = digest[8] & 0x3F | 0x80
        return UID_ROOT + str(int.from_bytes(digest, "big"))


def age_string(months: float) -> str:
    """PatientAge (VR AS) in months, the finest unit of the standard that reaches 18 years."""
    return f"{min(max(0, round(months)), 999):03d}M"


def stored_values(pixels: np.ndarray, bits_stored: int, monochrome: int = 2) -> np.ndarray:
    """Film (float (rows, cols) in [0, 1], bone bright) as uint16 stored values; MONOCHROME1 has bone dark.

    Raises
    ------
    ValueError
        When `pixels` is not a 2-D array or `bits_stored` or `monochrome` is out of range.
    """
    if pixels.ndim != 2 or min(pixels.shape) < 1 or max(pixels.shape) > 65535:
        raise ValueError(f"a film has rows and columns (1 to 65535 each), not the shape {pixels.shape}")
    if not 10 <= bits_stored <= 16:
        raise ValueError(f"bits_stored is {bits_stored}; films are written with 10 to 16 bits")
    if monochrome not in (1, 2):
        raise ValueError(f"monochrome is {monochrome}; 1 or 2 is possible")
    return _quantise(pixels, (1 << bits_stored) - 1, inverted=monochrome == 1)


def write_dicom(path: str | os.PathLike[str], pixels: np.ndarray, meta: FilmMeta) -> Path:
    """Write a film as DX Image Storage – For Presentation.

    Parameters
    ----------
    path : path
        Written under another name and moved into place.
    pixels : float (rows, cols) in [0, 1], bone bright
    meta : FilmMeta

    Raises
    ------
    ValueError
        For pixels or a description that cannot be written.
    """
    from pydicom.uid import RLELossless

    stored = stored_values(pixels, meta.bits_stored, meta.monochrome)
    dataset = _dataset(stored, meta)
    if meta.compression == "rle":
        dataset.compress(RLELossless, stored, generate_instance_uid=False)
    elif meta.compression == "j2k":
        from pydicom.uid import JPEG2000Lossless

        dataset.compress(JPEG2000Lossless, stored, generate_instance_uid=False)
    elif meta.compression != "none":
        raise ValueError(f"compression is {meta.compression!r}; none, rle or j2k is possible")
    return _write_whole(Path(path), lambda stream: dataset.save_as(stream, enforce_file_format=True))


def write_png(path: str | os.PathLike[str], pixels: np.ndarray, bits: int = 8) -> Path:
    """Write a film (float (rows, cols) in [0, 1]) as grey PNG of 8 or 16 bits.

    Raises
    ------
    ValueError
        When `bits` is neither.
    """
    if bits not in (8, 16):
        raise ValueError(f"bits is {bits}; a PNG is written with 8 or 16")
    from PIL import Image

    picture = Image.fromarray(_quantise(pixels, (1 << bits) - 1))
    return _write_whole(Path(path), lambda stream: picture.save(stream, "PNG", compress_level=1))


def write_mask(path: str | os.PathLike[str], labels: np.ndarray) -> Path:
    """Write labels (uint8 (rows, cols)) as PNG, values as they are."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(labels, np.uint8))
    return _write_whole(Path(path), lambda stream: picture.save(stream, "PNG", compress_level=1))


def _quantise(pixels: np.ndarray, top: int, inverted: bool = False) -> np.ndarray:
    """Rounded values from 0 to `top`, uint8 where they fit and uint16 otherwise."""
    stored = np.empty(pixels.shape, np.uint8 if top < 256 else np.uint16)
    rows = max(1, (1 << 16) // pixels.shape[1])
    for first in range(0, len(pixels), rows):
        values = pixels[first : first + rows] * np.float32(-top if inverted else top)
        values += np.float32(top + 0.5 if inverted else 0.5)
        np.clip(values, 0, top, out=values)
        stored[first : first + rows] = values
    return stored


def _write_whole(path: Path, write: Callable[[BinaryIO], None]) -> Path:
    """Write under a temporary name in the same folder, then move into place."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _dataset(stored: np.ndarray, meta: FilmMeta):
    """The whole DICOM object for stored values (uint16 (rows, cols))."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

    file_meta = FileMetaDataset()
    file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    file_meta.MediaStorageSOPInstanceUID = UID(meta.uid("instance"))
    file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file_meta.ImplementationClassUID = UID(UID_ROOT + "302193870542811064183297653025441870041")
    file_meta.ImplementationVersionName = "KNEEBONEAGE"
    dataset = FileDataset("", {}, file_meta=file_meta, preamble=b"\0" * 128)
    _describe_person(dataset, meta)
    _describe_exposure(dataset, meta)
    _describe_view(dataset, meta)
    _describe_image(dataset, stored, meta)
    return dataset


def _describe_person(ds: Dataset, meta: FilmMeta) -> None:
    """Patient, study, series and equipment modules."""
    ds.PatientName, ds.PatientID = "Phantom^Child", meta.patient_id
    ds.PatientSex = meta.sex if meta.sex in ("F", "M") else ""
    ds.PatientBirthDate = ""
    if meta.chronological_age_months is not None:
        if meta.with_age:
            ds.PatientAge = age_string(meta.chronological_age_months)
        if meta.with_birth_date:
            ds.PatientBirthDate = _birth_date(meta.chronological_age_months)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = meta.uid("study"), meta.uid("series")
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", meta.uid("instance")
    for stem in ("Study", "Series", "Acquisition", "Content"):
        setattr(ds, f"{stem}Date", FIXED_DATE)
        setattr(ds, f"{stem}Time", FIXED_TIME)
    ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = f"{meta.number % 10**8}", "", ""
    ds.StudyDescription = "Drawn radiograph"
    ds.Modality, ds.PresentationIntentType = "DX", "FOR PRESENTATION"
    ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = 1, meta.instance, 1
    ds.Manufacturer, ds.InstitutionName, ds.ManufacturerModelName = "KneeBoneAge", INSTITUTION, "phantom"
    ds.DeviceSerialNumber, ds.SoftwareVersions = "0", SOFTWARE


def _birth_date(age_months: float) -> str:
    """Birth date (VR DA) of a child who is `age_months` old on the fixed study date."""
    from datetime import date, timedelta

    taken = date(int(FIXED_DATE[:4]), int(FIXED_DATE[4:6]), int(FIXED_DATE[6:]))
    born = taken - timedelta(days=round(age_months * 30.4375))
    return born.strftime("%Y%m%d")


def _describe_exposure(ds: Dataset, meta: FilmMeta) -> None:
    """X-ray acquisition, detector and positioning distances."""
    ds.KVP = f"{meta.kvp:.1f}"
    ds.DistanceSourceToDetector = f"{meta.source_detector_mm:.1f}"
    ds.DistanceSourceToPatient = f"{meta.source_detector_mm / meta.magnification:.1f}"
    ds.EstimatedRadiographicMagnificationFactor = f"{meta.magnification:.4f}"
    ds.ImagerPixelSpacing = [f"{meta.spacing_mm:.6g}"] * 2
    ds.DetectorType, ds.DetectorConfiguration = meta.scanner, "AREA"
    ds.DetectorDescription = "drawn, no detector"


def _describe_view(ds: Dataset, meta: FilmMeta) -> None:
    """DX anatomy imaged and DX positioning."""
    region = REGIONS.get(meta.body_part)
    if region is None:
        raise ValueError(f"body_part is {meta.body_part!r}; known are {', '.join(REGIONS)}")
    if meta.view not in ("AP", "LL"):
        raise ValueError(f"view is {meta.view!r}; AP or LL is possible")
    ds.BodyPartExamined = meta.body_part
    ds.AnatomicRegionSequence = [_code(*region)]
    ds.ImageLaterality = {"R": "R", "L": "L", "B": "B"}.get(meta.side or "", "U")
    frontal = meta.view == "AP"
    ds.ViewPosition = meta.view
    view = _code(*(ANTERO_POSTERIOR if frontal else LATERAL))
    view.ViewModifierCodeSequence = []
    ds.ViewCodeSequence = [view]
    ds.PatientOrientation = ["L", "F"] if frontal else ["A", "F"]
    ds.PositionerType = "NONE"


def _describe_image(ds: Dataset, stored: np.ndarray, meta: FilmMeta) -> None:
    """Image pixel, DX image, window and comments."""
    top = (1 << meta.bits_stored) - 1
    ds.ImageType = ["DERIVED", "PRIMARY", ""]
    ds.DerivationDescription = "drawn by a program"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, f"MONOCHROME{meta.monochrome}"
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, meta.bits_stored, meta.bits_stored - 1
    ds.PixelRepresentation = 0
    ds.PixelIntensityRelationship = "LOG"
    ds.PixelIntensityRelationshipSign = -1 if meta.monochrome == 2 else 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    ds.PresentationLUTShape = "IDENTITY" if meta.monochrome == 2 else "INVERSE"
    ds.LossyImageCompression = "00"
    ds.BurnedInAnnotation = "YES" if meta.burned_in else "NO"
    centre, width = meta.window or ((top + 1) / 2, top + 1)
    ds.WindowCenter, ds.WindowWidth = f"{centre:.6g}", f"{width:.6g}"
    ds.WindowCenterWidthExplanation = "NORMAL"
    ds.ImageComments = IMAGE_COMMENTS
    ds.AcquisitionContextSequence = []
    ds.PixelData = stored.astype("<u2", copy=False).tobytes()
    ds["PixelData"].VR = "OW"
