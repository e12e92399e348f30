"""Stand-in for the DICOM database and for loading a series from it."""

from pathlib import Path
from typing import Any

import pydicom
from PySide6 import QtCore

from .io_manager import IOManager

PATIENT, STUDY, SERIES, INSTANCE = "0010,0020", "0020,000d", "0020,000e", "0008,0018"
SERIES_NUMBER, SERIES_DESCRIPTION, WINDOW_CENTER, WINDOW_WIDTH = (
    "0020,0011",
    "0008,103e",
    "0028,1050",
    "0028,1051",
)


class Database(QtCore.QObject):
    """``slicer.dicomDatabase``: headers of the files inserted, held in memory. Tags are written ``"0010,0040"``."""

    databaseChanged = QtCore.Signal()
    seriesAdded = QtCore.Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._headers: dict[str, pydicom.Dataset] = {}
        self.isOpen, self.isInMemory = True, True
        self.databaseDirectory = self.databaseFilename = ""

    def insert(self, path: str, *options: bool) -> None:
        """Take a file in."""
        header = pydicom.dcmread(path, stop_before_pixels=True)
        self._headers[str(path)] = header
        self.seriesAdded.emit(str(header.SeriesInstanceUID))
        self.databaseChanged.emit()

    def allFiles(self) -> tuple[str, ...]:
        """All files."""
        return tuple(self._headers)

    def fileValue(self, path: str, tag: str) -> str:
        """A header entry as text; empty when the file has none. Several values are parted by backslashes."""
        header = self._headers.get(str(path))
        group, element = tag.split(",")
        found = header.get((int(group, 16), int(element, 16))) if header is not None else None
        if found is None or found.value is None:
            return ""
        values = found.value if isinstance(found.value, pydicom.multival.MultiValue) else [found.value]
        return "\\".join(str(value) for value in values)

    def fileValueExists(self, path: str, tag: str) -> bool:
        """Whether the file has the header entry."""
        return bool(self.fileValue(path, tag))

    def instanceValue(self, uid: str, tag: str) -> str:
        """A header entry of an instance."""
        return self.fileValue(self.fileForInstance(uid), tag)

    def fileForInstance(self, uid: str) -> str:
        """The file of an instance; empty when it is not known."""
        return next((path for path in self._headers if self.fileValue(path, INSTANCE) == uid), "")

    def instanceForFile(self, path: str) -> str:
        """The instance of a file."""
        return self.fileValue(path, INSTANCE)

    def seriesForFile(self, path: str) -> str:
        """The series of a file."""
        return self.fileValue(path, SERIES)

    def _distinct(self, tag: str, where: str = "", value: str = "") -> tuple[str, ...]:
        chosen = (path for path in self._headers if not where or self.fileValue(path, where) == value)
        return tuple(dict.fromkeys(self.fileValue(path, tag) for path in chosen))

    def patients(self) -> tuple[str, ...]:
        """Keys of all patients."""
        return self._distinct(PATIENT)

    def studiesForPatient(self, patient: str) -> tuple[str, ...]:
        """The studies of a patient."""
        return self._distinct(STUDY, PATIENT, patient)

    def seriesForStudy(self, study: str) -> tuple[str, ...]:
        """The series of a study."""
        return self._distinct(SERIES, STUDY, study)

    def studyForSeries(self, series: str) -> str:
        """The study of a series."""
        return next(iter(self._distinct(STUDY, SERIES, series)), "")

    def patientForStudy(self, study: str) -> str:
        """The patient of a study."""
        return next(iter(self._distinct(PATIENT, STUDY, study)), "")

    def filesForSeries(self, series: str) -> tuple[str, ...]:
        """The files of a series."""
        return tuple(path for path in self._headers if self.fileValue(path, SERIES) == series)

    def instancesForSeries(self, series: str) -> tuple[str, ...]:
        """The instances of a series."""
        return self._distinct(INSTANCE, SERIES, series)

    def descriptionForSeries(self, series: str) -> str:
        """The description of a series."""
        return next((self.fileValue(path, SERIES_DESCRIPTION) for path in self.filesForSeries(series)), "")

    def fieldForSeries(self, field: str, series: str) -> str:
        """A column of the database's table of series, named as in DICOM."""
        return next((str(header.get(field, "")) for header in self._of(series, "SeriesInstanceUID")), "")

    def fieldForStudy(self, field: str, study: str) -> str:
        """A column of the database's table of studies."""
        return next((str(header.get(field, "")) for header in self._of(study, "StudyInstanceUID")), "")

    def _of(self, uid: str, keyword: str) -> list[pydicom.Dataset]:
        return [header for header in self._headers.values() if header.get(keyword) == uid]

    def nameForPatient(self, patient: str) -> str:
        """The name of a patient."""
        return next(iter(self._distinct("0010,0010", PATIENT, patient)), "")


def load_series(database: Database, io: IOManager, path: Path) -> Any:
    """Import a file and load it as the application's scalar volume reader does; the volume node."""
    database.insert(str(path))
    number, description = (database.fileValue(str(path), tag) for tag in (SERIES_NUMBER, SERIES_DESCRIPTION))
    name = f"{number}: {description or 'Unnamed Series'}" if number else description or "Unnamed Series"
    from slicer.util import loadVolume

    node = loadVolume(str(path), {"name": name, "singleFile": True})
    node.SetAttribute("DICOM.instanceUIDs", database.instanceForFile(str(path)))
    window, level = (
        database.fileValue(str(path), tag).split("\\")[0] for tag in (WINDOW_WIDTH, WINDOW_CENTER)
    )
    if window and level:
        display = node.GetVolumeDisplayNode()
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(float(window), float(level))
    return node
