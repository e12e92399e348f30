"""Public data sets as they lie on disk, one layout a file; each reader takes the folder and returns rows.

Patient ids are prefixed with the layout's name, so that several sets can go into one study. None of the sets pairs
knee films with hand films: RSNA, RHPE and the Digital Hand Atlas give studies of hands, MRKR of knees.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..records import Material
from .digital_hand_atlas import read_digital_hand_atlas
from .mrkr import read_mrkr
from .rhpe import read_rhpe
from .rsna import read_rsna

LAYOUTS: dict[str, Callable[[Path], Material]] = {
    "rsna": read_rsna,
    "rhpe": read_rhpe,
    "digital-hand-atlas": read_digital_hand_atlas,
    "mrkr": read_mrkr,
}

__all__ = ["LAYOUTS", "read_digital_hand_atlas", "read_mrkr", "read_rhpe", "read_rsna"]
