"""One sitting of a run: from the line that begins or goes on with it until it is finished, stopped or failed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from pathlib import Path

from .loop import Stopped, StopRequest
from .machine import is_main_process
from .progress import Reporter
from .record import FAILED, FINISHED, LOG, STOPPED, logging_to, now, open_run

log = logging.getLogger(__name__)


@contextmanager
def sitting(folder: Path, folds: int, reporter: Reporter, stop: StopRequest) -> Iterator[None]:
    """Train so many folds inside of it; how it ended stands in run.json, what was said in train.log.

    Of several processes that train one run only the main one writes.

    Raises
    ------
    Stopped
        An end was asked for, in whatever way it arrived: the same call goes on.
    """
    main = is_main_process()
    reporter.folder = folder if main else None
    reporter.tell(folds=folds)
    with logging_to(folder / LOG) if main else nullcontext():
        try:
            yield
        except BaseException as error:
            asked = was_asked(error, stop)
            if main and asked:
                open_run(folder).with_facts(state=STOPPED, finished=now(), pid=None)
                log.info("stopped; the same line goes on from here")
                reporter.tell(doing="stopped", seconds_left=None)
            elif main:
                log.exception("failed")
                said = f"{type(error).__name__}: {error}"
                open_run(folder).with_facts(state=FAILED, finished=now(), pid=None, error=said)
            if asked and not isinstance(error, Stopped):
                raise Stopped from error
            raise
        if main:
            open_run(folder).with_facts(state=FINISHED, finished=now(), pid=None)
            log.info("finished: %s", folder)
            reporter.tell(doing="finished", seconds_left=0.0)


def was_asked(error: BaseException, stop: StopRequest) -> bool:
    """Whether an error is the end that somebody asked for.

    Lightning leaves by SystemExit when a signal reaches it before the run listens again, or at a second Ctrl-C; a
    signal to all processes of a group also ends those that prepare batches and pictures, which looks like a failure.
    """
    if isinstance(error, Stopped | KeyboardInterrupt | SystemExit):
        return True
    helper = isinstance(error, BrokenProcessPool) or (
        isinstance(error, RuntimeError) and "DataLoader worker" in str(error)
    )
    return bool(stop) and helper
