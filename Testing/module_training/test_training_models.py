"""Recipes of one's own, bundles, and what is not installed."""

import importlib

import pytest


@pytest.fixture
def knee_run(application, open_panel, tools, runs_folder):
    """The module with a finished knee run."""
    folder = tools.write_run(runs_folder / "knee-1", state="finished", kind="knee", recipe="knee-transfer")
    tools.write_metrics(folder)
    return open_panel()


def test_the_papers_recipe_comes_first_and_the_last_choice_is_kept(application, open_panel, loaded):
    panel = open_panel()
    assert panel.ui.recipeBox.currentText == "convnext-hand"
    assert "first with sex, then with chronological age" in panel.ui.recipeText.text
    assert "30 (with-sex), 10 (with-age)" in panel.ui.recipeText.text
    panel.ui.recipeBox.currentIndex = 0
    application.process_events()
    assert "Spampinato" in panel.ui.recipeText.text
    assert panel.ui.nameEdit.placeholderText == "bonet-1"
    import slicer

    assert slicer.util.settingsValue("KneeBoneAgeTraining/Recipe", "") == "bonet"


def test_a_recipe_of_ones_own_is_checked_before_it_can_be_started(application, with_study, tmp_path, tools):
    panel = with_study
    panel.ui.recipeBox.currentIndex = 3
    application.process_events()
    assert panel.ui.recipePath.visible
    assert not panel.ui.trainButton.enabled
    own = tmp_path / "own.yaml"
    own.write_text("epoch: 3\n")
    panel.ui.recipePath.currentPath = str(own)
    application.wait_until(lambda: "the nearest known one is" in panel.ui.trainStatus.text, 20)
    assert not panel.ui.trainButton.enabled
    application.picture_of_panel(panel, tools.OUTPUT / "training-own-recipe.png")
    own.write_text("epochs: 3\n")
    panel.ui.recipePath.currentPath = ""
    panel.ui.recipePath.currentPath = str(own)
    application.wait_until(lambda: panel.ui.trainButton.enabled, 20)
    assert not panel.ui.trainStatus.text
    assert "A recipe of one's own" in panel.ui.recipeText.text


def test_a_folder_that_is_no_study_is_told(application, panel, tmp_path):
    panel.ui.studyPath.currentPath = str(tmp_path)
    application.wait_until(lambda: "there is no study here" in panel.ui.studyStatus.text, 20)
    assert not panel.ui.flowButton.visible
    assert not panel.ui.trainButton.enabled


def test_the_study_is_remembered(application, with_study, open_panel, study_folder):
    import slicer

    assert slicer.util.settingsValue("KneeBoneAgeTraining/Study", "") == str(study_folder)


def test_a_knee_run_is_exported_by_the_command_line(application, knee_run, tmp_path):
    application.answers.choose(tmp_path / "bundle")
    knee_run.ui.exportButton.click()
    exporter = knee_run.exporter
    assert exporter.starts == 1
    assert list(exporter.arguments[-3:]) == [
        "export",
        str(knee_run.results_panel.run.folder),
        str(tmp_path / "bundle"),
    ]
    exporter.on_line("Gathering 5 folds")
    assert knee_run.ui.resultsStatus.text == "Gathering 5 folds"
    application.process_events()
    assert knee_run.ui.exportButton.text == "Cancel"
    assert not knee_run.ui.useButton.enabled
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.json").write_text("{}")
    exporter.die()
    application.process_events()
    assert knee_run.ui.resultsStatus.text == f"Written: {tmp_path / 'bundle'}"
    assert knee_run.ui.exportButton.text == "Export bundle..."


def test_an_export_can_be_cancelled(application, knee_run, tmp_path):
    application.answers.choose(tmp_path / "bundle")
    knee_run.ui.exportButton.click()
    application.process_events()
    knee_run.ui.exportButton.click()
    application.process_events()
    assert knee_run.exporter.kills == 1
    assert knee_run.ui.resultsStatus.text == "Cancelled"
    assert knee_run.ui.exportButton.text == "Export bundle..."


def test_a_hand_run_labels_the_hand_films_of_the_chosen_study(
    application, with_study, tools, runs_folder, tmp_path
):
    panel = with_study
    tools.write_metrics(tools.write_run(runs_folder / "teacher", state="finished"))
    application.wait_until(lambda: panel.ui.runTitle.text.startswith("teacher"), 10)
    out = tmp_path / "labels.csv"
    out.write_text("from before\n")
    application.answers.choose(out)
    panel.ui.labelButton.click()
    assert list(panel.exporter.arguments[-6:]) == [
        *("pseudo-label", str(runs_folder / "teacher")),
        *("--study", panel.study_panel.study["folder"], "--out", str(out)),
    ]
    panel.exporter.die()
    application.process_events()
    assert "labels.csv was not written" in panel.ui.resultsStatus.text
    application.answers.choose(out)
    panel.ui.labelButton.click()
    out.write_text("file,patient_id,pseudo_label_months\n")
    panel.exporter.die()
    application.process_events()
    assert panel.ui.resultsStatus.text.startswith(f"Written: {out}.")
    assert panel.ui.labelsPath.currentPath == str(out)


def test_an_export_that_fails_is_told(application, knee_run, tmp_path):
    application.answers.choose(tmp_path / "bundle")
    knee_run.ui.exportButton.click()
    knee_run.exporter.on_log("Error: fold-3 has no weights")
    knee_run.exporter.die()
    application.process_events()
    assert "bundle.json was not written (Error: fold-3 has no weights)." in knee_run.ui.resultsStatus.text


def test_use_in_knee_bone_age_exports_installs_and_chooses_the_model(application, knee_run, loaded, tools):
    import slicer

    card = {
        "name": "clinic",
        "path": "/models/clinic",
        "sha256": "c" * 64,
        "first_line": "A card.",
        "rows": [],
        "is_default": False,
    }
    first = slicer.util.getModuleWidget("KneeBoneAge")
    service = loaded.made["service"]
    service.answers["bundles"] = lambda request: {"bundles": [card]}
    asked = []
    service.answers["install_bundle"] = lambda request: asked.append(request["file"]) or card
    bundle = knee_run.results_panel.run.folder / "bundle"
    knee_run.ui.useButton.click()
    assert knee_run.exporter.starts == 1
    bundle.mkdir()
    (bundle / "bundle.json").write_text("{}")
    knee_run.exporter.die()
    application.wait_until(lambda: first.logic.getParameterNode().model == card["sha256"], 20)
    application.process_events()
    assert asked == [str(bundle)]
    assert "clinic" in knee_run.ui.resultsStatus.text
    assert first.open
    # Once made, it is not made again.
    application.open_module("KneeBoneAgeTraining")
    knee_run.ui.useButton.click()
    application.wait_until(lambda: len(asked) == 2, 20)
    assert knee_run.exporter.starts == 1


def test_nothing_can_be_trained_before_lightning_is_there(
    application, loaded, open_panel, monkeypatch, tools
):
    installation = importlib.import_module("KneeBoneAgeLib.installation")
    packages = (installation.Package("lightning", "2.2", None), installation.Package("torch", "2.2", "2.9"))
    monkeypatch.setattr(loaded.installing, "look", lambda: installation.Installation(packages, "3.12"))
    panel = open_panel()
    assert "Not installed: lightning" in panel.ui.studyStatus.text or panel.ui.installedText.text
    assert "Not installed: lightning" in panel.ui.trainButton.toolTip
    assert not panel.ui.installationSection.collapsed
    application.answers.expect("lightning")
    panel.ui.installButton.click()
    application.process_events()
    assert panel.pip.starts == 1
    assert "lightning>=2.2" in panel.pip.arguments
    application.picture_of_panel(panel, tools.OUTPUT / "training-missing.png")
    panel.ui.installButton.click()
    assert panel.pip.kills == 1


def test_the_requirements_are_those_of_the_project_with_training(tools):
    import tomllib

    installation = importlib.import_module("KneeBoneAgeLib.installation")
    path = tools.ROOT / "KneeBoneAgeTraining" / "Resources" / "requirements.txt"
    listed = dict(installation.required(path))
    project = tomllib.loads((tools.ROOT / "pyproject.toml").read_text())["project"]
    wanted = dict(
        one.split(">=") for one in [*project["dependencies"], *project["optional-dependencies"]["training"]]
    )
    owned = {"numpy", "SimpleITK"}
    assert listed == {name: least for name, least in wanted.items() if name not in owned}


def test_opening_the_module_uses_nothing_that_the_application_lacks(application, with_study):
    with_study.refresh()
    assert application.members_not_in_application() == []


def test_the_module_names_nothing_that_the_application_lacks(application, tools):
    if application.real:
        pytest.skip("this is the real application")
    from shell import api

    if api.missing():
        pytest.skip(api.missing())
    module = tools.ROOT / "KneeBoneAgeTraining"
    files = [module / "KneeBoneAgeTraining.py", *sorted((module / "KneeBoneAgeTrainingWidgets").glob("*.py"))]
    files.append(module / "KneeBoneAgeTrainingLib" / "scene.py")
    assert api.unknown_names(files, sorted((module / "Resources" / "UI").glob("*.ui"))) == []


def test_the_modules_own_test_passes(application, loaded):
    module = importlib.import_module("KneeBoneAgeTraining")
    module.KneeBoneAgeTrainingTest().runTest()
