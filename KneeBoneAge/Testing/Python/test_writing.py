"""Written films: what dciodvfy and a reader say, the same bytes for the same seed, and whole files only."""

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from PIL import Image

from KneeBoneAgeLib.phantom.writing import (
    REGIONS,
    FilmMeta,
    age_string,
    stored_values,
    write_dicom,
    write_png,
)

META = FilmMeta(
    123, seed=5, sex="F", chronological_age_months=131.4, with_birth_date=True, side="R", spacing_mm=0.143
)


@pytest.fixture
def film() -> np.ndarray:
    y, x = np.mgrid[:96, :71].astype(np.float32)
    return (0.5 + 0.5 * np.sin(x / 9) * np.cos(y / 13)).astype(np.float32)


@pytest.mark.skipif(
    shutil.which("dciodvfy") is None, reason="dciodvfy is absent: apt-get install dicom3tools"
)
@pytest.mark.parametrize(
    "meta",
    [
        META,
        replace(META, monochrome=1, bits_stored=10, side="B", burned_in=True),
        replace(META, view="LL", side="L", compression="rle", bits_stored=16),
        replace(META, compression="j2k", bits_stored=14, window=(7000.0, 9000.0), scanner="STORAGE"),
        FilmMeta(1),
        *(FilmMeta(2, body_part=part, side=None) for part in REGIONS),
    ],
    ids=lambda m: f"{m.body_part}-{m.view}-{m.bits_stored}-{m.compression}",
)
def test_dciodvfy_finds_no_error(tmp_path, film, meta):
    path = write_dicom(tmp_path / "film.dcm", film, meta)
    said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    assert "DXImageForPresentation" in said.stderr
    assert [line for line in said.stderr.splitlines() if line.startswith("Error")] == []


@pytest.mark.parametrize("compression", ["none", "rle", "j2k"])
@pytest.mark.parametrize(("bits", "monochrome"), [(10, 2), (12, 1), (14, 2), (16, 1)])
def test_a_written_film_reads_back_as_it_was(tmp_path, film, bits, monochrome, compression):
    meta = replace(META, bits_stored=bits, monochrome=monochrome, compression=compression)
    dataset = pydicom.dcmread(write_dicom(tmp_path / "film.dcm", film, meta))
    values = dataset.pixel_array.astype(np.float64) / (2**bits - 1)
    np.testing.assert_allclose(1 - values if monochrome == 1 else values, film, atol=0.51 / (2**bits - 1))
    assert dataset.PhotometricInterpretation == f"MONOCHROME{monochrome}"
    assert dataset.PresentationLUTShape == ("INVERSE" if monochrome == 1 else "IDENTITY")


def test_the_header_says_who_what_and_that_it_is_a_phantom(tmp_path, film):
    dataset = pydicom.dcmread(write_dicom(tmp_path / "film.dcm", film, META))
    assert dataset.PatientID == "PHANTOM-000123"
    assert (str(dataset.PatientName), dataset.PatientSex, dataset.PatientAge) == (
        "Phantom^Child",
        "F",
        "131M",
    )
    assert dataset.PatientBirthDate == "20130119"
    assert (dataset.ImageLaterality, dataset.ViewPosition, dataset.BodyPartExamined) == ("R", "AP", "KNEE")
    assert dataset.AnatomicRegionSequence[0].CodeValue == "72696002"
    assert [float(v) for v in dataset.ImagerPixelSpacing] == [0.143, 0.143]
    assert float(dataset.EstimatedRadiographicMagnificationFactor) == pytest.approx(
        float(dataset.DistanceSourceToDetector) / float(dataset.DistanceSourceToPatient), rel=1e-3
    )
    assert dataset.ImageComments == "phantom, not a person"
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID


def test_the_same_seed_gives_the_same_bytes_and_uids_are_shared_only_where_they_should(tmp_path, film):
    one, two = (write_dicom(tmp_path / name, film, META).read_bytes() for name in ("one.dcm", "two.dcm"))
    assert one == two
    other = replace(META, instance=2)
    assert META.uid("study") == other.uid("study")
    assert META.uid("instance") != other.uid("instance")
    assert META.uid("study") != replace(META, seed=6).uid("study")
    for what in ("study", "series", "instance"):
        assert pydicom.uid.UID(META.uid(what)).is_valid
        assert META.uid(what).startswith("2.25.")


@pytest.mark.parametrize(("months", "text"), [(0, "000M"), (11.4, "011M"), (24, "024M"), (215.6, "216M")])
def test_ages_are_written_in_months(months, text):
    assert age_string(months) == text


@pytest.mark.parametrize("bits", [8, 16])
def test_a_png_reads_back_as_it_was(tmp_path, film, bits):
    path = write_png(tmp_path / "film.png", film, bits)
    values = np.asarray(Image.open(path)).astype(np.float64) / (2**bits - 1)
    np.testing.assert_allclose(values, film, atol=0.51 / (2**bits - 1))


def test_a_film_that_cannot_be_written_leaves_nothing_behind(tmp_path, film):
    with pytest.raises(ValueError, match="compression"):
        write_dicom(tmp_path / "film.dcm", film, replace(META, compression="zip"))
    with pytest.raises(ValueError, match="bits_stored"):
        write_dicom(tmp_path / "film.dcm", film, replace(META, bits_stored=8))
    with pytest.raises(ValueError, match="body_part"):
        write_dicom(tmp_path / "film.dcm", film, replace(META, body_part="NOSE"))
    with pytest.raises(ValueError, match="rows and columns"):
        write_dicom(tmp_path / "film.dcm", film[None], META)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_keeps_the_old_file(tmp_path, film, monkeypatch):
    path = write_png(tmp_path / "film.png", film)
    before = path.read_bytes()

    def interrupted(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_png(path, 1 - film)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["film.png"]


def test_values_beyond_black_and_white_are_clipped():
    stored = stored_values(np.array([[-1.0, 0.0, 0.5, 1.0, 2.0]], np.float32), 12)
    assert stored.tolist() == [[0, 0, 2048, 4095, 4095]]
