"""How an age network is trained: one frozen value that a run writes down and another run can repeat."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from KneeBoneAgeLib.network import AgeNetworkConfig

from .augmentation import Jitter
from .runs.record import RunError

TRUE_SD_MONTHS = 1.0
LABELS = ("true", "assigned", "pseudo")


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run; `steps` fixes its length: the same recipe gives the same weights."""

    steps: int
    label: str = "true"
    reader_sd_months: float = 4.0  # of an assigned bone age about the true one
    pseudo_sd_months: float = 3.5  # of a hand model's
    network: AgeNetworkConfig = field(default_factory=AgeNetworkConfig)
    jitter: Jitter = field(default_factory=Jitter)
    batch: int = 24
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warm_up: float = 0.05  # share of the steps
    ema_decay: float = 0.995
    missing_sex: float = 0.12
    indicator_weight: float = 4.0
    knee_weight: float = 0.2
    point_weight: float = 0.5
    negative_share: float = 0.1  # of a batch: crops that are not a frontal knee
    replay_share: float = 0.0  # of a batch: crops of the pretraining cohort
    frozen_stages: int = 0
    small_size: int = 160  # side in pixels of the crops at first, when rough features are learnt
    small_share: float = 0.0  # of the steps
    prior_steps: int = 400
    epoch_steps: int = 100
    seed: int = 1

    def label_sd_months(self) -> float:
        """Standard deviation of the label about the true bone age."""
        if self.label not in LABELS:
            raise ValueError(f"label {self.label!r}: one of {', '.join(LABELS)}")
        return {"true": TRUE_SD_MONTHS, "assigned": self.reader_sd_months, "pseudo": self.pseudo_sd_months}[
            self.label
        ]

    def size_px(self, step: int) -> int:
        """Side of the crops at a step."""
        return self.small_size if step < self.small_share * self.steps else self.network.image_size

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Recipe:
        inner = {
            "network": AgeNetworkConfig.from_json(values["network"]),
            "jitter": Jitter(**values["jitter"]),
        }
        return cls(**{**values, **inner})

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.to_json(), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """What `save` wrote. Raises RunError for one that this version does not know."""
        try:
            return cls.from_json(json.loads(path.read_text()))
        except KeyError as error:
            raise RunError(f"{path}: not a recipe, it lacks {error}; begin a new run") from None
        except (TypeError, ValueError) as error:
            raise RunError(f"{path}: not a recipe of this version ({error}); begin a new run") from None
