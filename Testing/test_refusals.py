"""With the bundle that ships: laterals that must not be cropped, and refusals of squares that a person put on what is
no frontal knee without implants."""

from dataclasses import replace

import numpy as np
import pytest

from KneeBoneAgeLib.crop import KneeCrop
from KneeBoneAgeLib.estimator import Estimator
from KneeBoneAgeLib.phantom.children import draw_children
from KneeBoneAgeLib.phantom.look import Look, expose
from KneeBoneAgeLib.phantom.props import add_knee_replacement
from KneeBoneAgeLib.phantom.scenes import frontal_film, lateral_film, other_film
from KneeBoneAgeLib.radiograph import film_from_array

EACH = 8
PIXELS = 560
YEARS = (4, 6, 8, 10, 11, 12, 13, 14)


@pytest.fixture(scope="module")
def answers():
    """Of each kind of content, the knees that came of a person's square on it."""
    estimator = Estimator.load(device="cpu")
    children = draw_children(EACH, 515, np.array(YEARS) * 12.0, with_oracle=False)

    def answer(kind, child, rng):
        scene, crop = _scene(kind, child, rng)
        look = Look.draw(rng).without_hardware()
        film = film_from_array(expose(scene, look, rng), bone_bright=True, sex=child.sex)
        return estimator.estimate(film, [crop]).knees[0]

    return {
        kind: [answer(kind, child, np.random.default_rng((515, i))) for i, child in enumerate(children)]
        for kind in ("knee", "replacement", "lateral", "hand", "elbow")
    }


def _scene(kind, child, rng):
    years, indicators = child.chronological_age_months / 12, child.indicators
    if kind in ("hand", "elbow"):
        scene = other_film(rng, years, PIXELS, kind)
        rows, cols = scene.canvas.soft_mm.shape
        return scene, KneeCrop((cols / 2, rows / 2), 0.6 * min(rows, cols), origin="person")
    if kind == "lateral":
        scene = lateral_film(indicators, child.chronological_age_months, rng, pixels=PIXELS)
        leg, step = scene.legs[0], scene.canvas.spacing_mm
        width = 1.08 * indicators.femur_metaphysis_mm
        return scene, KneeCrop((leg.x_mm / step, leg.y_mm / step), 2 * width / step, origin="person")
    scene = frontal_film(indicators, child.chronological_age_months, rng, "single", pixels=PIXELS)
    (knee,) = scene.knees
    if kind == "replacement":
        add_knee_replacement(scene.canvas.metal_mm, scene.canvas.spacing_mm, knee, rng)
    return scene, KneeCrop(knee.centre_px, 2 * knee.width_px, knee.angle_deg, "R", origin="person")


def test_knees_of_children_are_not_refused(answers):
    assert sum(knee.status == "refused" for knee in answers["knee"]) <= 1


@pytest.mark.parametrize("kind", ["replacement", "lateral", "hand", "elbow"])
def test_what_is_no_frontal_knee_without_implants_is_mostly_refused_for_its_content(answers, kind):
    refused = [knee for knee in answers[kind] if knee.status == "refused"]
    assert len(refused) >= 0.75 * EACH
    assert {knee.refusal_kind for knee in refused} == {"content"}


def test_a_refused_knee_keeps_its_square_and_its_number_is_withheld(answers):
    for knee in answers["hand"]:
        if knee.status == "refused":
            assert (knee.bone_age_months, knee.interval_months, knee.mature) == (None, None, False)
            assert knee.withheld_bone_age_months > 0
            assert knee.crop.origin == "person"


def test_small_childrens_knees_are_cropped_from_the_front_and_not_from_the_side():
    estimator = Estimator.load(device="cpu")
    count = 36
    children = draw_children(count, 516, np.linspace(6, 72, count), with_oracle=False)
    cropped = {lateral_film: 0, frontal_film: 0}
    for number, child in enumerate(children):
        for draw, more in ((lateral_film, {}), (frontal_film, {"kind": "single"})):
            rng = np.random.default_rng((517, number, len(more)))
            scene = draw(child.indicators, child.chronological_age_months, rng, pixels=900, **more)
            picture = expose(scene, Look.draw(rng), rng)
            cropped[draw] += bool(estimator.find(film_from_array(picture, bone_bright=True)).knees)
    assert cropped[lateral_film] <= 1
    assert cropped[frontal_film] >= count - 2


def test_a_find_that_the_finder_is_unsure_of_must_look_like_a_knee_to_the_gate():
    estimator = Estimator.load(device="cpu")
    gate, always_sure_from, never_sure_from = estimator.gate, 0.0, 1.01
    (child,) = draw_children(1, 518, np.array([120.0]), with_oracle=False)
    scene = frontal_film(child.indicators, 120.0, np.random.default_rng(518), "single", pixels=PIXELS)
    picture = expose(
        scene, Look.draw(np.random.default_rng(518)).without_hardware(), np.random.default_rng(1)
    )
    film = film_from_array(picture, bone_bright=True)
    estimator.finder.config["confirm_threshold"] = never_sure_from
    (knee,) = estimator.find(film).knees
    (logit,) = gate.logit(estimator.look(film, [knee])[1])
    assert gate.threshold[0] < -0.5 < 0 < logit

    def answers(log_odds: float, sure_from: float) -> list[str]:
        estimator.gate = replace(gate, out_bias=gate.out_bias + np.float32(log_odds - logit))
        estimator.finder.config["confirm_threshold"] = sure_from
        return [knee.status for knee in estimator.estimate(film).knees]

    assert answers(0.5, never_sure_from) == ["ok"]
    assert answers(-0.5, never_sure_from) == []  # both unsure
    assert "not a frontal knee" in estimator.find(film).reason
    assert answers(-0.5, always_sure_from) == ["ok"]
    assert answers(float(gate.threshold[0]) - 1, always_sure_from) == ["refused"]
