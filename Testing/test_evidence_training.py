"""The tables of evidence say what the runs behind them say."""

import csv
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def evidence():
    spec = importlib.util.spec_from_file_location(
        "evidence_training", Path(__file__).with_name("evidence_training.py")
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_every_recipe_of_the_literature_is_reduced_and_keeps_what_it_is(evidence):
    for name in evidence.REDUCED:
        shipped, small = evidence.load_recipe(name), evidence.reduced(name)
        assert small.architecture.kind == shipped.architecture.kind
        assert [stage.inputs for stage in small.stages] == [stage.inputs for stage in shipped.stages]
        assert small.image_size[0] * small.image_size[1] < shipped.image_size[0] * shipped.image_size[1]


def test_a_section_is_merged_and_stages_are_changed_one_by_one(evidence):
    found = evidence._merged(
        {"a": {"x": 1, "y": 2}, "stages": [{"n": 1, "m": 5}, {"n": 2, "m": 6}]},
        {"a": {"y": 3}, "stages": [{"n": 7}, {}]},
    )
    assert found == {"a": {"x": 1, "y": 3}, "stages": [{"n": 7, "m": 5}, {"n": 2, "m": 6}]}


def test_students_of_every_share_learn_for_about_as_many_steps(evidence):
    for share in evidence.SHARES:
        learnt = round(share * 256)
        batch = min(evidence.student_recipe().batch, learnt // 4)
        steps = evidence.epochs_for(share, 256) * -(-learnt // batch)
        assert steps == pytest.approx(evidence.STUDENT_STEPS, rel=0.1)


def test_the_interval_counts_children_and_not_films(evidence):
    error = np.random.default_rng(0).exponential(8, 60)
    names = [f"C{i}" for i in range(60)]
    once = evidence.bootstrap(error, names)
    twice = evidence.bootstrap(np.repeat(error, 2), np.repeat(names, 2))
    assert once.low < once.mean < once.high
    assert (twice.mean, twice.low, twice.high) == pytest.approx((once.mean, once.low, once.high))


def test_a_student_is_judged_by_its_own_fold_and_arms_are_compared_fold_by_fold(evidence, tmp_path):
    runs = {}
    for arm, better in (("transfer", 2.0), ("scratch", 0.0)):
        run = runs[arm, 0.1] = tmp_path / arm
        for fold in range(3):
            folder = run / f"fold-{fold}"
            rows = [
                {
                    "patient_id": f"C{i}",
                    "label_months": 100.0,
                    "estimate_months": 100 + 9 + fold - better,
                    "without_age_months": 100 - 12,
                    "age_alone_months": 111,
                }
                for i in range(4)
            ]
            write(folder / "predictions.csv", rows)
            write(folder / "metrics.csv", [{"epoch": 2, "step": 10}])
            (folder / "weights.json").write_text(json.dumps({"crops": 38}))
    rows = list(evidence.transfer_rows(runs))
    assert [row["mae_months"] for row in rows] == [7, 8, 9, 9, 10, 11]
    without, known = evidence.transfer_table(rows, runs)
    assert known == [
        "10 %",
        "38",
        "10",
        "with age too",
        "8.00 ± 1.00",
        "10.00 ± 1.00",
        "+2.00 ± 0.00",
        "3 of 3",
        "2.00 (2.00 to 2.00)",
    ]
    assert without[-3:] == ["+0.00 ± 0.00", "0 of 3", "0.00 (0.00 to 0.00)"]


def test_results_of_other_settings_are_not_taken_for_these(evidence, tmp_path):
    evidence.Work(tmp_path / "out", knees=400).settle()
    evidence.Work(tmp_path / "out", knees=400).settle()
    with pytest.raises(RuntimeError, match="'knees': 400.*another --out"):
        evidence.Work(tmp_path / "out").settle()


def test_a_recipe_that_is_no_better_than_age_alone_shows_no_gain(evidence, tmp_path):
    run = tmp_path / "bonet"
    rows = [
        {"patient_id": f"C{i}", "label_months": 90, "estimate_months": 90 + i, "age_alone_months": 90 - i}
        for i in range(9)
    ]
    write(run / "test-predictions.csv", rows)
    write(run / "fold-0" / "metrics.csv", [{"epoch": 3, "step": 12}])
    (run / "fold-0" / "weights.json").write_text(json.dumps({"films": 50}))
    (run / "recipe.yaml").write_text("image_size: [128, 96]\n")
    row = evidence.recipe_row(run)
    assert row["mae_months"].mean == row["age_alone_months"].mean == 4
    assert (row["gain_months"].low, row["gain_months"].high) == (0, 0)
    assert row["image"] == "128x96"
