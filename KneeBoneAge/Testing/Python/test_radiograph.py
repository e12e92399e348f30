"""Reading a film: real files of every kind, DICOM made on the fly, and everything that is not a film."""

from __future__ import annotations

import csv
import gzip
import io
import logging
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from KneeBoneAgeLib.errors import FilmError
from KneeBoneAgeLib.radiograph import film_from_array, read_film, with_known
from KneeBoneAgeLib.radiograph.grey import look_up
from KneeBoneAgeLib.radiograph.header import age_in_months

DATA = next(
    (up / "shared" / "data" for up in Path(__file__).resolve().parents if (up / "shared" / "data").is_dir()),
    None,
)
needs_data = pytest.mark.skipif(DATA is None, reason="the shared data are not beside this checkout")
DICOM_ROWS = list(csv.DictReader((DATA / "dicom" / "expect.csv").open())) if DATA else []
RADIOGRAPHS = sorted((DATA / "radiographs").glob("*.jpg")) if DATA else []


def leg(rows: int = 300, columns: int = 240) -> np.ndarray:
    """A drawn limb, (rows, columns) in [0, 1]: dark air, soft tissue, a bright tubular bone, noise."""
    x = np.linspace(-1.3, 1.3, columns)[None, :]
    y = np.linspace(0, 1, rows)[:, None]
    soft = np.sqrt(np.clip(1 - (x / (0.7 + 0.1 * y)) ** 2, 0, None))
    width = 0.25 + 0.15 * np.exp(-(((y - 0.5) / 0.1) ** 2))
    outer = np.sqrt(np.clip(1 - (x / width) ** 2, 0, None)) * width
    inner = np.sqrt(np.clip(1 - (x / (0.75 * width)) ** 2, 0, None)) * 0.75 * width
    rng = np.random.default_rng(5)
    film = 0.06 + 0.35 * soft + 1.8 * (outer - 0.6 * inner) + 0.008 * rng.standard_normal((rows, columns))
    return np.clip(film * (1 + 0.1 * np.sin(40 * y) * (outer > 0)), 0, 1)


def dx(pixels: np.ndarray, bits: int = 12, **tags: object) -> FileDataset:
    """A minimal DX data set around unsigned or signed pixels; tags by keyword, None deletes."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3.4.5"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    dataset.Modality = "DX"
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.SamplesPerPixel = 1
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * pixels.dtype.itemsize, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    if pixels.dtype.itemsize == 1:
        dataset["PixelData"].VR = "OB"
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return dataset


def write(dataset: Dataset, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(path, enforce_file_format=True)
    return path


def twelve_bits(film: np.ndarray | None = None) -> np.ndarray:
    return np.rint((leg() if film is None else film) * 4095).astype(np.uint16)


def read_dx(tmp_path: Path, pixels: np.ndarray | None = None, bits: int = 12, **tags: object):
    return read_film(
        write(dx(twelve_bits() if pixels is None else pixels, bits, **tags), tmp_path / "film.dcm")
    )


# --- real files ------------------------------------------------------------------------------------


@needs_data
@pytest.mark.parametrize("row", DICOM_ROWS, ids=[row["file"] for row in DICOM_ROWS])
def test_every_hard_dicom_file_ends_as_the_list_says(row):
    path = DATA / "dicom" / row["file"]
    if row["outcome"] == "error":
        with pytest.raises(FilmError, match=row["file"]) as raised:
            read_film(path)
        assert len(str(raised.value)) < 400
        assert "\n" not in str(raised.value)
        return
    film = read_film(path)
    assert (film.rows, film.columns) == (int(row["rows"]), int(row["columns"]))
    assert film.photometric == row["photometric"]
    assert film.polarity == ("inverted" if row["photometric"] == "MONOCHROME1" else "normal")
    if row["spacing_mm"]:
        assert film.spacing_mm == pytest.approx((float(row["spacing_mm"]),) * 2, rel=2e-3)
    else:
        assert film.spacing_mm is None
        assert film.spacing_source == "uncalibrated"
    assert film.pixels.dtype == np.float32
    assert film.pixels.min() >= 0
    assert film.pixels.max() <= 1
    assert film.pixels.std() > 0.02


@needs_data
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("emri_small_jpeg_ls_lossless.dcm", "10 frames"),
        ("ExplVR_BigEnd.dcm", "colour"),
        ("SC_rgb_jpeg_dcmtk.dcm", "colour"),
        ("MR_truncated.dcm", "cut short"),
        ("no_meta.dcm", "file meta information"),
        ("emri_small_jpeg_2k_lossless_too_short.dcm", "no pixel data"),
    ],
)
def test_an_unreadable_dicom_file_is_told_with_its_own_reason(name, reason):
    with pytest.raises(FilmError, match=reason):
        read_film(DATA / "dicom" / name)


@needs_data
def test_the_headers_of_real_films_say_who_which_side_and_which_view():
    dog = read_film(DATA / "dicom" / "highdicom_dx_image.dcm")
    assert (dog.sex, dog.age_months, dog.side, dog.body_part) == ("F", 60.0, "L", "THORAX")
    hand = read_film(DATA / "dicom" / "NM_Kakadu44_SOTmarkerincons.dcm")
    assert (hand.sex, hand.side, hand.view, hand.age_months) == ("F", "R", "frontal", None)  # born 1900-01-01
    neck = read_film(DATA / "dicom" / "CR1_6154.dcm")
    assert (neck.sex, neck.age_months, neck.view) == (None, 47 * 12, "lateral")
    assert neck.identifiers.instance_uid


@needs_data
@pytest.mark.parametrize("path", RADIOGRAPHS, ids=[path.stem for path in RADIOGRAPHS])
def test_polarity_of_a_real_jpeg_is_decided_right_as_it_is_and_inverted(path, tmp_path):
    film = read_film(path)
    assert film.polarity == "normal"
    assert film.spacing_mm is None
    picture = np.asarray(Image.open(path).convert("L"))
    Image.fromarray(255 - picture).save(tmp_path / "inverted.jpg", quality=92)
    turned = read_film(tmp_path / "inverted.jpg")
    assert turned.polarity == "inverted"
    assert np.abs(turned.pixels - film.pixels).mean() < 0.01


# --- polarity and grey scale -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "inverted"),
    [
        ({}, False),
        ({"PresentationLUTShape": "IDENTITY"}, False),
        ({"PhotometricInterpretation": "MONOCHROME1"}, True),
        ({"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}, True),
        ({"PresentationLUTShape": "INVERSE"}, True),
    ],
)
def test_monochrome1_and_an_inverse_presentation_lut_turn_the_film_once(tmp_path, tags, inverted):
    stored = twelve_bits()
    film = read_dx(tmp_path, 4095 - stored if inverted else stored, **tags)
    assert film.polarity == ("inverted" if inverted else "normal")
    assert np.abs(film.pixels - leg()).max() < 1e-3


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]
)
def test_every_native_transfer_syntax_gives_the_same_film(tmp_path, syntax):
    dataset = dx(twelve_bits())
    dataset.file_meta.TransferSyntaxUID = syntax
    assert np.abs(read_film(write(dataset, tmp_path / "film.dcm")).pixels - leg()).max() < 1e-3


def test_a_big_endian_film_is_read(tmp_path):
    dataset = dx(twelve_bits())
    dataset.PixelData = twelve_bits().byteswap().tobytes()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    big = FileDataset("", dataset, file_meta=dataset.file_meta, preamble=b"\0" * 128, is_little_endian=False)
    big.save_as(tmp_path / "film.dcm", little_endian=False, implicit_vr=False)
    assert np.abs(read_film(tmp_path / "film.dcm").pixels - leg()).max() < 1e-3


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_a_film_compressed_without_loss_is_the_same_film(tmp_path, syntax):
    dataset = dx(twelve_bits())
    try:
        dataset.compress(syntax, generate_instance_uid=False)
    except (RuntimeError, NotImplementedError) as error:
        pytest.skip(f"no encoder for {syntax.name}: {error}")
    assert np.abs(read_film(write(dataset, tmp_path / "film.dcm")).pixels - leg()).max() < 1e-3


def test_a_baseline_jpeg_inside_dicom_is_read(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(np.rint(leg() * 255).astype(np.uint8)).save(stream, "JPEG", quality=95)
    dataset = dx(np.rint(leg() * 255).astype(np.uint8), 8)
    dataset.PixelData = pydicom.encaps.encapsulate([stream.getvalue()])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    assert np.abs(read_film(write(dataset, tmp_path / "film.dcm")).pixels - leg()).mean() < 0.01


def test_signed_samples_and_a_rescale_are_followed(tmp_path):
    stored = (twelve_bits().astype(np.int16) - 2048).astype(np.int16)
    film = read_dx(
        tmp_path, stored, RescaleSlope="2", RescaleIntercept="10", WindowCenter="2058", WindowWidth="8190"
    )
    moved = (2.0 * stored + 10 - (2058 - 0.5)) / 8189 + 0.5
    assert np.abs(film.pixels - np.clip(moved, 0, 1)).max() < 1e-3


def test_a_negative_rescale_slope_turns_dark_into_bright(tmp_path):
    film = read_dx(tmp_path, 4095 - twelve_bits(), RescaleSlope="-1", RescaleIntercept="4095")
    assert np.corrcoef(film.pixels.ravel(), leg().ravel())[0, 1] > 0.99


def lut_item(table: np.ndarray, first: int = 0, bits: int = 16) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(table) % 65536, first, bits])
    item.add_new("LUTData", "US", [int(value) for value in table])
    return item


def test_a_modality_lut_and_a_voi_lut_are_applied_in_turn(tmp_path):
    upside_down = lut_item(np.arange(4095, -1, -1), bits=12)
    upside_down.ModalityLUTType = "US"
    curve = (np.linspace(0, 1, 4096) ** 2 * 65535).astype(int)
    film = read_dx(
        tmp_path,
        4095 - twelve_bits(),
        ModalityLUTSequence=Sequence([upside_down]),
        VOILUTSequence=Sequence([lut_item(curve)]),
    )
    assert np.abs(film.pixels - leg() ** 2).max() < 2e-3


def test_a_voi_lut_that_blackens_the_film_is_not_used(tmp_path):
    curve = np.zeros(4096, dtype=int)
    curve[-5:] = 65535
    film = read_dx(tmp_path, VOILUTSequence=Sequence([lut_item(curve)]))
    assert np.corrcoef(film.pixels.ravel(), leg().ravel())[0, 1] > 0.99
    assert any("VOI LUT" in note for note in film.notes)


def test_a_sensible_window_is_used_as_it_is(tmp_path):
    film = read_dx(tmp_path, WindowCenter=["2048", "100"], WindowWidth=["3900", "50"])
    expected = np.clip((twelve_bits() - 2047.5) / 3899 + 0.5, 0, 1)
    assert np.abs(film.pixels - expected).max() < 1e-4
    assert not film.notes


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_window_that_whitens_the_bone_does_not_destroy_it(tmp_path, function, photometric):
    stored, centre = twelve_bits(), 900
    if photometric == "MONOCHROME1":
        stored, centre = 4095 - stored, 4095 - centre
    tags = {"WindowCenter": centre, "WindowWidth": 300, "VOILUTFunction": function}
    film = read_dx(tmp_path, stored, PhotometricInterpretation=photometric, **tags)
    assert (film.pixels >= 0.999).mean() < 0.02
    assert any("window" in note for note in film.notes)


def test_a_window_may_blacken_the_air_but_not_the_limb(tmp_path):
    dark = leg() + np.where(leg() < 0.1, -0.05, 0.0)
    film = read_dx(tmp_path, twelve_bits(np.clip(dark, 0, 1)), WindowCenter="2250", WindowWidth="3500")
    assert (film.pixels == 0).mean() > 0.2
    assert not film.notes


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("curve", ["line", "window", "bent", "steps", "flat"])
def test_grey_by_arithmetic_is_grey_by_the_table(curve, inverted):
    codes = np.random.default_rng(5).integers(0, 4096, (700, 301)).astype(np.uint16)
    values = np.arange(65536.0)
    levels = {
        "line": values / 65535,
        "window": np.clip((values - 700) / 2000, 0, 1),
        "bent": np.sqrt(values / 65535),
        "steps": (values > 2000).astype(float),
        "flat": np.full(65536, 0.25),
    }[curve]
    expected = (1 - levels if inverted else levels)[codes]
    assert np.abs(look_up(codes, levels, inverted) - expected).max() < 1e-6


def test_overlay_planes_and_overlay_bits_inside_the_samples_change_nothing(tmp_path):
    plain = read_dx(tmp_path)
    stored = twelve_bits()
    with_bits = stored.copy()
    with_bits[100:120, 50:90] |= 0x8000
    dataset = dx(with_bits)
    dataset.add_new(0x60000010, "US", 300)
    dataset.add_new(0x60000011, "US", 240)
    dataset.add_new(0x60000040, "CS", "G")
    dataset.add_new(0x60000050, "SS", [1, 1])
    dataset.add_new(0x60000100, "US", 16)
    dataset.add_new(0x60000102, "US", 15)
    embedded = read_film(write(dataset, tmp_path / "embedded.dcm"))
    assert np.abs(embedded.pixels - plain.pixels).max() < 1e-6  # a step of 16 bits is 1.5e-5
    dataset = dx(stored)
    dataset.add_new(0x60000010, "US", 300)
    dataset.add_new(0x60000011, "US", 240)
    dataset.add_new(0x60000100, "US", 1)
    dataset.add_new(0x60000102, "US", 0)
    dataset.add_new(0x60003000, "OW", b"\xff" * 9000)
    assert np.array_equal(read_film(write(dataset, tmp_path / "plane.dcm")).pixels, plain.pixels)


def test_samples_that_start_above_the_lowest_bit_are_shifted_down(tmp_path):
    film = read_dx(tmp_path, (twelve_bits() << 4).astype(np.uint16), 12, HighBit=15)
    assert np.abs(film.pixels - leg()).max() < 1e-3


def test_burned_in_borders_padding_and_text_do_not_move_the_grey_scale(tmp_path):
    film = leg() * 0.25
    bordered = twelve_bits(film)
    plain = read_dx(tmp_path, bordered)
    bordered[:30], bordered[-30:], bordered[:, :20] = 4095, 4095, 4095
    bordered[50:54, 200:220] = 4095
    framed = read_dx(tmp_path, bordered)
    inside = (slice(60, 260), slice(30, 180))
    assert plain.pixels[inside].max() > 0.9
    assert np.abs(framed.pixels[inside] - plain.pixels[inside]).mean() < 0.02


def test_a_black_border_does_not_keep_a_pale_film_pale(tmp_path):
    pale = twelve_bits(0.6 + 0.35 * leg())
    pale[-40:] = 0
    inside = read_dx(tmp_path, pale).pixels[:-40]
    assert inside.min() < 0.05
    assert inside.max() > 0.9


# --- facts in the header ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelling", "months"),
    [
        ("005Y", 60), ("060M", 60), ("012W", 2.76), ("030D", 0.986), ("5Y", 60), (" 5 ", 60), ("5.5", 66),
        ("5,5Y", 66),        ("12y", 144), ("10 years", 120), ("8 mo", 8), ("5Y6M", 66),
        ("000D", 0), ("018M\0", 18), ("Y", None), ("", None),
        ("abc", None), ("-05Y", None), ("999Y", None), ("5X", None), ("5 6", None),
    ],
)  # fmt: skip
def test_a_patient_age_in_any_spelling_becomes_months(spelling, months):
    assert age_in_months(spelling) == (None if months is None else pytest.approx(months, abs=0.01))


@pytest.mark.parametrize(
    ("tags", "months"),
    [
        ({"PatientAge": "010Y"}, 120),
        ({"PatientAge": "010Y", "PatientBirthDate": "20100101", "StudyDate": "20201001"}, 120),
        ({"PatientBirthDate": "20100101", "StudyDate": "20200701"}, 126),
        ({"PatientAge": "", "PatientBirthDate": "2010.01.01", "AcquisitionDate": "20200701"}, 126),
        ({"PatientAge": "??", "PatientBirthDate": "20100101", "StudyDate": "20200701"}, 126),
        ({"PatientBirthDate": "20200701", "StudyDate": "20100101"}, None),
        ({"PatientBirthDate": "19000101", "StudyDate": "20100101"}, None),
        ({"PatientBirthDate": "unknown", "StudyDate": "20100101"}, None),
        ({}, None),
    ],
)
def test_age_comes_from_patient_age_and_otherwise_from_the_dates(tmp_path, tags, months):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        film = read_dx(tmp_path, **tags)
    assert film.age_months == (None if months is None else pytest.approx(months, abs=0.1))


@pytest.mark.parametrize(
    ("tags", "side"),
    [
        ({"ImageLaterality": "R"}, "R"),
        ({"Laterality": "L"}, "L"),
        ({"ImageLaterality": "L", "SeriesDescription": "Knee right"}, "L"),
        ({"ImageLaterality": "B", "SeriesDescription": "Knee right"}, None),
        ({"ImageLaterality": "U", "SeriesDescription": "Knee AP right"}, "R"),
        ({"SeriesDescription": "KNEE LT AP"}, "L"),
        ({"ProtocolName": "Knie rechts a.p."}, "R"),
        ({"SeriesDescription": "Both knees, R and L"}, None),
        ({"SeriesDescription": "Lateral skyline"}, None),
        ({}, None),
    ],
)
def test_the_side_comes_from_the_laterality_and_otherwise_from_the_description(tmp_path, tags, side):
    assert read_dx(tmp_path, **tags).side == side


def test_the_side_is_found_in_sequences(tmp_path):
    anatomy, functional = Dataset(), Dataset()
    anatomy.FrameLaterality = "R"
    functional.FrameAnatomySequence = Sequence([anatomy])
    assert read_dx(tmp_path, SharedFunctionalGroupsSequence=Sequence([functional])).side == "R"
    modifier, region = Dataset(), Dataset()
    modifier.CodeValue, modifier.CodingSchemeDesignator, modifier.CodeMeaning = "7771000", "SCT", "Left"
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "72696002", "SCT", "Knee"
    region.AnatomicRegionModifierSequence = Sequence([modifier])
    film = read_dx(tmp_path, AnatomicRegionSequence=Sequence([region]))
    assert (film.side, film.body_part) == ("L", "KNEE")


@pytest.mark.parametrize(
    ("tags", "view"),
    [
        ({"ViewPosition": "AP"}, "frontal"),
        ({"ViewPosition": "PA"}, "frontal"),
        ({"ViewPosition": "LL"}, "lateral"),
        ({"ViewPosition": "RL"}, "lateral"),
        ({"ViewPosition": "LAT"}, "lateral"),
        ({"ViewPosition": "OBLIQUE", "SeriesDescription": "AP"}, None),
        ({"SeriesDescription": "Knee LAT right"}, "lateral"),
        ({"SeriesDescription": "XR knee AP"}, "frontal"),
        ({"SeriesDescription": "Knee AP and lateral"}, None),
        ({"ViewPosition": "", "SeriesDescription": "skyline"}, None),
        ({}, None),
    ],
)
def test_the_view_comes_from_the_view_position_and_otherwise_from_the_description(tmp_path, tags, view):
    assert read_dx(tmp_path, **tags).view == view


@pytest.mark.parametrize(
    ("meaning", "view"),
    [("antero-posterior", "frontal"), ("postero-anterior", "frontal"), ("left lateral", "lateral"),
     ("medio-lateral", "lateral"), ("antero-posterior oblique", None)],
)  # fmt: skip
def test_the_view_is_found_in_the_view_code(tmp_path, meaning, view):
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", meaning
    assert read_dx(tmp_path, ViewCodeSequence=Sequence([code])).view == view


@pytest.mark.parametrize(
    ("tags", "spacing", "source"),
    [
        ({"ImagerPixelSpacing": ["0.15", "0.14"]}, (0.15, 0.14), "ImagerPixelSpacing"),
        ({"PixelSpacing": ["0.15", "0.14"]}, (0.15, 0.14), "PixelSpacing"),
        ({"ImagerPixelSpacing": ["0.15"] * 2, "PixelSpacing": ["0.15"] * 2}, (0.15, 0.15),
         "ImagerPixelSpacing"),
        ({"ImagerPixelSpacing": ["0.15"] * 2, "EstimatedRadiographicMagnificationFactor": "1.25"},
         (0.12, 0.12), "ImagerPixelSpacing/magnification"),
        ({"ImagerPixelSpacing": ["0.15"] * 2, "PixelSpacing": ["0.12"] * 2,
          "EstimatedRadiographicMagnificationFactor": "1.25"}, (0.12, 0.12), "PixelSpacing"),
        ({"ImagerPixelSpacing": ["0.15"] * 2, "EstimatedRadiographicMagnificationFactor": "0"}, (0.15, 0.15),
         "ImagerPixelSpacing"),
        ({"NominalScannedPixelSpacing": ["0.1"] * 2}, (0.1, 0.1), "NominalScannedPixelSpacing"),
        ({"ImagerPixelSpacing": ["0", "0"]}, None, "uncalibrated"),
        ({}, None, "uncalibrated"),
    ],
)  # fmt: skip
def test_spacing_is_brought_to_the_knee_once_and_uncalibrated_is_a_value(tmp_path, tags, spacing, source):
    film = read_dx(tmp_path, **tags)
    assert film.spacing_source == source
    assert film.spacing_mm == (None if spacing is None else pytest.approx(spacing))


def test_the_identifiers_are_the_files_own(tmp_path):
    film = read_dx(tmp_path)
    found = film.identifiers
    assert (found.study_uid, found.series_uid, found.instance_uid) == ("1.2.3", "1.2.3.4", "1.2.3.4.5")
    assert film.path == str(tmp_path / "film.dcm")


def test_a_malformed_header_neither_stops_the_reading_nor_shows_identity(tmp_path, caplog, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = dx(twelve_bits(), PatientName="Doe^Jane", PatientID="SECRET-77", PatientAge="Doe, 7 years")
        dataset.add_new("PatientBirthDate", "DA", "SECRETDAY")
        dataset.add_new("SeriesInstanceUID", "UI", "1.2.LEAKED")
        path = write(dataset, tmp_path / "film.dcm")
    caplog.set_level(logging.DEBUG, logger="pydicom")
    caplog.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        film = read_film(path)
    said = caplog.text + "".join(capfd.readouterr()) + "".join(str(w.message) for w in caught)
    assert "LEAKED" not in said
    said += repr(film)
    assert "Doe" not in said
    assert "SECRET" not in said
    assert film.age_months is None
    assert film.notes


def test_what_is_typed_wins_and_is_recorded(tmp_path):
    film = read_dx(tmp_path, PatientSex="M", PatientAge="010Y", ImageLaterality="R")
    typed = with_known(film, sex="F", age_months=60)
    assert (typed.sex, typed.age_months, typed.side, typed.typed) == ("F", 60.0, "R", ("sex", "age_months"))
    assert len(typed.notes) == 2
    assert film.typed == ()
    for wrong in ({"sex": "X"}, {"age_months": -1}, {"age_months": float("nan")}, {"side": "both"}):
        with pytest.raises(ValueError, match="must"):
            with_known(film, **wrong)


# --- pictures, volumes, arrays ---------------------------------------------------------------------


def save_picture(path: Path, kind: str) -> None:
    eight, sixteen = np.rint(leg() * 255).astype(np.uint8), np.rint(leg() * 65535).astype(np.uint16)
    if kind == "grey 8":
        Image.fromarray(eight).save(path)
    elif kind == "grey 16":
        Image.fromarray(sixteen).save(path)
    elif kind == "12 bits in 16":
        Image.fromarray(sixteen >> 4).save(path)
    elif kind == "rgb 8":
        Image.fromarray(np.stack([eight] * 3, -1)).save(path)
    elif kind == "rgba 8":
        Image.fromarray(np.stack([eight] * 3 + [np.full_like(eight, 255)], -1)).save(path)
    elif kind == "grey + alpha":
        Image.fromarray(eight).convert("LA").save(path)
    elif kind == "palette":
        Image.fromarray(eight).convert("P").save(path)
    elif kind == "rgb 16":
        image = SimpleITK.GetImageFromArray(np.stack([sixteen] * 3, -1), isVector=True)
        SimpleITK.WriteImage(image, str(path))


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [(suffix, kind) for suffix in ("png", "tif", "bmp", "jpg")
     for kind in ("grey 8", "grey 16", "12 bits in 16", "rgb 8", "rgba 8", "grey + alpha", "palette",
                  "rgb 16")
     if suffix in ("png", "tif") or kind in ("grey 8", "rgb 8")],
)  # fmt: skip
def test_a_grey_picture_is_a_film_in_every_layout(tmp_path, suffix, kind):
    path = tmp_path / f"film.{suffix}"
    save_picture(path, kind)
    film = read_film(path)
    assert film.polarity == "normal"
    assert (film.rows, film.columns) == (300, 240)
    assert film.spacing_mm is None
    tolerance = 0.12 if kind == "12 bits in 16" else 0.008
    assert np.abs(film.pixels - leg()).mean() < tolerance
    assert np.corrcoef(film.pixels.ravel(), leg().ravel())[0, 1] > 0.995


def test_the_content_decides_not_the_name(tmp_path):
    save_picture(tmp_path / "film.png", "grey 8")
    (tmp_path / "film.dcm").write_bytes((tmp_path / "film.png").read_bytes())
    assert read_film(tmp_path / "film.dcm").rows == 300
    (tmp_path / "film.jpg").write_bytes(write(dx(twelve_bits()), tmp_path / "d.dcm").read_bytes())
    assert read_film(tmp_path / "film.jpg").photometric == "MONOCHROME2"


def test_an_inverted_sixteen_bit_png_is_turned(tmp_path):
    Image.fromarray(np.rint((1 - leg()) * 65535).astype(np.uint16)).save(tmp_path / "film.png")
    film = read_film(tmp_path / "film.png")
    assert film.polarity == "inverted"
    assert np.abs(film.pixels - leg()).mean() < 0.005


def test_an_exif_orientation_is_followed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = np.rint(leg() * 255).astype(np.uint8)
    Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "film.jpg", exif=exif, quality=95)
    film = read_film(tmp_path / "film.jpg")
    assert film.pixels.shape == leg().shape
    assert np.abs(film.pixels - leg()).mean() < 0.01
    assert film.notes


@pytest.mark.parametrize("name", ["film.nrrd", "film.mha", "film.nii.gz", "film.nii"])
def test_one_slice_of_a_volume_file_is_a_film_with_its_spacing(tmp_path, name):
    image = SimpleITK.GetImageFromArray(twelve_bits()[None])
    image.SetSpacing((0.14, 0.15, 1.0))
    SimpleITK.WriteImage(image, str(tmp_path / name))
    film = read_film(tmp_path / name)
    assert film.spacing_mm == pytest.approx((0.15, 0.14))
    assert film.spacing_source == "file"
    assert np.corrcoef(film.pixels.ravel(), leg().ravel())[0, 1] > 0.99


def test_a_volume_without_spacing_is_uncalibrated(tmp_path):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(twelve_bits()), str(tmp_path / "film.nrrd"))
    assert read_film(tmp_path / "film.nrrd").spacing_source == "uncalibrated"


def test_an_array_from_slicer_becomes_the_same_film_as_its_file(tmp_path):
    film = film_from_array(twelve_bits()[None], (0.15, 0.14), bone_bright=True, sex="F")
    assert film.spacing_mm == (0.15, 0.14)
    assert film.typed == ("sex",)
    assert film.path == ""
    assert np.corrcoef(film.pixels.ravel(), leg().ravel())[0, 1] > 0.995
    assert film_from_array(4095 - twelve_bits()).polarity == "inverted"
    assert film_from_array(leg(), bone_bright=False).polarity == "inverted"
    assert np.abs(film_from_array(leg().astype(np.float32)).pixels - leg()).max() < 1e-4


def test_a_blank_or_unfinite_array_is_a_film_without_crash():
    assert film_from_array(np.zeros((50, 40), np.uint8)).pixels.max() == 0
    assert np.isfinite(film_from_array(np.full((50, 40), np.nan)).pixels).all()
    holed = leg()
    holed[:5] = np.nan
    holed[5, 5] = 1e30
    assert np.corrcoef(film_from_array(holed).pixels[10:].ravel(), leg()[10:].ravel())[0, 1] > 0.99


@pytest.mark.parametrize("shape", [(3, 50, 40), (50,), (1, 1), (2, 50, 40, 3)])
def test_an_array_that_is_no_single_slice_is_refused(shape):
    with pytest.raises(FilmError):
        film_from_array(np.zeros(shape, np.uint8))


# --- what is no film -------------------------------------------------------------------------------


def colour_photograph() -> np.ndarray:
    ramp = np.linspace(0, 255, 200).astype(np.uint8)
    return np.stack(
        [np.tile(ramp, (100, 1)), np.tile(ramp[::-1], (100, 1)), np.full((100, 200), 80, np.uint8)], -1
    )


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_a_colour_photograph_is_refused(tmp_path, suffix):
    Image.fromarray(colour_photograph()).save(tmp_path / f"photo.{suffix}")
    with pytest.raises(FilmError, match=rf"photo\.{suffix}: .*colour"):
        read_film(tmp_path / f"photo.{suffix}")


def test_a_small_coloured_mark_on_a_grey_film_is_tolerated(tmp_path):
    picture = np.stack([np.rint(leg() * 255).astype(np.uint8)] * 3, -1)
    picture[20:30, 20:50] = (255, 200, 0)
    Image.fromarray(picture).save(tmp_path / "film.png")
    assert read_film(tmp_path / "film.png").polarity == "normal"


def png_header(rows: int, columns: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def write_bad_files(folder: Path) -> None:
    folder.joinpath("empty.dcm").write_bytes(b"")
    folder.joinpath("text.txt").write_text("this is no film\n" * 50)
    folder.joinpath("folder").mkdir()
    folder.joinpath("bomb.png").write_bytes(png_header(60000, 60000))
    folder.joinpath("short.png").write_bytes(png_header(3000, 3000))
    save_picture(folder / "whole.png", "grey 8")
    folder.joinpath("cut.png").write_bytes(folder.joinpath("whole.png").read_bytes()[:5000])
    save_picture(folder / "whole.jpg", "rgb 8")
    folder.joinpath("cut.jpg").write_bytes(folder.joinpath("whole.jpg").read_bytes()[:3000])
    save_picture(folder / "whole.tif", "grey 16")
    folder.joinpath("cut.tif").write_bytes(folder.joinpath("whole.tif").read_bytes()[:3000])
    pages = [Image.fromarray(np.zeros((20, 20), np.uint8)) for _ in range(3)]
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
    whole = write(dx(twelve_bits()), folder / "whole.dcm").read_bytes()
    folder.joinpath("cut.dcm").write_bytes(whole[:50_000])
    folder.joinpath("preamble.dcm").write_bytes(whole[:140])
    write(dx(twelve_bits(), Rows=65535, Columns=65535), folder / "huge.dcm")
    write(dx(twelve_bits(), Rows=8000, Columns=8000), folder / "claims.dcm")
    write(dx(twelve_bits(), NumberOfFrames="2"), folder / "frames.dcm")
    write(dx(twelve_bits(), Modality="MR"), folder / "mr.dcm")
    nothing = dx(twelve_bits())
    del nothing.PixelData
    write(nothing, folder / "nothing.dcm")
    rowless = dx(twelve_bits())
    del rowless.Rows
    write(rowless, folder / "rowless.dcm")
    squeezed = dx(twelve_bits())
    squeezed.compress(RLELossless, generate_instance_uid=False)
    squeezed.Rows = 7000
    write(squeezed, folder / "rle.dcm")
    stream = io.BytesIO()
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(stream, "JPEG")
    bomb = dx(np.zeros((64, 64), np.uint8), 8)
    large = bytearray(stream.getvalue())
    at = large.index(b"\xff\xc0")
    large[at + 5 : at + 9] = b"\xff\xf0\xff\xf0"
    bomb.PixelData = pydicom.encaps.encapsulate([bytes(large)])
    bomb["PixelData"].is_undefined_length = True
    bomb.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    write(bomb, folder / "jpegbomb.dcm")
    bomb.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
    write(bomb, folder / "video.dcm")
    deflated = dx(twelve_bits())
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    content = write(deflated, folder / "deflated.dcm").read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    packer = zlib.compressobj(9, wbits=-15)
    packer.compress(bytes(1 << 16))
    packer.flush(zlib.Z_FULL_FLUSH)
    packed = 40 * (packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH))  # 640 MiB in 0.6 MB
    folder.joinpath("deflated.dcm").write_bytes(content[:start] + packed)
    colour = dx(
        colour_photograph(), 8, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0
    )
    write(colour, folder / "colour.dcm")
    stack = SimpleITK.GetImageFromArray(np.zeros((5, 20, 20), np.uint8))
    SimpleITK.WriteImage(stack, str(folder / "stack.nrrd"))
    SimpleITK.WriteImage(stack, str(folder / "stack.mha"))
    header = b"NRRD0004\ntype: ushort\ndimension: 2\nsizes: 65535 65535\nencoding: raw\nendian: little\n\n"
    folder.joinpath("huge.nrrd").write_bytes(header + b"\0" * 100)
    folder.joinpath("cut.nrrd").write_bytes(header.replace(b"65535", b"500") + b"\0" * 100)
    folder.joinpath("zipped.gz").write_bytes(gzip.compress(b"nothing of use" * 100))


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken")
    write_bad_files(folder)
    return folder


BAD = {
    "missing.dcm": "no such file", "empty.dcm": "empty", "text.txt": "no image", "folder": "folder",
    "bomb.png": "", "short.png": "", "cut.png": "", "cut.jpg": "", "cut.tif": "", "pages.tif": "3 pictures",
    "cut.dcm": "cut short", "preamble.dcm": "", "huge.dcm": "65535 x 65535", "claims.dcm": "cut short",
    "frames.dcm": "2 frames", "mr.dcm": "no radiograph", "nothing.dcm": "no pixel data",
    "rowless.dcm": "Rows",
    "rle.dcm": "", "jpegbomb.dcm": "compressed picture", "video.dcm": "", "deflated.dcm": "too large",
    "colour.dcm": "colour", "stack.nrrd": "one slice", "stack.mha": "one slice", "huge.nrrd": "million",
    "cut.nrrd": "", "zipped.gz": "no image",
}  # fmt: skip
"""File name and part of the reason."""


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gives_one_error_with_its_name_and_reason_within_bounded_memory(broken, name):
    tracemalloc.start()
    try:
        with pytest.raises(FilmError) as raised:
            read_film(broken / name)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(raised.value)
    assert message.startswith(f"{broken / name}: ")
    assert BAD[name] in message
    assert "\n" not in message
    assert len(raised.value.reason) < 300
    assert peak < 120e6


def test_a_device_file_is_refused_at_once():
    with pytest.raises(FilmError, match="regular file"):
        read_film("/dev/zero")


def test_run_length_bytes_that_look_like_a_jpeg_2000_marker_are_no_marker():
    from KneeBoneAgeLib.radiograph.dicom import stream_size

    marker = b"\xff\x4f\xff\x51"
    assert stream_size(b"\x02\x00\x00\x00" + bytes(60) + marker + bytes(80)) is None
    size = (
        marker
        + b"\x00\x29\x00\x00"
        + (300).to_bytes(4, "big")
        + (200).to_bytes(4, "big")
        + bytes(26)
        + b"\x0b"
    )
    assert stream_size(size + bytes(20)) == (200, 300, 12)
