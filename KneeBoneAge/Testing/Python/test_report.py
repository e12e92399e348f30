"""Records say what was found, files stay whole when a run is stopped, pictures show it where it lies."""

import csv
import dataclasses
import io
import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from KneeBoneAgeLib.bundle import PHANTOM_FIRST_LINE
from KneeBoneAgeLib.crop import KneeCrop, map_to_film
from KneeBoneAgeLib.radiograph.film import Film, FilmIdentifiers, with_known
from KneeBoneAgeLib.report import pictures
from KneeBoneAgeLib.report.files import JsonLines, Table
from KneeBoneAgeLib.report.page import Page
from KneeBoneAgeLib.report.records import (
    RESEARCH_ONLY,
    SURE_CONFIDENCE,
    Result,
    Run,
    error_result,
    estimate_results,
    format_age,
    headline,
)

ISSUE_KEYS = [
    *("file", "status", "reason", "knee_index", "side", "box_px", "crop_confidence", "sex"),
    *("chronological_age_months", "bone_age_months", "interval_months", "interval_level", "mature"),
    *("bundle", "bundle_sha256"),
]
RUN = Run("tiny", "ab" * 32, 240.0, "This bundle has never seen a real child.")
CROP = KneeCrop((150.0, 120.0), 100.0, angle_deg=5.0, side="R", confidence=0.875)


@dataclasses.dataclass(frozen=True)
class Knee:
    """What `estimator.KneeEstimate` looks like."""

    crop: KneeCrop = CROP
    status: str = "ok"
    reason: str | None = None
    refusal_kind: str | None = None
    bone_age_months: float | None = 115.34
    withheld_bone_age_months: float | None = None
    at_least_months: float | None = None
    interval_months: tuple[float, float] | None = (104.0, 127.0)
    interval_level: float = 0.9
    mature: bool = False


@dataclasses.dataclass(frozen=True)
class Found:
    knees: tuple = ()
    reason: str | None = None
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Estimate:
    film: Film
    knees: tuple
    finding: Found = Found()


def make_film(**facts):
    pixels = np.linspace(0, 1, 240 * 300, dtype=np.float32).reshape(240, 300)
    return Film(pixels, "a.dcm", **{"sex": "F", "age_months": 110.0, "side": "R", **facts})


def records(film, *knees, **finding):
    return estimate_results("a.dcm", Estimate(film, knees, Found(**finding)), RUN)


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


def test_json_and_csv_are_whole_after_each_film(tmp_path):
    lines, table = JsonLines(tmp_path / "new" / "a.jsonl"), Table(tmp_path / "a.csv")
    for count in (1, 2):
        results = records(make_film(), Knee(), Knee())
        lines.write(results)
        table.write(results)
        written = (tmp_path / "new" / "a.jsonl").read_text()
        assert written.endswith("\n")
        assert len([json.loads(line) for line in written.splitlines()]) == 2 * count
        rows = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))
        assert len(rows) == 2 * count
    lines.close()
    table.close()
    assert (rows[0]["x0"], rows[0]["interval_high_months"], rows[0]["mature"]) == ("100.0", "127.0", "false")


def test_csv_cells_with_commas_and_missing_values_stay_in_their_columns(tmp_path):
    with Table(tmp_path / "a.csv") as table:
        table.write([error_result('odd, "name".dcm', "cut short,\nreally", RUN)])
    (row,) = csv.DictReader((tmp_path / "a.csv").open(newline=""))
    assert (row["file"], row["reason"], row["x0"], row["status"]) == (
        'odd, "name".dcm',
        "cut short,\nreally",
        "",
        "error",
    )


def test_ages_read_as_a_clinic_says_them():
    assert [format_age(months) for months in (0, 11.6, 115.3, 240)] == [
        "0 y 0 m",
        "1 y 0 m",
        "9 y 7 m",
        "20 y 0 m",
    ]


def test_the_page_carries_its_pictures_and_escapes_what_it_shows(tmp_path):
    with Page(tmp_path / "report.html", RUN) as page:
        results = records(make_film(), Knee(reason="<script>alert(1)</script>"))
        panel = pictures.panel(make_film().pixels, CROP, results[0], RUN)
        page.write(results, film=pictures.jpeg(panel), knees=[pictures.png(panel)])
    text = (tmp_path / "report.html").read_text()
    assert "<script>" not in text
    assert "data:image/jpeg;base64," in text
    assert "data:image/png;base64," in text
    assert "http" not in text
    assert RESEARCH_ONLY in text
    assert "never seen a real child" in text


def test_page_and_picture_say_what_the_answer_had_to_do_without(tmp_path):
    told = []
    for sex, age in ((None, None), ("F", None), (None, 100.0), ("F", 100.0)):
        (result,) = records(make_film(sex=sex, age_months=age), Knee())
        with Page(tmp_path / "report.html", RUN) as page:
            page.write([result])
        text = (tmp_path / "report.html").read_text()
        unknown = re.search("<th>Unknown</th><td>(.*?)</td>", text)
        told.append(unknown[1] if unknown else None)
        assert ("unknown" in pictures._details(result)) == (unknown is not None)
    assert told == ["sex and chronological age", "chronological age", "sex", None]


@pytest.fixture
def drawn(monkeypatch):
    """Every text that is drawn into a picture, with the share of it that lies inside of the picture."""
    texts = []
    draw_text = ImageDraw.ImageDraw.text

    def text(self, place, words, fill=None, font=None, anchor=None, **more):
        x0, y0, x1, y1 = self.textbbox(place, words, font, anchor)
        width, height = self.im.size
        inside = max(0, min(x1, width) - max(x0, 0)) * max(0, min(y1, height) - max(y0, 0))
        texts.append((words, inside / ((x1 - x0) * (y1 - y0)), y1 - y0))
        draw_text(self, place, words, fill, font, anchor, **more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return texts


def read_off(texts):
    """What a person reads in a picture; nothing of it is cut off or too small."""
    assert all(inside == 1 and height >= 7 for _words, inside, height in texts)
    words = " ".join(words for words, _inside, _height in texts)
    texts.clear()
    return words


def each_picture(run, result):
    """Pictures that may be seen alone: a wide panel, a narrow one, a film with and without a map, a small film."""
    film = make_film().pixels
    yield pictures.panel(film, CROP, result, run, film, np.full(120, 1 / 120))
    yield pictures.panel(film, CROP, result, run)
    yield pictures.overlay(film, [(CROP, result)], run)
    yield pictures.overlay(film, [(CROP, result)], run, film)
    yield pictures.overlay(film[::3, ::3], [(None, result)], run)


OWN_FIRST_LINE = (
    "This bundle was trained on films of the study Tyrol, 40 children; it was not tested on others."
)


@pytest.mark.parametrize("first_line", [PHANTOM_FIRST_LINE, OWN_FIRST_LINE])
def test_each_picture_says_what_the_bundle_says_of_itself(first_line, drawn):
    run = Run.of(bundle_of(first_line))
    (result,) = records(make_film(), Knee())
    for picture in each_picture(run, result):
        said = read_off(drawn)
        assert f"{first_line} {RESEARCH_ONLY}" in said
        assert ("never seen a real child" in said) == (first_line == PHANTOM_FIRST_LINE)
        ground = np.asarray(picture)[-8:]
        assert (ground == pictures.NIGHT).all(-1).mean() > 0.9  # below the film, not over it


def bundle_of(first_line):
    manifest = SimpleNamespace(
        card_first_line=first_line,
        architecture=SimpleNamespace(months_to=240.0),
    )
    return SimpleNamespace(name="tiny", sha256="ab" * 32, manifest=manifest)


def unsure(**facts):
    return Knee(crop=dataclasses.replace(CROP, confidence=SURE_CONFIDENCE - 0.01), **facts)


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


@pytest.mark.parametrize("confidence", [SURE_CONFIDENCE, 1.0])
def test_a_sure_crop_is_not_marked(confidence):
    (record,) = records(make_film(), Knee(crop=dataclasses.replace(CROP, confidence=confidence)))
    assert not record.crop_uncertain


def test_a_square_that_a_person_gave_is_never_uncertain():
    crop = dataclasses.replace(CROP, origin="person", confidence=0.1)
    assert not records(make_film(), Knee(crop=crop))[0].crop_uncertain


def test_pictures_and_page_show_that_a_crop_is_uncertain(drawn, tmp_path):
    sure, doubted = (records(make_film(), knee)[0] for knee in (Knee(), unsure()))
    told = []
    for result in (sure, doubted):
        with Page(tmp_path / "report.html", RUN) as page:
            page.write([result])
        told.append("uncertain" in (tmp_path / "report.html").read_text())
        for number, _picture in enumerate(each_picture(RUN, result)):
            said = read_off(drawn)
            told.append("uncertain" in said or number == 4)  # the last one shows no crop
    assert told == [False] * 5 + [True] + [True] * 6


def test_the_square_of_an_uncertain_crop_is_broken():
    film = np.zeros((900, 700), np.float32)
    crop = KneeCrop((300.0, 500.0), 200.0)
    share = []
    for uncertain in (False, True):
        result = Result(
            "a.png", "ok", knee_index=1, side="R", bone_age_months=100.0, crop_uncertain=uncertain
        )
        rows, columns = amber(pictures.overlay(film, [(crop, result)], RUN))
        below = rows[(rows > 590) & (columns > 190) & (columns < 410)]
        share.append(len(below))
    assert 0.4 < share[1] / share[0] < 0.8


def top_of_cells(panel):
    """First row of the cells of a panel: the first one that the ground does not show through."""
    rows = (panel[:, pictures.PAD : pictures.PAD + pictures.CELL_PX] != pictures.NIGHT).any(-1).mean(1)
    return int((rows == 1).argmax())


def amber(picture):
    pixels = np.asarray(picture, int)
    return (abs(pixels - pictures.AMBER).sum(axis=-1) < 30).nonzero()


def test_the_square_is_drawn_where_the_crop_lies_on_the_film():
    film = np.zeros((900, 700), np.float32)
    crop = KneeCrop((300.0, 500.0), 200.0)
    result = Result("a.png", "ok", knee_index=1, side="R", bone_age_months=100.0)
    rows, columns = amber(pictures.overlay(film, [(crop, result)], RUN))
    label = rows < 398
    assert columns[~label].min() == pytest.approx(200, abs=3)
    assert columns[~label].max() == pytest.approx(400, abs=3)
    assert rows.max() == pytest.approx(600, abs=3)


def test_large_films_are_shown_smaller_and_squares_with_them():
    film = np.zeros((2800, 2800), np.float32)
    result = Result("a.png", "ok", knee_index=1, side="L", bone_age_months=100.0)
    picture = pictures.overlay(film, [(KneeCrop((1400.0, 2000.0), 1000.0), result)], RUN)
    assert picture.width == 1400
    rows, _ = amber(picture)
    assert rows.max() == pytest.approx(1250, abs=4)


def test_the_heat_lies_on_the_place_that_the_saliency_marks():
    film = np.full((400, 400), 0.2, np.float32)
    crop = KneeCrop((200.0, 200.0), 200.0, mirrored=True)
    hot = np.zeros((400, 400), np.float32)
    hot[150:160, 240:250] = 1
    result = Result("a.png", "ok", knee_index=1, side="L", bone_age_months=100.0)
    plain = np.asarray(pictures.panel(film, crop, result, RUN), int)
    heated = np.asarray(pictures.panel(film, crop, result, RUN, hot), int)
    top = top_of_cells(heated)
    cell = heated[top : top + pictures.CELL_PX, 2 * pictures.PAD + pictures.CELL_PX :][:, : pictures.CELL_PX]
    rows, columns = (cell[..., 0] > 150).nonzero()
    assert rows.mean() / pictures.CELL_PX == pytest.approx((155 - 100) / 200, abs=0.02)
    assert columns.mean() / pictures.CELL_PX == pytest.approx((245 - 100) / 200, abs=0.02)
    assert plain.shape[1] < heated.shape[1]


def test_a_saliency_of_a_crop_survives_the_way_over_the_film_into_the_panel():
    film = np.full((400, 400), 0.2, np.float32)
    crop = KneeCrop((200.0, 200.0), 200.0, angle_deg=20.0)
    values = np.zeros((50, 50), np.float32)
    values[10:14, 30:34] = 1
    result = Result("a.png", "ok", knee_index=1, side="R", bone_age_months=100.0)
    heated = np.asarray(pictures.panel(film, crop, result, RUN, map_to_film(values, crop, film.shape)), int)
    top = top_of_cells(heated)
    cell = heated[top : top + pictures.CELL_PX, 2 * pictures.PAD + pictures.CELL_PX :][:, : pictures.CELL_PX]
    rows, columns = (cell[..., 0] > 150).nonzero()
    assert (rows.mean() / pictures.CELL_PX, columns.mean() / pictures.CELL_PX) == pytest.approx(
        (0.24, 0.64), abs=0.03
    )


def test_a_map_without_any_saliency_leaves_the_crop_as_it_is():
    film = np.full((400, 400), 0.2, np.float32)
    result = Result("a.png", "ok", knee_index=1, side="R", bone_age_months=100.0)
    heated = np.asarray(
        pictures.panel(film, KneeCrop((200.0, 200.0), 200.0), result, RUN, np.zeros_like(film))
    )
    top = top_of_cells(heated)
    first, second = (
        heated[top : top + pictures.CELL_PX, x : x + pictures.CELL_PX]
        for x in (pictures.PAD, 2 * pictures.PAD + pictures.CELL_PX)
    )
    assert np.array_equal(first, second)


def test_the_distribution_of_a_refused_knee_is_not_shown():
    film = np.full((400, 400), 0.2, np.float32)
    crop = KneeCrop((200.0, 200.0), 200.0)
    bins = np.full(120, 1 / 120)
    shown = pictures.panel(
        film, crop, Result("a", "ok", knee_index=1, bone_age_months=100.0), RUN, None, bins
    )
    hidden = pictures.panel(film, crop, Result("a", "refused", reason="x", knee_index=1), RUN, None, bins)
    assert hidden.width < shown.width


def test_pictures_of_a_report_say_in_their_header_that_they_are_no_film():
    content = pictures.png(Image.new("RGB", (8, 8)))
    assert pictures.PICTURE_MARK.encode() in content[:512]
    assert Image.open(io.BytesIO(content)).size == (8, 8)


def test_a_patch_is_kept_with_sixteen_bits():
    picture = Image.open(io.BytesIO(pictures.png_patch(np.array([[0.0, 0.5], [1.0, 2.0]]))))
    assert np.asarray(picture).tolist() == [[0, 32768], [65535, 65535]]
