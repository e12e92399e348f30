"""The radiographs of the DICOM database in a list, read bit by bit so that a large one blocks nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import qt
import slicer
from slicer.i18n import tr as _

RADIOGRAPHS = ("CR", "DX", "RG")
"""DICOM modalities of films."""
AT_ONCE_S = 0.02
"""The database is asked for so long between two turns of the event loop."""


class Series(NamedTuple):
    """What the list shows, from the fields that the database keeps beside the files."""

    uid: str
    modality: str
    date: str
    description: str


class SeriesList:
    """A list with one row a series, those that are checked, and a filter.

    Parameters
    ----------
    changed : is called when another series is checked.
    """

    def __init__(self, ui: Any, changed: Callable[[], None]) -> None:
        self.ui, self._changed = ui, changed
        self.checked: set[str] = set()
        self._left: Iterator[Series | None] = iter(())
        self._heard: Any = None
        self._timer = qt.QTimer()
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._go_on)
        ui.seriesTable.itemChanged.connect(self._item_changed)
        ui.seriesFilter.textChanged.connect(lambda *_text: self._filter())
        ui.allSeriesBox.clicked.connect(lambda *_checked: self._check_all())

    def read(self) -> None:
        """Read the database anew; what was checked stays checked."""
        database = slicer.dicomDatabase
        self.ui.seriesTable.setRowCount(0)
        self.ui.allSeriesBox.checked = False
        self._left = _radiographs(database) if database is not None and database.isOpen else iter(())
        if database is not None and database is not self._heard:
            self._heard = database
            database.databaseChanged.connect(self._read_again)
        self._timer.start()

    def close(self) -> None:
        """Read no further."""
        self._timer.stop()
        if self._heard is not None:
            self._heard.databaseChanged.disconnect(self._read_again)
            self._heard = None

    def show(self, seen: bool, enabled: bool) -> None:
        """Show the list, or hide it."""
        some = seen and self.ui.seriesTable.rowCount > 0
        for widget in (self.ui.seriesTable, self.ui.seriesFilter, self.ui.allSeriesBox):
            widget.visible, widget.enabled = some, enabled

    def files(self) -> list[str]:
        """The files of the series that are checked, in the order of the list."""
        items = [self.ui.seriesTable.item(row, 0) for row in range(self.ui.seriesTable.rowCount)]
        uids = [item.data(qt.Qt.UserRole) for item in items]
        return [
            path for uid in uids if uid in self.checked for path in slicer.dicomDatabase.filesForSeries(uid)
        ]

    def _read_again(self, *_arguments: Any) -> None:
        if self.ui.databaseChoice.checked:
            self.read()

    def _go_on(self) -> None:
        end = time.monotonic() + AT_ONCE_S
        found = []
        for series in self._left:
            if series is not None:
                found.append(series)
            if time.monotonic() > end:
                break
        else:
            self._timer.stop()
        self._add(found)
        table, reading = self.ui.seriesTable, bool(self._timer.isActive())
        if not reading:
            self._quietly(lambda: table.sortItems(1))
            self._forget_gone()
        self.ui.databaseLabel.text = self._words(table.rowCount, reading)
        if found or not reading:
            self._changed()

    def _words(self, count: int, reading: bool) -> str:
        if reading:
            return _("Radiographs so far: {count}…").format(count=count)
        if count:
            return _("Radiographs: {count}; check those to estimate").format(count=count)
        return _("no radiographs; import them in the DICOM module")

    def _add(self, found: list[Series]) -> None:
        table = self.ui.seriesTable
        first = table.rowCount

        def add() -> None:
            table.setRowCount(first + len(found))
            for row, series in enumerate(found, start=first):
                item = qt.QTableWidgetItem(series.modality)
                item.setFlags(qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsEnabled)
                item.setData(qt.Qt.UserRole, series.uid)
                item.setCheckState(qt.Qt.Checked if series.uid in self.checked else qt.Qt.Unchecked)
                table.setItem(row, 0, item)
                table.setItem(row, 1, qt.QTableWidgetItem(series.date))
                table.setItem(row, 2, qt.QTableWidgetItem(series.description))

        self._quietly(add)
        self._filter(first)

    def _filter(self, first: int = 0) -> None:
        """Show the rows whose date or description has the words, from a row on."""
        words, table = self.ui.seriesFilter.text.lower().split(), self.ui.seriesTable
        for row in range(first, table.rowCount):
            said = f"{table.item(row, 1).text()} {table.item(row, 2).text()}".lower()
            table.setRowHidden(row, not all(word in said for word in words))

    def _check_all(self) -> None:
        """Check the rows that are seen, or none."""
        table = self.ui.seriesTable
        state = qt.Qt.Checked if self.ui.allSeriesBox.checked else qt.Qt.Unchecked

        def check() -> None:
            for row in range(table.rowCount):
                if not table.isRowHidden(row):
                    table.item(row, 0).setCheckState(state)
                    self._note(table.item(row, 0))

        self._quietly(check)
        self._changed()

    def _item_changed(self, item: Any) -> None:
        self._note(item)
        self._changed()

    def _note(self, item: Any) -> None:
        uid = item.data(qt.Qt.UserRole)
        (self.checked.add if item.checkState() == qt.Qt.Checked else self.checked.discard)(uid)

    def _forget_gone(self) -> None:
        table = self.ui.seriesTable
        self.checked &= {table.item(row, 0).data(qt.Qt.UserRole) for row in range(table.rowCount)}

    def _quietly(self, change: Callable[[], None]) -> None:
        blocked = self.ui.seriesTable.blockSignals(True)
        change()
        self.ui.seriesTable.blockSignals(blocked)


def _radiographs(database: Any) -> Iterator[Series | None]:
    """The radiographs; None for any other series, so that nobody waits for the next one."""
    for patient in database.patients():
        for study in database.studiesForPatient(patient):
            for uid in database.seriesForStudy(study):
                modality = database.fieldForSeries("Modality", uid)
                if modality not in RADIOGRAPHS:
                    yield None
                    continue
                date = database.fieldForStudy("StudyDate", study)
                yield Series(uid, modality, date, database.descriptionForSeries(uid))
