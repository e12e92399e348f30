"""What the child process answers: read a film, find, estimate, explain, models, samples.

Nothing heavy is imported at file scope: ``check`` answers where nothing is installed.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .problems import CHOOSE_CPU, Problem
from .words import mark as _

if TYPE_CHECKING:
    from .chosen_film import Chosen, Seen
    from .crop import KneeCrop
    from .estimator import Estimator
    from .radiograph.film import Film
    from .segmentation import Finding

Answer = dict[str, Any]
Say = Callable[[str], None]
"""Is told the progress, one sentence."""


class Service:
    """Answers requests; keeps the last film and the last model."""

    def __init__(self) -> None:
        self._film: tuple[tuple[Any, ...], Seen] | None = None
        self._estimator: tuple[tuple[Any, ...], Estimator] | None = None
        self.actions: dict[str, Callable[[Mapping[str, Any], Say], Answer]] = {
            "check": self.check,
            "read": self.read,
            "find": self.find,
            "estimate": self.estimate,
            "explain": self.explain,
            "bundle": self.bundle,
            "bundles": self.bundles,
            "install_bundle": self.install_bundle,
            "sample": self.sample,
        }

    def answer(self, request: Mapping[str, Any], say: Say) -> Answer:
        """The answer to one request; raises what `problem_of` understands."""
        action = self.actions.get(request.get("do", ""))
        if action is None:
            known = ", ".join(self.actions)
            raise Problem(
                "usage",
                _("unknown request {request}"),
                _("Use one of {known}."),
                request=repr(request.get("do")),
                known=known,
            )
        return action(request, say)

    def forget(self) -> None:
        """Give the memory of the last film and model back."""
        self._film = self._estimator = None
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def check(self, request: Mapping[str, Any], say: Say) -> Answer:
        """Packages and their versions, devices, Python."""
        from .installation import look

        found = look()
        devices = ["cpu"]
        if found.has("torch"):
            say(_("Looking for a graphics card…"))
            devices = _devices()
        return {**found.to_json(), "devices": devices}

    def read(self, request: Mapping[str, Any], say: Say) -> Answer:
        """What is understood of a film."""
        from .chosen_film import described

        return described(self._seen(request, say), request["film"])

    def find(self, request: Mapping[str, Any], say: Say) -> Answer:
        """The knees of a film, or the reason why there is none."""
        film = self._chosen(request, say).film
        estimator = self._load(request, say)
        say(_("Looking for the knees…"))
        return _found(estimator.find(film))

    def estimate(self, request: Mapping[str, Any], say: Say) -> Answer:
        """One record a knee; without crops the knees are found first and come with the answer."""
        from .report.records import Run, estimate_results

        chosen = self._chosen(request, say)
        film = chosen.film
        estimator = self._load(request, say)
        if request.get("crops"):
            finding = _given(_crops(request["crops"], film))
        else:
            say(_("Looking for the knees…"))
            finding = estimator.find(film)
        say(_("Estimating…"))
        found = estimator.estimate(film, finding.knees)
        results = estimate_results(chosen.name, found, Run.of(estimator.bundle))
        return {
            **_found(finding),
            "bundle_sha256": estimator.bundle.sha256,
            "records": _with_distributions(found, results, estimator.bundle.manifest.architecture.months_to),
        }

    def explain(self, request: Mapping[str, Any], say: Say) -> Answer:
        """Saliency of one knee as a .npy file of the film's rows and columns, 0 to 1."""
        film = self._chosen(request, say).film
        estimator = self._load(request, say)
        import numpy as np

        from .explain import METHODS, explain

        method = request.get("method") or "integrated-gradients"
        if method not in METHODS:
            raise Problem(
                "usage",
                _("unknown method {method}"),
                _("Choose one of {known}."),
                method=repr(method),
                known=", ".join(METHODS),
            )
        (crop,) = _crops([request.get("crop")], film)
        say(_("Explaining…"))
        values = explain(estimator, film, crop, method)
        folder = Path(
            request.get("folder") or os.path.dirname(str(request["film"].get("pixels") or "")) or "."
        )
        path = folder / f"saliency-{os.getpid()}-{request.get('id', 0)}.npy"
        np.save(path, np.asarray(values, np.float32))
        return {"map": str(path), "method": method, "bundle_sha256": estimator.bundle.sha256}

    def bundle(self, request: Mapping[str, Any], say: Say) -> Answer:
        """The card of one bundle."""
        from .bundle_store import described

        return described(request.get("path"))

    def bundles(self, request: Mapping[str, Any], say: Say) -> Answer:
        """The default bundle and those in the user's folder (``folder``)."""
        from .bundle_store import all_described

        return {"bundles": all_described(request.get("folder"))}

    def install_bundle(self, request: Mapping[str, Any], say: Say) -> Answer:
        """Copy or unzip a bundle into the user's folder; the answer is its card."""
        from .bundle_store import described, install

        source, into = request.get("file") or request.get("folder"), request.get("into")
        if not source or not into:
            raise Problem(
                "usage", _("install_bundle needs file and into"), _("Choose a bundle's zip file or folder.")
            )
        say(_("Checking the bundle…"))
        return described(install(source, into))

    def sample(self, request: Mapping[str, Any], say: Say) -> Answer:
        """Draw one of the phantom children as DICOM."""
        from .phantom.samples import SAMPLES, draw_sample

        name = request.get("name")
        if name not in SAMPLES:
            raise Problem(
                "usage",
                _("unknown sample {name}"),
                _("Choose one of {known}."),
                name=repr(name),
                known=", ".join(SAMPLES),
            )
        say(_("Drawing a phantom child…"))
        return {"file": str(draw_sample(str(name), Path(request.get("folder") or ".")))}

    def _chosen(self, request: Mapping[str, Any], say: Say) -> Chosen:
        from .chosen_film import choose

        seen = self._seen(request, say)
        try:
            return choose(seen, request["film"])
        except ValueError as error:  # a typed fact that cannot be
            raise Problem(
                "usage", "{reason}", _("Correct it in the Film section."), reason=str(error)
            ) from None

    def _seen(self, request: Mapping[str, Any], say: Say) -> Seen:
        from .chosen_film import see, stamp

        wanted = request.get("film")
        if not isinstance(wanted, Mapping):
            raise Problem("usage", _("the request names no film"), _("Choose a film."))
        key = stamp(wanted)
        if self._film is None or self._film[0] != key:
            say(_("Reading the film…"))
            self._film = key, see(wanted)
        return self._film[1]

    def _load(self, request: Mapping[str, Any], say: Say) -> Estimator:
        path, device = request.get("bundle"), request.get("device") or "auto"
        from .bundle_store import folder_of

        folder = folder_of(path)
        manifest = folder / "bundle.json"
        key = (str(folder), manifest.stat().st_mtime_ns if manifest.is_file() else None, device)
        if self._estimator is None or self._estimator[0] != key:
            self._estimator = None
            if self._estimator is None and "torch" not in sys.modules:
                say(_("Loading PyTorch…"))
            _need_torch()
            say(_("Loading the model…"))
            from .bundle import load_bundle
            from .estimator import Estimator, choose_device

            try:
                choose_device(device)
            except ValueError:
                raise Problem(
                    "usage", _("There is no device {device} here."), CHOOSE_CPU, device=repr(device)
                ) from None
            self._estimator = key, Estimator(load_bundle(folder), device)
        return self._estimator[1]


def _need_torch() -> None:
    """Raise a Problem when torch is missing or too old; ImportError when it cannot be loaded."""
    from .installation import look

    look().require("torch")
    import torch  # noqa: F401


def _devices() -> list[str]:
    try:
        import torch

        found = [("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())]
    except Exception:  # a torch that cannot be loaded has no devices; `require` says so at the first estimate
        traceback.print_exc()
        found = []
    return ["cpu", *(name for name, there in found if there)]


def _given(crops: list[KneeCrop]) -> Finding:
    from .segmentation import Finding

    return Finding(tuple(crops))


def _crops(wanted: Iterable[Any], film: Film) -> list[KneeCrop]:
    """Crops of a request. Raises a Problem when none lies on the film or one is no square."""
    from .crop import KneeCrop, inside_fraction

    crops = []
    for given in wanted:
        try:
            names = ("side_px", "angle_deg", "side", "mirrored", "origin", "confidence")
            values = {name: given[name] for name in names if given.get(name) is not None}
            x, y = given["centre_px"]
            crops.append(KneeCrop((float(x), float(y)), **values))
        except (KeyError, TypeError, AttributeError) as error:
            raise Problem(
                "usage",
                _("a crop cannot be understood ({error})"),
                _("Give centre_px and side_px."),
                error=repr(error),
            ) from None
        except ValueError as error:
            way_out = _("Reset the square or draw a new one.")
            raise Problem("crop", "{reason}", way_out, reason=str(error)) from None
    if not any(inside_fraction(crop.box_px, film.pixels.shape) > 0 for crop in crops):
        raise Problem(
            "crop",
            _("The square lies outside of the film."),
            _("Drag it onto the knee, or reset it to the automatic one."),
        )
    return crops


def _found(finding: Any) -> Answer:
    from .segmentation import FIBULA_UNCLEAR

    unclear = any(note.startswith(FIBULA_UNCLEAR) for note in finding.notes)
    knees = [
        {
            **dataclasses.asdict(crop),
            "centre_px": list(crop.centre_px),
            "fibula_clear": crop.side != "unknown" and not unclear and crop.origin == "automatic",
        }
        for crop in finding.knees
    ]
    return {"knees": knees, "reason": finding.reason, "notes": list(finding.notes)}


def _with_distributions(found: Any, results: list[Any], months_to: float) -> list[Answer]:
    records = []
    for index, result in enumerate(results):
        record = dataclasses.asdict(result)
        if found.knees:
            knee = found.knees[index]
            probabilities = [round(float(p), 6) for p in knee.probabilities]
            record |= {
                "distribution": {"probabilities": probabilities, "months_to": months_to},
                "fold_months": [round(month, 2) for month in knee.fold_months],
            }
        records.append(record)
    return records
