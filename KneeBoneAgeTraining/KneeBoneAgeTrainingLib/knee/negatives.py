"""Crops of other things than frontal knees, drawn by the phantom and kept beside a study's crops.

They lie in ``negatives-VERSION-CODE-SEED-COUNT``; CODE tells the code that drew them, so that what an older phantom
drew is not taken for what this one draws.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from KneeBoneAgeLib import crop
from KneeBoneAgeLib.version import VERSION

from .. import crop_cache, drawing
from ..crop_cache import CropCache
from ..drawing import draw_crops
from .recipe import Negatives

PART = 40
"""Crops a file of those that are drawn."""
FILES = (crop.__file__, drawing.__file__, crop_cache.__file__)
SOURCES = (*Path(FILES[0]).parent.joinpath("phantom").glob("*.py"), *map(Path, FILES))
"""The code that decides what is drawn."""


def drawn_by() -> str:
    """What would draw now: the version of the libraries, and 8 hex digits of the SHA-256 of the code."""
    code = hashlib.sha256()
    for path in sorted(SOURCES, key=lambda path: path.name):
        code.update(path.read_bytes())
    return f"{VERSION}-{code.hexdigest()[:8]}"


def draw_negatives(wanted: Negatives, folder: Path, processes: int) -> CropCache | None:
    """The crops that are wanted, drawn now by so many processes unless they are in `folder`; None where none are."""
    if not wanted.count:
        return None
    place = folder / f"negatives-{drawn_by()}-{wanted.seed}-{wanted.count}"
    workers = max(1, min(processes, wanted.count // PART))
    calls = [(place, wanted.count, wanted.seed, worker, workers) for worker in range(workers)]
    if workers == 1:
        _draw(calls[0])
    else:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            list(pool.map(_draw, calls))
    return CropCache.load(place)


def _draw(call: tuple[Path, int, int, int, int]) -> None:
    out, count, seed, worker, workers = call
    with contextlib.redirect_stdout(sys.stderr):
        draw_crops(out, count, seed, negatives=True, part=PART, worker=worker, workers=workers)
