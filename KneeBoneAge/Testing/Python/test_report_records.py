"""A record says what was found, where it was known from, and what a person should look at."""

import dataclasses
import json
import math

import pytest
from report_knees import CROP, Knee, make_film, records, unsure

from KneeBoneAgeLib.radiograph.film import FilmIdentifiers, with_known
from KneeBoneAgeLib.report.records import SURE_CONFIDENCE, format_age, headline

ISSUE_KEYS = [
    *("file", "status", "reason", "knee_index", "side", "box_px", "crop_confidence", "sex"),
    *("chronological_age_months", "bone_age_months", "interval_months", "interval_level", "mature"),
    *("bundle", "bundle_sha256"),
]


def test_a_record_begins_with_the_keys_of_the_command_in_their_order():
    (record,) = records(make_film(), Knee())
    line = json.loads(record.json_line())
    assert list(line)[: len(ISSUE_KEYS)] == ISSUE_KEYS
    assert line["box_px"] == [100.0, 70.0, 200.0, 170.0]
    assert (line["bone_age_months"], line["interval_months"], line["mature"]) == (
        115.34,
        [104.0, 127.0],
        False,
    )
    assert (line["bundle"], line["bundle_sha256"]) == ("tiny", "ab" * 32)


def test_knees_are_counted_from_one_and_a_film_without_is_zero_with_its_reason():
    assert [record.knee_index for record in records(make_film(), Knee(), Knee())] == [1, 2]
    (record,) = records(make_film(), reason="lateral view")
    assert (record.knee_index, record.status, record.reason) == (0, "refused", "lateral view")
    assert record.box_px is None


def test_a_refused_knee_keeps_its_crop_and_gives_its_number_only_as_withheld():
    knee = Knee(
        status="refused",
        reason="implant",
        refusal_kind="content",
        withheld_bone_age_months=99.0,
        bone_age_months=99.0,
    )
    (record,) = records(make_film(), knee)
    assert record.box_px is not None
    assert (record.bone_age_months, record.interval_months, record.withheld_bone_age_months) == (
        None,
        None,
        99.0,
    )
    assert record.refusal_kind == "content"


def test_a_mature_knee_says_at_least_and_never_a_number():
    knee = Knee(mature=True, at_least_months=200.0, bone_age_months=215.0, interval_months=(200.0, 222.0))
    (record,) = records(make_film(), knee)
    assert (record.bone_age_months, record.mature, record.at_least_months) == (None, True, 200.0)
    assert record.interval_months == [200.0, 240.0]
    assert "at least 16 y 8 m" in headline(record)


def test_what_was_typed_wins_and_is_recorded_as_typed():
    (record,) = records(with_known(make_film(), age_months=100.0), Knee())
    assert (record.chronological_age_months, record.age_source) == (100.0, "typed")
    assert (record.sex, record.sex_source) == ("F", "header")
    (record,) = records(make_film(sex=None, age_months=None), Knee())
    assert (record.sex_source, record.age_source) == (None, None)


def test_a_contradiction_between_anatomy_and_header_is_marked():
    assert records(make_film(side="L"), Knee())[0].side_conflict
    assert not records(make_film(side=None), Knee())[0].side_conflict
    typed = records(with_known(make_film(side=None), side="L"), Knee())[0]
    assert not typed.side_conflict
    assert typed.side_from_header is None


def test_the_record_points_back_to_the_film():
    film = make_film(
        identifiers=FilmIdentifiers("1.2", "1.2.3", "1.2.3.4"),
        spacing_mm=(0.15, 0.2),
        notes=("a",),
        polarity="inverted",
    )
    (record,) = records(film, Knee(), notes=("b",))
    assert (record.study_uid, record.series_uid, record.instance_uid) == ("1.2", "1.2.3", "1.2.3.4")
    assert (record.spacing_mm, record.polarity, record.notes) == ([0.15, 0.2], "inverted", ["a", "b"])


def test_numbers_that_are_none_never_reach_the_json():
    knee = Knee(bone_age_months=math.nan, interval_months=(math.inf, 3.0))
    line = records(make_film(), knee)[0].json_line()
    assert json.loads(line, parse_constant=pytest.fail)["bone_age_months"] is None


def test_ages_read_as_a_clinic_says_them():
    assert [format_age(months) for months in (0, 11.6, 115.3, 240)] == [
        "0 y 0 m",
        "1 y 0 m",
        "9 y 7 m",
        "20 y 0 m",
    ]


def test_an_uncertain_crop_is_marked_and_its_answer_stands():
    sure, doubted = records(make_film(), Knee(), unsure(), notes=("b",))
    assert (sure.crop_uncertain, sure.notes) == (False, ["b"])
    assert doubted.crop_uncertain
    assert doubted.notes[0] == "b"
    assert "the crop is uncertain" in doubted.notes[1]
    assert (doubted.status, doubted.reason, doubted.refusal_kind) == ("ok", None, None)
    assert doubted.bone_age_months == sure.bone_age_months


def test_an_uncertain_crop_and_a_refusal_are_told_apart():
    (record,) = records(make_film(), unsure(status="refused", reason="implant", refusal_kind="content"))
    assert (record.reason, record.refusal_kind, record.crop_uncertain) == ("implant", "content", True)


@pytest.mark.parametrize("confidence", [SURE_CONFIDENCE, 1.0, 0.79996, 0.796])
def test_a_sure_crop_is_not_marked(confidence):
    (record,) = records(make_film(), Knee(crop=dataclasses.replace(CROP, confidence=confidence)))
    assert not record.crop_uncertain


def test_a_square_that_a_person_gave_is_never_uncertain():
    crop = dataclasses.replace(CROP, origin="person", confidence=0.1)
    assert not records(make_film(), Knee(crop=crop))[0].crop_uncertain
