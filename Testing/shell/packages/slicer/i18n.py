"""Stand-in for ``slicer.i18n``: the language of the interface is that of the source."""


def tr(text: str) -> str:
    """Translate a text of a scripted module."""
    return text


def translate(context: str, text: str) -> str:
    """Translate a text of a named context."""
    return text


def getContext(sourceFile: str) -> str:
    """Name of the translation context of a file."""
    return sourceFile.replace("\\", "/").rpartition("/")[2].removesuffix(".py")
