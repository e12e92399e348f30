"""Cohort, public data sets: each reader on a minimal copy of its folders."""

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from KneeBoneAgeTrainingLib.cohort.building import Inputs, Parameters, build
from KneeBoneAgeTrainingLib.cohort.layouts import LAYOUTS
from KneeBoneAgeTrainingLib.cohort.records import StudyError

numbers = iter(range(1, 10_000))


def picture(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = np.random.default_rng(next(numbers)).integers(0, 255, (8, 8), np.uint8)
        if path.suffix == ".dcm":
            dicom(path, grey)
        else:
            Image.fromarray(grey).save(path)


def dicom(path, grey):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    film = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    film.SOPClassUID, film.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    film.Modality, film.Rows, film.Columns, film.SamplesPerPixel = "DX", 8, 8, 1
    film.PhotometricInterpretation, film.PixelRepresentation = "MONOCHROME2", 0
    film.BitsAllocated, film.BitsStored, film.HighBit = 8, 8, 7
    film.PixelData = grey.tobytes()
    film["PixelData"].VR = pydicom.valuerep.VR.OB
    film.save_as(path, enforce_file_format=True)


def write(root, name, *rows):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")


def study(name, root, kind, **chosen):
    return build(Inputs(layouts=((name, root),)), Parameters(kind=kind, **chosen), workers=1)


def facts(cohort):
    return {
        pair.film.patient_id: (
            pair.film.path.name,
            pair.film.sex,
            pair.film.age_months,
            pair.film.bone_age_months,
            pair.film.split,
        )
        for pair in cohort.pairs
    }


@pytest.fixture
def rsna(tmp_path):
    write(
        tmp_path,
        "boneage-training-dataset.csv",
        "id,boneage,male",
        "1377,180,False",
        "1378,12,TRUE",
        "1379,94,",
    )
    folder = "boneage-training-dataset/boneage-training-dataset"
    picture(tmp_path, f"{folder}/1377.png", f"{folder}/1378.png", f"{folder}/1379.png")
    write(
        tmp_path,
        "Bone Age Validation Set/Validation Dataset.csv",
        "Image ID,male,Bone Age (months)",
        "1386,TRUE,168.93",
    )
    inside = "Bone Age Validation Set/boneage-validation-dataset-1/boneage-validation-dataset-1"
    picture(tmp_path, f"{inside}/1386.png", "other/1386.png")
    write(
        tmp_path, "test/truth.csv", "Case ID,Sex,Ground truth bone age (months)", "4360,M,168.93", "4361,F,5"
    )
    picture(tmp_path, "boneage-test-dataset/boneage-test-dataset/4360.png")
    return tmp_path


def test_rsna_is_read_with_its_three_sets_and_their_three_spellings(rsna):
    cohort = study("rsna", rsna, "hand", test_split="given")
    assert facts(cohort) == {
        "rsna-1377": ("1377.png", "F", None, 180.0, "train"),
        "rsna-1378": ("1378.png", "M", None, 12.0, "train"),
        "rsna-1386": ("1386.png", "M", None, 168.93, "train"),
        "rsna-4360": ("4360.png", "M", None, 168.93, "test"),
    }
    assert [(problem.what, problem.source.line) for problem in cohort.problems] == [
        ("unknown sex", 4),
        ("missing file", 3),
    ]
    assert cohort.read == {"hand": 6}
    validation = next(pair.film.path for pair in cohort.pairs if pair.film.patient_id == "rsna-1386")
    assert "boneage-validation-dataset-1" in str(validation)
    assert [place.split for place in cohort.places].count("test") == 1
    age_rule = next(step for step in cohort.steps if step.rule == "age")
    assert not age_rule.stated


def test_the_test_table_of_rsna_without_the_truth_has_no_bone_age_and_is_listed(tmp_path):
    write(tmp_path, "boneage-test-dataset.csv", "Case ID,Sex", "4360,M")
    picture(tmp_path, "boneage-test-dataset/boneage-test-dataset/4360.png")
    cohort = study("rsna", tmp_path, "hand")
    assert [problem.what for problem in cohort.problems] == ["no age"]


def test_rhpe_is_read_with_zero_padded_names_and_chronological_age(tmp_path):
    notes = "RHPE_Annotations"
    write(
        tmp_path,
        f"{notes}/RHPE_Boneage_train.csv",
        "ID,Male,Boneage,Chronological",
        "7,True,120,118",
        "8,False,90,0",
    )
    write(tmp_path, f"{notes}/RHPE_Boneage_val.csv", "ID,Male,Boneage,Chronological", "7,False,60,250")
    write(tmp_path, f"{notes}/RHPE_Gender_Chronological_test.csv", "ID,Male,Chronological", "12345,False,77")
    picture(
        tmp_path, "RHPE_train/00007.png", "RHPE_train/00008.png", "RHPE_val/00007.png", "RHPE_test/12345.png"
    )
    cohort = study("rhpe", tmp_path, "hand")
    assert facts(cohort) == {
        "rhpe-train-00007": ("00007.png", "M", 118.0, 120.0, "train"),
        "rhpe-train-00008": ("00008.png", "F", 0.0, 90.0, "train"),
        "rhpe-test-12345": ("12345.png", "F", 77.0, None, "test"),
    }
    assert [exclusion.rule for exclusion in cohort.exclusions] == ["age"]


def test_the_digital_hand_atlas_is_grouped_by_its_patient_ids(tmp_path):
    write(
        tmp_path,
        "data/annotation.csv",
        "image_ID,dir,patient_ID,sex,bone_age",
        "la_dha_00000.png,la_dha,82104087,F,105.96",
        "la_dha_00001.png,la_dha,82104087,F,117.0",
        "la_dha_00236.png,la_dha,BLKM13,M,157.5",
        "1377.png,rsna,1377,F,180",
    )
    picture(tmp_path, *(f"la_dha/la_dha_{number:05}.png" for number in (0, 1, 236)))
    cohort = study("digital-hand-atlas", tmp_path, "hand")
    assert [pair.film.patient_id for pair in cohort.pairs] == ["dha-82104087", "dha-82104087", "dha-BLKM13"]
    assert cohort.places[0] == cohort.places[1]
    assert [(problem.source.line, problem.what) for problem in cohort.problems] == [(5, "unreadable value")]


@pytest.fixture
def mrkr(tmp_path):
    columns = "empi_anon,SOPInstanceUID_anon,laterality,view_position,StudyDate_anon,age_at_exam,dicom_path"
    write(
        tmp_path,
        "MRKR_image_metadata.csv",
        columns,
        "10000001,1.2.1,R,F,2015-03-01,19,1/a.dcm",
        "10000001,1.2.2,B,L,2015-03-01,19,1/b.dcm",
        "10000002,1.2.3,-1,F,2015-03-01,64,2/c.dcm",
        "10000002,1.2.4,L,Q,2015-03-01,64,2/d.dcm",
        "10000003,1.2.5,L,F,2015-03-01,200,3/e.dcm",
        "10000004,1.2.6,L,F,2015-03-01,30,3/f.dcm",
    )
    write(
        tmp_path,
        "MRKR_demographics.csv",
        "empi_anon,sex,race,ethnicity",
        "10000001,Female,Unknown,Unknown",
        "10000002,male,Unknown,Unknown",
        "10000003,female,Unknown,Unknown",
    )
    picture(tmp_path, *(f"images/{name}.dcm" for name in ("1/a", "1/b", "2/c", "2/d", "3/e", "3/f")))
    return tmp_path


def test_mrkr_joins_its_tables_and_leaves_adults_out_unless_asked(mrkr):
    cohort = study("mrkr", mrkr, "knee")
    assert not cohort.pairs
    assert {exclusion.rule for exclusion in cohort.exclusions if exclusion.kind == "knee"} == {
        "not_frontal",
        "age",
    }
    cohort = study("mrkr", mrkr, "knee", max_age_months=1320)
    assert facts(cohort) == {
        "mrkr-10000001": ("a.dcm", "F", 228.0, None, ""),
        "mrkr-10000002": ("c.dcm", "M", 768.0, None, ""),
    }
    assert [(problem.source.line, problem.what) for problem in cohort.problems] == [
        (5, "unreadable value"),
        (6, "impossible age"),
        (7, "unknown patient"),
    ]
    conditions = {step.rule: step.stated for step in cohort.steps}
    assert not conditions["physeal_trauma"]


def test_several_sets_go_into_one_study_without_mixing_up_their_patients(rsna, tmp_path_factory):
    rhpe = tmp_path_factory.mktemp("rhpe")
    write(rhpe, "annotations/RHPE_Boneage_train.csv", "ID,Male,Boneage,Chronological", "1377,True,120,118")
    picture(rhpe, "RHPE_train/01377.png")
    cohort = build(Inputs(layouts=(("rsna", rsna), ("rhpe", rhpe))), Parameters(kind="hand"), workers=1)
    assert len(facts(cohort)) == len(cohort.pairs) == 5


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_folder_that_is_no_such_set_says_what_was_expected(name, tmp_path):
    write(tmp_path, "list.csv", "id,something", "1,2")
    with pytest.raises(StudyError, match=r"expected .*\.csv"):
        LAYOUTS[name](tmp_path)
    with pytest.raises(StudyError, match="no such folder|expected"):
        LAYOUTS[name](tmp_path / "none")


def test_a_table_of_rhpe_that_lacks_a_column_names_it(tmp_path):
    write(tmp_path, "RHPE_Annotations/RHPE_Boneage_train.csv", "ID,Male,Boneage", "7,True,120")
    with pytest.raises(StudyError, match="column Chronological is missing"):
        LAYOUTS["rhpe"](tmp_path)
