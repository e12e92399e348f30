"""The plan of the bundle that ships: its stages and their order."""

from dataclasses import replace

import pytest

from KneeBoneAgeTrainingLib.default_bundle import PLAN, Cohort, settle_plan, stages


def test_no_child_is_in_two_cohorts():
    assert len(set(PLAN.seeds)) == len(PLAN.seeds)


def test_every_stage_finds_what_it_reads_made_before(tmp_path):
    names = [name for calls in stages(tmp_path) for name, _ in calls]
    assert len(set(names)) == len(names)
    for earlier, later in (
        ("pretrain", "refine"),
        ("refine", "views-0"),
        ("views-1", "heads"),
        ("heads", "fold-0"),
        ("fold-views", "fold-0"),
        ("fold-4", "calibrate"),
    ):
        assert names.index(earlier) < names.index(later)
    read = {value for calls in stages(tmp_path) for _, call in calls for value in call}
    for cohort in PLAN.refining:
        assert str(tmp_path / "refining" / str(cohort.seed)) in read


def test_a_run_of_another_plan_is_not_gone_on_with(tmp_path):
    run = tmp_path / "bundle"
    settle_plan(run)
    settle_plan(run)  # the same plan goes on
    other = replace(PLAN, folds=(Cohort(100, 999),))
    with pytest.raises(ValueError, match="another plan.*--run"):
        settle_plan(run, other)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "pretrain.log").touch()
    with pytest.raises(ValueError, match="another plan"):
        settle_plan(tmp_path / "old")
