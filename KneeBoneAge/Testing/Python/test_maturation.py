"""The phantom's numbers: children, indicators and oracle, held against SVAD's real children where at hand."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_ndtr

from KneeBoneAgeLib.phantom import children as cohort
from KneeBoneAgeLib.phantom import maturation
from KneeBoneAgeLib.phantom.children import Child, draw_children

SVAD_FILE = Path(__file__).resolve().parents[4] / "shared" / "data" / "svad_us_knee.csv"
SVAD_BREADTHS = dict(zip(maturation.BREADTH_NAMES, ("FDB_L", "TPB_L", "FMSB_L", "TMSB_L"), strict=True))
SVAD_FUSIONS = {"femur": "FDE_EF_L", "tibia": "TPE_EF_L", "fibula": "FBPE_EF_L"}
BANDS_YEARS = (0, 0.5, 1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 21)
LIKE_EACH_SVAD_CHILD = 8  # virtual children drawn for each real one

# knee-maturation.md: median age (y) at which a stage is reached, girls and boys.
MEDIANS_YEARS = {
    ("fibula", "1"): (2.8, 3.9),
    ("femur", "12"): (11.8, 13.8),
    ("tibia", "12"): (11.8, 13.2),
    ("fibula", "12"): (12.4, 14.0),
    ("femur", "2"): (13.0, 14.5),
    ("tibia", "2"): (12.7, 13.9),
    ("fibula", "2"): (13.2, 14.6),
    ("femur", "3"): (14.5, 15.8),
    ("tibia", "3"): (14.3, 15.5),
    ("fibula", "3"): (14.3, 15.8),
}
PATELLA_YEARS = (2.7, 3.6)


@dataclass(frozen=True)
class Svad:
    """The real children: sex and age in years, (n,) each, and columns; NaN and "NA" where not measured."""

    sex: np.ndarray
    years: np.ndarray
    rows: list[dict[str, str]]

    def numbers(self, column: str) -> np.ndarray:
        return np.array([float(row[column]) if row[column] != "NA" else np.nan for row in self.rows])

    def codes(self, column: str) -> np.ndarray:
        return np.array([row[column] for row in self.rows])


@pytest.fixture(scope="module")
def svad() -> Svad:
    if not SVAD_FILE.is_file():
        pytest.skip("shared/data/svad_us_knee.csv is not beside this checkout")
    with SVAD_FILE.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["SEX"] in maturation.SEXES]
    years = np.array([float(row["agey"]) for row in rows])
    return Svad(np.array([row["SEX"] for row in rows]), years, rows)


@pytest.fixture(scope="module")
def like_svad(svad: Svad) -> list[Child]:
    """Virtual children of the real ones' sexes and ages, `LIKE_EACH_SVAD_CHILD` in a row for each."""
    months = np.repeat(svad.years * 12, LIKE_EACH_SVAD_CHILD)
    sexes = np.repeat(svad.sex, LIKE_EACH_SVAD_CHILD)
    return draw_children(len(months), 11, months, sexes.tolist(), with_oracle=False)


@pytest.fixture(scope="module")
def clinic() -> list[Child]:
    return draw_children(6000, 2024)


def of(children: list[Child], name: str) -> np.ndarray:
    return np.array([getattr(child, name) for child in children])


def reached(codes: np.ndarray, stage: str) -> np.ndarray:
    order = {code: i for i, code in enumerate(maturation.STAGES)}
    return np.array([order[code] for code in codes]) >= order[stage]


STAGES_TO_CHECK = [(*which, i, years[i]) for which, years in MEDIANS_YEARS.items() for i in (0, 1)]


@pytest.mark.parametrize(("bone", "stage", "sex", "median"), STAGES_TO_CHECK)
def test_our_logistic_fit_gives_the_published_medians_of_real_children(svad, bone, stage, sex, median):
    codes = svad.codes(SVAD_FUSIONS[bone])
    use = (svad.sex == maturation.SEXES[sex]) & (codes != "NA")
    fitted = maturation.median_age_reached(svad.years[use], reached(codes[use], stage))
    assert fitted == pytest.approx(median, abs=0.06)


@pytest.mark.parametrize(("bone", "stage", "sex", "median"), STAGES_TO_CHECK)
def test_virtual_children_reach_a_stage_within_0_3_years_of_real_ones(clinic, bone, stage, sex, median):
    some = [c for c in clinic if c.sex == maturation.SEXES[sex]]
    years = of(some, "chronological_age_months") / 12
    assert maturation.median_age_reached(years, reached(of(some, f"stage_{bone}"), stage)) == pytest.approx(
        median, abs=0.3
    )


@pytest.mark.parametrize("sex", [0, 1])
def test_patella_ossifies_within_0_3_years_of_real_children(clinic, sex):
    some = [c for c in clinic if c.sex == maturation.SEXES[sex]]
    years = of(some, "chronological_age_months") / 12
    ossified = np.array([c.indicators.patella_ratio > 0 for c in some])
    assert maturation.median_age_reached(years, ossified) == pytest.approx(PATELLA_YEARS[sex], abs=0.3)


@pytest.mark.parametrize("name", maturation.BREADTH_NAMES)
@pytest.mark.parametrize("sex", maturation.SEXES)
def test_mean_breadths_are_those_of_real_children_in_every_age_band(svad, like_svad, name, sex):
    real = svad.numbers(SVAD_BREADTHS[name])
    drawn = (
        np.array([getattr(c.indicators, name) for c in like_svad])
        .reshape(-1, LIKE_EACH_SVAD_CHILD)
        .mean(axis=1)
    )
    band = np.digitize(svad.years, BANDS_YEARS)
    compared = 0
    for index in range(1, len(BANDS_YEARS)):
        cell = (svad.sex == sex) & (band == index) & np.isfinite(real)
        if cell.sum() < 3:
            continue
        mean = real[cell].mean()
        error = real[cell].std(ddof=1) / np.sqrt(cell.sum())
        assert drawn[cell].mean() == pytest.approx(mean, abs=max(0.05 * mean, error)), BANDS_YEARS[index - 1]
        compared += 1
    assert compared >= 9


@pytest.mark.parametrize("bone", SVAD_FUSIONS)
@pytest.mark.parametrize("sex", maturation.SEXES)
def test_a_line_stays_visible_at_18_to_20_years_as_in_real_knees(like_svad, bone, sex):
    some = [c for c in like_svad if c.sex == sex and 216 <= c.chronological_age_months < 240]
    assert 0.24 <= np.mean(of(some, f"stage_{bone}") == "3") <= 0.37


@pytest.mark.parametrize(("sex", "months"), [("F", 168), ("M", 180)])
def test_hardly_a_femur_is_complete_before_real_ones_are(clinic, sex, months):
    young = [c for c in clinic if c.sex == sex and months - 36 <= c.chronological_age_months < months]
    assert np.mean(of(young, "stage_femur") == "4") < 0.06


def test_the_same_seed_gives_the_same_children_and_another_seed_others(clinic):
    again = draw_children(20, 2024)
    assert draw_children(7, 2024) == again[:7]
    assert again == clinic[:20]
    assert draw_children(20, 2025)[0].indicators != again[0].indicators


def test_bone_age_strays_from_chronological_age_as_in_a_clinic():
    months = np.full(20000, 120.0)
    children = draw_children(len(months), 5, months, with_oracle=False)
    deviation = of(children, "true_bone_age_months") - months
    beyond = np.abs(deviation) > 24
    assert 0.10 <= beyond.mean() <= 0.14  # the tenth that strays, and the core's own tail
    assert np.abs(deviation).max() < 60
    core = deviation[np.abs(deviation) < 24]
    assert core.std() == pytest.approx(10.04, abs=0.2)  # SD 11 cut at 24
    assert of(children, "bone_age_months").std() > deviation.std()


def test_small_children_stray_less_and_no_bone_age_leaves_the_atlas(clinic):
    newborn = draw_children(4000, 6, np.zeros(4000), with_oracle=False)
    assert of(newborn, "true_bone_age_months").max() < 12
    for name in ("true_bone_age_months", "bone_age_months", "pseudo_label_months", "oracle_months"):
        assert of(clinic, name).min() >= 0
        for sex, cap in maturation.BONE_AGE_CAP_MONTHS.items():
            assert of([c for c in clinic if c.sex == sex], name).max() <= cap


def test_most_children_of_the_clinic_are_6_to_16_years_old_and_few_are_infants(clinic):
    months = of(clinic, "chronological_age_months")
    assert 0 <= months.min() <= months.max() <= 216
    assert np.mean((months >= 72) & (months < 192)) > 0.75
    assert 0.005 < np.mean(months < 24) < 0.06
    assert np.mean(of(clinic, "sex") == "F") == pytest.approx(0.5, abs=0.02)


def test_readers_and_the_hand_model_err_as_set(clinic):
    inside = [c for c in clinic if 20 < c.true_bone_age_months < 195]
    true = of(inside, "true_bone_age_months")
    assert (of(inside, "bone_age_months") - true).std() == pytest.approx(4.0, abs=0.15)
    assert (of(inside, "pseudo_label_months") - true).std() == pytest.approx(3.5, abs=0.15)


def test_the_oracle_errs_by_about_3_months_against_the_truth_and_4_4_against_readers(clinic):
    true, assigned = of(clinic, "true_bone_age_months"), of(clinic, "bone_age_months")
    oracle, no_age = of(clinic, "oracle_months"), of(clinic, "oracle_no_age_months")
    error = np.abs(oracle - true).mean()
    assert error == pytest.approx(3.0, abs=0.15)
    assert np.abs(oracle - assigned).mean() == pytest.approx(4.4, abs=0.2)
    assert error < np.abs(no_age - true).mean() < 1.15 * error
    assert np.abs(of(clinic, "chronological_age_months") - true).mean() > 3 * error
    assert abs((oracle - true).mean()) < 0.3


def test_no_band_from_one_year_to_maturity_is_read_much_worse_than_the_others(clinic):
    for band in cohort.errors_by_band(clinic, (12, 36, 60, 84, 108, 132, 156, 174)):
        assert band.oracle < 4.0, band


@pytest.mark.parametrize("with_age", [True, False])
def test_the_oracle_is_the_posterior_mean_that_weighted_drawing_gives(clinic, with_age):
    """Draw clocks from the prior and weigh each by how likely it shows this knee."""
    rng = np.random.default_rng(1)
    n = 400_000
    # Far from chronological age, within the core: there the prior pulls, and every deviation matters.
    apart = [c for c in clinic if 17 < abs(c.latent_age_months - c.chronological_age_months) < 23]
    some = [[c for c in apart if low < c.true_bone_age_months < low + 40][0] for low in (40, 80, 120, 150)]
    for child in some:
        names = maturation.INDICATOR_NAMES
        m = np.array([child.maturities[name] for name in names])
        seen = maturation.seen_indicators(child.sex, m[None])[0]
        windows = maturation.shown_windows_months(child.sex, np.array([child.keeps_line]))[0]
        if with_age:
            age = np.full(n, child.chronological_age_months)
        else:
            age = np.interp(rng.random(n), cohort._clinic_cdf(np.arange(217.0)), np.arange(217.0))
        core, stray = rng.normal(0, 11, n), rng.choice([-1, 1], n) * rng.uniform(24, 42, n)
        clock = age + maturation.spread(age) * np.where(rng.random(n) < 0.1, stray, core)
        sd = maturation.spread(clock)
        knee = clock + sd * rng.normal(0, cohort.KNEE_SD_MONTHS, n)
        log_weight = np.zeros(n)
        for i in np.flatnonzero(seen):
            s = sd * maturation.SIGMAS_MONTHS[i]
            if m[i] < windows[i, 0]:
                log_weight += log_ndtr((windows[i, 0] - knee) / s)
            elif m[i] > windows[i, 1]:
                log_weight += log_ndtr((knee - windows[i, 1]) / s)
            else:
                log_weight += -0.5 * ((m[i] - knee) / s) ** 2 - np.log(s)
        weight = np.exp(log_weight - log_weight.max())
        bone_age = np.clip(clock, 0, maturation.BONE_AGE_CAP_MONTHS[child.sex])
        expected = (weight * bone_age).sum() / weight.sum()
        told = child.oracle_months if with_age else child.oracle_no_age_months
        assert told == pytest.approx(expected, abs=0.15)


def test_the_oracle_leaves_nothing_to_correct(clinic):
    """A posterior mean is unbiased at every value it takes, with or without chronological age."""
    true = of(clinic, "true_bone_age_months")
    for name in ("oracle_months", "oracle_no_age_months"):
        slope, offset = np.polyfit(of(clinic, name), true, 1)
        assert slope == pytest.approx(1.0, abs=0.01)
        assert offset == pytest.approx(0.0, abs=1.0)


def test_overall_size_is_no_shortcut_to_bone_age(clinic):
    for sex in maturation.SEXES:
        some = [c for c in clinic if c.sex == sex and c.true_bone_age_months > 48]
        size = np.log([[getattr(c.indicators, name) for name in maturation.BREADTH_NAMES] for c in some])
        true = of(some, "true_bone_age_months")
        design = np.column_stack([np.ones(len(true)), size, size**2])
        guess = design @ np.linalg.lstsq(design, true, rcond=None)[0]
        assert np.abs(guess - true).mean() > 4 * np.abs(of(some, "oracle_months") - true).mean()


@pytest.mark.parametrize("sex", maturation.SEXES)
def test_every_curve_is_strictly_monotone_within_its_window_and_still_outside(sex):
    for curve in maturation.indicator_curves():
        low, high = curve.window_months(sex)
        step = np.diff(curve.value_at(sex, np.linspace(low, high, 500)))
        assert (step > 0).all() or (step < 0).all(), curve.name
        assert len(set(curve.value_at(sex, np.array([low - 1, low - 50])).tolist())) == 1
        assert len(set(curve.value_at(sex, np.array([high, high + 1, high + 50])).tolist())) == 1


@pytest.mark.parametrize("sex", maturation.SEXES)
def test_one_deviation_of_an_indicator_can_be_seen_in_a_crop_of_160_pixels(sex):
    for curve in maturation.indicator_curves():
        least, mean, _ = curve.pixels_per_sigma(sex)
        assert mean > 0.9, curve.name
        assert least > 0.3, curve.name


@pytest.mark.parametrize("sex", maturation.SEXES)
def test_several_indicators_can_be_read_at_every_age_until_the_knee_closes(clinic, sex):
    for low in range(0, 174, 12):
        band = [c for c in clinic if c.sex == sex and low <= c.true_bone_age_months < low + 12]
        assert np.mean([sum(c.readable.values()) for c in band]) >= 3, low


def test_what_is_drawn_does_not_contradict_itself(clinic):
    for child in clinic[:1500]:
        knee = child.indicators
        for bone in ("femur", "tibia", "fibula"):
            closed = getattr(knee, f"{bone}_bridging") == 1.0
            assert not (closed and getattr(knee, f"{bone}_physis_mm") > 0)
            assert closed or getattr(knee, f"{bone}_scar") == 0
            assert getattr(child, f"stage_{bone}") in maturation.STAGES
        assert knee.femur_width_ratio == 0 or knee.femur_height_ratio > 0
        assert (knee.fibula_ratio == 0) == (child.stage_fibula == "0")
        vector = knee.as_vector()
        assert vector.shape == (len(maturation.Indicators.visible_names()),) == (20,)
        assert ((vector >= 0) & (vector <= 1.0 + 1e-9)).all()
        readable = np.array([child.readable[name] for name in maturation.INDICATOR_NAMES])
        assert (np.isfinite(cohort.maturity_vector(child)) == readable).all()


def test_the_cohorts_rows_are_flat_and_complete(clinic):
    rows = cohort.cohort_numbers(clinic[:3])
    assert [row["patient_id"] for row in rows] == [c.patient_id for c in clinic[:3]]
    assert all(isinstance(value, str | float | bool) for row in rows for value in row.values())
    asked = {
        "sex",
        "chronological_age_months",
        "bone_age_months",
        "true_bone_age_months",
        "pseudo_label_months",
    }
    asked |= {
        "oracle_months",
        "oracle_no_age_months",
        "femur_physis_mm",
        "maturity_patella_ratio",
        "stage_tibia",
    }
    assert asked <= set(rows[0])


def test_wrong_requests_are_refused_with_the_value_received():
    with pytest.raises(ValueError, match="2 values given for 3 children"):
        draw_children(3, 1, chronological_age_months=[10.0, 20.0])
    with pytest.raises(ValueError, match="not X"):
        draw_children(1, 1, sexes=["X"])
    with pytest.raises(ValueError, match="no median"):
        maturation.median_age_reached(np.arange(4.0), np.zeros(4, bool))
