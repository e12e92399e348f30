"""Between pretraining and folds of the age networks: close readers, kept views, and the heads that folds start from.

A part that was stopped begins again; a finished one is skipped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from KneeBoneAgeLib.regions import KNEE_REGIONS

from .age_module import load_module, save_module
from .batches import knees_apart
from .cached_views import cache_features, joined, load_views, save_views
from .crop_cache import KNEE, CropCache
from .head_training import HeadRecipe, learn_heads
from .jittered_windows import jittered_windows
from .landmark_training import LandmarkRecipe, learn_landmarks, with_close_readers
from .region_training import RegionRecipe, learn_regions, reader_of, region_views
from .runs.record import RunError
from .runs.weights import load_state, save_state

LANDMARKS, REGIONS, HEADS = "landmarks", "regions", "heads"
FULL_VIEW = 0
"""Number of the view with all structure of `HeadRecipe.structure`."""


def views_file(number: int, of_folds: bool = False) -> str:
    """Name of the file of one view of all crops that the heads learn from, or of those of the folds."""
    return f"{'fold-' if of_folds else ''}views-{number}.safetensors"


def region_file(number: int) -> str:
    """Name of the file of what reads one region."""
    return f"region-{number}.safetensors"


def refine_landmarks(run: Path, cache: CropCache) -> None:
    """The pretrained network with close readers, the landmarks refined."""
    folder = run / LANDMARKS
    if (folder / "module.safetensors").exists():
        return
    module, recipe = with_close_readers(load_module(run / "pretrain")), LandmarkRecipe()
    windows = jittered_windows(module, cache, knees_apart(cache)[0], recipe.structure, recipe.seed)
    learn_landmarks(module, windows, recipe)
    save_module(folder, module)


def teach_region(run: Path, cache: CropCache, number: int) -> None:
    """What reads one region of that network, taught: regions can be taught side by side."""
    path = run / region_file(number)
    if path.exists():
        return
    module, recipe = load_module(run / LANDMARKS), RegionRecipe()
    learn_regions(module, region_views(module, cache, knees_apart(cache)[0], recipe, [number]), recipe)
    save_state(path, reader_of(module.averaged).eyes[number])


def gather_regions(run: Path) -> None:
    """That network with all regions taught. Raises RunError where one is not."""
    folder = run / REGIONS
    if (folder / "module.safetensors").exists():
        return
    untaught = [
        str(number) for number in range(len(KNEE_REGIONS)) if not (run / region_file(number)).exists()
    ]
    if untaught:
        raise RunError(
            f"{run}: region {', '.join(untaught)} not taught yet; `age_training region {untaught[0]}` first"
        )
    module = load_module(run / LANDMARKS)
    for network in (module.network, module.averaged):
        for number, eye in enumerate(reader_of(network).eyes):
            load_state(run / region_file(number), eye)
    save_module(folder, module)


def keep_views(run: Path, cache: CropCache, number: int, of_folds: bool = False) -> None:
    """What the network with close readers sees of one jittered view of knees (`cached_views`); `number` decides which
    view. Of the folds' knees all are kept, with their assigned bone age, else those that pretraining learnt from, with
    the true one."""
    path = run / views_file(number, of_folds)
    if path.exists():
        return
    module = load_module(run / REGIONS)
    rows = np.flatnonzero(cache.labels.kind == KNEE) if of_folds else knees_apart(cache)[0]
    label = "assigned" if of_folds else "true"
    seed, structure = module.recipe.seed + number + 100 * of_folds, HeadRecipe().structure[number]
    save_views(path, cache_features(module, cache, rows, seed, structure, label))


def renew_heads(run: Path) -> None:
    """The heads that all folds start from, learnt from those views from first weights."""
    folder = run / HEADS
    if (folder / "module.safetensors").exists():
        return
    module, views = load_module(run / REGIONS), range(HeadRecipe().views)
    learn_heads(module, joined([load_views(run / views_file(number)) for number in views]), HeadRecipe())
    save_module(folder, module)
