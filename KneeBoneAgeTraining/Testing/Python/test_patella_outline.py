"""The outline that the reader of the patella is taught."""

import numpy as np
import torch

from KneeBoneAgeLib.phantom.build import LANDMARKS, PATELLA
from KneeBoneAgeLib.phantom.children import draw_children
from KneeBoneAgeLib.phantom.scenes import knee_view
from KneeBoneAgeTrainingLib.patella_outline import outline_loss, outlines

CELLS = 60


def test_the_outline_is_what_the_phantom_draws():
    child = draw_children(1, 5, [150.0], ["F"], with_oracle=False)[0]
    scene = knee_view(child.indicators, 150.0, np.random.default_rng(3), 400, True)
    found = {name: (x, y) for name, x, y in scene.knees[0].landmarks_px}
    points = np.array([found[name] for name in LANDMARKS[27:]])
    middle, half = points.mean(0), 0.75 * np.ptp(points, axis=0).max()
    wanted = outlines(torch.tensor((points - middle) / half)[None].float(), CELLS)[0].numpy()
    at = (np.arange(CELLS) + 0.5) * (2 / CELLS) - 1
    columns, rows = (np.round(middle[axis] + half * at - 0.5).astype(int) for axis in (0, 1))
    drawn = scene.canvas.labels[np.ix_(rows, columns)] == PATELLA
    assert drawn.mean() > 0.1
    assert 2 * (wanted * drawn).sum() / (wanted.sum() + drawn.sum()) > 0.93


def test_a_knee_without_a_patella_has_an_empty_outline_and_wants_one():
    points = torch.tensor([[[0.0, -0.5], [0.0, 0.5], [-0.4, 0.0], [0.4, 0.0]]])
    both = torch.cat([points, torch.full_like(points, torch.nan)]).requires_grad_()
    wanted = outlines(both, CELLS)
    assert wanted[0].sum() > 0.1 * CELLS**2
    assert wanted[1].sum() == 0
    right, wrong = 20 * wanted.detach() - 10, 10 - 20 * wanted.detach()
    assert outline_loss(right, both) < 0.1 < 10 < outline_loss(wrong, both)
