"""The section Bone age: the answers, one card a knee."""

from __future__ import annotations

from html import escape
from typing import Any

import qt
from slicer.i18n import tr as _

from KneeBoneAgeLib import scene

from .chart import SIZE, chart
from .panel import Panel, Task
from .wording import amber, details, headline, is_dark, knee_name, say

LARGER = 1.2
"""Letters of the answer over those of the panel."""


class AgePanel(Panel):
    """Estimate, Live and the cards."""

    def __init__(self, ui: Any, module: Any) -> None:
        super().__init__(ui, module)
        self.task = Task(self, ui.estimateButton, ui.ageStatus, self._ask, self._answered)
        self._made: list[Card] = []
        self._tried: list[str] = []
        self._asked: Any = None
        self._film: Any = None

    @property
    def cards(self) -> list[Card]:
        """The cards that are seen; those of a film with more knees are kept for later."""
        return [card for card in self._made if card.knee is not None]

    def refresh(self) -> None:
        self.task.show(self.module.not_ready)
        film = self.module.film
        if film is not self._film:
            self._film = film
            if not self.task.running:
                say(self.ui.ageStatus)
        answered = [knee for knee in self.module.shown if knee.record is not None]
        self._made += [Card(self.ui.cards) for _more in answered[len(self._made) :]]
        for card, knee in zip(self._made, [*answered, *[None] * len(self._made)], strict=False):
            card.show(knee)
        self.ui.cards.visible = bool(answered)
        if self.ui.liveBox.checked:
            self._keep_up(film)

    def _ask(self) -> Any:
        self._asked = self.module.film
        return self.module.logic.estimate(self.module.film)

    def _answered(self, answer: dict[str, Any]) -> None:
        if not answer.get("records"):
            self.module.knees_panel.tell_nothing(self._asked, answer.get("reason"))
            if self._asked is self.module.film:
                say(self.ui.ageStatus, _("There is no knee to estimate on this film."))

    def _keep_up(self, film: Any) -> None:
        """Estimate again what is out of date, once for each state; never during a drag."""
        if (
            self.task.running
            or self.module.corrections.unsettled
            or self.module.not_ready
            or not self.module.open
        ):
            return
        stale = [knee.node for knee in self.module.shown if knee.record is None or knee.out_of_date]
        state = [scene.request_key(film, node, self.module.logic.bundle_sha256) for node in stale]
        if state and state != self._tried:
            self._tried = state
            self.task.start(self._ask())


class Card:
    """The answer for one knee: headline, interval, difference, chart, and whether it is out of date."""

    def __init__(self, parent: Any) -> None:
        self.knee: scene.Knee | None = None
        self._drawn: tuple[str, ...] = ()
        self.frame = qt.QFrame()
        self.frame.frameShape = qt.QFrame.StyledPanel
        column = qt.QVBoxLayout(self.frame)
        column.setSpacing(3)
        parent.layout().addWidget(self.frame)
        self.title, self.headline, self.details = _line(column), _line(column), _line(column)
        self.title.textFormat = qt.Qt.RichText
        letters = qt.QFont(self.headline.font)
        letters.setBold(True)
        letters.setPointSizeF(LARGER * max(letters.pointSizeF(), 1.0))
        self.headline.setFont(letters)
        self.chart = qt.QLabel()
        self.chart.setFixedSize(*SIZE)
        self.chart.toolTip = _(
            "Distribution over bone age with its interval; the dashed line is the chronological age."
        )
        column.addWidget(self.chart)
        self.picture: Any = None
        self._charted: tuple[Any, ...] = ()

    @property
    def out_of_date(self) -> bool:
        return self.knee is not None and self.knee.out_of_date

    @property
    def text(self) -> str:
        """All that the card says, for tests and screen readers."""
        return "\n".join(label.text for label in (self.title, self.headline, self.details))

    def show(self, knee: scene.Knee | None) -> None:
        """Say the answer for a knee; None hides the card."""
        if knee != self.knee or amber() not in self._drawn[-1:]:
            self.knee = knee
            self.frame.visible = knee is not None
            if knee is not None:
                self._draw(knee, knee.record or {})
                self._draw_chart(knee.record or {}, scene.distribution_of(knee.node))

    def _draw(self, knee: scene.Knee, record: dict[str, Any]) -> None:
        title = f"<b>{escape(knee_name(knee.crop['side']))}</b>"
        if knee.out_of_date:
            title += f' <span style="color:{amber()}">{escape(_("out of date: press Estimate"))}</span>'
        texts = (
            title,
            headline(record),
            "\n".join(details(record)),
        )
        for label, text, drawn in zip(
            (self.title, self.headline, self.details), texts, self._drawn or ("",) * 3, strict=False
        ):
            if text != drawn:
                label.text = text
        self._drawn = (*texts, amber())
        self.headline.enabled = self.chart.enabled = not knee.out_of_date

    def _draw_chart(self, record: dict[str, Any], spread: dict[str, Any] | None) -> None:
        """Draw the distribution; nothing is shown of an answer without one."""
        content = (record, spread, is_dark())
        if content == self._charted:
            return
        self._charted, self.picture = content, None
        if spread:
            self.picture = chart(spread["probabilities"], record, spread["months_to"], dark=is_dark())
            self.chart.setPixmap(self.picture)
        self.chart.visible = bool(spread)


def _line(column: Any) -> Any:
    label = qt.QLabel()
    label.textFormat = qt.Qt.PlainText
    label.wordWrap = True
    label.textInteractionFlags = qt.Qt.TextSelectableByMouse
    column.addWidget(label)
    return label
