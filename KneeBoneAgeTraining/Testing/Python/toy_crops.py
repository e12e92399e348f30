"""Crops that show their bone age as the breadth of a bar, and a network small enough to learn it in seconds."""

import numpy as np

from KneeBoneAgeLib.network import AgeNetworkConfig
from KneeBoneAgeTrainingLib.augmentation import Jitter
from KneeBoneAgeTrainingLib.crop_cache import MARGIN, POSTERIOR_BINS, CropLabels
from KneeBoneAgeTrainingLib.recipe import Recipe

SIZE = 74
TINY = Recipe(
    steps=30,
    network=AgeNetworkConfig(
        backbone_options={"depths": [1, 1, 1, 1], "dims": [8, 16, 16, 32], "ls_init_value": None},
        image_size=64,
    ),
    jitter=Jitter(occlusion=0, noise=0.01),
    batch=16,
    prior_steps=15,
    epoch_steps=10,
    small_size=48,
    small_share=0.2,
)


def draw(count: int, seed: int, others: int = 0) -> tuple[np.ndarray, CropLabels]:
    """Bars as wide as the bone age; what is no knee is noise."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(10, 200, count).astype(np.float32)
    true = np.clip(age + rng.normal(0, 11, count), 1, 230).astype(np.float32)
    x = np.abs(np.arange(SIZE) - SIZE / 2)
    images = 60 + 150 * (x[None, None] < 5 + true[:, None, None] / 9) * np.ones((1, SIZE, 1))
    images[:others] = rng.uniform(1, 255, (others, SIZE, SIZE))
    nothing = np.full(count, np.nan, np.float32)
    landmarks = np.zeros((count, 2, 2))  # the bar's two edges
    landmarks[:, :, 0] = np.stack([-(5 + true / 9), 5 + true / 9], 1) * 2 / SIZE * MARGIN
    labels = CropLabels(
        sex=rng.integers(0, 2, count),
        age_months=age,
        true_months=true,
        assigned_months=(true + rng.normal(0, 4, count)).astype(np.float32),
        pseudo_months=nothing,
        patient_id=np.array([f"P{i // 2}" for i in range(count)]),
        indicators=true[:, None] / 200,
        maturities=nothing[:, None],
        kind=np.array(["hand"] * others + ["knee"] * (count - others)),
        oracle_months=true,
        oracle_no_age_months=true,
        landmarks=landmarks.astype(np.float32),
        posterior=np.full((count, 2, POSTERIOR_BINS), np.nan, np.float16),
    )
    return images.astype(np.uint8), labels
