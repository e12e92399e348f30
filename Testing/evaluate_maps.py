"""What explanation maps are worth, on drawn knees whose bones are known.

    python Testing/evaluate_maps.py [--knees 12] [--seed 7218] [--bundle DIR]

Of each method: the share of the map that lies on bone and, of it, within 5 px of a physis of femur or tibia (beside the
share of the picture that these take up), and by how many months the estimate changes where the tenth of all cells that
is marked most becomes the mean grey (beside random cells). Figures go to standard output as one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.draw import line
from skimage.morphology import isotropic_dilation

from KneeBoneAgeLib.crop import SIZE_PX, KneeCrop, to_crop, to_film
from KneeBoneAgeLib.estimator import Estimator
from KneeBoneAgeLib.explain import METHODS, BoneAge, saliency
from KneeBoneAgeLib.phantom.build import FEMUR, FIBULA, PATELLA, TIBIA
from KneeBoneAgeLib.phantom.children import draw_children
from KneeBoneAgeLib.phantom.look import Look, expose
from KneeBoneAgeLib.phantom.scenes import Scene, knee_view
from KneeBoneAgeLib.radiograph import Film, film_from_array
from KneeBoneAgeTrainingLib.drawing import crop_of

CELLS, MARKED = 20, 40
"""Cells along a crop's side, and how many are made grey."""
NEAR_PX = 5


def drawn(knees: int, seed: int) -> Iterator[tuple[Film, KneeCrop, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Films of one knee each, its crop, and in the crop's frame what is bone and what lies near a physis."""
    for number, child in enumerate(draw_children(knees, seed, with_oracle=False)):
        rng = np.random.default_rng((seed, number))
        age = child.chronological_age_months
        scene = knee_view(child.indicators, age, rng, 440, number % 2 == 0)
        film = film_from_array(
            expose(scene, Look.draw(rng, 0.5).without_hardware(), rng),
            (scene.canvas.spacing_mm, scene.canvas.spacing_mm),
            True,
            sex=child.sex,
            age_months=age,
        )
        crop = crop_of(scene.knees[0])
        yield film, crop, _bone(scene, crop), _physes(scene, crop)


def _bone(scene: Scene, crop: KneeCrop) -> NDArray[np.bool_]:
    at = np.arange(SIZE_PX) + 0.5
    points = to_film(np.stack(np.meshgrid(at, at), -1).reshape(-1, 2), crop, SIZE_PX)
    columns, rows = np.floor(points).astype(int).T
    shape = scene.canvas.shape
    within = (rows >= 0) & (columns >= 0) & (rows < shape[0]) & (columns < shape[1])
    labels = np.zeros(len(points), np.uint8)
    labels[within] = scene.canvas.labels[rows[within], columns[within]]
    return np.isin(labels, (FEMUR, TIBIA, FIBULA, PATELLA)).reshape(SIZE_PX, SIZE_PX)


def _physes(scene: Scene, crop: KneeCrop) -> NDArray[np.bool_]:
    places = {name: (x, y) for name, x, y in scene.knees[0].landmarks_px}
    near = np.zeros((SIZE_PX, SIZE_PX), bool)
    for bone in ("femur", "tibia"):
        ends = [places[f"{bone}_metaphysis_{side}"] for side in ("medial", "lateral")]
        borders = [places[f"{bone}_physis_{side}"] for side in ("proximal", "distal")]
        path = [ends[0], tuple(np.mean(borders, axis=0)), ends[1]]
        (x0, y0), (x1, y1), (x2, y2) = np.round(to_crop(np.array(path), crop, SIZE_PX)).astype(int).tolist()
        for start, end in (((y0, x0), (y1, x1)), ((y1, x1), (y2, x2))):
            rows, columns = (np.clip(i, 0, SIZE_PX - 1) for i in line(*start, *end))
            near[rows, columns] = True
    return isotropic_dilation(near, NEAR_PX)


def change_months(estimator: Estimator, film: Film, crop: KneeCrop, cells: NDArray[np.intp]) -> float:
    """By how much the mean of all folds changes where these cells become the mean grey."""
    image = torch.as_tensor(estimator.patches(film, [crop]))
    masked, side = image.clone(), SIZE_PX // CELLS
    for cell in cells:
        row, column = divmod(int(cell), CELLS)
        masked[..., row * side : (row + 1) * side, column * side : (column + 1) * side] = image.mean()
    with torch.inference_mode():
        folds = [BoneAge(fold, film.sex, film.age_months) for fold in estimator.folds]
        one, other = (float(torch.stack([fold(x) for fold in folds]).mean()) for x in (image, masked))
    return abs(other - one)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--knees", type=int, default=12)
    parser.add_argument("--seed", type=int, default=7218)
    parser.add_argument("--bundle", type=Path)
    given = parser.parse_args()
    estimator = Estimator.load(given.bundle)
    rng = np.random.default_rng(given.seed)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in (*METHODS, "chance")}
    for film, crop, bone, physes in drawn(given.knees, given.seed):
        some = rng.permutation(CELLS**2)[:MARKED]
        found["chance"].append(
            {
                "on_bone": bone.mean(),
                "on_physes": physes.mean(),
                "change_months": change_months(estimator, film, crop, some),
            }
        )
        for method in METHODS:
            values = saliency(estimator, film, crop, method)
            cells = values.reshape(CELLS, SIZE_PX // CELLS, CELLS, SIZE_PX // CELLS).sum((1, 3))
            found[method].append(
                {
                    "on_bone": values[bone].sum() / values.sum(),
                    "on_physes": values[physes].sum() / values.sum(),
                    "change_months": change_months(
                        estimator, film, crop, np.argsort(cells.ravel())[-MARKED:]
                    ),
                }
            )
    means = {
        name: {key: round(float(np.mean([row[key] for row in rows])), 3) for key in rows[0]}
        for name, rows in found.items()
    }
    json.dump({"knees": given.knees, "seed": given.seed, **means}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
