"""What the person at the keyboard answers: boxes and file dialogs open no window, the test decides.

As in the application, a box that nobody awaited stops nothing here; it is kept, and ``unexpected`` tells of it.
"""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

OK, CANCEL, YES, NO = 0x400, 0x400000, 0x4000, 0x10000
"""Values of ``QMessageBox.StandardButton``."""


class Box(NamedTuple):
    """A message box that was shown."""

    text: str
    kind: str
    """Information, Warning, Critical or Question."""
    answer: int
    expected: bool


@dataclass
class Answers:
    """The answers given, and what was asked."""

    boxes: list[Box] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    """Addresses and files that were handed to the system to open."""
    _rules: list[tuple[str, int]] = field(default_factory=list)
    _paths: list[tuple[str, ...]] = field(default_factory=list)

    def reset(self) -> None:
        """Forget all answers and questions."""
        for kept in (self.boxes, self.opened, self._rules, self._paths):
            kept.clear()

    def expect(self, pattern: str, answer: int = OK) -> None:
        """A box whose text holds this regular expression is expected, and is answered so."""
        self._rules.insert(0, (pattern, answer))

    def choose(self, *paths: object) -> None:
        """The next file dialog gives these paths; none is Cancel."""
        self._paths.append(tuple(str(path) for path in paths))

    def message(self, text: str, kind: str) -> int:
        """The answer to a box. Nobody's box is answered with Ok when it only tells, and with No when it asks."""
        for pattern, answer in self._rules:
            if re.search(pattern, text, re.IGNORECASE | re.DOTALL):
                self.boxes.append(Box(text, kind, answer, True))
                return answer
        answer = NO if kind == "Question" else OK
        self.boxes.append(Box(text, kind, answer, False))
        return answer

    def paths(self) -> tuple[str, ...]:
        """The answer to a file dialog for several files."""
        return self._paths.pop(0) if self._paths else ()

    def path(self) -> str:
        """The answer to a file dialog for one file; empty when it was cancelled."""
        return next(iter(self.paths()), "")

    @property
    def unexpected(self) -> list[Box]:
        """Boxes that no test expected."""
        return [box for box in self.boxes if not box.expected]


ANSWERS = Answers()
