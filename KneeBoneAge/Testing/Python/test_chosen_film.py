"""Which picture a request means: the file where it shows what Slicer shows, else the array."""

import json

import numpy as np
import pytest

from KneeBoneAgeLib import chosen_film


@pytest.fixture
def array_only(in_slicer):
    """The film without its file."""
    return lambda file, folder: {**in_slicer(file, folder), "file": None}


@pytest.mark.parametrize("name", ["toddler", "adolescent"])  # the second is MONOCHROME1
def test_the_file_is_used_where_it_shows_what_slicer_shows(
    child, samples, tmp_path, name, in_slicer, array_only
):
    by_file = child.done("read", film={"file": samples[name]})
    both = child.done("read", film=in_slicer(samples[name], tmp_path))
    assert both["used"] == "file"
    assert both["polarity"] == "normal"  # bone is bright in Slicer, whatever the file stores
    assert by_file["polarity"] == ("inverted" if name == "adolescent" else "normal")
    assert {**both, "polarity": None} == {**by_file, "polarity": None}
    alone = child.done("read", film=array_only(samples[name], tmp_path))
    assert (alone["used"], alone["polarity"], alone["sex"]) == ("array", "normal", None)


@pytest.mark.parametrize("name", ["toddler", "adolescent"])
def test_module_and_command_give_the_same_number_and_the_array_nearly_so(
    child, samples, tmp_path, name, in_slicer, array_only
):
    from KneeBoneAgeLib.estimator import Estimator
    from KneeBoneAgeLib.radiograph import read_film
    from KneeBoneAgeLib.report.records import Run, estimate_results

    estimator = Estimator.load(device="cpu")
    film = read_film(samples[name])
    (expected,) = estimate_results(samples[name], estimator.estimate(film), Run.of(estimator.bundle))
    (record,) = child.done("estimate", film=in_slicer(samples[name], tmp_path), device="cpu")["records"]
    wanted = json.loads(expected.json_line())
    for key, value in wanted.items():  # the last digit of what was rounded may differ between processes
        numeric = isinstance(value, float) or (
            isinstance(value, list) and value and isinstance(value[0], float)
        )
        assert record[key] == (pytest.approx(value, abs=0.02) if numeric else value), key
    known = {"sex": film.sex, "age_months": film.age_months}
    (alone,) = child.done("estimate", film={**array_only(samples[name], tmp_path), **known}, device="cpu")[
        "records"
    ]
    assert alone["bone_age_months"] == pytest.approx(record["bone_age_months"], abs=6)
    assert (alone["sex"], alone["sex_source"]) == (film.sex, "header")


def test_a_volume_that_was_changed_is_used_instead_of_its_file(child, samples, tmp_path, in_slicer):
    wanted = in_slicer(samples["toddler"], tmp_path)
    values = np.load(wanted["pixels"])
    np.save(wanted["pixels"], values[::-1])
    found = child.done("read", film=wanted)
    assert found["used"] == "array"
    assert any("another picture" in note for note in found["notes"])


def test_a_bent_grey_scale_is_the_same_picture_and_another_child_is_not():
    rng = np.random.default_rng(3)
    film = np.cumsum(rng.standard_normal((200, 150)), axis=1).astype(np.float32)
    film = (film - film.min()) / np.ptp(film)
    windowed = np.clip((film - 0.3) * 4, 0, 1)
    assert np.corrcoef(windowed.ravel(), film.ravel())[0, 1] < 0.95
    alike, sign = chosen_film.likeness(windowed, film * 4095)
    assert alike > chosen_film.EXPLAINED
    assert sign > 0
    assert chosen_film.likeness(windowed, 4095 - film * 4095)[1] < 0
    assert chosen_film.likeness(windowed, film[:, ::-1] * 4095)[0] < 0.9
    assert chosen_film.likeness(windowed, film[:-1])[0] == 0


def test_what_was_typed_wins_is_recorded_and_unknown_can_be_typed(child, samples, tmp_path, in_slicer):
    film = {
        **in_slicer(samples["toddler"], tmp_path),
        "sex": "M",
        "age_months": None,
        "spacing_mm": [0.3, 0.3],
        "typed": ["sex", "age_months", "spacing_mm"],
    }
    (record,) = child.done("estimate", film=film, device="cpu")["records"]
    assert (record["sex"], record["sex_source"], record["chronological_age_months"]) == ("M", "typed", None)
    assert (record["spacing_mm"], record["spacing_source"]) == ([0.3, 0.3], "typed")
    assert "sex typed as M, the file says F" in record["notes"]
    assert child.done("read", film=film)["sex"] == "F"
    error = child.error("usage", "estimate", film={**film, "sex": "Q"}, device="cpu")
    assert "sex must be F or M" in error["message"]


@pytest.mark.parametrize("name", ["toddler", "adolescent"])
def test_a_typed_polarity_is_about_what_slicer_shows(child, samples, tmp_path, name, in_slicer):
    film = in_slicer(samples[name], tmp_path)
    right = child.done("estimate", film={**film, "polarity": "normal", "typed": ["polarity"]}, device="cpu")
    plain = child.done("estimate", film=film, device="cpu")
    assert right["records"][0]["bone_age_months"] == plain["records"][0]["bone_age_months"]
    wrong = child.done(
        "estimate",
        film={**film, "polarity": "inverted", "typed": ["polarity"]},
        crops=plain["knees"],
        device="cpu",
    )
    assert wrong["records"][0]["polarity"] != plain["records"][0]["polarity"]
    assert wrong["records"][0]["distribution"] != plain["records"][0]["distribution"]


def test_an_inverted_volume_is_understood_and_turned_once(child, samples, tmp_path, in_slicer):
    film = in_slicer(samples["toddler"], tmp_path)
    values = np.load(film["pixels"])
    np.save(film["pixels"], values.max() - values)
    found = child.done("read", film=film)
    assert (found["used"], found["polarity"]) == ("file", "inverted")
    found = child.done("read", film={**film, "file": None})
    assert (found["used"], found["polarity"]) == ("array", "inverted")
