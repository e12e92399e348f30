"""Bounds on what is read, so that a hostile or broken file costs neither time nor memory."""

from __future__ import annotations

import os
import stat

from ..errors import FilmError

MAX_FILE_BYTES = 1 << 29
MAX_PIXELS = 80_000_000
"""A 35 x 43 cm film at 50 um has 61 million pixels."""
MIN_PIXELS_A_SIDE = 2


def check_file(path: str) -> None:
    """Raise FilmError unless the path is a regular file of a sensible size."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise FilmError(path, "there is no such file") from None
    except (OSError, ValueError) as error:
        raise FilmError(path, f"cannot be opened ({why(error)})") from None
    if stat.S_ISDIR(status.st_mode):
        raise FilmError(path, "is a folder, not a film")
    if not stat.S_ISREG(status.st_mode):
        raise FilmError(path, "is not a regular file")
    if status.st_size == 0:
        raise FilmError(path, "the file is empty")
    if status.st_size > MAX_FILE_BYTES:
        raise FilmError(path, f"is larger than {MAX_FILE_BYTES >> 20} MiB, too large for one film")


def check_size(path: str, rows: int, columns: int) -> None:
    """Raise FilmError unless (rows, columns) can be a film; call it before anything is allocated."""
    if rows < MIN_PIXELS_A_SIDE or columns < MIN_PIXELS_A_SIDE:
        raise FilmError(path, f"says it has {rows} x {columns} pixels, which is no picture")
    if rows * columns > MAX_PIXELS:
        raise FilmError(
            path,
            f"says it has {rows} x {columns} pixels; more than {MAX_PIXELS // 10**6} million are not read",
        )


def why(error: BaseException) -> str:
    """The reason inside a foreign exception, on one short line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    return f"{text[:160]}..." if len(text) > 160 else text or type(error).__name__
