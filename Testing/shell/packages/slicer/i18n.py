"""Stand-in for ``slicer.i18n``: the language of the interface is that of the source."""

import functools
import inspect
from pathlib import Path


def tr(text: str) -> str:
    """Translate a text of a scripted module; its context is that of the file that asks."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return translate(getContext(frame.f_back.f_code.co_filename), text)


def translate(context: str, text: str) -> str:
    """Translate a text of a named context."""
    return text


@functools.cache
def getContext(sourceFile: str) -> str:
    """Name of the translation context of a file: its own, after that of its package."""
    path = Path(sourceFile)
    return f"{path.parent.name}.{path.stem}" if (path.parent / "__init__.py").is_file() else path.stem
