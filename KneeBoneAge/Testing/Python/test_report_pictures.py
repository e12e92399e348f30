"""Pictures of a report say what the bundle says of itself and show squares and heat where they lie."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import ImageDraw
from report_knees import CROP, RUN, Knee, make_film, records, unsure

from KneeBoneAgeLib.bundle import PHANTOM_FIRST_LINE
from KneeBoneAgeLib.crop import KneeCrop, map_to_film
from KneeBoneAgeLib.report import pictures
from KneeBoneAgeLib.report.page import Page
from KneeBoneAgeLib.report.records import RESEARCH_ONLY, Result, Run


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


@pytest.mark.parametrize("first_line", [PHANTOM_FIRST_LINE, OWN_FIRST_LINE], ids=["phantom", "own"])
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
