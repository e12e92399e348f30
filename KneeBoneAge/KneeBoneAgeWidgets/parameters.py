"""What the panel is set to, as the scene keeps it."""

from __future__ import annotations

import enum

from slicer.i18n import tr as _


class Method(enum.Enum):
    """How an explanation is computed."""

    GRADIENTS = "integrated-gradients"
    GRADCAM = "gradcam"

    def label(self) -> str:
        return {
            "GRADIENTS": _("Integrated gradients (fine)"),
            "GRADCAM": _("Grad-CAM by cell (HiResCAM, coarse)"),
        }[self.name]


class Device(enum.Enum):
    """Where the networks run."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"

    def label(self) -> str:
        names = {
            "AUTO": _("Automatic"),
            "CPU": _("CPU"),
            "CUDA": _("GPU (CUDA)"),
            "MPS": _("GPU (Apple)"),
        }
        return names[self.name]
