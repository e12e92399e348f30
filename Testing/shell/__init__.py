"""A stand-in for the application around a 3D Slicer module, for tests only.

Real MRML (``slicer-core``) and real Qt widgets (PySide6, offscreen); only the shell between them is rebuilt here, as
documented and as recorded from the real application. See README.md.
"""

import importlib
import importlib.util

NEEDED = {"slicer_core": "slicer-core", "PySide6": "PySide6_Essentials"}
LOADED = ("slicer_core", "PySide6.QtWidgets", "PySide6.QtUiTools")


def missing() -> str | None:
    """Why the shell cannot run here, or None when it can."""
    absent = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (pip install '.[test]')"
    try:
        for module in LOADED:
            importlib.import_module(module)
    except ImportError as error:
        return f"a library of the system is missing: {error}"
    return None
