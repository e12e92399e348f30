"""Errors that a user can act on: what was wrong, with which file or value, and the way out."""


class FilmError(ValueError):
    """A film cannot be read.

    Parameters
    ----------
    path : str
        The file as the user gave it.
    reason : str
        One sentence: what is wrong and what to do.
    """

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason


class BundleError(ValueError):
    """A model bundle is damaged, of another version, or not one."""
