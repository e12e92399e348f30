"""Which files of a folder are films, and reading the next ones while the current one is worked on."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import FilmError
from .report.records import PICTURE_MARK

if TYPE_CHECKING:
    from .radiograph.film import Film

FILM_SUFFIXES = (
    *(".dcm", ".dicom", ".dic", ".ima", ".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff", ".bmp"),
    *(".nrrd", ".nhdr", ".mha", ".mhd", ".nii", ".nii.gz"),
)
AHEAD = 2
"""Films that are read ahead: memory holds these and the one in work, whatever the folder's size."""


def film_paths(given: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The films to handle, in order and once each.

    A file that is named is always tried. A folder is walked, sorted by name, and only what looks like a film
    is taken: a suffix of `FILM_SUFFIXES`, or DICOM by its content. Left out are hidden files, DICOMDIR,
    folders ``masks``, files ``*_mask.*``, and pictures of a report (`PICTURE_MARK`).
    """
    found: dict[Path, Path] = {}
    for path in map(Path, given):
        for film in _walk(path) if path.is_dir() else [path]:
            found.setdefault(film.resolve(), film)
    return list(found.values())


def read_ahead(
    paths: Iterable[Path], read: Callable[[Path], Film], ahead: int = AHEAD
) -> Generator[tuple[Path, Film | FilmError]]:
    """Yield each path with its film, or with the error that says why there is none.

    One thread reads, at most ``ahead`` films in advance; it ends when the iterator is closed.
    """
    ready: queue.Queue[tuple[Path, Film | FilmError] | None] = queue.Queue(maxsize=max(1, ahead - 1))
    stop = threading.Event()

    def put(item: tuple[Path, Film | FilmError] | None) -> None:
        while not stop.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        for path in paths:
            if stop.is_set():
                return
            put((path, _read(path, read)))
        put(None)

    reader = threading.Thread(target=work, name="film reader", daemon=True)
    reader.start()
    try:
        while (item := ready.get()) is not None:
            yield item
            del item
    finally:
        stop.set()


def _read(path: Path, read: Callable[[Path], Film]) -> Film | FilmError:
    try:
        return read(path)
    except FilmError as error:
        return error
    except Exception as error:  # one unforeseen file must not end a run over a folder
        return FilmError(path, f"could not be read ({type(error).__name__}: {error})")


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name.lower() != "masks")
        for name in sorted(files):
            path = Path(root, name)
            if _looks_like_film(path):
                yield path


def _looks_like_film(path: Path) -> bool:
    name = path.name.lower()
    stem = name.partition(".")[0]
    if name.startswith(".") or name == "dicomdir" or stem.endswith("_mask"):
        return False
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
    except OSError:
        return name.endswith(FILM_SUFFIXES)
    if PICTURE_MARK.encode() in head:
        return False
    return name.endswith(FILM_SUFFIXES) or head[128:132] == b"DICM"
