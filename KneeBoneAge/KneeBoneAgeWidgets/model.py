"""The section Model: which networks, where they run, and whether everything they need is there."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from KneeBoneAgeLib import installation
from KneeBoneAgeLib.words import tell

from .installing import Installer
from .panel import Panel, Task, report
from .wording import say
from .worker import Request


class ModelPanel(Panel):
    """Bundle, card, device and installation."""

    def __init__(self, ui: Any, module: Any, process: Any = None) -> None:
        super().__init__(ui, module)
        self.installer = Installer(self._tell, self._installed, process)
        self._asked: Request | None = None
        self._shown: list[Any] = []
        self._source = ""
        self._wanted: str | None = None
        self._said_absent = False
        self._installation: Any = None
        self._card: dict[str, Any] | None = None
        ui.cardText.visible = False
        self.task = Task(
            self, ui.installBundleButton, ui.modelStatus, self._copy, self._copied, self.install_bundle
        )
        ui.bundleBox.currentIndexChanged.connect(self._chosen)
        ui.openFolderButton.clicked.connect(self.open_folder)
        ui.installButton.clicked.connect(self.install)

    def refresh(self) -> None:
        module = self.module
        found = module.installed
        self._show_installation()
        if found.ready and self._asked is None:
            self.ask()
        cards = module.logic.cards
        if cards != self._shown:
            self._shown = list(cards)
            self._list(cards)
        card = module.logic.card
        self._choose(card)
        if card != self._card:
            self._card = card
            self.ui.cardText.plainText = _card_text(card) if card is not None else ""
            self.ui.cardText.visible = card is not None
        none = _("No model is in use: choose one, or install what is missing.")
        self.allow(self.ui.openFolderButton, None if card is not None else none)
        self.task.show(module.missing)
        absent = self.problem()
        if absent:
            say(self.ui.modelStatus, absent, problem=True)
        elif self._said_absent:
            say(self.ui.modelStatus)
        self._said_absent = bool(absent)
        if card and card.get("error"):
            self._tell_damage(card)

    def _show_installation(self) -> None:
        """What is installed; how to install the rest is seen while something is missing."""
        ui, found, running = self.ui, self.module.installed, self.installer.running
        if self._installation == (found, running):
            return
        self._installation = found, running
        say(ui.installedText, found.line, problem=not found.ready)
        for widget in (ui.wheelsHint, ui.wheelsLabel, ui.wheelsPath, ui.installButton):
            widget.visible = running or not found.ready
        ui.installButton.text = _("Cancel") if running else _("Install what is missing...")
        ui.installButton.toolTip = (
            _("Stop it; what was left half installed is installed again next time.")
            if running
            else _("Shows what would be installed and asks first.")
        )
        ui.wheelsPath.enabled = not running
        ui.wheelsHint.text = _(
            "With internet, press Install. Without it, choose a folder of wheels first: on another computer with the "
            "same system and Python {python} run  pip download -r requirements.txt  (the file lies in this module's "
            "folder Resources)."
        ).format(python=".".join(found.python.split(".")[:2]))
        ui.wheelsHint.toolTip = str(installation.REQUIREMENTS_FILE)

    def choose(self, path: str) -> None:
        """Use the model in this folder, "" for the default; one that is not listed yet as soon as it is."""
        self._wanted = path
        self._take_wanted()

    def resolve(self) -> None:
        """Find the scene's model on this computer; before anything is drawn."""
        self._take_wanted()
        wanted = self.module.parameters.model
        card = self._card_of(wanted)
        self.module.logic.bundle = card["path"] if card is not None and wanted else wanted

    def problem(self) -> str | None:
        """Why the scene's model cannot be used: it is not on this computer. Nothing takes its place unasked."""
        parameters = self.module.parameters
        if parameters is None or not parameters.model or self._card_of(parameters.model) is not None:
            return None
        if self._asked is None or not self._asked.finished:
            return _("Looking for the model of this scene…")
        words = _("The model of this scene is not on this computer ({name}). Choose another, or install it.")
        return words.format(name=parameters.modelName or parameters.model[:12])

    def ask(self) -> Request:
        """Ask for the cards of all models."""
        self._asked = self.module.logic.readBundles()
        return self._asked.then(self._answered)

    def install_bundle(self, *_checked: Any) -> None:
        if self.task.running:
            self.task.press()
            return
        self._source = qt.QFileDialog.getOpenFileName(
            self.ui.installBundleButton, _("Install a model"), "", _("Models (*.zip bundle.json)")
        )
        if self._source:
            self.task.press()

    def open_folder(self, *_checked: Any) -> None:
        if self.module.logic.card is not None:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(self.module.logic.card["path"]))

    def install(self, *_checked: Any) -> None:
        if self.installer.running:
            self.installer.cancel()
        else:
            self.installer.start(self.ui.wheelsPath.currentPath)
        self.module.later()

    def close(self) -> None:
        super().close()
        self.installer.process.kill()

    def _answered(self, request: Request) -> None:
        if request.problem is not None and request.problem.kind != "cancelled":
            report(self.ui.modelStatus, request.problem)
        elif request.problem is not None:
            self._asked = None
        self.module.later()

    def _take_wanted(self) -> None:
        """Keep name and content of the chosen model in the scene: its place is another one on another computer."""
        parameters = self.module.parameters
        if self._wanted is None or parameters is None:
            return
        card = self.module.logic.cardAt(self._wanted)
        if self._wanted == "" or (card is not None and card.get("is_default")):
            parameters.model = parameters.modelName = ""
        elif card is not None:
            parameters.model, parameters.modelName = card.get("sha256") or "", card["name"]
        else:
            return
        self._wanted = None

    def _card_of(self, sha256: str) -> dict[str, Any] | None:
        cards = self.module.logic.cards
        return next((card for card in cards if card.get("sha256") == sha256), None)

    def _list(self, cards: list[dict[str, Any]]) -> None:
        box = self.ui.bundleBox
        box.blockSignals(True)
        box.clear()
        for card in cards:
            name = _("{name} (default)") if card.get("is_default") else "{name}"
            if card.get("error"):
                name = _("{name} (cannot be used)")
            box.addItem(name.format(name=card["name"]))
        box.currentIndex = -1
        box.blockSignals(False)

    def _choose(self, card: dict[str, Any] | None) -> None:
        """Show the model in use; none when the one of a loaded scene is not here, so that every other can be chosen."""
        box = self.ui.bundleBox
        index = self._shown.index(card) if card in self._shown and not self.problem() else -1
        if box.currentIndex != index:
            box.blockSignals(True)
            box.currentIndex = index
            box.blockSignals(False)

    def _chosen(self, *_index: Any) -> None:
        index = self.ui.bundleBox.currentIndex
        if 0 <= index < len(self._shown):
            card = self._shown[index]
            if card.get("error") and not card.get("is_default"):
                self._tell_damage(card)
                self.module.later()  # the one in use is shown again
                return
            say(self.ui.modelStatus)
            self.module.choose_bundle("" if card.get("is_default") else card["path"])

    def _tell_damage(self, card: dict[str, Any]) -> None:
        words = _("{error}. Choose another model.")
        say(self.ui.modelStatus, words.format(error=tell(card["error"])), problem=True)

    def _copy(self) -> Request:
        source = self._source
        return self.module.logic.installBundle(
            source[: -len("/bundle.json")] if source.endswith("/bundle.json") else source
        )

    def _copied(self, card: dict[str, Any]) -> None:
        say(self.ui.modelStatus, _("Installed: {name}").format(name=card["name"]))
        self.module.choose_bundle(card["path"])
        self.ask()

    def _tell(self, text: str, problem: bool) -> None:
        say(self.ui.modelStatus, text, problem)

    def _installed(self) -> None:
        self._asked = None
        self.module.look_again()


def _card_text(card: dict[str, Any]) -> str:
    """What is known of a model, one line a fact; what is wrong with a damaged one."""
    if card.get("error"):
        return tell(card["error"])
    line = _("{label}: {fact}")
    facts = ((tell(row["label"]), tell(row["sentence"], **row["values"])) for row in card.get("rows", ()))
    return "\n".join(
        [tell(card["first_line"]), "", *(line.format(label=label, fact=fact) for label, fact in facts)]
    )
