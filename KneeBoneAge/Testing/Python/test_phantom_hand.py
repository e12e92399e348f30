"""The phantom's hand: it matures as atlases say, tells age by its bones alone, and its truth is where it is drawn."""

from __future__ import annotations

import csv
import datetime
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label

from KneeBoneAgeLib.phantom.children import Child, draw_children
from KneeBoneAgeLib.phantom.cohort import write_cohort
from KneeBoneAgeLib.phantom.hand import KEY_POINTS, REGIONS, aged, draw_hand
from KneeBoneAgeLib.phantom.hand.anatomy import Build, Posture, hand_points
from KneeBoneAgeLib.phantom.hand.bones import CARPAL, EPIPHYSIS
from KneeBoneAgeLib.phantom.hand.film import HandScene, hand_mask, hand_scene, placed, region_boxes
from KneeBoneAgeLib.phantom.hand.maturation import CARPALS, CENTRES, PLATED, HandMaturity, milestones
from KneeBoneAgeLib.phantom.study import KNEE_DATE, HandOrder, _days_off, draw_hand_film, write_study
from KneeBoneAgeLib.radiograph import read_film

SEXES = ("F", "M")


def child(years: float, sex: str = "F", seed: int = 0) -> Child:
    """A child whose bones are as old as itself."""
    drawn = draw_children(1, seed, [years * 12], [sex], with_oracle=False)[0]
    months = years * 12
    return replace(
        drawn,
        chronological_age_months=months,
        latent_age_months=months,
        true_bone_age_months=min(months, 216),
    )


def even_scene(years: float, sex: str = "F", seed: int = 1, pixels: int = 420) -> HandScene:
    """A hand all of whose centres are of one age."""
    maturity = HandMaturity.even(sex, 12 * years)
    return hand_scene(child(years, sex), np.random.default_rng(seed), pixels, maturity)


def area(scene: HandScene, which: int) -> float:
    """Drawn area of a label in units of a metacarpal's length squared."""
    return float((scene.canvas.labels == which).sum()) / scene.unit_px**2


@pytest.mark.parametrize("sex", SEXES)
@pytest.mark.parametrize("bone", PLATED)
def test_an_epiphysis_appears_widens_caps_and_fuses_in_this_order(bone, sex):
    at = milestones(bone, sex)
    assert at.appears < at.covers < at.caps < at.fusing < at.fused
    drawn = [HandMaturity.even(sex, months).epiphysis(bone) for months in np.arange(0, 240, 1.0)]
    for name in ("width", "height", "cap", "bridged"):
        course = np.array([getattr(epiphysis, name) for epiphysis in drawn])
        assert (np.diff(course) >= -1e-9).all(), name
    covering = HandMaturity.even(sex, at.covers).epiphysis(bone)
    assert covering.width == pytest.approx(1.0)
    assert HandMaturity.even(sex, at.appears - 0.1).epiphysis(bone).width == 0
    assert HandMaturity.even(sex, at.fused).epiphysis(bone).bridged == 1


@pytest.mark.parametrize("sex", SEXES)
def test_carpals_appear_in_the_order_of_the_textbooks(sex):
    first_seen = {
        name: next(m for m in range(240) if HandMaturity.even(sex, m).grown(name) > 0) for name in CARPALS
    }
    order = sorted(first_seen, key=lambda name: first_seen[name])
    assert order[:4] == ["capitate", "hamate", "triquetrum", "lunate"]
    assert order[-1] == "pisiform"


@pytest.mark.parametrize("bone", PLATED)
def test_girls_are_ahead_of_boys_in_every_bone(bone):
    girls, boys = milestones(bone, "F"), milestones(bone, "M")
    assert girls.appears < boys.appears
    assert girls.covers < boys.covers
    assert girls.fused < boys.fused


@pytest.mark.parametrize("sex", SEXES)
def test_distal_phalanges_fuse_first_and_the_radius_last(sex):
    fused = {bone: milestones(bone, sex).fused for bone in PLATED}
    assert min(fused, key=fused.__getitem__).startswith("distal")
    assert max(fused, key=fused.__getitem__) == "radius"
    assert fused["proximal_3"] < fused["ulna"] < fused["radius"]


def test_bones_deviate_from_the_clock_on_their_own_but_not_on_the_average():
    children = draw_children(200, 5, [120.0] * 200, ["M"] * 200, with_oracle=False)
    off = np.array([[HandMaturity.of(c).months[n] - c.latent_age_months for n in CENTRES] for c in children])
    assert abs(off.mean()) < 0.5
    assert 4.5 < off.std() < 8.5
    # The mean of a hand is close to the clock: a reader can tell the bone age to a few months.
    assert off.mean(axis=1).std() < 3.0
    carpal = [CENTRES.index(n) for n in CARPALS[:4]]
    assert np.corrcoef(off[:, carpal].T)[0, 1] > 0.15


def test_the_hand_has_its_own_stream_and_stays_the_same_on_every_film_of_a_child():
    someone = draw_children(3, 9, with_oracle=False)[2]
    now, later = HandMaturity.of(someone), HandMaturity.of(aged(someone, 61))
    moved = np.array([later.months[n] - now.months[n] for n in CENTRES])
    np.testing.assert_allclose(moved, 61 / 30.4375, atol=0.5)
    other = draw_children(2, 9, with_oracle=False)[1]
    assert Build.of(someone).wobble[0, 0] != Build.of(other).wobble[0, 0]


def test_epiphyses_and_carpals_that_are_drawn_follow_maturity():
    years = (0.1, 1.5, 3, 5, 7, 9, 11)
    scenes = [even_scene(y) for y in years]
    for which in (EPIPHYSIS, CARPAL):
        areas = [area(scene, which) for scene in scenes]
        assert areas == sorted(areas), which
    assert area(scenes[0], EPIPHYSIS) == 0
    assert area(scenes[-1], EPIPHYSIS) > 0.2
    # Fused epiphyses are shaft.
    assert area(even_scene(17.6), EPIPHYSIS) == 0


def test_the_width_of_the_radial_epiphysis_on_the_film_is_what_its_maturity_says():
    said, seen = [], []
    for i, years in enumerate(np.linspace(1.6, 9, 8)):
        scene = even_scene(float(years), seed=i, pixels=480)
        parts, count = label(scene.canvas.labels == EPIPHYSIS)
        x, y = scene.key_points["radius"]
        found = [np.argwhere(parts == k + 1) for k in range(count)]
        nearest = min(found, key=lambda pixels: np.hypot(*(pixels.mean(0) - (y, x))))
        spans = nearest - nearest.mean(0)
        longest = np.ptp(spans @ np.linalg.svd(spans, full_matrices=False)[2][0])
        build = Build.of(child(float(years)))
        metaphysis_px = 2 * 15.3 * build.girth / scene.canvas.spacing_mm
        said.append(HandMaturity.even("F", 12 * years).epiphysis("radius").width)
        seen.append(longest / metaphysis_px)
    assert np.corrcoef(said, seen)[0, 1] > 0.97
    np.testing.assert_allclose(seen, said, atol=0.15)


def test_a_closing_plate_fills_with_bone():
    at = milestones("radius", "M")
    posture = Posture.draw(np.random.default_rng(3), 16)
    way = np.radians(posture.turn + 180 + posture.wrist)
    least = []
    for months in (at.fusing - 1, 0.6 * at.fusing + 0.4 * at.fused, at.fused + 30):
        scene = hand_scene(child(16, "M"), np.random.default_rng(3), 800, HandMaturity.even("M", months))
        steps = np.linspace(0.07, 0.35, 60) * scene.unit_px
        x, y = (
            np.array(scene.key_points["radius"])[:, None] + [np.sin(way) * steps, -np.cos(way) * steps]
        ).astype(int)
        along = scene.canvas.bone_mm[y, x]
        least.append(along.min() / np.median(along))
    assert least[0] < 0.2
    assert least[0] < least[1] - 0.1
    assert least[2] > 0.6


def test_every_key_point_lies_on_the_film_and_on_the_hand():
    for i, years in enumerate((0.1, 1, 4, 9, 13, 17.9)):
        scene = hand_scene(child(years, SEXES[i % 2], i), np.random.default_rng(i), 300)
        rows, columns = scene.canvas.shape
        mask = hand_mask(scene)
        assert tuple(scene.key_points) == KEY_POINTS
        for name, (x, y) in scene.key_points.items():
            assert 0 <= x < columns, name
            assert 0 <= y < rows, name
            assert mask[int(y), int(x)], name


def test_regions_hold_what_they_are_named_after():
    scene = even_scene(11)
    boxes = region_boxes(scene)
    assert tuple(boxes) == REGIONS

    def holds(box, point):
        x0, y0, x1, y1 = boxes[box]
        x, y = scene.key_points[point]
        return x0 < x < x1 and y0 < y < y1

    assert all(holds("hand", point) for point in KEY_POINTS)
    assert all(holds("carpal", point) for point in ("radius", "ulna", "capitate", "trapezium"))
    assert not holds("carpal", "distal_3_tip")
    assert all(holds("metacarpal_phalangeal", f"metacarpal_{i}_head") for i in range(2, 6))
    assert not holds("metacarpal_phalangeal", "distal_3_tip")
    carpal = scene.canvas.labels == CARPAL
    rows, columns = np.nonzero(carpal)
    x0, y0, x1, y1 = boxes["carpal"]
    assert ((columns > x0) & (columns < x1) & (rows > y0) & (rows < y1)).mean() > 0.97


def test_the_thumb_of_a_left_hand_seen_from_its_back_lies_on_the_right():
    for seed in range(8):
        scene = hand_scene(child(10), np.random.default_rng(seed), 200)
        assert scene.key_points["distal_1_tip"][0] > scene.key_points["distal_5_tip"][0]


def test_how_much_of_the_film_a_hand_fills_does_not_tell_its_age():
    ages = np.linspace(0.5, 17.5, 60)
    share, place = [], []
    for i, years in enumerate(ages):
        rng = np.random.default_rng(1000 + i)
        build, posture = Build.of(child(float(years), SEXES[i % 2], i)), Posture.draw(rng, float(years))
        points = hand_points(build, posture)
        canvas, pose = placed(points, build, posture, rng, 64)
        heights = np.array([pose.to_film(*point)[1] for point in points.values()])
        film = canvas.shape[0] * canvas.spacing_mm
        share.append(np.ptp(heights) / film)
        place.append(heights.mean() / film)
    assert abs(np.corrcoef(ages, share)[0, 1]) < 0.3
    assert abs(np.corrcoef(ages, place)[0, 1]) < 0.3


def test_exposure_takes_the_same_course_at_every_age():
    for seed in range(4):
        films = [draw_hand(child(years), np.random.default_rng(seed), 200) for years in (6.0, 12.0)]
        greys = [np.median(film.pixels[film.mask]) for film in films]
        assert greys[0] == pytest.approx(greys[1], abs=0.12)


def test_the_same_child_and_seed_give_the_same_film_and_another_seed_another():
    first, again, other = (draw_hand(child(8), np.random.default_rng(seed), 240) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert first.key_points == again.key_points
    assert first.key_points != other.key_points
    assert max(first.pixels.shape) == 240
    assert first.pixels.dtype == np.float32
    assert 0 <= first.pixels.min() <= first.pixels.max() <= 1
    assert first.mask.shape == first.pixels.shape


def test_bones_are_brighter_than_the_flesh_around_them():
    film = draw_hand(child(12), np.random.default_rng(4), 500)
    middle = [
        (np.array(film.key_points[f"metacarpal_{i}_base"]) + film.key_points[f"metacarpal_{i}_head"]) / 2
        for i in (2, 3, 4, 5)
    ]
    bone = [film.pixels[int(y), int(x)] for x, y in middle]
    between = [(a + b) / 2 for a, b in zip(middle, middle[1:], strict=False)]
    flesh = [film.pixels[int(y), int(x)] for x, y in between]
    assert min(bone) > max(flesh)


def test_small_children_bend_their_fingers_more():
    def bend(years):
        return np.mean([Posture.draw(np.random.default_rng(s), years).bend[1:, 1:].mean() for s in range(40)])

    assert bend(0.5) > bend(10) + 3


def test_a_child_moves_on_by_the_days_between_films_up_to_the_end_of_the_atlas():
    someone = child(12)
    later = aged(someone, 91)
    assert later.chronological_age_months == pytest.approx(144 + 91 / 30.4375)
    assert later.true_bone_age_months == pytest.approx(144 + 91 / 30.4375)
    assert aged(child(17.99), 150).true_bone_age_months == 216
    assert later.indicators == someone.indicators


def test_hand_films_are_taken_after_birth_and_within_the_longest_span():
    rng = np.random.default_rng(0)
    days = [off for _ in range(400) for off in _days_off(rng, 2, 2.0)]
    assert min(days) >= -2.0 * 30.4375
    assert max(map(abs, days)) <= 150
    first = np.array([_days_off(rng, 1, 100.0)[0] for _ in range(400)])
    assert 0.05 < (np.abs(first) > 92).mean() < 0.3
    assert (first < 0).mean() > 0.2


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("study")
    write_study(out, 2, 11, "png", workers=1)
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_study_has_tables_whose_films_and_truth_exist(study):
    patients = {row["patient_id"]: row for row in rows(study / "patients.csv")}
    knees, hands = rows(study / "knees.csv"), rows(study / "hands.csv")
    assert len(knees) == 2
    assert {row["patient_id"] for row in (*knees, *hands)} <= set(patients)
    assert hands
    for row in hands:
        truth = json.loads((study / row["truth"]).read_text(encoding="utf-8"))
        film = read_film(study / row["file"])
        assert truth["shape"] == list(film.pixels.shape)
        assert 1000 <= max(film.pixels.shape) <= 1500
        assert set(truth["key_points"]) == set(KEY_POINTS)
        assert np.asarray(Image.open(study / row["mask"])).max() == 1
        days = (datetime.date.fromisoformat(row["date"]) - KNEE_DATE).days
        assert days == int(row["days"])
        knee = next(k for k in knees if k["patient_id"] == row["patient_id"])
        older = float(row["age_months"]) - float(knee["age_months"])
        assert older == pytest.approx(days / 30.4375, abs=2e-3)
        matured = float(row["true_bone_age_months"]) - float(knee["true_bone_age_months"])
        assert matured == pytest.approx(older, abs=3e-3)
        born = datetime.date.fromisoformat(patients[row["patient_id"]]["birth_date"])
        age = (datetime.date.fromisoformat(row["date"]) - born).days / 30.4375
        assert age == pytest.approx(float(row["age_months"]), abs=0.05)


def test_the_knees_of_a_study_are_the_same_bytes_as_without_hands(study, tmp_path):
    write_cohort(tmp_path, 2, 11, "png", workers=1)
    for path in sorted(tmp_path.rglob("*")):
        if path.is_file():
            twin = study / path.relative_to(tmp_path)
            assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(twin.read_bytes()).digest()


def test_a_hand_film_as_dicom_says_what_it_is(tmp_path):
    import pydicom

    for folder in ("films", "truth", "masks"):
        (tmp_path / "hands" / folder).mkdir(parents=True)
    order = HandOrder(3, 7, 5, aged(child(9, "M"), -40), -40, 107.0, True)
    row = draw_hand_film(order, tmp_path)
    header = pydicom.dcmread(tmp_path / str(row["file"]))
    assert header.BodyPartExamined == "HAND"
    assert header.ViewPosition == "PA"
    assert header.ImageLaterality == "L"
    assert header.StudyDate == (KNEE_DATE - datetime.timedelta(days=40)).strftime("%Y%m%d")
    assert header.PatientID == row["patient_id"] == "PHANTOM-000005"
    film = read_film(tmp_path / str(row["file"]))
    assert film.pixels.shape == (header.Rows, header.Columns)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("flags", [[], ["--hands"]])
def test_the_command_draws_hands_only_when_asked(flags, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from KneeBoneAgeLib import cli
    from KneeBoneAgeLib.phantom import cohort
    from KneeBoneAgeLib.phantom import study as studies

    called = []
    monkeypatch.setattr(cohort, "write_cohort", lambda *args, **named: called.append("knees"))
    monkeypatch.setattr(studies, "write_study", lambda *args, **named: called.append("hands"))
    result = CliRunner().invoke(
        cli.app, ["phantom", str(tmp_path), "--knees", "2", "--seed", "1", "--format", "png", *flags]
    )
    assert result.exit_code == 0
    assert called == (["hands"] if flags else ["knees"])
