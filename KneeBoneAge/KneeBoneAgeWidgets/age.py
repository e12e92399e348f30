"""The section Bone age: the answers, one card a knee."""

from __future__ import annotations

import tempfile
from html import escape
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from KneeBoneAgeLib import scene

from .panel import Panel, Task
from .wording import AMBER, details, headline, knee_name, say


class AgePanel(Panel):
    """Estimate, Live and the cards."""

    def __init__(self, ui: Any, module: Any) -> None:
        super().__init__(ui, module)
        self.task = Task(module, ui.estimateButton, ui.ageStatus, self._ask, self._answered)
        self.cards: list[Card] = []
        self._shown: list[Any] = []
        self._tried: list[str] = []
        self._asked: Any = None
        self._film: Any = None

    def refresh(self) -> None:
        self.task.show(self.module.not_ready)
        film, sha = self.module.film, self.module.logic.bundle_sha256
        if film is not self._film:
            self._film = film
            if not self.task.running:
                say(self.ui.ageStatus)
        knees = [node for node in scene.knees(film) if scene.result(node) is not None]
        shown = [
            (
                node.GetID(),
                scene.crop_of(node)["side"],
                scene.result(node),
                scene.is_out_of_date(node, sha),
                sha,
            )
            for node in knees
        ]
        if shown != self._shown:
            self._shown = shown
            self._draw(knees, sha)
        if self.ui.liveBox.checked:
            self._keep_up(film, sha)

    def _ask(self) -> Any:
        self._asked = self.module.film
        return self.module.logic.estimate(self.module.film)

    def _answered(self, answer: dict[str, Any]) -> None:
        if not answer.get("records"):
            self.module.knees_panel.tell_nothing(self._asked, answer.get("reason"))
            if self._asked is self.module.film:
                say(self.ui.ageStatus, _("There is no knee to estimate on this film."))

    def _keep_up(self, film: Any, sha: str | None) -> None:
        """Estimate again what is out of date, once for each state; never during a drag."""
        if (
            self.task.running
            or self.module.corrections.unsettled
            or self.module.not_ready
            or not self.module.open
        ):
            return
        stale = [
            node
            for node in scene.knees(film)
            if scene.result(node) is None or scene.is_out_of_date(node, sha)
        ]
        state = [scene.request_key(film, node, sha) for node in stale]
        if state and state != self._tried:
            self._tried = state
            self.task.start(self._ask())

    def _draw(self, knees: list[Any], sha: str | None) -> None:
        for card in self.cards:
            card.remove()
        self.cards = [Card(self.ui.cards, node, sha) for node in knees]
        self.ui.cards.visible = bool(self.cards)


class Card:
    """The answer for one knee: headline, interval, difference, chart, and whether it is out of date."""

    def __init__(self, parent: Any, node: Any, sha: str | None) -> None:
        record = scene.result(node) or {}
        self.out_of_date = scene.is_out_of_date(node, sha)
        self.frame = qt.QFrame()
        self.frame.frameShape = qt.QFrame.StyledPanel
        self.frame.enabled = True
        column = qt.QVBoxLayout(self.frame)
        column.setSpacing(3)
        parent.layout().addWidget(self.frame)
        title = f"<b>{escape(knee_name(scene.crop_of(node)['side']))}</b>"
        if self.out_of_date:
            title += f' <span style="color:{AMBER}">{escape(_("out of date: press Estimate"))}</span>'
        self.title = _line(column, title)
        self.headline = _line(column, f"<big><b>{escape(headline(record))}</b></big>")
        self.headline.enabled = not self.out_of_date
        self.details = _line(column, "<br>".join(escape(line) for line in details(record)))
        self.chart = self._chart(column, node)

    @property
    def text(self) -> str:
        """All that the card says, for tests and screen readers."""
        return "\n".join(label.text for label in (self.title, self.headline, self.details))

    def remove(self) -> None:
        self.frame.hide()
        self.frame.setParent(None)
        self.frame.deleteLater()

    def _chart(self, column: Any, node: Any) -> Any:
        picture = scene.chart_of(node)
        if picture is None:
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "chart.png")
            path.write_bytes(picture)
            pixmap = qt.QPixmap(str(path))
        pixmap.setDevicePixelRatio(2.0)
        label = qt.QLabel()
        label.setPixmap(pixmap)
        label.enabled = not self.out_of_date
        label.toolTip = _(
            "Distribution over bone age with its interval; the dashed line is the chronological age."
        )
        column.addWidget(label)
        return label


def _line(column: Any, text: str) -> Any:
    label = qt.QLabel()
    label.textFormat = qt.Qt.RichText
    label.text = text
    label.wordWrap = True
    label.textInteractionFlags = qt.Qt.TextSelectableByMouse
    column.addWidget(label)
    return label
