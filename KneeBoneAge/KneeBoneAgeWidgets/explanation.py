"""The section Explanation: where on the film the number comes from."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from KneeBoneAgeLib import scene

from .panel import Panel, Task
from .wording import knee_name, say


class ExplanationPanel(Panel):
    """Saliency of the selected knee over its film."""

    def __init__(self, ui: Any, module: Any) -> None:
        super().__init__(ui, module)
        ui.legendBar.setPixmap(qt.QPixmap(module.resourcePath("Icons/Saliency.png")))
        self.task = Task(
            self, ui.showSaliencyButton, ui.explanationStatus, self._ask, self._answered, self.press
        )
        ui.opacitySlider.valueChanged.connect(lambda *_value: self._fade())
        self._knee: Any = None

    def refresh(self) -> None:
        knee = self.module.selected
        shown = self.shown()
        stale = self._stale(knee, shown)
        if shown is not None and (scene.film_of(shown) is not self.module.film or stale):
            self._lay(None)
            shown = None
            stale = self._stale(knee, None)
            if not self.task.running:
                say(self.ui.explanationStatus)
        reason = self.module.not_ready
        if reason is None and knee is None:
            reason = _("Find the knees first, or add one.")
        self.task.label = _("Hide") if shown is not None else _("Show")
        self.task.show(reason)
        for widget in (self.ui.legendLabel, self.ui.legendLow, self.ui.legendBar, self.ui.legendHigh):
            widget.visible = shown is not None
        if not self.task.running and shown is not None:
            name = knee_name(scene.crop_of(knee)["side"]) if knee is not None else ""
            say(
                self.ui.explanationStatus,
                _("{knee}: a hint where the bone age comes from, not a proof.").format(knee=name),
            )
        elif not self.task.running and stale:
            say(self.ui.explanationStatus, _("The explanation is out of date: press Show."))

    def press(self, *_checked: Any) -> None:
        if self.task.running:
            self.task.press()
        elif self.shown() is not None:
            self._lay(None)
            say(self.ui.explanationStatus)
            self.module.later()
        elif self._ready(self.module.knee):
            self._lay(scene.saliency_of(self.module.knee))
            self.module.later()
        else:
            self.task.press()

    def shown(self) -> Any:
        """The saliency volume that lies over the film, if one does."""
        views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
        return next((heat for heat in map(_over, views) if heat is not None), None)

    def _stale(self, knee: Any, shown: Any) -> bool:
        """A map of another crop, bundle or method, or one that is shown and not that of the selected knee."""
        if knee is None:
            return False
        heat = scene.saliency_of(knee)
        if shown is not None and shown is not heat:
            return True
        if heat is None:
            return False
        sha = self.module.logic.bundle_sha256
        return scene.method_of(heat) != self._method() or scene.saliency_is_out_of_date(knee, sha)

    def _ready(self, knee: Any) -> bool:
        return (
            knee is not None and scene.saliency_of(knee) is not None and not self._stale(knee, self.shown())
        )

    def _method(self) -> str:
        return str(self.module.parameters.method.value)

    def _ask(self) -> Any:
        self._knee = self.module.knee
        return self.module.logic.explain(self._knee, self._method())

    def _answered(self, _answer: dict[str, Any]) -> None:
        if self._knee is self.module.knee and self._ready(self._knee):
            self._lay(scene.saliency_of(self._knee))

    def _lay(self, heat: Any) -> None:
        """Lay a saliency map over its film where that is shown; None takes it away. Other views keep what they have."""
        film = scene.film_of(heat) if heat is not None else None
        views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
        if film is not None and not any(_under(view) is film for view in views):
            self.module.film_panel.show_film()
        for view in views:
            if film is not None and _under(view) is film:
                view.SetForegroundVolumeID(heat.GetID())
                view.SetForegroundOpacity(self.ui.opacitySlider.value / 100)
            elif _over(view) is not None:
                view.SetForegroundVolumeID(None)

    def _fade(self) -> None:
        for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            if _over(view) is not None:
                view.SetForegroundOpacity(self.ui.opacitySlider.value / 100)


def _under(view: Any) -> Any:
    """The volume in the background of a slice view."""
    return slicer.mrmlScene.GetNodeByID(view.GetBackgroundVolumeID() or "")


def _over(view: Any) -> Any:
    """The saliency map in the foreground of a slice view; None for another volume."""
    volume = slicer.mrmlScene.GetNodeByID(view.GetForegroundVolumeID() or "")
    return volume if volume is not None and scene.is_saliency(volume) else None
