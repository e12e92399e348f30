"""Train the knee student of a study: crops, labels, a fold after another from a teacher's weights, calibration, gate.

The networks, losses and crops are those of `age_module` and `batches`; Lightning does the loop. The same call goes on
where it was stopped, and a run that was killed ends with the weights of one that was not (on a CPU bit for bit).
Folds are the study's own. A run is a folder as `runs.record` describes, of kind "knee", and beside what stands there:

====================  ==========================================================================================
not_learnt.csv        knees that are not learnt from, with the reason
calibration.json      intervals, by what is known beside the picture
gate.safetensors      refuses what is no frontal knee; only where negatives were drawn
finder.safetensors    the finder that the crops are from, with finder.json: its architecture and thresholds
====================  ==========================================================================================
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from KneeBoneAgeLib.network import AgeNetwork

from ..age_module import AgeModule
from ..crop_cache import CropCache
from ..hand.job import FoldRows, is_phantom
from ..hand.results import PREDICTIONS, TEST_PREDICTIONS
from ..predicting import predict
from ..prior_training import fit_prior
from ..recipe import Recipe
from ..runs.lock import locked
from ..runs.loop import Stopped, StopRequest
from ..runs.machine import cores, is_main_process
from ..runs.progress import Reporter
from ..runs.record import Run, RunError, open_run, write_json
from ..runs.sitting import sitting
from ..runs.trainer import new_trainer
from ..runs.watch import BEST, LAST, Course
from ..runs.weights import load_state
from .batches import Lesson, StudentData
from .corrections import CorrectedCrops
from .job import KneeJob, begin_run, check_folds, check_job, counts_of, rows_of_fold, write_rows
from .labels import PseudoLabels, Taught, teach
from .module import StudentModule
from .negatives import draw_negatives
from .pictures import BundleFinder, PreparedKnees, prepare
from .results import (
    GATE,
    OUT_OF_FOLD,
    baseline_of,
    calibrate,
    posteriors,
    summarise,
    train_gate,
    write_estimates,
)
from .start import TEACHER, Given, backbone_of, take_over
from .temper import temper
from .watch import KneeWatch
from .weights import UNNAMED, load_networks, save_fold

log = logging.getLogger(__name__)

FINDER, FINDER_JSON = "finder.safetensors", "finder.json"
STAGE, CLIP_NORM = "knee", 1.0
WAITING = "waiting for another run"


def transfer(job: KneeJob, reporter: Reporter, stop: StopRequest) -> Run:
    """Train what is not trained yet.

    Raises
    ------
    RunError, StudyError
        The study, the labels or the teacher cannot be used, or the folder holds another run.
    Stopped
        Somebody asked for an end; the same call goes on.
    """
    folds = job.all_folds if job.folds is None else job.folds
    pseudo = PseudoLabels.read(job.labels) if job.labels else None
    check_job(job, folds, pseudo)
    if is_main_process():
        begin_run(job, pseudo, folds)
    with sitting(job.folder, len(folds), reporter, stop):
        _transfer(job, pseudo, folds, reporter, stop)
    return open_run(job.folder)


def _transfer(
    job: KneeJob,
    pseudo: PseudoLabels | None,
    folds: Sequence[int],
    reporter: Reporter,
    stop: StopRequest,
) -> None:
    main = is_main_process()
    with locked(job.prepared, check=stop.check, waiting=lambda: reporter.tell(doing=WAITING)):
        prepared = _prepared(job, reporter, stop)
        negatives = _negatives(job, reporter, stop)
    taught = teach(job.study, prepared, job.label, pseudo, job.recipe)
    check_folds(job, taught)
    facts = counts_of(taught)
    log.info(
        "%s: %s",
        job.recipe.name,
        ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in facts.items()),
    )
    if main:
        _keep_finder(job)
        write_rows(job, taught)
        open_run(job.folder).with_facts(counts=facts)
    for index, fold in enumerate(folds):
        reporter.begin_fold(index, fold)
        _train_fold(job, taught, fold, negatives, reporter, stop)
    if main:
        done = [fold for fold in job.all_folds if (job.folder / f"fold-{fold}" / PREDICTIONS).exists()]
        reporter.tell(doing="estimating")
        _finish(job, taught, done, negatives, stop)


def _prepared(job: KneeJob, reporter: Reporter, stop: StopRequest) -> PreparedKnees:
    return prepare(
        job.study,
        job.prepared,
        job.finder,
        CorrectedCrops.read(job.crops) if job.crops else None,
        workers=_processes(job),
        progress=reporter.counting("preparing crops"),
        check=stop.check,
    )


def _processes(job: KneeJob) -> int:
    """How many prepare crops or draw: this one only waits meanwhile, so that its core is free too."""
    return min(job.machine.workers + 1, cores()) if job.machine.workers else 1


def _keep_finder(job: KneeJob) -> None:
    """The finder's files, so that the run can be exported wherever it goes."""
    if isinstance(job.finder, BundleFinder):
        shutil.copyfile(job.finder.weights, job.folder / FINDER)
        write_json(job.folder / FINDER_JSON, job.finder.config)


def _negatives(job: KneeJob, reporter: Reporter, stop: StopRequest) -> CropCache | None:
    if job.recipe.negatives.count:
        reporter.tell(doing="drawing crops of other things")
    drawn = draw_negatives(job.recipe.negatives, job.prepared, _processes(job))
    stop.check()
    return drawn


def _train_fold(
    job: KneeJob,
    taught: Taught,
    fold: int,
    negatives: CropCache | None,
    reporter: Reporter,
    stop: StopRequest,
) -> None:
    """A fold's weights and its estimates of the crops that it has never seen; what is finished is not done again."""
    folder = job.folder / f"fold-{fold}"
    if (folder / PREDICTIONS).exists():
        return
    main = is_main_process()
    if main:
        folder.mkdir(exist_ok=True)
    rows = rows_of_fold(taught, fold, job.recipe, job.share)
    given = _given(job, taught, fold)
    recipe = job.recipe.training(len(rows.learnt), fold, job.machine.world, given.network)
    reporter.tell(epochs=job.recipe.epochs, steps=recipe.epoch_steps, doing="training")
    lesson = Lesson.of(recipe, job.recipe, taught, rows.learnt, negatives)
    module = StudentModule.of(recipe, lesson)
    start = _start(job, given, module)
    _fit_prior(module, recipe, taught, rows.learnt)
    log.info(
        "fold %d: %d crops, %d steps of %d; %s",
        fold,
        len(rows.learnt),
        recipe.steps,
        recipe.batch,
        start["said"],
    )
    course = Course(STAGE, recipe.epoch_steps, recipe.steps, recipe.steps)
    watched = (taught.cache, rows.watched, taught.judged_months)
    watch = KneeWatch(folder, course, *watched, job.recipe.early_stopping, reporter, stop)
    trainer = new_trainer(
        job.machine, folder, watch, precision=job.recipe.precision, steps=recipe.steps, clip_norm=CLIP_NORM
    )
    trainer.fit(
        module,
        datamodule=StudentData(lesson, recipe, job.machine.loader_workers),
        ckpt_path=folder / LAST if (folder / LAST).exists() else None,
        weights_only=False,  # the run's own
    )
    if watch.stopped:
        raise Stopped
    if not main:
        return
    if (folder / BEST).exists():
        load_state(folder / BEST, module.averaged)
    network = module.averaged.to(job.machine.torch_device)
    _predict_held_out(taught, rows, network, folder)
    save_fold(job, folder, network.cpu(), {"start": start, "crops": len(rows.learnt), "fold": fold})
    (folder / LAST).unlink(missing_ok=True)
    (folder / BEST).unlink(missing_ok=True)


def _given(job: KneeJob, taught: Taught, fold: int) -> Given:
    patients = taught.cache.labels.patient_id
    held_out = set(patients[(taught.fold == fold) | (taught.fold < 0)])
    return job.start.given(fold, sorted(held_out))


def _start(job: KneeJob, given: Given, module: AgeModule) -> dict[str, Any]:
    """Take over a teacher's weights; what was taken."""
    if job.start.folder is None:
        return {"kind": job.start.kind, "said": given.source}
    part = job.start.kind == TEACHER and job.recipe.from_hand == "backbone"
    taken = take_over(module.network, backbone_of(given.weights) if part else given.weights)
    if not any(
        name.startswith("backbone.") for name in set(module.network.state_dict()) - set(taken.left_out)
    ):
        raise RunError(
            f"{job.start.folder}: nothing of its backbone fits the recipe's network; give the recipe the teacher's "
            "`network`, or start from scratch"
        )
    module.averaged.load_state_dict(module.network.state_dict())
    return {
        "kind": job.start.kind,
        "from": given.source,
        "taken": taken.taken,
        "left_out": list(taken.left_out),
        "said": f"{given.source}: {taken}",
    }


def _fit_prior(module: AgeModule, recipe: Recipe, taught: Taught, rows: NDArray[np.intp]) -> None:
    labels = taught.cache.labels.take(rows)
    aged = np.flatnonzero(np.isfinite(labels.age_months))
    if recipe.prior_steps and len(aged):
        known = labels.take(aged)
        fit_prior(
            module.network.prior,
            known.sex,
            known.age_months,
            known.assigned_months,
            steps=recipe.prior_steps,
            seed=recipe.seed,
        )
    module.averaged.load_state_dict(module.network.state_dict())


def _predict_held_out(taught: Taught, rows: FoldRows, network: AgeNetwork, folder: Path) -> None:
    prediction = predict(network, taught.cache, rows.held_out)
    unfinished = folder / f".{OUT_OF_FOLD}"
    with unfinished.open("wb") as stream:
        np.savez(stream, rows=rows.held_out, log_likelihood=prediction.log_likelihood)
    unfinished.replace(folder / OUT_OF_FOLD)
    labels = taught.cache.labels.take(rows.held_out)
    p = {
        case: posteriors([network], [prediction.log_likelihood], labels, case) for case in ("sex_age", "sex")
    }
    seen = (
        np.union1d(rows.learnt, rows.watched)
        if len(np.intersect1d(rows.watched, rows.held_out)) == 0
        else rows.learnt
    )
    age_alone = baseline_of(taught.cache.labels.take(seen)).predict(labels.age_months, labels.sex)
    write_estimates(folder / UNNAMED, taught, rows.held_out, p, age_alone)


def _finish(
    job: KneeJob, taught: Taught, done: Sequence[int], negatives: CropCache | None, stop: StopRequest
) -> None:
    """Calibration and gate; the test set, once, when all folds are there; then metrics and figures."""
    temper(job.folder, done, taught)
    networks = [network.to(job.machine.torch_device) for network in load_networks(job.folder, done)]
    calibrations = calibrate(job.folder, done, networks, taught, job.recipe.interval_level)
    more: dict[str, Any] = {"interval_level": job.recipe.interval_level}
    if negatives is not None:
        knees, jitter = np.flatnonzero(taught.fold >= 0), job.recipe.augmentation.jitter
        more["gate"] = train_gate(job.folder, networks, taught.cache, knees, negatives, jitter)
        log.info("%s", more["gate"])
    else:
        (job.folder / GATE).unlink(missing_ok=True)
        more["gate"] = "no gate: no crops of other things were drawn"
    stop.check()
    test = np.flatnonzero(taught.fold < 0)
    path = job.folder / TEST_PREDICTIONS
    if len(test) and list(done) == list(job.all_folds) and not path.exists():
        labels = taught.cache.labels.take(test)
        said = [predict(network, taught.cache, test).log_likelihood for network in networks]
        p = {case: posteriors(networks, said, labels, case) for case in ("sex_age", "sex")}
        learnt = baseline_of(taught.cache.labels.take(np.flatnonzero(taught.fold >= 0)))
        age_alone = learnt.predict(labels.age_months, labels.sex)
        interval = calibrations["sex_age"].interval(p["sex_age"])
        write_estimates(path, taught, test, p, age_alone, interval)
    data = "phantom" if is_phantom(job.study) else ""
    found = summarise(job.folder, done, taught, data, more)["out_of_fold"]
    log.info(
        "out of fold: MAE %.2f months (n = %d); chronological age alone %.2f",
        found["model"]["mae"], found["n"], found["age_alone"]["mae"],
    )  # fmt: skip
