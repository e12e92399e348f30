"""The application for tests of the Slicer modules: the real one inside 3D Slicer, the stand-in anywhere else."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def application(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A running application with an empty scene, closed after the test."""
    sys.path.insert(0, str(HERE))
    try:
        shell = importlib.import_module("shell")
    finally:
        sys.path.remove(str(HERE))
    if getattr(sys.modules.get("slicer"), "app", None) is not None:
        running = importlib.import_module("shell.in_slicer").running
    else:
        if shell.missing():
            pytest.skip(shell.missing())
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        running = importlib.import_module("shell.application").running
        choose = importlib.import_module("shell.pythonqt").choose
        for module in (request.module, *request.config.pluginmanager.get_plugins()):
            if Path(getattr(module, "__file__", None) or "/").is_relative_to(HERE):
                choose(module.__name__)
    with running() as application:
        yield application
