"""Small films of many children: drawn the same every time, and ordinary material for a study."""

import csv

import numpy as np
import pytest

from KneeBoneAgeLib.radiograph import read_film
from KneeBoneAgeTrainingLib.cohort.building import Inputs, Parameters, build
from KneeBoneAgeTrainingLib.small_films import HAND, KNEE, main, write_small_films


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    out = tmp_path_factory.mktemp("films")
    write_small_films(out, 3, 41)
    return out


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_seed_always_draws_the_same_bytes_and_fewer_children_are_the_first_ones(drawn, tmp_path):
    write_small_films(tmp_path, 2, 41)
    pictures = {name: content for name, content in files(tmp_path).items() if name.suffix == ".png"}
    assert len(pictures) == 2 * 3, "a hand, its mask and a knee of each child"
    assert all(files(drawn)[name] == content for name, content in pictures.items())


def test_what_is_drawn_is_not_drawn_again(drawn):
    before = files(drawn)
    write_small_films(drawn, 5, 42)
    assert files(drawn) == before


def test_both_films_of_a_child_say_the_same_about_it(drawn):
    for hand, knee, patient in zip(
        *(rows(drawn / f"{name}.csv") for name in ("hands", "knees", "patients")), strict=True
    ):
        assert {**hand, "file": "", "side": ""} == {**knee, "file": "", "side": ""}
        assert hand["patient_id"] == patient["patient_id"]
        assert hand["sex"] == patient["sex"]


def test_the_square_of_a_knee_holds_it(drawn):
    for row in rows(drawn / "crops.csv"):
        rows_px, cols_px = read_film(drawn / row["file"]).pixels.shape
        x0, y0, x1, y1 = (float(row[name]) for name in ("x0", "y0", "x1", "y1"))
        assert x1 - x0 == pytest.approx(y1 - y0, abs=0.02)
        assert 0.4 * cols_px < x1 - x0 < cols_px
        assert x0 < cols_px / 2 < x1
        assert y0 < rows_px / 2 < y1
        assert row["mirrored"] == ("yes" if row["side"] == "L" else "no")


def test_the_tables_make_a_study_in_which_nothing_is_amiss(drawn):
    cohort = build(
        Inputs((drawn / "patients.csv",), (drawn / "knees.csv",), (drawn / "hands.csv",)),
        Parameters(test_share=0.0, folds=2),
        workers=1,
    )
    assert not cohort.problems
    assert not cohort.exclusions
    assert len(cohort.pairs) == 3
    assert all(pair.match is not None for pair in cohort.pairs)


def test_a_part_alone_is_drawn_when_it_is_asked_for(tmp_path, capsys):
    main([str(tmp_path), "--children", "1", "--seed", "3", "--part", HAND])
    assert capsys.readouterr().out.strip() == str(tmp_path / "patients.csv")
    assert (tmp_path / "hands.csv").exists()
    assert not (tmp_path / "knees.csv").exists()
    assert np.ptp(read_film(tmp_path / "hands/films/00000.png").pixels) > 0.3


def test_another_part_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="parts foot: choose hand, knee or both"):
        write_small_films(tmp_path, 1, 3, ("foot",))
    assert {HAND, KNEE} == {"hand", "knee"}
