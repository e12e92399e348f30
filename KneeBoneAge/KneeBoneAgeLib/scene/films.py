"""Film ↔ scalar volume: whether it may be one, its file, its picture for the child process, what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..scene_values import READ_NAMES, Facts, checked_fact, merged
from ..words import mark as _
from ..words import tell
from .nodes import is_saliency, load, store


def check_volume(volume: Any) -> str | None:
    """Why this volume is no film, in one sentence with the way out; None when it may be one."""
    if volume is None:
        return tell(_("No film is chosen: load a knee radiograph or choose one above."))
    name = volume.GetName() or tell(_("The volume"))
    if is_saliency(volume):
        return tell(_("{name} is a saliency map: choose the film that it lies on."), name=name)
    if volume.IsA("vtkMRMLLabelMapVolumeNode"):
        return tell(_("{name} is a label map, not a film: choose the radiograph itself."), name=name)
    image = volume.GetImageData()
    if image is None or 0 in image.GetDimensions() or image.GetPointData().GetScalars() is None:
        return tell(_("{name} holds no picture: load the film again or choose another volume."), name=name)
    columns, rows, slices = image.GetDimensions()
    if slices > 1:
        sentence = _(
            "{name} has {slices} slices, so it is a CT, an MR or a series: choose a knee radiograph, which is a "
            "single picture."
        )
        return tell(sentence, name=name, slices=slices)
    if min(rows, columns) < 2:
        sentence = _("{name} has {columns} x {rows} pixels, which is no picture: choose a knee radiograph.")
        return tell(sentence, name=name, columns=columns, rows=rows)
    if image.GetNumberOfScalarComponents() > 1 and not _is_grey(volume):
        return tell(_("{name} is a colour picture: choose a radiograph, which is grey."), name=name)
    return None


def _is_grey(volume: Any) -> bool:
    from ..errors import FilmError
    from ..radiograph.colour import grey_of_colour

    picture = pixels_of(volume)
    if picture.shape[-1] not in (3, 4):
        return False
    try:
        grey_of_colour("", picture)
    except FilmError:
        return False
    return True


def pixels_of(volume: Any) -> NDArray[Any]:
    """The volume's one slice as it is: (rows, columns), or (rows, columns, channels) of a colour volume."""
    import slicer.util

    return slicer.util.arrayFromVolume(volume)[0]


def file_of(volume: Any) -> tuple[str | None, str]:
    """The file that the volume was loaded from, and where that is known from.

    The DICOM database is asked first ("database"), then the storage node ("file"); None and "array" otherwise.
    """
    import slicer

    uids = (volume.GetAttribute("DICOM.instanceUIDs") or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    if uids and database is not None and database.isOpen:
        path = database.fileForInstance(uids[0])
        if path and Path(path).is_file():
            return str(path), "database"
    storage = volume.GetStorageNode()
    path = storage.GetFullNameFromFileName() if storage is not None and storage.GetFileName() else None
    if path and Path(path).is_file():
        return str(path), "file"
    return None, "array"


def film_request(volume: Any, folder: str | Path) -> dict[str, Any]:
    """What the service needs to know of a film; its array is written into ``folder`` once a change of it.

    Parameters
    ----------
    folder : a private temporary folder; films of one session share it.

    Raises
    ------
    ValueError : the volume is no film (`check_volume`).
    OSError : the array cannot be written.
    """
    wrong = check_volume(volume)
    if wrong:
        raise ValueError(wrong)
    known = facts(volume)
    path, _ = file_of(volume)
    array = _array_file(volume, Path(folder))
    spacing, source = known.spacing_mm, known.spacing_source
    if known.source is None and "spacing_mm" not in known.typed:
        spacing, source = _volume_spacing(volume)
    return {
        "file": path,
        "name": volume.GetName() or "",
        "pixels": str(array),
        "spacing_mm": list(spacing) if spacing else None,
        "spacing_source": source,
        "sex": known.sex,
        "age_months": known.age_months,
        "side": known.side,
        "view": known.view,
        "polarity": known.polarity,
        "body_part": known.body_part,
        "uids": dict(known.uids) or _volume_uids(volume),
        "typed": list(known.typed),
    }


def _array_file(volume: Any, folder: Path) -> Path:
    """The file of the volume's array; written when there is none of it as it is now, and then whole."""
    image = volume.GetImageData()
    stamp = max(image.GetMTime(), image.GetPointData().GetScalars().GetMTime())
    array = folder / f"{volume.GetID()}-{stamp}.npy"
    if not array.is_file():
        for old in folder.glob(f"{volume.GetID()}-*.npy"):
            old.unlink(missing_ok=True)
        part = array.with_suffix(".part")
        with part.open("wb") as stream:
            np.save(stream, np.ascontiguousarray(pixels_of(volume)))
        part.replace(array)
    return array


def _volume_spacing(volume: Any) -> tuple[tuple[float, float] | None, str]:
    """(row, column) in mm; exactly 1 mm is what Slicer says when nobody told it."""
    column, row, _ = volume.GetSpacing()
    return (None, "uncalibrated") if row == column == 1.0 else ((row, column), "array")


def _volume_uids(volume: Any) -> dict[str, str]:
    uids = (volume.GetAttribute("DICOM.instanceUIDs") or "").split()
    return {"instance": uids[0]} if uids else {}


def facts(volume: Any) -> Facts:
    """What is known of the film; typed values in the place of those that were read."""
    return merged(load(volume, "facts") or {})


def store_read(volume: Any, read: Mapping[str, Any]) -> Facts:
    """Keep what the service understood of the film (``read`` of its answers); what was typed stays."""
    stored = load(volume, "facts") or {}
    stored["read"] = {name: read[name] for name in READ_NAMES if read.get(name) is not None}
    stored["source"] = "array" if read.get("used") == "array" else file_of(volume)[1]
    store(volume, "facts", stored)
    return facts(volume)


def set_fact(volume: Any, name: str, value: Any) -> None:
    """Keep what a person typed; None is a statement too: "unknown", whatever the header says.

    Raises
    ------
    ValueError : not one of `FACT_NAMES`, or an impossible value.
    """
    value = checked_fact(name, value)
    stored = load(volume, "facts") or {}
    stored.setdefault("typed", {})[name] = value
    store(volume, "facts", stored)


def reset_fact(volume: Any, name: str) -> None:
    """Forget what was typed; what was read counts again."""
    stored = load(volume, "facts") or {}
    stored.setdefault("typed", {}).pop(name, None)
    store(volume, "facts", stored)


def fit_window(volume: Any) -> bool:
    """Set window and level from the pixels where the present window hides most of the film; whether it did.

    Slicer inverts the voxels of a MONOCHROME1 film but keeps the file's window, which then no longer fits.
    """
    volume.CreateDefaultDisplayNodes()
    display = volume.GetDisplayNode()
    values = pixels_of(volume)[::8, ::8].astype(float)
    low, high = (float(v) for v in np.percentile(values, (1, 99)))
    bottom, top = display.GetWindowLevelMin(), display.GetWindowLevelMax()
    seen = (min(high, top) - max(low, bottom)) / max(high - low, 1e-12)
    if not high > low or (seen > 0.4 and top - bottom < 8 * (high - low)):
        return False
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(low, high)
    return True
