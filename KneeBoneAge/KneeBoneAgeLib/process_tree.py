"""Ending a process together with everything that it has started.

PythonSlicer is a launcher with the interpreter as its child, so ending the launcher alone would leave the networks
running. psutil would do this well, but Slicer does not bring it and it is a compiled package that one more
installation would depend on; three lists of processes (``/proc``, ``ps``, ``taskkill``) need nothing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

GRACE_S = 2.0
"""Time for a polite end before the rest is killed."""


def end(pid: int, grace_s: float = GRACE_S) -> None:
    """End a process and all its descendants, politely first; returns when they are gone or were killed.

    A process that is gone already is no error. ``pid`` must be one that the caller has started.
    """
    if pid <= 0 or pid == os.getpid():
        raise ValueError(f"process {pid} cannot be ended from here")
    if sys.platform == "win32":
        subprocess.run(
            ["taskkill", "/PID", str(pid), "/T", "/F"],
            check=False,
            capture_output=True,
            creationflags=subprocess.CREATE_NO_WINDOW,
        )
        return
    # Children are listed before anything ends: an orphan would have another parent.
    tree = [pid, *descendants(pid)]
    _signal(tree, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while (left := [one for one in tree if is_alive(one)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    _signal([*left, *(child for one in left for child in descendants(one))], signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Children of a process, their children and so on, parents first. POSIX only."""
    children: dict[int, list[int]] = {}
    for child, parent in _processes():
        children.setdefault(parent, []).append(child)
    found: list[int] = []
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(0), ()):
            if child not in found:
                found.append(child)
                waiting.append(child)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected by its parent does not. POSIX only."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = _stat(pid)[0] if Path("/proc/self/stat").is_file() else _ps("-o", "state=", "-p", str(pid))
    except OSError:
        return False
    return not state.startswith("Z")


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; the name before them may hold blanks and brackets."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _processes() -> list[tuple[int, int]]:
    """(process, parent) of everything that runs."""
    found = []
    if Path("/proc/self/stat").is_file():
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    found.append((int(entry), int(_stat(int(entry))[1])))
                except (OSError, IndexError):
                    continue
        return found
    listing = _ps("-axo", "pid=,ppid=")
    return [
        (int(pid), int(parent)) for pid, parent in (line.split() for line in listing.splitlines() if line)
    ]


def _ps(*arguments: str) -> str:
    """What ``ps`` says, for systems without /proc (macOS)."""
    return subprocess.run(["ps", *arguments], check=False, capture_output=True, text=True).stdout.strip()
