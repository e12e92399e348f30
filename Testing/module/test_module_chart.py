"""The chart of a knee's answer: what it shows of a distribution, a mature knee, a refusal, and in which colours."""

import importlib
from pathlib import Path

import numpy as np
import pytest

RECORD = {
    "status": "ok",
    "bone_age_months": 103.0,
    "interval_months": [94.0, 113.0],
    "chronological_age_months": 110.0,
    "mature": False,
    "at_least_months": None,
}


def spread(middle=103.0, wide=6.0):
    """A distribution over 240 months."""
    density = np.exp(-((np.arange(240) + 0.5 - middle) ** 2) / (2 * wide**2))
    return list(density / density.sum())


@pytest.fixture
def draw(application, panel):
    """Draws a chart: its colours as an array of "#rrggbb", rows of columns, every second pixel."""
    module = importlib.import_module("KneeBoneAgeWidgets.chart")

    def drawn(record, probabilities=None, **options):
        image = module.chart(probabilities or spread(), {**RECORD, **record}, **options).toImage()
        rows, columns = range(1, image.height(), 2), range(1, image.width(), 2)
        return np.array([[image.pixelColor(x, y).name() for x in columns] for y in rows])

    drawn.module = module
    return drawn


def columns_with(picture, colour, rows=slice(40, 84)):
    return np.flatnonzero((picture[rows] == colour).any(axis=0))


def test_the_estimate_lies_in_its_interval_and_the_age_beside_it(draw):
    colours = draw.module.LIGHT
    picture = draw({})
    assert picture.shape == (110, 340)
    (estimate,) = {round(float(columns_with(picture, colours.estimate).mean()))}
    band = columns_with(picture, colours.band, slice(36, 40))
    age = columns_with(picture, colours.age)
    assert band[0] < estimate < band[-1]
    assert estimate < age.mean() < band[-1]
    assert (picture[80, band[0] + 3 : estimate - 3] == colours.filled).all()


def test_a_refused_knee_is_grey_and_names_no_number(draw):
    colours = draw.module.LIGHT
    picture = draw({"status": "refused", "bone_age_months": None, "interval_months": None})
    seen = set(picture.ravel())
    assert not seen & {colours.estimate, colours.band, colours.filled, colours.curve}
    assert {colours.refused, colours.age} <= seen


def test_a_mature_knee_points_from_its_least_age_to_the_end_of_the_scale(draw):
    mature = {
        "mature": True,
        "bone_age_months": None,
        "at_least_months": 190.0,
        "interval_months": [190.0, 240.0],
    }
    colours = draw.module.LIGHT
    picture = draw({**mature, "chronological_age_months": None}, spread(215.0, 9.0))
    arrow = columns_with(picture, colours.estimate, slice(42, 43))
    assert arrow[-1] > 320
    assert arrow[-1] - arrow[0] > 150


def test_an_answer_without_age_or_distribution_is_drawn_too(draw):
    colours = draw.module.LIGHT
    picture = draw({"chronological_age_months": None}, [0.0, 0.0])
    assert columns_with(picture, colours.estimate).size
    assert not columns_with(picture, colours.age).size


def test_texts_of_estimate_and_age_never_overlap(draw):
    for age in np.arange(90, 118, 1.5):
        picture = draw({"chronological_age_months": float(age)})
        estimate = columns_with(picture, draw.module.LIGHT.estimate, slice(8, 28))
        other = columns_with(picture, draw.module.LIGHT.age, slice(8, 28))
        assert estimate.size
        assert other.size
        assert estimate[-1] < other[0] or other[-1] < estimate[0], age


def test_labels_are_in_the_language_of_the_application(application, panel, monkeypatch):
    module = importlib.import_module("KneeBoneAgeWidgets.chart")
    said = []
    monkeypatch.setattr(module, "_", lambda text: said.append(text) or text)
    module.chart(spread(), RECORD)
    module.chart(spread(), {**RECORD, "status": "refused"})
    assert {"bone age {age}", "age {age}", "{years} y", "refused: no bone age"} <= set(said)


def dark_palette(qt):
    """Light letters on a dark ground, grey ones where a widget is disabled."""
    palette = qt.QPalette(qt.QColor("#2b2b2b"))
    for role in (qt.QPalette.WindowText, qt.QPalette.Text, qt.QPalette.ButtonText):
        palette.setColor(qt.QPalette.Disabled, role, qt.QColor("#7f7f7f"))
    return palette


def test_charts_come_with_their_numbers_and_follow_the_colours_of_the_application(
    application, panel, estimated
):
    import qt
    import slicer

    assert all(card.picture is not None for card in panel.age_panel.cards)
    if application.real:
        pytest.skip("the colours of the application are a person's own")
    light = slicer.app.palette()

    def ground():
        return {card.picture.toImage().pixelColor(2, 2).name() for card in panel.age_panel.cards}

    assert ground() == {"#fafaf8"}
    try:
        slicer.app.setPalette(dark_palette(qt))
        application.wait_until(lambda: ground() == {"#1b2936"}, 60)
        panel.ui.sexBox.currentIndex = 1
        application.process_events()
        application.picture_of_panel(panel, Path(__file__).parents[1] / "Output" / "panel-dark.png")
    finally:
        slicer.app.setPalette(light)
    application.wait_until(lambda: ground() == {"#fafaf8"}, 60)
