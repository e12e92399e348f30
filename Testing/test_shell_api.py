"""The stand-in and the modules keep to what was recorded from the real application."""

import inspect
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MODULE = HERE.parent / "KneeBoneAge"
# These override a virtual function, which PySide6 can only do by a method; the modules have no need of them.
VIRTUAL = {"sizeHint", "minimumSizeHint"}


@pytest.fixture
def api(application):
    from shell import api

    if api.missing():
        pytest.skip(api.missing())
    if application.real:
        pytest.skip("this is the real application")
    return api


def stand_ins():
    """Each class that the stand-in made, with its public members of its own."""
    import ctk
    import qt
    import SampleData
    import slicer
    from shell import app, dicom, layout, mrml_widgets

    found = [getattr(ctk, name) for name in ctk.__all__]
    found += [*mrml_widgets.CLASSES, app.App, dicom.Database, layout.LayoutManager, layout.SliceWidget]
    found += [SampleData.SampleDataLogic, qt.QFileDialog, qt.QMessageBox]
    bases = slicer.ScriptedLoadableModule
    return found + [getattr(bases, name) for name in bases.__all__]


def recorded(api, cls):
    bases = api.record()["slicer.ScriptedLoadableModule"]
    return set(bases[cls.__name__]) if cls.__name__ in bases else set(api.members(cls.__name__))


def test_the_stand_in_offers_no_member_that_the_application_lacks(api):
    wrong = []
    for cls in stand_ins():
        own = {name for name in vars(cls) if not name.startswith("_")} - api.ALWAYS
        overridden = {name for name in own if any(hasattr(base, name) for base in cls.__bases__)}
        unknown = own - overridden - recorded(api, cls) - {"staticMetaObject"}
        wrong += [f"{cls.__name__}.{name}" for name in sorted(unknown)]
    assert wrong == []


def test_the_stand_ins_of_functions_take_the_arguments_of_the_application(api):
    import SampleData
    import slicer
    from slicer import i18n

    wrong = []
    for module, there in ((i18n, api.record()["slicer.i18n"]), (SampleData, api.record()["SampleData"])):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__:
                expected = there[name].strip("()").replace(" ", "").split(",")
                if [argument.split("=")[0] for argument in expected] != list(
                    inspect.signature(function).parameters
                ):
                    wrong.append(f"{module.__name__}.{name}{inspect.signature(function)}: {there[name]}")
    assert wrong == []
    assert set(slicer.parameterNodeWrapper.__all__) <= set(api.record()["slicer.parameterNodeWrapper"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_properties_are_properties_and_methods_are_methods_as_in_the_application(api):
    import ctk
    import qt
    import slicer

    wrong = []
    for name in api.record()["widgets"]:
        cls = next((vars(module)[name] for module in (qt, ctk, slicer) if name in vars(module)), None)
        if cls is None or name in ("QHeaderView", "QShortcut", "QStandardPaths"):
            continue
        widget = cls()
        for member, kind in api.members(name).items():
            if kind == "Signal" or member[0].isupper() or member in VIRTUAL or not hasattr(widget, member):
                continue
            if callable(getattr(widget, member)) != (kind in ("method", "function")):
                wrong.append(f"{name}.{member} is of kind {kind} in the application")
    assert wrong == []


def test_a_use_of_what_the_application_lacks_is_found(api, tmp_path):
    source = tmp_path / "source.py"
    source.write_text(
        "import qt, slicer\nfrom slicer.util import loadVolumes\n"
        "qt.QWebEngineView\nqt.QLabel.wordWarp\nself.ui.button.texts\nslicer.util.getNode('a')\n"
        "slicer.app.testing\nself.ui.button.text\nslicer.app.layoutManager().setLayouts(1)\n"
    )
    form = tmp_path / "form.ui"
    form.write_text('<ui><widget class="QPushButton" name="button"/></ui>')
    assert [line.split(": ")[1].split(" in the")[0] for line in api.unknown_names([source], [form])] == [
        "slicer.util has no loadVolumes",
        "qt has no QWebEngineView",
        "qt.QLabel has no wordWarp",
        "self.ui.button has no texts",
        "slicer.app has no testing",
        "slicer.app.layoutManager() has no setLayouts",
    ]


def test_a_member_used_while_running_is_compared_by_the_class_it_is_used_on(api):
    import qt
    from shell.hook import Use, Uses

    uses = Uses()
    assert uses.note(qt.QLabel("a"), "text", "panel.py", 3).text == "a"
    uses.note(qt.QLabel(), "setTextFromFile", "panel.py", 4)
    uses.note(qt, "QFancyLabel", "panel.py", 5)
    uses.note([], "append", "panel.py", 6)
    assert api.unknown_uses(uses) == [
        "panel.py:4: QLabel has no setTextFromFile in the application",
        "panel.py:5: qt has no QFancyLabel in the application",
    ]
    assert all(isinstance(use, Use) for use in uses)


def test_the_module_names_nothing_that_the_application_lacks(api):
    files = [MODULE / "KneeBoneAge.py", *sorted((MODULE / "KneeBoneAgeWidgets").glob("*.py"))]
    files += [
        *sorted((MODULE / "KneeBoneAgeLib" / "scene").glob("*.py")),
        MODULE / "KneeBoneAgeLib" / "installation.py",
    ]
    assert api.unknown_names(files, sorted((MODULE / "Resources" / "UI").glob("*.ui"))) == []


def test_opening_the_module_uses_nothing_that_the_application_lacks(api, application):
    if not (MODULE / "KneeBoneAge.py").exists():
        pytest.skip("the module is not there yet")
    application.open_module("KneeBoneAge")
    assert application.members_not_in_application() == []
