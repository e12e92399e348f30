"""What draws the parts of one person's knee on a canvas and keeps where their landmarks fell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from .build import Build
from .solids import Canvas, Patch, Pose, Seen, Window


class Pen:
    """Draws with one person's bone.

    Attributes
    ----------
    unit : float
        Width of the distal femoral metaphysis in mm.
    blur_mm : float
        Width of the softest edge that the canvas can show, in mm of bone.
    irregular : float32 (4, 6)
        A person's own deviations of the physes, standard normal.
    landmarks : list of (name, x, y)
        In mm of film.
    """

    def __init__(
        self, canvas: Canvas, build: Build, unit: float, scale: float, irregular: np.ndarray
    ) -> None:
        self.canvas, self.build, self.unit, self.irregular = canvas, build, unit, irregular
        self.blur_mm = max(0.45, canvas.spacing_mm / scale)
        self.landmarks: list[tuple[str, float, float]] = []

    def mark(self, pose: Pose, points: Mapping[str, tuple[float, float]]) -> None:
        """Keep landmarks, given as (u, w) of the projected bone in mm."""
        for name, (u, w) in points.items():
            x, y = pose.to_film(u, w)
            self.landmarks.append((name, float(x), float(y)))

    def window(self, pose: Pose, seen: Seen, levels: tuple[float, float] | None = None) -> Window | None:
        """The pixels that may see a solid, or what of it lies between two ``levels`` (w in mm)."""
        reach = float(np.max(np.abs(seen.centre) + seen.half)) + 1.0
        film = 1.5 * float(np.hypot(*self.canvas.shape)) * self.canvas.spacing_mm / pose.scale
        low, high = levels or (seen.w0, seen.w0 + 0.2 * len(seen.half))
        low, high = max(low, -film), min(high, film)
        return self.canvas.window(pose, (-reach, reach), (low, high)) if high > low else None

    def strips(self, pose: Pose, seen: Seen) -> Iterator[Patch]:
        """The pixels that see a solid, patch by patch."""
        window = self.window(pose, seen)
        return iter(()) if window is None else window.strips(seen)

    def add(self, patch: Patch, bone_mm: np.ndarray, seen: np.ndarray, label: int) -> None:
        """Add mineral to a patch and label what is ``seen`` (bool) as bone."""
        self.canvas.bone_mm[patch.rows, patch.columns] += self.build.density * bone_mm
        self.canvas.labels[patch.rows, patch.columns][seen] = label
