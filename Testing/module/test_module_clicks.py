"""How much a person has to do: from a film of the DICOM database to its bone age, counted in clicks."""

import pytest


@pytest.fixture
def opened(application):
    """The module, opened, with its own child process."""
    widget = application.open_module("KneeBoneAge")
    if not widget.installed.ready:
        pytest.skip(widget.installed.line)
    return widget


class Hand:
    """Clicks buttons as a person does, and counts every click of the panel, also one that nobody should make."""

    def __init__(self, ui):
        self.clicks = 0
        for widget in vars(ui).values():
            if hasattr(widget, "clicked"):
                widget.clicked.connect(lambda *_checked: self._count())

    def click(self, button):
        """A button that is hidden, folded away with its section or disabled cannot be clicked."""
        assert button.visible, button.text
        assert button.enabled, button.toolTip
        button.click()

    def _count(self):
        self.clicks += 1


def test_a_film_of_the_dicom_database_has_its_bone_age_after_one_click_and_its_explanation_after_two(
    application, opened, tmp_path
):
    from KneeBoneAgeLib import scene
    from KneeBoneAgeLib.phantom.samples import draw_sample

    hand = Hand(opened.ui)
    film = application.load_dicom(draw_sample("school age", tmp_path))
    application.wait_until(lambda: opened.ui.sexSource.text == "DICOM", 300, "the facts of the film")
    assert opened.film is film
    assert hand.clicks == 0
    hand.click(opened.ui.estimateButton)
    application.wait_until(lambda: len(opened.age_panel.cards) == 2, 600, "the bone ages")
    assert all("months)" in card.text for card in opened.age_panel.cards)
    assert hand.clicks == 1
    hand.click(opened.ui.showSaliencyButton)
    application.wait_until(lambda: opened.explanation_panel.shown() is not None, 600, "the explanation")
    assert hand.clicks == 2
    assert scene.facts(film).typed == ()  # nobody has typed anything
