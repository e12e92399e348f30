"""The film that a request of the service means: the file where it shows what Slicer shows, else Slicer's array.

The file is preferred, so that the module and the command answer the same for the same film: it has the whole
header, and its grey scale is settled once. Slicer's voxels come without a header, and of a MONOCHROME1 film
already inverted; they are taken where the file cannot be read or shows another picture (cropped, painted over).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import FilmError

if TYPE_CHECKING:
    from .radiograph.film import Film

FACTS = ("sex", "age_months", "side", "view", "body_part")
EXPLAINED = 0.98
"""Share of one picture's variance that the other's grey values must explain: that of a correlation of 0.99."""
LEVELS = 128
THUMBNAIL = 160
NO_HEADER = ("array", "file", "uncalibrated")
"""Sources of a pixel spacing that a header read earlier knows better than."""


@dataclass(frozen=True)
class Seen:
    """A film as it was found, before anything that was typed.

    Attributes
    ----------
    used : "file" or "array".
    shown : "normal" when bone is bright in Slicer's volume, else "inverted"; of a file alone as it is stored.
    """

    film: Film
    used: str
    shown: str


@dataclass(frozen=True)
class Chosen:
    """The film of a request with everything that was typed; ``name`` is what a record calls it."""

    film: Film
    name: str
    used: str
    shown: str


def stamp(wanted: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells whether film and array are still those that were read."""
    parts: list[Any] = [wanted.get("name")]
    for name in (wanted.get("file"), wanted.get("pixels")):
        path = Path(name) if name else None
        known = path.stat() if path is not None and path.is_file() else None
        parts.append((name, known.st_mtime_ns, known.st_size) if known else (name,))
    return *parts, _pair(_array_spacing(wanted))


def see(wanted: Mapping[str, Any]) -> Seen:
    """Read the file or the array of a request. Raises FilmError."""
    from .radiograph import film_from_array, read_film

    film, failed = None, None
    if wanted.get("file"):
        try:
            film = read_film(wanted["file"])
        except FilmError as error:
            if not wanted.get("pixels") or _is_something_else(error):
                raise
            failed = error
    if not wanted.get("pixels"):
        if film is None:
            raise FilmError(wanted.get("name") or "film", "neither a file nor a picture was given")
        return Seen(film, "file", film.polarity)
    array = _load(wanted)
    notes: tuple[str, ...] = ()
    if film is not None:
        alike, sign = likeness(film.pixels, array)
        if alike > EXPLAINED:
            return Seen(film, "file", "normal" if sign > 0 else "inverted")
        notes = ("the volume in the scene shows another picture than its file; the volume was used",)
    elif failed is not None:
        notes = (f"the file could not be read ({failed.reason}); the volume in the scene was used",)
    path = wanted.get("name") or wanted.get("file") or ""
    found = film_from_array(array, _pair(_array_spacing(wanted)), path=path)
    found = replace(found, notes=(*found.notes, *notes))
    return Seen(found, "array", found.polarity)


def choose(seen: Seen, wanted: Mapping[str, Any]) -> Chosen:
    """Add what an earlier reading of the header and a person know; what was typed wins. Raises ValueError."""
    from .radiograph import with_known

    film, typed = seen.film, tuple(wanted.get("typed") or ())
    header: dict[str, Any] = {
        name: wanted[name]
        for name in FACTS
        if name not in typed and getattr(film, name) is None and wanted.get(name) is not None
    }
    film = replace(film, **header)
    film = _identified(film, wanted.get("uids") or {})
    source = wanted.get("spacing_source")
    if film.spacing_source in NO_HEADER and source not in (None, *NO_HEADER) and "spacing_mm" not in typed:
        film = replace(film, spacing_mm=_pair(wanted.get("spacing_mm")), spacing_source=source)
    known: dict[str, Any] = {
        name: wanted.get(name) for name in ("sex", "age_months", "side") if name in typed
    }
    film = with_known(film, **known)
    for name in ("sex", "age_months", "side", "view"):
        if name in typed and name not in film.typed:
            said: dict[str, Any] = {name: wanted.get(name), "typed": (*film.typed, name)}
            film = replace(film, **said)
    if "spacing_mm" in typed:
        spacing = _pair(wanted.get("spacing_mm"))
        words = "uncalibrated" if spacing is None else "typed"
        film = replace(film, spacing_mm=spacing, spacing_source=words, typed=(*film.typed, "spacing_mm"))
    shown = seen.shown
    if "polarity" in typed and wanted.get("polarity") in ("normal", "inverted"):
        if wanted["polarity"] != shown:
            turned = "normal" if film.polarity == "inverted" else "inverted"
            film = replace(film, pixels=1 - film.pixels, polarity=turned)
        shown = wanted["polarity"]
        film = replace(film, typed=(*film.typed, "polarity"))
    return Chosen(film, wanted.get("file") or wanted.get("name") or "volume", seen.used, shown)


def described(seen: Seen, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What was understood of a film, leaving out what was typed."""
    typed = tuple(wanted.get("typed") or ())
    untyped = {name: value for name, value in wanted.items() if name not in typed}
    chosen = choose(seen, {**untyped, "typed": []})
    film, identifiers = chosen.film, chosen.film.identifiers
    uids = {
        "study": identifiers.study_uid,
        "series": identifiers.series_uid,
        "instance": identifiers.instance_uid,
    }
    return {
        **{name: getattr(film, name) for name in FACTS},
        "spacing_mm": list(film.spacing_mm) if film.spacing_mm else None,
        "spacing_source": film.spacing_source,
        "polarity": chosen.shown,
        "notes": list(film.notes),
        "uids": {name: uid for name, uid in uids.items() if uid},
        "rows": film.rows,
        "columns": film.columns,
        "used": chosen.used,
    }


def likeness(film_pixels: NDArray[Any], array: NDArray[Any]) -> tuple[float, float]:
    """How well the array's grey values explain the film's, 0 to 1, and the sign of their correlation.

    A window or a look-up table bends the grey scale, so a plain correlation of the same picture may be poor.
    What is asked is the correlation ratio: whether pixels of one grey in the array have one grey in the film.
    """
    if array.ndim == 3 and array.shape[-1] in (3, 4):
        array = array[..., 1]
    if film_pixels.shape != array.shape:
        return 0.0, 1.0
    step = max(1, -(-max(array.shape) // THUMBNAIL))
    ours = film_pixels[::step, ::step].astype(np.float64).ravel()
    theirs = array[::step, ::step].astype(np.float64).ravel()
    total = ours.var()
    if total < 1e-9 or theirs.var() == 0:
        return (1.0 if total < 1e-9 and theirs.var() == 0 else 0.0), 1.0
    # Even over the greys that occur as well as over the pixels: most of a film may be one black border.
    shares = np.linspace(0, 1, LEVELS + 1)[1:-1]
    edges = np.unique([np.quantile(theirs, shares), np.quantile(np.unique(theirs), shares)])
    level = np.searchsorted(edges, theirs, side="right")
    count = np.bincount(level, minlength=len(edges) + 1)
    means = np.bincount(level, ours, len(edges) + 1) / np.maximum(count, 1)
    explained = 1 - np.mean((ours - means[level]) ** 2) / total
    return float(explained), float(np.mean((ours - ours.mean()) * (theirs - theirs.mean())))


def _load(wanted: Mapping[str, Any]) -> NDArray[Any]:
    try:
        return np.load(wanted["pixels"], allow_pickle=False)
    except (OSError, ValueError) as error:
        raise FilmError(wanted.get("name") or "film", f"its picture cannot be read ({error})") from None


def _is_something_else(error: FilmError) -> bool:
    """Whether the file was read well enough to say that it is no radiograph, which its voxels cannot deny."""
    return "no radiograph" in error.reason or "not a radiograph" in error.reason


def _identified(film: Film, uids: Mapping[str, str]) -> Film:
    ours = film.identifiers
    return replace(
        film,
        identifiers=replace(
            ours,
            study_uid=ours.study_uid or uids.get("study"),
            series_uid=ours.series_uid or uids.get("series"),
            instance_uid=ours.instance_uid or uids.get("instance"),
        ),
    )


def _array_spacing(wanted: Mapping[str, Any]) -> Any:
    """The volume's own pixel pitch; one that was typed comes later."""
    return None if "spacing_mm" in (wanted.get("typed") or ()) else wanted.get("spacing_mm")


def _pair(spacing: Any) -> tuple[float, float] | None:
    return (float(spacing[0]), float(spacing[1])) if spacing else None
