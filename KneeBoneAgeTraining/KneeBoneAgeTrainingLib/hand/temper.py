"""How far the folds of a hand run may be believed, each by what the others said of children held out.

For networks whose likelihood is apart from what age and sex say; others have nothing that could be weighed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch

from ..runs.record import read_json, write_json
from ..runs.weights import POWER, POWER_FROM, WEIGHTS_JSON
from ..teachers.age_network import AgeNetworkTeacher
from ..tempering import HeldOut, powers_of_folds
from .batches import Films
from .films import HandFilm
from .job import Job, rows_of_fold
from .predicting import log_likelihoods, predict
from .results import PREDICTIONS, read_predictions, write_predictions
from .weights import FoldModel, load_fold

log = logging.getLogger(__name__)


def temper(
    job: Job, films: Sequence[HandFilm], part: Films, folds: Sequence[int], check: Callable[[], None]
) -> None:
    """Choose the power of each fold's likelihood, write it into weights.json, and its estimates of `films` anew.

    What the same folds have settled already is left as it is; so are networks of other kinds, and a single fold.
    """
    folders = [job.folder / f"fold-{fold}" for fold in folds]
    others = [[other for other in folds if other != fold] for fold in folds]
    settled = [read_json(folder / WEIGHTS_JSON).get(POWER_FROM) for folder in folders]
    if len(folds) < 2 or settled == others:
        return
    models = [load_fold(folder, power=1.0) for folder in folders]
    if not all(isinstance(model.teacher, AgeNetworkTeacher) for model in models):
        return
    held_out = [rows_of_fold(films, fold, job.recipe).held_out for fold in folds]
    own = [part.take(rows) for rows in held_out]
    powers = powers_of_folds(
        [_held_out(job, model, one, check) for model, one in zip(models, own, strict=True)]
    )
    for folder, power, used, rows, one in zip(folders, powers, others, held_out, own, strict=True):
        teacher = load_fold(folder, power=power).teacher.to(job.machine.torch_device)
        said = predict(
            teacher,
            one.pictures,
            one.numbers,
            mirrored=job.recipe.mirrored_average,
            workers=job.machine.workers,
            check=check,
        )
        age_alone = read_predictions([folder / PREDICTIONS]).age_alone
        write_predictions(
            folder / PREDICTIONS, [films[row] for row in rows], said.months, said.sd_months, age_alone
        )
        facts = read_json(folder / WEIGHTS_JSON)
        write_json(folder / WEIGHTS_JSON, {**facts, POWER: power, POWER_FROM: used})
    log.info("pictures count to the power %s of what the folds have learnt", ", ".join(map(str, powers)))


def _held_out(job: Job, model: FoldModel, films: Films, check: Callable[[], None]) -> HeldOut:
    teacher, numbers = model.teacher, films.numbers
    assert isinstance(teacher, AgeNetworkTeacher)
    teacher = teacher.to(job.machine.torch_device)
    likelihood = log_likelihoods(teacher, films.pictures, workers=job.machine.workers, check=check)
    sex, age = teacher.shown(torch.from_numpy(numbers.sex), torch.from_numpy(numbers.age_months))
    months = torch.from_numpy(numbers.bone_age_months)
    sd = torch.full_like(months, teacher.architecture.reader_sd_months)
    return HeldOut(teacher.network.cpu(), likelihood, sex, age, months, sd)
