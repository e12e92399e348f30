"""The plan of the bundle that ships: its stages and their order."""

from dataclasses import replace

import pytest
from safetensors import safe_open

from KneeBoneAgeLib.bundle import default_bundle_path, fold_file, load_bundle
from KneeBoneAgeTrainingLib.default_bundle import PLAN, Cohort, settle_plan, stages


def test_no_child_is_in_two_cohorts():
    assert len(set(PLAN.seeds)) == len(PLAN.seeds)


def test_every_stage_finds_what_it_reads_made_before(tmp_path):
    names = [name for calls in stages(tmp_path) for name, _ in calls]
    assert len(set(names)) == len(names)
    for earlier, later in (
        ("pretrain", "refine"),
        ("refine", "landmarks"),
        ("landmarks", "region-0"),
        ("landmarks", "region-3"),
        ("region-0", "regions"),
        ("region-3", "regions"),
        ("regions", "views-0"),
        ("regions", "fold-views"),
        ("views-1", "heads"),
        ("heads", "fold-0"),
        ("fold-views", "fold-0"),
        ("fold-4", "calibrate"),
    ):
        assert names.index(earlier) < names.index(later)
    drawn = [call for calls in stages(tmp_path) for name, call in calls if name.startswith("refining-")]
    assert len(drawn) == len(PLAN.refining)
    assert all("--oracle" in call for call in drawn)  # without, only the bone age that a child has is learnt
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


@pytest.mark.skipif(
    not (default_bundle_path() / "bundle.json").is_file(), reason="the bundle that ships is not here"
)
def test_the_bundle_that_ships_keeps_its_one_backbone_once():
    bundle = load_bundle(default_bundle_path())
    assert sum(entry.bytes for entry in bundle.manifest.files.values()) < 40e6
    with safe_open(bundle.path(fold_file(1)), "pt") as own:
        assert not [name for name in own.keys() if name.startswith("backbone.")]  # noqa: SIM118
    first, second = bundle.load_fold(0), bundle.load_fold(1)
    assert first.keys() == second.keys()
    assert not first["head.linear.weight"].equal(second["head.linear.weight"])
