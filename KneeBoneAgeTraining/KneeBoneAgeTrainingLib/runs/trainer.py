"""Lightning's trainer as hand teachers and knee students use it."""

from __future__ import annotations

import logging
from pathlib import Path

from lightning.pytorch.loggers import Logger, TensorBoardLogger

log = logging.getLogger(__name__)


def tensorboard(folder: Path) -> Logger | bool:
    """A logger that writes into ``folder/tensorboard``; False where nothing is installed that could."""
    try:
        return TensorBoardLogger(folder, name="tensorboard", version="", default_hp_metric=False)
    except ModuleNotFoundError:
        log.info("no TensorBoard files: neither tensorboard nor tensorboardX is installed")
        return False
