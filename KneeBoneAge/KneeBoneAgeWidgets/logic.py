"""What the module does without its panel: films in, knees and bone ages out, kept in the scene."""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from KneeBoneAgeLib import scene

from .wording import speak
from .worker import Problem, Request, Worker


class Estimating:
    """Film in, knees and bone ages out, kept in the scene; without a panel.

    Every question gives a `Request` at once, and `wait` makes a script of it:

        logic = KneeBoneAgeLogic()
        logic.wait(logic.estimate(film))

    Parameters
    ----------
    process : stands in for the child process, for tests.
    """

    def __init__(self, process: Any = None) -> None:
        speak()
        self.worker = Worker(process)
        self.bundle = ""
        self.device = "auto"
        self.cards: list[dict[str, Any]] = []
        self.modelsFolder = os.path.join(
            qt.QStandardPaths.writableLocation(qt.QStandardPaths.AppLocalDataLocation),
            "KneeBoneAge",
            "Models",
        )
        self._folder = tempfile.TemporaryDirectory(prefix="KneeBoneAge-")

    def cardAt(self, path: str) -> dict[str, Any] | None:
        """The card of the model in a folder; None when it is not listed."""
        return next((card for card in self.cards if card["path"] == path), None)

    @property
    def card(self) -> dict[str, Any] | None:
        """What is known of the model in use; None before it was asked."""
        wanted = [
            card for card in self.cards if self.bundle in ("" if card.get("is_default") else card["path"],)
        ]
        return wanted[0] if wanted else None

    @property
    def bundle_sha256(self) -> str | None:
        return self.card.get("sha256") if self.card else None

    def wait(self, request: Request, seconds: float = 600) -> dict[str, Any]:
        """The answer, while events are processed; raises `Problem`."""
        return self.worker.wait(request, seconds)

    def close(self) -> None:
        self.worker.cancel()
        self._folder.cleanup()

    def readFilm(self, film: Any) -> Request:
        """Read what the film says of itself."""

        def keep(request: Request) -> None:
            if request.answer is not None and slicer.mrmlScene.IsNodePresent(film):
                scene.store_read(film, request.answer)

        return self._ask_of(film, "read").then(keep)

    def findKnees(self, film: Any) -> Request:
        """Find the knees; what a person corrected stays."""

        def keep(request: Request) -> None:
            if request.answer is not None and slicer.mrmlScene.IsNodePresent(film):
                scene.take_found(film, request.answer["knees"], request.answer.get("notes") or ())

        return self._ask_of(film, "find").then(keep)

    def estimate(self, film: Any) -> Request:
        """Estimate all knees of a film; without knees they are found first. Results go into the table too."""
        asked = scene.asked_of(film)
        if asked:
            return self._estimate(film, asked)
        whole = Request("estimate", {})

        def found(request: Request) -> None:
            asked = scene.asked_of(film)
            if request.problem is not None or not asked:
                whole.finish(request.answer, request.problem)
            else:
                self._estimate(film, asked).then(lambda one: whole.finish(one.answer, one.problem), tell)

        def tell(request: Request) -> None:
            whole.tell(request.progress)

        self.findKnees(film).then(found, tell)
        return whole

    def explain(self, knee: Any, method: str = "integrated-gradients") -> Request:
        """Lay the saliency of a knee into the scene."""
        film = scene.film_of(knee)
        key = scene.request_key(film, knee, None)

        def keep(request: Request) -> None:
            if request.answer is not None and all(map(slicer.mrmlScene.IsNodePresent, (film, knee))):
                values = np.load(request.answer["map"])
                os.unlink(request.answer["map"])
                scene.show_saliency(film, knee, values, method, _with_bundle(key, request.answer))

        return self._ask_of(film, "explain", crop=scene.crop_of(knee), method=method).then(keep)

    def readBundles(self) -> Request:
        """Read the cards of the default model and of those in the folder of models."""

        def keep(request: Request) -> None:
            if request.answer is not None:
                self.cards = request.answer["bundles"]

        return self.worker.ask("bundles", folder=self.modelsFolder).then(keep)

    def installBundle(self, path: str) -> Request:
        """Copy a model into the folder of models; the answer is its card."""
        return self.worker.ask("install_bundle", file=path, into=self.modelsFolder)

    def loadSample(self, sample: str, name: str) -> Any:
        """Draw a phantom child and load it."""
        folder = os.path.join(slicer.app.temporaryPath, "KneeBoneAge")
        answer = self.wait(self.worker.ask("sample", name=sample, folder=folder))
        return slicer.util.loadVolume(answer["file"], {"name": name, "singleFile": True})

    def _estimate(self, film: Any, asked: list[tuple[Any, Any, str]]) -> Request:
        def keep(request: Request) -> None:
            if request.answer is None or not slicer.mrmlScene.IsNodePresent(film):
                return
            table = scene.results_table(slicer.mrmlScene)
            for (knee, _crop, key), record in zip(asked, request.answer["records"], strict=False):
                if slicer.mrmlScene.IsNodePresent(knee):
                    scene.store_result(knee, record, _with_bundle(key, request.answer))
                    scene.append_row(table, knee)

        return self._ask_of(film, "estimate", crops=[crop for _knee, crop, _key in asked]).then(keep)

    def _ask_of(self, film: Any, do: str, **what: Any) -> Request:
        """A request about a film; one that fails at once where it is no film."""
        try:
            request = scene.film_request(film, self._folder.name)
        except ValueError as error:
            return _failed(do, Problem("film", str(error)))
        except OSError as error:
            words = _("The film cannot be handed to the estimating process ({error})")
            way_out = _("Make room on the disk of the temporary folder and try again")
            return _failed(do, Problem("usage", words, way_out, error=error.strerror or str(error)))
        return self.worker.ask(
            do, film=request, bundle=self.bundle or None, device=self.device, folder=self._folder.name, **what
        )


def _failed(do: str, problem: Problem) -> Request:
    """A request that has failed before it was asked."""
    request = Request(do, {})
    request.finish(problem=problem)
    return request


def _with_bundle(key: str, answer: dict[str, Any]) -> str:
    """What was asked, with the model that has answered."""
    return json.dumps({**json.loads(key), "bundle": answer.get("bundle_sha256")})
