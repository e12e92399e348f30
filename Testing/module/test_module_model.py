"""Models and installation: cards, a model from a file, what is missing, and installing it."""

import importlib
import importlib.machinery
import sys
import types

import pytest

from KneeBoneAgeLib import installation

ALL_MISSING = installation.Installation(
    tuple(installation.Package(name, least, None) for name, least in installation.required()), "3.12"
)
READY = installation.Installation((installation.Package("torch", "2.2", "2.9"),), "3.12")


@pytest.fixture
def look(fakes, monkeypatch):
    """Sets what the module finds installed; the module as it was loaded, which need not be the one imported above."""
    loaded = importlib.import_module("KneeBoneAgeLib.installation")
    return lambda found: monkeypatch.setattr(loaded, "look", lambda: found)


@pytest.fixture
def missing(look):
    """Nothing is installed."""
    look(ALL_MISSING)


def test_the_card_of_the_model_is_shown(application, panel, tools):
    assert panel.ui.bundleBox.currentText == "phantom-test (default)"
    said = panel.ui.cardText.plainText.splitlines()
    assert "never seen a real child" in said[0]
    assert said[2:] == [
        "Bundle: phantom-test, made 2026-01-01",
        "Intended use: Tests of the panel.",
        "Size: 12.3 MB",
    ]
    panel.ui.modelSection.collapsed = False
    application.picture_of_panel(panel, tools.OUTPUT / "panel-model.png")


def test_another_model_makes_answers_out_of_date_and_takes_the_warning_away(
    application, panel, estimated, tools
):
    other = {
        **tools.CARD,
        "name": "clinic",
        "sha256": "b" * 64,
        "path": "/models/clinic",
        "is_default": False,
    }
    panel.service.answers["bundles"] = lambda request: {"bundles": [tools.CARD, other]}
    panel.model_panel.ask()
    application.wait_until(lambda: panel.ui.bundleBox.count == 2, 60)
    panel.ui.bundleBox.currentIndex = 1
    application.process_events()
    assert all(card.out_of_date for card in panel.age_panel.cards)
    assert "default model" not in panel.ui.researchLabel.text
    panel.ui.estimateButton.click()
    application.process_events()
    assert panel.service.requests("estimate")[-1]["bundle"] == "/models/clinic"
    panel.ui.bundleBox.currentIndex = 0
    application.process_events()
    assert "default model" in panel.ui.researchLabel.text


def test_a_model_is_installed_from_a_file(application, panel, tmp_path, tools):
    new = {**tools.CARD, "name": "new", "sha256": "c" * 64, "path": "/models/new", "is_default": False}

    def install(request):
        assert request["file"] == str(tmp_path / "new.zip")
        panel.service.answers["bundles"] = lambda request: {"bundles": [tools.CARD, new]}
        return new

    panel.service.answers["install_bundle"] = install
    application.answers.choose(tmp_path / "new.zip")
    panel.ui.installBundleButton.click()
    application.wait_until(lambda: panel.ui.bundleBox.count == 2 and panel.logic.bundle == "/models/new", 60)
    application.process_events()
    assert "Installed: new" in panel.ui.modelStatus.text
    assert panel.ui.bundleBox.currentText == "new"


def test_a_folder_that_is_no_model_is_told(application, panel, tools):
    def refuse(request):
        raise tools.Refusal("bundle", "x.zip: not a bundle, there is no bundle.json", "Choose another file")

    panel.service.answers["install_bundle"] = refuse
    application.answers.choose("/tmp/x.zip")
    panel.ui.installBundleButton.click()
    application.wait_until(lambda: "not a bundle" in panel.ui.modelStatus.text, 60)
    application.answers.choose()
    panel.ui.installBundleButton.click()
    assert len(panel.service.requests("install_bundle")) == 1


def test_without_packages_the_panel_says_what_is_missing_and_starts_nothing(
    application, missing, panel, tools
):
    tools.make_film()
    application.process_events()
    assert not panel.ui.modelSection.collapsed
    assert "torch" in panel.ui.installedText.text
    assert panel.ui.installButton.enabled
    assert not panel.ui.estimateButton.enabled
    assert "Press Install" in panel.ui.estimateButton.toolTip
    assert not panel.service.asked
    others = len(ALL_MISSING.packages) - 1
    assert f"PyTorch and {others} other packages" in panel.ui.noticeLabel.text
    assert "Press Install in the section Model" in panel.ui.noticeLabel.text
    assert "pip download -r requirements.txt" in panel.ui.wheelsHint.text
    assert "Python 3.12" in panel.ui.wheelsHint.text
    application.picture_of_panel(panel, tools.OUTPUT / "panel-missing.png")


def test_what_only_an_installation_needs_is_not_seen_when_everything_is_there(application, panel):
    panel.ui.modelSection.collapsed = False
    application.process_events()
    assert panel.ui.installedText.visible
    for widget in (panel.ui.wheelsHint, panel.ui.wheelsPath, panel.ui.installButton, panel.ui.noticeLabel):
        assert not widget.visible


def test_a_single_package_that_is_too_old_is_named_at_the_top(application, look, panel):
    look(installation.Installation((installation.Package("torch", "2.2", "1.13"),), "3.12"))
    panel.look_again()
    application.process_events()
    assert "Too old: torch 1.13 (needs 2.2)." in panel.ui.noticeLabel.text


def test_installing_asks_first(application, missing, panel, tmp_path):
    panel.ui.wheelsPath.currentPath = str(tmp_path)
    application.answers.expect("from the folder", 0x400000)
    panel.ui.installButton.click()
    assert len(application.answers.boxes) == 1
    assert not panel.pip_process.starts


def test_wheels_are_installed_offline_with_a_log_and_can_be_cancelled(application, missing, panel, tmp_path):
    panel.ui.wheelsPath.currentPath = str(tmp_path)
    application.answers.expect("Nothing is downloaded")
    panel.ui.installButton.click()
    application.process_events()
    arguments = panel.pip_process.arguments
    assert arguments[:3] == ("-m", "pip", "install")
    assert "--no-index" in arguments
    assert str(tmp_path) in arguments
    assert not [word for word in arguments if word.startswith(("numpy", "SimpleITK"))]
    panel.pip_process.on_line("Processing torch-2.9.whl")
    assert "torch-2.9" in panel.ui.modelStatus.text
    assert "(0:00)" in panel.ui.modelStatus.text
    began = panel.model_panel.installer._began
    panel.model_panel.installer._began = began - 83
    application.wait_until(lambda: "(1:2" in panel.ui.modelStatus.text, 20, "the time")
    assert panel.ui.installButton.text == "Cancel"
    panel.ui.installButton.click()
    application.process_events()
    assert panel.pip_process.kills == 1
    assert "Cancelled" in panel.ui.modelStatus.text
    assert panel.ui.installButton.text.startswith("Install")


def test_after_installing_everything_can_be_used_at_once(application, missing, panel, tmp_path, look, tools):
    film = tools.make_film()
    panel.ui.wheelsPath.currentPath = str(tmp_path)
    application.answers.expect("Nothing is downloaded")
    panel.ui.installButton.click()
    look(READY)
    panel.pip_process.die()
    application.wait_until(lambda: panel.ui.sexBox.currentIndex == 2, 60)
    assert panel.film is film
    assert panel.ui.estimateButton.enabled
    assert "Everything is installed" in panel.ui.installedText.text


def test_a_failed_installation_says_why(application, missing, panel, tmp_path):
    panel.ui.wheelsPath.currentPath = str(tmp_path)
    application.answers.expect("Nothing is downloaded")
    panel.ui.installButton.click()
    panel.pip_process.on_log("ERROR: No matching distribution found for timm>=1.0")
    panel.pip_process.die()
    application.process_events()
    assert "No matching distribution found for timm" in panel.ui.modelStatus.text
    assert "folder of wheels" in panel.ui.modelStatus.text


@pytest.fixture
def with_extension(monkeypatch):
    """The PyTorch extension is installed."""
    module = types.ModuleType("PyTorchUtils")
    module.__spec__ = importlib.machinery.ModuleSpec("PyTorchUtils", None)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)


def test_pytorch_and_the_rest_are_installed_in_processes_that_can_be_cancelled(
    application, missing, with_extension, panel
):
    application.answers.expect("up to 3 GB")
    panel.ui.installButton.click()
    ran = []
    for _step in range(3):
        application.process_events()
        assert panel.ui.installButton.text == "Cancel"
        ran.append(panel.pip_process.arguments)
        panel.pip_process.die()
    application.process_events()
    assert [arguments[1] for arguments in ran] == ["pip", "light_the_torch", "pip"]
    assert [word for word in ran[1] if ">=" in word] == ["torch>=2.2", "torchvision>=0.17"]
    assert all("--constraint" in arguments for arguments in ran)
    assert "restart Slicer" in panel.ui.modelStatus.text  # nothing was really installed
    assert panel.ui.installButton.text.startswith("Install")


def test_what_a_cancelled_installation_leaves_half_installed_is_told_and_cleared(
    application, missing, with_extension, panel, tmp_path, monkeypatch
):
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    application.answers.expect("up to 3 GB")
    panel.ui.installButton.click()
    half = tmp_path / "nvidia_cublas-12.0.dist-info"
    half.mkdir()
    (half / "METADATA").write_text("Name: nvidia-cublas")
    panel.ui.installButton.click()
    application.process_events()
    assert panel.pip_process.kills == 1
    assert "nvidia_cublas will be installed anew" in panel.ui.modelStatus.text
    assert "Not installed: torch" in panel.ui.modelStatus.text
    assert not half.exists()


def test_a_step_that_fails_without_a_word_is_told_and_ends_the_others(
    application, missing, with_extension, panel
):
    application.answers.expect("up to 3 GB")
    panel.ui.installButton.click()
    panel.pip_process.exit_code = 1
    panel.pip_process.on_line("Killed")
    panel.pip_process.die()
    application.process_events()
    assert "Installing failed: Killed" in panel.ui.modelStatus.text
    assert panel.pip_process.starts == 1


def test_without_the_pytorch_extension_the_panel_says_how_to_get_it(application, missing, panel):
    panel.ui.installButton.click()
    application.process_events()
    assert "Extensions Manager" in panel.ui.modelStatus.text
    assert not application.answers.boxes


def test_a_damaged_model_cannot_be_chosen_and_says_what_is_wrong(application, panel, film, tools):
    reason = "/models/x/weights.safetensors: missing; copy the bundle again"
    damaged = {"name": "x", "path": "/models/x", "error": reason, "is_default": False}
    panel.service.answers["bundles"] = lambda request: {"bundles": [tools.CARD, damaged]}
    panel.logic.wait(panel.model_panel.ask())
    application.process_events()
    panel.ui.bundleBox.currentIndex = 1
    application.process_events()
    assert reason in panel.ui.modelStatus.text
    assert "Choose another model" in panel.ui.modelStatus.text
    assert panel.ui.bundleBox.currentIndex == 0
    assert (panel.parameters.model, panel.ui.estimateButton.enabled) == ("", True)
