"""Crops kept for training: uint8 pictures with a margin, and what is known about each.

A cache is a folder of pairs `images-0000.npy`, `labels-0000.npz`, `images-0001.npy`, …; written once, read
many times. The pictures reach `MARGIN` times as far as the crop that the network sees, so that training can
shift, turn and scale; their grey values are the film's (0 to 1, bone bright) times 255, not yet normalised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MARGIN = 1.15
POSTERIOR_BINS = 120
"""Equal bins of 0 to 240 months that the oracle's posterior is kept in: `AgeNetworkConfig.bins`."""
KNEE = "knee"


@dataclass(frozen=True)
class CropLabels:
    """What is known about N crops; ages in months. Rows whose `kind` is not "knee" teach what to refuse."""

    sex: NDArray[np.int64]  # (N,) 0 F, 1 M
    age_months: NDArray[np.float32]  # (N,) chronological
    true_months: NDArray[np.float32]  # (N,) the phantom's own bone age; NaN for a film of a patient
    assigned_months: NDArray[np.float32]  # (N,) as readers gave it
    pseudo_months: NDArray[np.float32]  # (N,) as a hand model gave it; NaN where there is none
    patient_id: NDArray[np.str_]  # (N,)
    indicators: NDArray[np.float32]  # (N, I) `Indicators.as_vector()`; NaN where unknown
    maturities: NDArray[np.float32]  # (N, M) `maturity_vector(child)`; NaN where not shown
    kind: NDArray[np.str_]  # (N,) "knee", or what else: "lateral", "hand", "implant", "photograph", …
    oracle_months: NDArray[np.float32]  # (N,) lowest error any method could reach; NaN where unknown
    oracle_no_age_months: NDArray[np.float32]  # (N,)
    landmarks: NDArray[
        np.float32
    ]  # (N, P, 2) `phantom.build.LANDMARKS`, -1 to 1 across the crop; NaN where there is none
    posterior: NDArray[
        np.float16
    ]  # (N, 2, `POSTERIOR_BINS`) what the oracle says, with and without chronological age; NaN where unknown

    def __len__(self) -> int:
        return len(self.sex)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> CropLabels:
        return CropLabels(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


class CropCache:
    """A folder of crops, memory-mapped.

    >>> cache = CropCache.load("crops")            # doctest: +SKIP
    >>> cache.images(np.array([0, 5])).shape       # doctest: +SKIP
    (2, 230, 230)
    """

    def __init__(self, pictures: Sequence[NDArray[np.uint8]], labels: CropLabels) -> None:
        self._pictures = list(pictures)
        self._starts = np.cumsum([0] + [len(p) for p in self._pictures])
        self.labels = labels
        if self._starts[-1] != len(labels):
            raise ValueError(f"{self._starts[-1]} pictures but labels of {len(labels)}")

    @classmethod
    def load(cls, folder: str | Path) -> CropCache:
        """Open a cache; raises FileNotFoundError where there is none, ValueError where pairs do not match."""
        folder = Path(folder)
        paths = sorted(folder.rglob("images-*.npy"))
        if not paths:
            raise FileNotFoundError(f"{folder}: no images-*.npy; draw the crops first")
        parts = []
        for path in paths:
            with np.load(
                path.with_name(path.name.replace("images-", "labels-")).with_suffix(".npz")
            ) as arrays:
                parts.append({f.name: _array(arrays, f.name, path) for f in fields(CropLabels)})
        labels = CropLabels(**{name: np.concatenate([p[name] for p in parts]) for name in parts[0]})
        return cls([np.load(path, mmap_mode="r") for path in paths], labels)

    @staticmethod
    def write(folder: str | Path, part: int, images: NDArray[np.uint8], labels: CropLabels) -> None:
        """Write one pair, the labels first, so that a pair whose pictures are there is complete."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(
            folder / f"labels-{part:04d}.npz", **{f.name: getattr(labels, f.name) for f in fields(labels)}
        )
        unfinished = folder / f"unfinished-{part:04d}.npy"
        np.save(unfinished, images)
        unfinished.rename(folder / f"images-{part:04d}.npy")

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Pictures of the rows (B,), shape (B, S, S)."""
        which = np.searchsorted(self._starts, rows, side="right") - 1
        return np.stack([self._pictures[w][r - self._starts[w]] for w, r in zip(which, rows, strict=True)])


def _array(arrays: Mapping[str, NDArray[Any]], name: str, path: Path) -> NDArray[Any]:
    if name not in arrays:
        raise ValueError(f"{path}: its labels do not tell the {name}; draw the crops again")
    return arrays[name]
