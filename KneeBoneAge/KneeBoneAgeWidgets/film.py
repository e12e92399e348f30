"""The section Film: which volume, and what is known of the child and the film."""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _

from KneeBoneAgeLib import scene
from KneeBoneAgeLib.scene_values import SPACING_MM
from KneeBoneAgeLib.words import tell

from .panel import Panel, report
from .wording import say
from .worker import Request


class FilmPanel(Panel):
    """Selector and facts; a fact that a person typed is marked and can be taken back."""

    def __init__(self, ui: Any, module: Any) -> None:
        super().__init__(ui, module)
        self._choices: dict[str, tuple[Any, list[Any]]] = {
            "sex": (ui.sexBox, [(_("unknown"), None), (_("female"), "F"), (_("male"), "M")]),
            "side": (ui.sideBox, [(_("unknown"), None), (_("right"), "R"), (_("left"), "L")]),
            "view": (
                ui.viewBox,
                [(_("unknown"), None), (_("frontal"), "frontal"), (_("lateral"), "lateral")],
            ),
            "polarity": (
                ui.polarityBox,
                [
                    (_("decided from the picture"), None),
                    (_("bone bright"), "normal"),
                    (_("bone dark, is turned"), "inverted"),
                ],
            ),
        }
        for name, (box, choices) in self._choices.items():
            for text, _value in choices:
                box.addItem(text)
            box.currentIndexChanged.connect(lambda *_index, name=name: self._chosen(name))
        for box in (ui.yearsBox, ui.monthsBox, ui.spacingBox):
            box.keyboardTracking = False
        ui.yearsBox.valueChanged.connect(lambda *_value: self._age_typed())
        ui.monthsBox.valueChanged.connect(lambda *_value: self._age_typed())
        ui.spacingBox.valueChanged.connect(lambda *_value: self._spacing_typed())
        ui.showFilmButton.clicked.connect(lambda *_checked: self.show_film(alone=True))
        self._rows = {
            "sex": (ui.sexSource, ui.sexReset),
            "age_months": (ui.ageSource, ui.ageReset),
            "side": (ui.sideSource, ui.sideReset),
            "view": (ui.viewSource, ui.viewReset),
            "spacing_mm": (ui.spacingSource, ui.spacingReset),
            "polarity": (ui.polaritySource, ui.polarityReset),
        }
        for name, (_source, button) in self._rows.items():
            button.clicked.connect(lambda *_checked, name=name: self._reset(name))
        self._reading: dict[str, Request] = {}
        self._problems: dict[str, Any] = {}

    def refresh(self) -> None:
        film, wrong = self.module.film, self.module.film_problem
        self._hide_maps()
        known = scene.facts(film) if film is not None else scene.Facts()
        usable = film is not None and wrong is None
        if usable and known.source is None:
            self._read(film)
        for name, (box, choices) in self._choices.items():
            values = [value for _text, value in choices]
            value = getattr(known, name)
            _quietly(box, "currentIndex", values.index(value) if value in values else 0)
            box.enabled = usable
        years, months = divmod(round(known.age_months), 12) if known.age_months is not None else (-1, 0)
        _quietly(self.ui.yearsBox, "value", years)
        _quietly(self.ui.monthsBox, "value", months)
        _quietly(self.ui.spacingBox, "value", known.spacing_mm[0] if known.spacing_mm else 0.0)
        self.ui.yearsBox.enabled = self.ui.spacingBox.enabled = usable
        self.ui.monthsBox.enabled = usable and years >= 0
        self.allow(self.ui.showFilmButton, None if usable else wrong)
        for name, (source, button) in self._rows.items():
            typed = name in known.typed
            source.text = _("typed") if typed else self._origin(known, name)
            source.toolTip = known.spacing_source if name == "spacing_mm" and usable else ""
            button.visible = typed
        self._say(film, wrong, known)

    def is_seen(self) -> bool:
        """Whether a slice view shows the film."""
        views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
        film = self.module.film
        return film is not None and any(view.GetBackgroundVolumeID() == film.GetID() for view in views)

    def show_film(self, alone: bool = False) -> None:
        """Lay the film into the slice views, whole; ``alone`` in the red view only."""
        film = self.module.film
        if film is None or self.module.film_problem or slicer.app.layoutManager() is None:
            return
        scene.fit_window(film)
        if alone:
            slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
        slicer.util.setSliceViewerLayers(background=film, fit=True, rotateToVolumePlane=True)

    def _hide_maps(self) -> None:
        """Leave saliency maps out of the selector."""
        maps = [heat.GetID() for heat in scene.saliency_maps(slicer.mrmlScene)]
        listed = self.ui.filmSelector.sortFilterProxyModel()
        if list(listed.hiddenNodeIDs) != maps:
            listed.hiddenNodeIDs = maps

    def _say(self, film: Any, wrong: str | None, known: scene.Facts) -> None:
        label = self.ui.filmStatus
        if film is None:
            say(
                label,
                _("Load a knee radiograph with Add Data, from the DICOM database, or from Sample Data."),
            )
        elif wrong:
            say(label, wrong, problem=True)
        elif film.GetID() in self._reading:
            say(label, self._reading[film.GetID()].progress or _("Reading what the film says of itself…"))
        elif film.GetID() in self._problems:
            report(label, self._problems[film.GetID()])
        elif known.view == "lateral":
            say(
                label,
                _("This is a lateral film. Bone age is estimated from frontal films: choose one."),
                True,
            )
        else:
            say(label, "\n".join(tell(note) for note in known.notes))

    def _origin(self, known: scene.Facts, name: str) -> str:
        if getattr(known, name) is None:
            return ""
        return {"database": _("DICOM"), "file": _("file"), "array": _("picture")}.get(known.source or "", "")

    def _read(self, film: Any) -> None:
        identity = film.GetID()
        if identity in self._reading or identity in self._problems or self.module.missing:
            return
        self._reading[identity] = request = self.module.logic.readFilm(film)
        request.then(lambda request: self._was_read(identity, request), lambda _request: self.module.later())

    def _was_read(self, identity: str, request: Request) -> None:
        self._reading.pop(identity, None)
        if request.problem is not None and request.problem.kind != "cancelled":
            self._problems[identity] = request.problem
        self.module.later()

    def forget(self) -> None:
        """Another scene, or another installation: read again what could not be read."""
        self._problems.clear()

    def _chosen(self, name: str) -> None:
        box, choices = self._choices[name]
        self._typed(name, choices[box.currentIndex][1])

    def _age_typed(self) -> None:
        years, months = self.ui.yearsBox.value, self.ui.monthsBox.value
        self._typed("age_months", None if years < 0 else float(12 * years + months))

    def _spacing_typed(self) -> None:
        pitch = self.ui.spacingBox.value
        pitch = max(pitch, SPACING_MM[0]) if pitch > 0 else 0.0
        self._typed("spacing_mm", (pitch, pitch) if pitch > 0 else None)

    def _typed(self, name: str, value: Any) -> None:
        if self.module.film is not None:
            scene.set_fact(self.module.film, name, value)
            self.module.later()

    def _reset(self, name: str) -> None:
        if self.module.film is not None:
            scene.reset_fact(self.module.film, name)
            self.module.later()


def _quietly(widget: Any, name: str, value: Any) -> None:
    """Set a property without telling anybody that it changed."""
    if getattr(widget, name) == value:
        return
    blocked = widget.blockSignals(True)
    setattr(widget, name, value)
    widget.blockSignals(blocked)
