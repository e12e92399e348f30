"""One process at a time in a folder: what several prepare is prepared once, and the others find it ready."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

from .record import RunError

fcntl: Any = import_module("fcntl") if find_spec("fcntl") else None
"""There on Linux and macOS."""
msvcrt: Any = None if fcntl else import_module("msvcrt")
"""There on Windows."""

log = logging.getLogger(__name__)

FILE = ".lock"
AGAIN_S = 0.2
"""How long a process waits before it asks for the lock again, seconds."""


@contextmanager
def locked(
    folder: Path, *, check: Callable[[], None] | None = None, waiting: Callable[[], None] | None = None
) -> Iterator[None]:
    """Wait until no other process holds the folder, which is made where it is not there; the lock ends with the process
    that holds it, however that ends.

    Parameters
    ----------
    check : called again and again while another process holds the folder; what it raises ends the waiting.
    waiting : called once when there is something to wait for.

    Raises
    ------
    RunError
        The disk of the folder knows no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("a") as stream:
        told = False
        while not _taken(stream, folder):
            if not told:
                told = True
                log.info("%s: another run prepares here; waiting for it", folder)
                if waiting is not None:
                    waiting()
            if check is not None:
                check()
            time.sleep(AGAIN_S)
        try:
            yield
        finally:
            if fcntl is None:
                stream.seek(0)
                msvcrt.locking(stream.fileno(), msvcrt.LK_UNLCK, 1)


def _taken(stream: TextIO, folder: Path) -> bool:
    """Whether the lock is this process's now; False while another one holds it."""
    try:
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            stream.seek(0)  # of the first byte, which may lie behind the end
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if isinstance(error, BlockingIOError if fcntl is not None else PermissionError):
            return False
        raise RunError(
            f"{folder}: cannot be locked ({error.strerror or error}); choose a folder on another disk (--cache)"
        ) from None
    return True
