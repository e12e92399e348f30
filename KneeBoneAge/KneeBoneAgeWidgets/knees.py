"""The section Knees: find them, and correct what was found."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from KneeBoneAgeLib import scene
from KneeBoneAgeLib.report.records import crop_doubt
from KneeBoneAgeLib.words import tell

from .panel import Panel, Task
from .wording import knee_name, origin_name, say, side_name

SIDES = ("unknown", "R", "L")
FADED = 0.45
"""Opacity of the squares that are not selected."""


class KneesPanel(Panel):
    """A table with one row a knee; the squares themselves are dragged in the view."""

    def __init__(self, ui: Any, module: Any) -> None:
        super().__init__(ui, module)
        self._shown: list[tuple[Any, ...]] = []
        self._knees: list[Any] = []
        self._nothing: dict[Any, str] = {}
        self._asked: Any = None
        self._film: Any = None
        self._noted = False
        ui.kneesTable.itemSelectionChanged.connect(self._selected)
        self.task = Task(self, ui.findButton, ui.kneesStatus, self._find, self._found)
        ui.kneesTable.visible = False
        ui.addButton.clicked.connect(self.add)
        ui.resetButton.clicked.connect(self.reset)
        ui.undoButton.clicked.connect(self.undo)
        ui.deleteButton.clicked.connect(self.delete)

    def refresh(self) -> None:
        film, knee = self.module.film, self.module.selected
        if film is not self._film:
            self._film = film
            if not self.task.running:
                say(self.ui.kneesStatus)
        self._knees = [one.node for one in self.module.shown]
        rows = [
            (
                one.node.GetID(),
                one.crop["side"],
                _confidence(one.crop),
                tell(_doubt(one.crop)),
                origin_name(one.crop["origin"]),
            )
            for one in self.module.shown
        ]
        if rows != self._shown:
            self._shown = rows
            self._fill(rows)
        self._select(knee)
        self.task.show(self.module.not_ready)
        none = _("Select a knee in the table first.") if knee is None else None
        self.allow(self.ui.addButton, self.module.film_problem)
        self.allow(
            self.ui.resetButton,
            none
            or (
                None
                if scene.can_reset(knee)
                else _("This square is the automatic one, or was added by hand.")
            ),
        )
        can_undo = film is not None and scene.can_undo(film) is not None
        self.allow(self.ui.undoButton, None if can_undo else _("No change of a square can be undone."))
        self.allow(self.ui.deleteButton, none)
        if not self.task.running and film is not None:
            self._tell(film)

    def _tell(self, film: Any) -> None:
        """Say why there is no knee, or what must be known of those that were found."""
        said = self._nothing.get(film, "")
        if self._knees:
            crops = [one.crop for one in self.module.shown]
            doubts = [f"{knee_name(crop['side'])}: {tell(_doubt(crop))}" for crop in crops if _doubt(crop)]
            said = "\n".join(_sentence(note) for note in (*map(tell, scene.notes_of(film)), *doubts))
        if said or self._noted:
            say(self.ui.kneesStatus, said, problem=True)
        self._noted = bool(said)

    def tell_nothing(self, film: Any, reason: str | None) -> None:
        """Say that there is no knee on this film, and why."""
        self._nothing[film] = _("{reason} Press Add to mark a knee by hand, or choose another film.").format(
            reason=_sentence(tell(reason) if reason else _("No knee was found."))
        )

    def add(self, *_checked: Any) -> None:
        if self.module.film is not None and self.module.film_problem is None:
            self.module.choose_knee(scene.add_knee(self.module.film))
            say(self.ui.kneesStatus, _("Drag the square onto the knee, joint line in the middle."))

    def reset(self, *_checked: Any) -> None:
        if self.module.knee is not None:
            scene.reset(self.module.knee)
            self.module.later()

    def undo(self, *_checked: Any) -> None:
        if self.module.film is not None and scene.can_undo(self.module.film):
            self.module.choose_knee(scene.undo(self.module.film))

    def delete(self, *_checked: Any) -> None:
        if self.module.knee is not None:
            scene.remove(self.module.knee)
            self.module.choose_knee(None)

    def _find(self) -> Any:
        film = self.module.film
        self._asked = film
        self._nothing.pop(film, None)
        return self.module.logic.findKnees(film)

    def _found(self, answer: dict[str, Any]) -> None:
        if slicer.mrmlScene.IsNodePresent(self._asked) and not scene.knees(self._asked):
            self.tell_nothing(self._asked, answer.get("reason"))

    def forget(self) -> None:
        """Another scene: what was said of its films is of no use."""
        self._nothing.clear()

    def _fill(self, rows: list[tuple[Any, ...]]) -> None:
        table = self.ui.kneesTable
        table.blockSignals(True)
        table.setRowCount(len(rows))
        for row, (identity, side, confidence, doubt, origin) in enumerate(rows):
            box = qt.QComboBox()
            for one in SIDES:
                box.addItem(side_name(one))
            box.frame = False
            box.toolTip = _("Side of the child. Correct it where it is wrong: a left knee is mirrored.")
            box.currentIndex = SIDES.index(side) if side in SIDES else 0
            box.currentIndexChanged.connect(
                lambda index, identity=identity: self._side_typed(identity, SIDES[index])
            )
            table.setCellWidget(row, 0, box)
            item = qt.QTableWidgetItem(confidence)
            item.setToolTip(_sentence(doubt) if doubt else "")
            table.setItem(row, 1, item)
            table.setItem(row, 2, qt.QTableWidgetItem(origin))
        table.blockSignals(False)
        rows_height = sum(table.rowHeight(row) for row in range(len(rows)))
        table.setFixedHeight(table.horizontalHeader().height + rows_height + 2 * table.frameWidth)
        table.visible = bool(rows)

    def _side_typed(self, identity: str, side: str) -> None:
        node = slicer.mrmlScene.GetNodeByID(identity)
        if node is not None:
            scene.set_side(node, side)
            self.module.choose_knee(node)

    def _selected(self) -> None:
        row = self.ui.kneesTable.currentRow()
        if 0 <= row < len(self._knees):
            node = self._knees[row]
            slicer.modules.markups.logic().JumpSlicesToNthPointInMarkup(node.GetID(), 0, True)
            self.module.choose_knee(node)

    def _select(self, knee: Any) -> None:
        table = self.ui.kneesTable
        row = self._knees.index(knee) if knee in self._knees else -1
        if table.currentRow() != row or (row >= 0 and not table.selectedItems()):
            table.blockSignals(True)
            if row < 0:
                table.clearSelection()
                table.setCurrentCell(-1, -1)
            else:
                table.selectRow(row)
            table.blockSignals(False)
        for node in self._knees:
            display = node.GetDisplayNode()
            opacity = 1.0 if knee is None or node is knee else FADED
            if display is not None and display.GetOpacity() != opacity:
                display.SetOpacity(opacity)


def _confidence(crop: scene.Crop) -> str:
    if crop["origin"] != "automatic":
        return "–"
    return f"{crop['confidence']:.0%}" + (" ⚠" if _doubt(crop) else "")


def _doubt(crop: scene.Crop) -> str:
    return crop_doubt(crop["origin"], crop["confidence"])


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(". ") + "."
