"""Every text that a person reads is in the language of the application, the library's too."""

import ast
import importlib
import re
from pathlib import Path

import pytest

MODULE = Path(__file__).parents[2] / "KneeBoneAge"
NOT_SHOWN = {"selftest.py"}
"""What only a tester reads."""
NAMES = {"The KneeBoneAge contributors", "Knee Bone Age", "school age", "Test passed"}
NAMES |= {"Skipped, the networks cannot run here: "}
"""Names, the category that scripts look for, and what the self-test says."""


@pytest.fixture
def language(application, monkeypatch):
    """Another language: every text in angle quotes."""
    i18n = importlib.import_module("slicer.i18n")
    monkeypatch.setattr(i18n, "translate", lambda context, text: f"«{text}»" if text else text)
    yield
    importlib.import_module("KneeBoneAgeLib.words").speak(lambda sentence: sentence)


@pytest.fixture
def translated(language, application, panel):
    """The panel, opened in that language."""
    return panel


def words_of_a_person(tree):
    """Constants that read as words, with whether a translator finds them; docstrings, logs and errors are left out."""
    marked, hidden = set(), set()
    for node in ast.walk(tree):
        parts = {id(one) for one in ast.walk(node)}
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("_", "translate"):
                marked |= parts
            elif called.startswith("logging."):
                hidden |= parts
        elif isinstance(node, ast.Assert | ast.Raise) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        ):
            hidden |= parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in hidden:
            text = re.sub(r"<[^>]*>|&\w+;|\{[^}]*\}", "", node.value)
            if re.search(r"[A-Za-z]{2,} [A-Za-z]", text) and "=" not in text:
                yield node.value, id(node) in marked


def test_every_text_of_the_panel_is_marked_for_translation():
    found = {}
    for file in (MODULE / "KneeBoneAge.py", *sorted((MODULE / "KneeBoneAgeWidgets").glob("*.py"))):
        if file.name not in NOT_SHOWN:
            found[file.name] = [
                text
                for text, marked in words_of_a_person(ast.parse(file.read_text()))
                if not marked and text not in NAMES
            ]
    assert {name: texts for name, texts in found.items() if texts} == {}


def texts(*labels):
    return [label.text for label in labels]


def test_what_the_library_says_of_a_volume_is_translated(application, translated):
    import numpy as np
    import slicer

    slicer.util.addVolumeFromArray(np.zeros((40, 8, 8), np.int16), None, "CT")
    application.process_events()
    assert "«CT has 40 slices" in translated.ui.filmStatus.text
    assert translated.ui.estimateButton.toolTip.count("«") == 1


def test_problems_of_the_child_process_are_translated(application, translated, tools):
    from KneeBoneAgeLib.errors import FilmError
    from KneeBoneAgeLib.problems import problem_of

    said = problem_of(FilmError("/films/knee.dcm", "blank film: it shows no contrast")).to_json()

    def refuse(request):
        refusal = tools.Refusal("film", "")
        refusal.error = said
        raise refusal

    translated.service.answers["find"] = refuse
    translated.service.answers["read"] = refuse
    tools.make_film()
    application.wait_until(lambda: "knee.dcm" in translated.ui.filmStatus.text, 60)
    assert "«knee.dcm: «blank film: it shows no contrast»»" in translated.ui.filmStatus.text
    assert "«Choose a frontal knee radiograph" in translated.ui.filmStatus.text


def test_progress_names_of_nodes_and_answers_are_translated(application, translated, tools):
    import slicer

    from KneeBoneAgeLib import scene

    film = tools.make_film()
    application.wait_until(lambda: translated.ui.sexBox.currentIndex == 2, 60, "the facts of the film")
    translated.service.hold = True
    translated.ui.estimateButton.click()
    translated.service.say(id=translated.logic.worker._number, progress="Looking for the knees…")
    application.wait_until(lambda: translated.ui.ageStatus.text == "«Looking for the knees…»", 20)
    translated.service.release()
    application.wait_until(lambda: len(translated.age_panel.cards) == 2, 60)
    assert [node.GetName() for node in scene.knees(film)] == ["«Right knee»", "«Left knee»"]
    assert scene.results_table(slicer.mrmlScene).GetName() == "«Knee bone age results»"
    card = translated.age_panel.cards[0]
    assert all("«" in text for text in texts(card.title, card.headline, card.details))
    assert "«8 y 8 m»" in card.text
    scene.set_side(scene.knees(film)[0], "L")
    assert scene.knees(film)[0].GetName() == "«Left knee»_1"


def test_the_card_of_a_model_and_the_titles_of_the_results_are_translated(application, translated, tools):
    import slicer

    from KneeBoneAgeLib import scene

    said = translated.ui.cardText.plainText.splitlines()
    assert said[0] == f"«{tools.CARD['first_line']}»"
    assert said[2] == "««Bundle»: «phantom-test, made 2026-01-01»»"
    table = scene.results_table(slicer.mrmlScene)
    assert table.GetColumnTitle("bone_age_months") == "«Bone age (months)»"
    assert table.GetColumnName(2) == "bone_age_months"  # what a script or a spreadsheet goes by


def test_the_reason_of_a_refusal_is_translated_where_it_is_shown_and_english_in_the_table(
    application, translated, tools
):
    from KneeBoneAgeLib import scene

    reason = "most of the crop lies outside of the film; move it onto the knee"

    def answer(request):
        crop = request["crops"][0]
        refused = {"status": "refused", "reason": reason, "bone_age_months": None, "interval_months": None}
        return {
            "bundle_sha256": tools.SHA,
            "records": [tools.record(request["film"], 1, crop, **refused)] * 2,
        }

    film = tools.make_film()
    translated.service.answers["estimate"] = answer
    application.wait_until(lambda: translated.ui.estimateButton.enabled, 60)
    translated.ui.estimateButton.click()
    application.wait_until(lambda: len(translated.age_panel.cards) == 2, 60)
    assert f"«{reason}»" in translated.age_panel.cards[0].text
    assert scene.result(scene.knees(film)[0])["reason"] == reason


def test_reasons_with_values_are_translated_where_they_are_shown(application, translated, tools):
    reason = "body part HAND according to the header, not a knee"
    translated.service.answers["find"] = lambda request: {"knees": [], "reason": reason, "notes": []}
    note = "sex typed as F, the file says M"
    read = translated.service.answers["read"]
    translated.service.answers["read"] = lambda request: {**read(request), "notes": [note]}
    damaged = "/models/x/weights.safetensors: 3 bytes instead of 9: damaged, copy it again"
    cards = [tools.CARD, {"name": "x", "path": "/models/x", "error": damaged, "is_default": False}]
    translated.service.answers["bundles"] = lambda request: {"bundles": cards}
    translated.logic.wait(translated.model_panel.ask())
    tools.make_film()
    application.wait_until(lambda: translated.ui.filmStatus.text == f"«{note}»", 60, "the note")
    translated.ui.findButton.click()
    application.wait_until(lambda: f"«{reason}»" in translated.ui.kneesStatus.text, 60, "the reason")
    translated.ui.bundleBox.currentIndex = 1
    application.process_events()
    assert f"«{damaged}»" in translated.ui.modelStatus.text


def test_what_is_missing_and_the_question_before_installing_are_translated(
    application, language, fakes, monkeypatch, tmp_path
):
    installation = importlib.import_module("KneeBoneAgeLib.installation")
    packages = tuple(installation.Package(name, least, None) for name, least in installation.required())
    monkeypatch.setattr(installation, "look", lambda: installation.Installation(packages, "3.12"))
    panel = application.open_module("KneeBoneAge")
    assert "«Not installed: torch" in panel.ui.installedText.text
    assert "«PyTorch and" in panel.ui.noticeLabel.text
    panel.ui.wheelsPath.currentPath = str(tmp_path)
    application.answers.expect("«Install torch", 0x400000)
    panel.ui.installButton.click()
    assert not application.answers.unexpected
