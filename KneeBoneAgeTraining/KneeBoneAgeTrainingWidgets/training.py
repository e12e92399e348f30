"""The section Training: a recipe, where the run goes, and Start."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from KneeBoneAgeTrainingLib.runs.process import KneeTraining, Training
from KneeBoneAgeTrainingLib.runs.record import FINISHED
from KneeBoneAgeWidgets.panel import Panel, report
from KneeBoneAgeWidgets.wording import say
from KneeBoneAgeWidgets.worker import Problem, Request

KNEE, READERS = "knee", "readers"
OWN = ""
"""Data of the entry that stands for a recipe of one's own."""
DEVICES = ("auto", "cpu", "cuda", "mps")
FIRST_RECIPE = "convnext-hand"
RECIPE_SETTING, NAME = "KneeBoneAgeTraining/Recipe", re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class TrainingPanel(Panel):
    """What is trained, on what, into which folder."""

    def __init__(self, ui: Any, module: Any) -> None:
        super().__init__(ui, module)
        self._recipes: list[dict[str, Any]] = []
        self._own: dict[str, Any] | None = None
        self._asked: Request | None = None
        self._read_recipes = False
        names = {"auto": _("Automatic"), "cpu": _("CPU"), "cuda": _("GPU (CUDA)"), "mps": _("GPU (Apple)")}
        for device in DEVICES:
            ui.deviceBox.addItem(names[device], device)
        for label, name in ((READERS, _("Readers")), ("pseudo", _("Hand model")), ("both", _("Both"))):
            ui.labelBox.addItem(name, label)
        ui.labelBox.currentIndexChanged.connect(lambda *_index: module.later())
        ui.labelsPath.currentPathChanged.connect(lambda *_path: module.later())
        ui.recipePath.visible = False
        ui.runsPath.currentPath = module.logic.runsFolder
        ui.recipeBox.currentIndexChanged.connect(self._recipe_chosen)
        ui.recipePath.currentPathChanged.connect(self._own_chosen)
        ui.runsPath.currentPathChanged.connect(self._folder_chosen)
        ui.earlierPath.currentPathChanged.connect(lambda *_path: module.later())
        ui.nameEdit.textChanged.connect(lambda *_text: module.later())
        ui.foldsBox.addItem(_("All folds"), None)
        ui.trainButton.clicked.connect(self.start)
        self._tip = ui.trainButton.toolTip

    @property
    def recipe(self) -> dict[str, Any] | None:
        """The chosen recipe; None while there is none that can be used."""
        index = self.ui.recipeBox.currentIndex
        if 0 <= index < len(self._recipes):
            return self._recipes[index]
        return self._own

    @property
    def name(self) -> str:
        """Name of the run: what was typed, or a free one after the recipe."""
        return self.ui.nameEdit.text.strip() or self._suggested()

    @property
    def out(self) -> Path:
        return Path(self.module.logic.runsFolder) / self.name

    def refresh(self) -> None:
        if not self._read_recipes and not self.module.missing:
            self._read_recipes = True
            self.module.logic.readRecipes().then(self._recipes_read)
        own = self.ui.recipeBox.count > 0 and self.ui.recipeBox.currentIndex == len(self._recipes)
        self.ui.recipePath.visible = own
        recipe = self.recipe
        self.ui.recipeText.text = _described(recipe) if recipe else ""
        self.ui.recipeText.visible = recipe is not None
        self.ui.earlierLabel.visible = self.ui.earlierPath.visible = self._takes_two_studies
        self.ui.nameEdit.setPlaceholderText(self._suggested())
        self._list_folds()
        self._list_starts()
        knee = recipe is not None and recipe["task"] == KNEE
        for name in ("startLabel", "startBox", "labelLabel", "labelBox"):
            getattr(self.ui, name).visible = knee
        self.ui.tableLabel.visible = self.ui.labelsPath.visible = knee and self._needs_labels
        reason = self._reason()
        self.ui.trainButton.enabled = reason is None
        self.ui.trainButton.toolTip = reason or self._tip

    def start(self, *_checked: Any) -> None:
        study, recipe = self.module.study_panel.study, self.recipe
        reason = self._reason()
        if reason is not None or study is None or recipe is None:
            say(self.ui.trainStatus, reason or "")
            return
        fold = self.ui.foldsBox.currentData
        name = recipe["file"] if recipe is self._own else recipe["name"]
        folds, epochs = () if fold is None else (fold,), self.ui.epochsBox.value or None
        device, folder = self.ui.deviceBox.currentData, Path(study["folder"])
        training: Training | KneeTraining
        if recipe["task"] == KNEE:
            teacher, label = self.ui.startBox.currentData, self.ui.labelBox.currentData
            training = KneeTraining(
                *(name, folder, self.out, Path(teacher) if teacher else None, label, self._labels),
                *(folds, epochs, device),
            )
        else:
            training = Training(name, (*self._earlier, folder), self.out, folds, epochs, device)
        say(self.ui.trainStatus)
        try:
            folder = self.module.logic.start(training)
        except Problem as problem:
            report(self.ui.trainStatus, problem)
            return
        self.ui.nameEdit.text = ""
        self.module.choose_run(folder)

    @property
    def _takes_two_studies(self) -> bool:
        return self.recipe is not None and len(self.recipe.get("stages") or ()) == 2

    @property
    def _needs_labels(self) -> bool:
        return bool(self.ui.labelBox.currentData != READERS)

    @property
    def _labels(self) -> Path | None:
        """The table of pseudo-labels, where it counts."""
        path = self.ui.labelsPath.currentPath
        return Path(path) if path and self._needs_labels else None

    @property
    def _earlier(self) -> tuple[Path, ...]:
        """The study of the first of two stages, where it is another one."""
        path = self.ui.earlierPath.currentPath
        return (Path(path),) if path and self._takes_two_studies else ()

    def _reason(self) -> str | None:
        """Why it cannot start."""
        if self.module.missing:
            return str(self.module.missing)
        if self.module.study_panel.study is None:
            return _("Choose a study first.")
        if self.recipe is None:
            return _("Choose a recipe first.")
        problem = self._unfit(self.module.study_panel.study["kind"])
        if problem is not None:
            return problem
        if any(not (folder / "study.json").is_file() for folder in self._earlier):
            return _("There is no study in the folder for the first stage.")
        if not NAME.fullmatch(self.name):
            return _("The name of the run may hold letters, digits, points, hyphens and underscores.")
        if self.out.exists() or self.module.logic.starting(self.out):
            return _("There is a run {name} already: resume it below, or choose another name.").format(
                name=self.name
            )
        return None

    def _unfit(self, kind: str) -> str | None:
        """Why the study or the labels do not fit the recipe."""
        assert self.recipe is not None
        if self.recipe["task"] != KNEE:
            return _("This study has no hand films.") if kind == "knee" else None
        if kind == "hand":
            return _("This study has no knee films.")
        if self._needs_labels and (self._labels is None or not self._labels.is_file()):
            return _("Choose a table of pseudo-labels; a finished hand model writes one, see Results.")
        return None

    def _suggested(self) -> str:
        recipe = self.recipe
        stem = recipe["name"] if recipe else "run"
        folder, number = Path(self.module.logic.runsFolder), 1
        while (folder / f"{stem}-{number}").exists() or self.module.logic.starting(
            folder / f"{stem}-{number}"
        ):
            number += 1
        return f"{stem}-{number}"

    def _list_folds(self) -> None:
        study = self.module.study_panel.study
        count = study["folds"] if study else 0
        box = self.ui.foldsBox
        if box.count == count + 1:
            return
        box.blockSignals(True)
        box.clear()
        box.addItem(_("All folds"), None)
        for fold in range(count):
            box.addItem(_("Fold {fold} only").format(fold=fold), fold)
        box.blockSignals(False)

    def _list_starts(self) -> None:
        """What a knee model may start from: hand models that are finished, the latest first, and nothing."""
        found = [
            (run.name, str(run.folder))
            for run in self.module.logic.runs()
            if run.facts.get("kind") == "hand" and run.state == FINISHED
        ]
        found.append((_("First weights"), ""))
        box = self.ui.startBox
        if found == [(box.itemText(i), box.itemData(i)) for i in range(box.count)]:
            return
        chosen = box.currentData if box.count > 1 else None  # the only one there was is no choice
        box.clear()
        for name, folder in found:
            box.addItem(name, folder)
        box.currentIndex = max(0, box.findData(chosen))

    def _recipes_read(self, request: Request) -> None:
        if request.problem is not None:
            self._read_recipes = request.problem.kind != "cancelled"
            report(self.ui.trainStatus, request.problem)
            return
        self._recipes = (request.answer or {}).get("recipes", [])
        box = self.ui.recipeBox
        box.blockSignals(True)
        box.clear()
        for recipe in self._recipes:
            name = _("{name} (knee)") if recipe["task"] == KNEE else "{name}"
            box.addItem(name.format(name=recipe["name"]), recipe["name"])
        box.addItem(_("A recipe of my own…"), OWN)
        wanted = str(slicer.util.settingsValue(RECIPE_SETTING, "")) or FIRST_RECIPE
        box.currentIndex = max(0, box.findData(wanted))
        box.blockSignals(False)
        self.module.later()

    def _recipe_chosen(self, *_index: Any) -> None:
        qt.QSettings().setValue(RECIPE_SETTING, self.ui.recipeBox.currentData or "")
        say(self.ui.trainStatus)
        self.module.later()

    def _own_chosen(self, *_path: Any) -> None:
        self._own = None
        path = self.ui.recipePath.currentPath
        if self._asked is not None:
            self.module.logic.worker.drop(self._asked)
        self._asked = None
        say(self.ui.trainStatus)
        if path:
            self._asked = self.module.logic.readRecipe(path).then(self._own_read)
        self.module.later()

    def _own_read(self, request: Request) -> None:
        if request.problem is not None:
            if request.problem.kind != "cancelled":
                report(self.ui.trainStatus, request.problem)
        elif request.what["file"] == self.ui.recipePath.currentPath:
            self._own = {**(request.answer or {}), "file": request.what["file"]}
            self.ui.recipePath.addCurrentPathToHistory()
        self.module.later()

    def _folder_chosen(self, *_path: Any) -> None:
        if self.ui.runsPath.currentPath:
            self.module.logic.runsFolder = self.ui.runsPath.currentPath
        self.module.later()


def _described(recipe: dict[str, Any]) -> str:
    stages = recipe.get("stages") or []
    epochs = ", ".join(f"{stage['epochs']} ({stage['name']})" for stage in stages)
    epochs = f"{stages[0]['epochs']}" if len(stages) == 1 else epochs
    parts = [
        recipe["description"],
        recipe.get("reference") or "",
        _("Epochs: {epochs}.").format(epochs=epochs) if epochs else "",
    ]
    return "\n".join(part for part in parts if part)
