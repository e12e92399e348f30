"""Five folds by patient: all films of a child fall into one fold, and the folds are alike in age and sex."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FOLDS = 5


def assign_folds(
    patient_id: ArrayLike, age_months: ArrayLike, sex: ArrayLike, *, folds: int = FOLDS, seed: int = 0
) -> NDArray[np.int64]:
    """Patients, ages and sexes (N,) → fold of every row (N,), 0 to folds − 1.

    Patients are ordered by sex and age and dealt out in groups of `folds`, each group in a random order.
    """
    names, first, row = np.unique(np.asarray(patient_id), return_index=True, return_inverse=True)
    order = np.lexsort((np.asarray(age_months)[first], np.asarray(sex)[first]))
    rng = np.random.default_rng(seed)
    hands = -(-len(names) // folds)
    dealt = np.concatenate([rng.permutation(folds) for _ in range(hands)])[: len(names)]
    fold = np.empty(len(names), dtype=np.int64)
    fold[order] = dealt
    return fold[row]
