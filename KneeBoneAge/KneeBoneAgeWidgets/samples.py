"""Three phantom children for the Sample Data module, drawn on the spot: nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from .logic import Estimating
from .worker import Problem

CATEGORY = "Knee Bone Age"
SAMPLES = {
    "KneeBoneAgeToddler": "toddler",
    "KneeBoneAgeSchoolAge": "school age",
    "KneeBoneAgeAdolescent": "adolescent",
}
"""Name in the Sample Data module to sample of the library; the child of school age has both knees on its film."""


def registerSampleData() -> None:
    """Show the samples in the Sample Data module."""
    import SampleData

    for name in SAMPLES:
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=name,
            # Nothing is downloaded, but a source without these three is refused.
            uris="",
            fileNames=f"{name}.dcm",
            nodeNames=name,
            thumbnailFileName=str(Path(__file__).parents[1] / "Resources" / "Icons" / f"{name}.png"),
            customDownloader=lambda _source, name=name: _loadOrSay(name),
        )


def _loadOrSay(name: str) -> Any:
    """What the button of a sample does: a sample that cannot be drawn is said in a box, not in a traceback."""
    slicer.util.showStatusMessage(_("Drawing a phantom child…"), 10_000)
    try:
        return loadSample(name)
    except Problem as problem:
        slicer.util.errorDisplay(str(problem), windowTitle=_("Knee Bone Age"))
        return []


def loadSample(name: str) -> Any:
    """Draw a phantom child of `SAMPLES` and load it; the volume node."""
    logic = Estimating()
    try:
        return logic.loadSample(SAMPLES[name], name)
    finally:
        logic.close()
