"""Train a hand model: a recipe, a study, its folds, one after another; Lightning does the loop.

The same call goes on where it was stopped. Films, their order, their variation and dropout follow from seed, fold,
stage and step, so a run that was killed ends with the same weights as one that was not (on a CPU bit for bit).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..agreement import fit_age_baseline
from ..recipes.schema import Stage
from ..runs.loop import Stopped, StopRequest
from ..runs.machine import is_main_process
from ..runs.progress import Reporter
from ..runs.record import Run, open_run, read_rows
from ..runs.sitting import sitting
from ..runs.trainer import new_trainer
from ..runs.watch import BEST, LAST, METRICS_CSV, Course, stage_of
from ..runs.weights import load_state, save_state
from ..teachers import Teacher, build_teacher
from .batches import Films, HandData, Plan
from .films import HandFilm, Numbers
from .job import (
    FoldRows,
    Job,
    begin_run,
    check_job,
    is_phantom,
    learnable_films,
    rows_of_fold,
)
from .module import HandModule, inputs_of, new_teacher
from .predicting import pooled, predict
from .results import PREDICTIONS, TEST_PREDICTIONS, summarise, write_predictions
from .temper import temper
from .watch import HandWatch
from .weights import load_fold, save_fold

log = logging.getLogger(__name__)


def train(job: Job, reporter: Reporter, stop: StopRequest) -> Run:
    """Train what is not trained yet.

    Raises
    ------
    RunError
        The studies do not fit the recipe or each other, or the folder holds another run.
    Stopped
        Somebody asked for an end; the same call goes on.
    """
    films = [learnable_films(study, job.limit) for study in job.studies]
    folds = job.all_folds if job.folds is None else job.folds
    check_job(job, films, folds)
    if is_main_process():
        begin_run(job, films, folds)
    with sitting(job.folder, len(folds), reporter, stop):
        _train(job, films, folds, reporter, stop)
    return open_run(job.folder)


def _train(
    job: Job,
    films: Sequence[Sequence[HandFilm]],
    folds: Sequence[int],
    reporter: Reporter,
    stop: StopRequest,
) -> None:
    learnt = sum(not film.is_test for some in films for film in some)
    log.info("%s: %d films to learn from, folds %s", job.recipe.name, learnt, ", ".join(map(str, folds)))
    parts = [_films_of(job, some, reporter, stop) for some in films]
    for index, fold in enumerate(folds):
        reporter.begin_fold(index, fold)
        _train_fold(job, films, parts, fold, reporter, stop)
    if is_main_process():
        _finish(job, films[-1], parts[-1], reporter, stop)


def _films_of(job: Job, films: Sequence[HandFilm], reporter: Reporter, stop: StopRequest) -> Films:
    """The prepared films; what is not in the cache is prepared now."""
    paths = job.pictures.prepare(
        films,
        workers=job.machine.workers,
        progress=reporter.counting("preparing pictures"),
        check=stop.check,
    )
    return Films(tuple(paths), Numbers.of(films))


def _train_fold(
    job: Job,
    films: Sequence[Sequence[HandFilm]],
    parts: Sequence[Films],
    fold: int,
    reporter: Reporter,
    stop: StopRequest,
) -> None:
    """All stages of a fold, then its weights and out-of-fold estimates; what is finished is not done again."""
    folder, recipe, main = job.folder / f"fold-{fold}", job.recipe, is_main_process()
    if (folder / PREDICTIONS).exists():
        return
    if main:
        folder.mkdir(exist_ok=True)
    stages = [
        _StageRun(
            Plan.of(recipe, stage, (recipe.seed, fold, index), len(rows.learnt), job.machine.world),
            parts[job.study_of(index)].take(rows.learnt),
            parts[job.study_of(index)].take(rows.watched),
        )
        for index, stage in enumerate(recipe.stages)
        for rows in [rows_of_fold(films[job.study_of(index)], fold, recipe)]
    ]
    in_all = sum(stage.plan.steps for stage in stages)
    reporter.tell(epochs=sum(stage.plan.stage.epochs for stage in stages))
    teacher: Teacher | None = None
    course = Course("", 1, 0, in_all)
    for stage in stages:
        course = course.then(stage.plan.stage.name, stage.plan.epoch_steps, stage.plan.steps)
        teacher = _train_stage(job, folder, stage, course, teacher, reporter, stop)
    assert teacher is not None
    if not main:
        return
    reporter.tell(doing="estimating")
    rows = rows_of_fold(films[-1], fold, recipe)
    _predict_held_out(job, films[-1], parts[-1], rows, teacher, folder, stop)
    for file in (LAST, BEST, _after(recipe.stages[-1])):  # the last stage's weights are the fold's
        (folder / file).unlink(missing_ok=True)


@dataclass(frozen=True)
class _StageRun:
    plan: Plan
    learnt: Films
    watched: Films


def _train_stage(
    job: Job,
    folder: Path,
    run: _StageRun,
    course: Course,
    teacher: Teacher | None,
    reporter: Reporter,
    stop: StopRequest,
) -> Teacher:
    """The network after a stage: as kept on disk, or trained from `teacher` (None: from first weights)."""
    plan, recipe, stage = run.plan, job.recipe, run.plan.stage
    kept = folder / _after(stage)
    resumed = stage_of(folder / LAST) == stage.name
    finished = kept.exists()
    if teacher is None:
        network = new_teacher(recipe, stage, plan.seed[:2], fetch=not (finished or resumed))
    else:
        network = build_teacher(recipe.architecture, inputs_of(recipe, stage), fetch=False)
        network.load_state_dict(teacher.state_dict())
    if finished:
        load_state(kept, network)
        return network
    log.info(
        "fold %d, stage %s: %d films, %d steps of %d films",
        plan.seed[1], stage.name, len(run.learnt), plan.steps, plan.batch,
    )  # fmt: skip
    module = HandModule(network, plan)
    watch = HandWatch(
        folder, course, run.watched, recipe.early_stopping, reporter, stop, min(1, job.machine.workers)
    )
    trainer = new_trainer(
        job.machine,
        folder,
        watch,
        precision=recipe.precision,
        steps=plan.steps,
        clip_norm=recipe.optimiser.clip_norm or None,
    )
    trainer.fit(
        module,
        datamodule=HandData(run.learnt, plan, job.machine.loader_workers),
        ckpt_path=folder / LAST if resumed else None,
        weights_only=False,  # the run's own
    )
    if watch.stopped:
        raise Stopped
    if is_main_process():
        if (folder / BEST).exists():
            load_state(folder / BEST, module.averaged)
        save_state(kept, module.averaged)
        (folder / BEST).unlink(missing_ok=True)
    trainer.strategy.barrier()
    load_state(kept, module.averaged)
    return module.averaged


def _after(stage: Stage) -> str:
    """Name of the file with the weights after a stage."""
    return f"after-{stage.name}.safetensors"


def _predict_held_out(
    job: Job,
    films: Sequence[HandFilm],
    part: Films,
    rows: FoldRows,
    teacher: Teacher,
    folder: Path,
    stop: StopRequest,
) -> None:
    """Write the fold's weights and what it says of the films that it has never seen."""
    epochs = [row["epoch"] for row in read_rows(folder / METRICS_CSV)]
    save_fold(
        folder,
        teacher,
        job.recipe,
        {"fold": int(folder.name.partition("-")[2]), "films": len(rows.learnt), "epochs": int(epochs[-1])},
    )
    others = part.take(
        np.concatenate([rows.learnt, rows.watched if job.recipe.early_stopping else rows.learnt[:0]])
    )
    numbers = others.numbers
    baseline = fit_age_baseline(numbers.age_months, numbers.sex, numbers.bone_age_months)
    own = part.take(rows.held_out)
    said = predict(
        teacher.to(job.machine.torch_device),
        own.pictures,
        own.numbers,
        mirrored=job.recipe.mirrored_average,
        workers=job.machine.workers,
        check=stop.check,
    )
    write_predictions(
        folder / PREDICTIONS,
        [films[row] for row in rows.held_out],
        said.months,
        said.sd_months,
        baseline.predict(own.numbers.age_months, own.numbers.sex),
    )


def _finish(job: Job, films: Sequence[HandFilm], kept: Films, reporter: Reporter, stop: StopRequest) -> None:
    """How far the folds may be believed; the test set, once, when all are there; then metrics and figures."""
    test = [film for film in films if film.is_test]
    done = [fold for fold in job.all_folds if (job.folder / f"fold-{fold}" / PREDICTIONS).exists()]
    reporter.tell(doing="estimating")
    temper(job, films, kept, done, stop.check)
    path = job.folder / TEST_PREDICTIONS
    if test and done == list(job.all_folds) and not path.exists():
        reporter.tell(doing="estimating the test set")
        part = _films_of(job, test, reporter, stop)
        estimates = []
        for fold in done:
            model = load_fold(job.folder / f"fold-{fold}")
            estimates.append(
                predict(
                    model.teacher.to(job.machine.torch_device),
                    part.pictures,
                    part.numbers,
                    mirrored=model.mirrored,
                    workers=job.machine.workers,
                    check=stop.check,
                )
            )
        known = Numbers.of([film for film in films if not film.is_test])
        baseline = fit_age_baseline(known.age_months, known.sex, known.bone_age_months)
        mean, sd = pooled(estimates)
        write_predictions(path, test, mean, sd, baseline.predict(part.numbers.age_months, part.numbers.sex))
    metrics = summarise(job.folder, done, "phantom" if is_phantom(job.studies[-1]) else "")
    found = metrics["out_of_fold"]
    log.info(
        "out of fold: MAE %.2f months (n = %d); chronological age alone %.2f",
        found["model"]["mae"], found["n"], found["age_alone"]["mae"],
    )  # fmt: skip
