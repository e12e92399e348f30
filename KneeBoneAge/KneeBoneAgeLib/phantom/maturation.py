"""How a virtual knee matures: what each indicator shows at which maturity, by sex. Everything is in months
and, where not a ratio, in millimetres. An indicator's maturity is the child's bone age plus deviations
(`children.py`); its curve turns that maturity into what is drawn. Sources: SVAD (Zenodo 5193208) for
breadths, stages, patella and fibular centre; Vergara-Amador (2016) for the tuberosity. The course of the
ratios, of the physis and of the eminence has no public table: only their ends and fastest years are known
(Huang, PMID 34310449; Knapik, PMC6152884), the values between are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.optimize import minimize
from scipy.special import expit

Array = NDArray[np.float64]

SEXES = ("F", "M")
BONE_AGE_CAP_MONTHS = {"F": 216.0, "M": 228.0}  # where a hand atlas ends: 18 y girls, 19 y boys
STAGES = ("0", "1", "12", "2", "23", "3", "4")  # SVAD codes, in order

FULL_SPREAD_MONTHS = 60.0  # deviations have their full spread from this age on (chosen)
SPREAD_AT_BIRTH = 2.0 / 11.0  # and this share of it at birth: SD 2 instead of 11 months (chosen)

PERSISTENT_SCAR = 0.35  # contrast at which the line of a "keeper" stays (chosen)

# The same event in girls and boys (months): birth, patella and fibular centre, width ratio 1.0, active
# fusion, fusion, the end of the atlas.
_GIRLS_CLOCK = np.array([-24.0, 0.0, 30.0, 126.0, 156.0, 174.0, 216.0, 300.0])
_BOYS_CLOCK = np.array([-24.0, 0.0, 43.0, 144.0, 172.0, 189.5, 228.0, 312.0])


def spread(age_months: Array | float) -> Array:
    """Share (0.18 to 1) of their full spread that deviations have at this age: small in small children."""
    share = np.clip(np.asarray(age_months, float) / FULL_SPREAD_MONTHS, 0.0, 1.0)
    return SPREAD_AT_BIRTH + (1.0 - SPREAD_AT_BIRTH) * share


@dataclass(frozen=True)
class Indicators:
    """What is drawn of one knee: lengths in mm, ratios to the bone's metaphysis, the rest 0 to 1."""

    femur_metaphysis_mm: float
    tibia_metaphysis_mm: float
    femur_shaft_mm: float
    tibia_shaft_mm: float
    femur_width_ratio: float  # ossified epiphysis width / metaphysis width, 0 = no centre
    tibia_width_ratio: float
    femur_height_ratio: float  # ossified epiphyseal height / metaphysis width
    tibia_height_ratio: float
    femur_physis_mm: float  # radiolucent band, 0 when closed
    tibia_physis_mm: float
    fibula_physis_mm: float
    femur_undulation: float  # amplitude of the physis wave / metaphysis width
    tibia_undulation: float
    femur_bridging: float  # bridged share of the physis, 1 = closed
    tibia_bridging: float
    fibula_bridging: float
    femur_scar: float  # contrast of the residual line, 0 while the physis is open and when it has faded
    tibia_scar: float
    fibula_scar: float
    fibula_ratio: float  # ossified size / mature size, 0 = no centre
    patella_ratio: float
    tuberosity: float
    tuberosity_fusion: float
    eminence_ratio: float  # eminence height / tibial metaphysis width

    @classmethod
    def visible_names(cls) -> tuple[str, ...]:
        """Names of `as_vector`, in order: what a crop scaled to the knee shows, so no absolute breadth."""
        return tuple(f.name.removesuffix("_mm") for f in fields(cls) if f.name not in _ABSOLUTE)

    def as_vector(self) -> Array:
        """(20,) what a scaled crop shows, each about 0 to 1; a thickness is relative to its metaphysis."""
        values = []
        for field in fields(self):
            if field.name in _ABSOLUTE:
                continue
            value = float(getattr(self, field.name))
            if field.name.endswith("_physis_mm"):
                value /= (
                    self.femur_metaphysis_mm if field.name.startswith("femur") else self.tibia_metaphysis_mm
                )
            values.append(value / _VECTOR_SCALE[field.name])
        return np.array(values)


_ABSOLUTE = ("femur_metaphysis_mm", "tibia_metaphysis_mm", "femur_shaft_mm", "tibia_shaft_mm")


@dataclass(frozen=True)
class IndicatorCurve:
    """One indicator: the curve over its active window by sex, and how far a child's indicator may stray."""

    name: str
    sigma_months: float  # SD of the indicator's own deviation (full spread)
    girls_months: tuple[float, ...]  # knots of maturity
    boys_months: tuple[float, ...]
    values: tuple[float, ...]  # value at each knot, strictly monotone
    before: float  # value before the window; after it the last knot's value stays
    visible_width: float  # width of the drawn change, as a share of condylar width, per unit of value

    def knots_months(self, sex: str) -> Array:
        return np.array(self.girls_months if sex == "F" else self.boys_months)

    def window_months(self, sex: str) -> tuple[float, float]:
        """First and last maturity at which this indicator still changes."""
        knots = self.knots_months(sex)
        return float(knots[0]), float(knots[-1])

    def value_at(self, sex: str, maturity_months: Array | float) -> Array:
        """What is drawn at a maturity (any shape)."""
        maturity = np.asarray(maturity_months, float)
        low, high = self.window_months(sex)
        curve = PchipInterpolator(self.knots_months(sex), np.array(self.values))
        inside = curve(np.clip(maturity, low, high))
        return np.where(maturity < low, self.before, np.where(maturity >= high, self.values[-1], inside))

    def pixels_per_sigma(self, sex: str, condyle_px: float = 80.0) -> Array:
        """(3,) least, mean and largest change in pixels that one sigma makes within the window."""
        low, high = self.window_months(sex)
        at = np.linspace(low, high, 200)
        slope = np.abs(np.gradient(self.value_at(sex, at), at))[1:-1]
        pixels = slope * self.sigma_months * spread(at[1:-1]) * self.visible_width * condyle_px
        return np.array([pixels.min(), pixels.mean(), pixels.max()])


def _curve(
    name: str,
    sigma: float,
    knots: Mapping[int, float],
    before: float | None = None,
    visible: float = 1.0,
    boys: tuple[float, ...] | None = None,
) -> IndicatorCurve:
    """A curve from girls' knots; the boys' follow the common clock unless given."""
    girls = tuple(float(month) for month in knots)
    moved = tuple(float(x) for x in np.interp(girls, _GIRLS_CLOCK, _BOYS_CLOCK)) if boys is None else boys
    values = tuple(knots.values())
    return IndicatorCurve(name, sigma, girls, moved, values, values[0] if before is None else before, visible)


# Maturity at which a stage begins (months), calibrated so that the median chronological ages are SVAD's.
STAGE_ONSET_MONTHS: dict[str, dict[str, dict[str, float]]] = {
    "femur": {
        "F": {"12": 141.9, "2": 156.0, "23": 166.6, "3": 173.8},
        "M": {"12": 165.4, "2": 173.5, "23": 185.5, "3": 189.0},
    },
    "tibia": {
        "F": {"12": 141.7, "2": 152.6, "23": 166.0, "3": 171.5},
        "M": {"12": 158.3, "2": 166.6, "23": 181.6, "3": 185.9},
    },
    "fibula": {
        "F": {"12": 148.3, "2": 157.8, "23": 165.7, "3": 172.0},
        "M": {"12": 168.4, "2": 175.6, "23": 186.1, "3": 189.7},
    },
}
_BRIDGED_AT = {"12": 0.04, "2": 0.35, "23": 0.8, "3": 1.0}  # bridged share at which a stage begins (chosen)
SCAR_FADE_MONTHS = 24.0  # from full contrast to none (chosen)
SCAR_GONE_MONTHS = {"F": 178.0, "M": 193.0}
KEEPER_SHARE = 0.28  # knees that keep a line for good: 24 to 36 % still show it at 18 to 20 y [SVAD]


def _bridging(bone: str, sigma: float, visible: float) -> IndicatorCurve:
    onset = STAGE_ONSET_MONTHS[bone]
    return IndicatorCurve(
        f"{bone}_bridging",
        sigma,
        tuple(onset["F"].values()),
        tuple(onset["M"].values()),
        tuple(_BRIDGED_AT.values()),
        0.0,
        visible,
    )


def _scar(bone: str, visible: float) -> IndicatorCurve:
    gone = SCAR_GONE_MONTHS
    return IndicatorCurve(
        f"{bone}_scar",
        20.0,
        (gone["F"] - SCAR_FADE_MONTHS, gone["F"]),
        (gone["M"] - SCAR_FADE_MONTHS, gone["M"]),
        (1.0, 0.0),
        1.0,
        visible,
    )


_FEMUR_WIDTH = {-1: 0.14, 6: 0.29, 12: 0.40, 24: 0.55, 48: 0.73, 84: 0.89, 126: 1.0, 150: 1.055, 174: 1.095}
_TIBIA_WIDTH = {0: 0.12, 6: 0.26, 12: 0.36, 24: 0.52, 48: 0.71, 84: 0.885, 126: 1.0, 150: 1.055, 174: 1.09}
# Heights (chosen, after one real toddler's: no table of heights by age was found): a centre appears as a round nodule
# and flattens while it widens, from half of its own width to 0.41 of the grown femur's and 0.25 of the grown tibia's.
_FEMUR_HEIGHT = {0: 0.08, 6: 0.15, 12: 0.195, 24: 0.25, 48: 0.305, 96: 0.365, 144: 0.42, 168: 0.45}
_TIBIA_HEIGHT = {0: 0.06, 6: 0.12, 12: 0.16, 24: 0.2, 48: 0.23, 96: 0.25, 144: 0.264, 168: 0.27}
_PHYSIS = {128: 1.0, 138: 0.84, 152: 0.38, 160: 0.22}  # share of the open thickness, see OPEN_PHYSIS_RATIO

# Thickness of the open physis / metaphysis width, the tibia's for the fibula (chosen: 3 mm at 10 y).
OPEN_PHYSIS_RATIO = {"femur": 0.048, "tibia": 0.050, "fibula": 0.036}

CURVES: tuple[IndicatorCurve, ...] = (
    _curve("femur_width_ratio", 8.5, _FEMUR_WIDTH, before=0.0),
    _curve("tibia_width_ratio", 8.5, _TIBIA_WIDTH, before=0.0),
    _curve("femur_height_ratio", 9.0, _FEMUR_HEIGHT),
    _curve("tibia_height_ratio", 19.0, _TIBIA_HEIGHT),
    _curve("femur_physis_mm", 12.0, _PHYSIS, visible=0.048),
    _curve("tibia_physis_mm", 12.0, _PHYSIS, visible=0.045),
    _curve("fibula_physis_mm", 16.0, _PHYSIS, visible=0.03),
    _curve("femur_undulation", 25.0, {24: 0.0, 60: 0.018, 132: 0.05}, visible=2.0),
    _curve("tibia_undulation", 25.0, {36: 0.0, 72: 0.014, 138: 0.035}, visible=2.0),
    _bridging("femur", 9.0, 1.0),
    _bridging("tibia", 9.0, 0.9),
    _bridging("fibula", 11.0, 0.25),
    _scar("femur", 1.0),
    _scar("tibia", 0.9),
    _scar("fibula", 0.25),
    _curve(
        "fibula_ratio", 9.5, {30: 0.15, 60: 0.45, 96: 0.72, 132: 0.93, 150: 1.0}, before=0.0, visible=0.30
    ),
    _curve(
        "patella_ratio", 9.0, {29: 0.15, 60: 0.50, 96: 0.76, 132: 0.94, 150: 1.0}, before=0.0, visible=0.55
    ),
    _curve("tuberosity", 24.0, {120: 0.15, 150: 1.0}, before=0.0, visible=0.15),
    _curve("tuberosity_fusion", 24.0, {144: 0.0, 174: 1.0}, visible=0.15),
    _curve("eminence_ratio", 20.0, {30: 0.0, 72: 0.045, 120: 0.09, 150: 0.11}, visible=1.0),
)
INDICATOR_NAMES: tuple[str, ...] = tuple(curve.name for curve in CURVES)
_INDEX = {name: i for i, name in enumerate(INDICATOR_NAMES)}
SIGMAS_MONTHS: Array = np.array([curve.sigma_months for curve in CURVES])
_VECTOR_SCALE = {curve.name: max(curve.values) for curve in CURVES} | {
    f"{bone}_physis_mm": ratio for bone, ratio in OPEN_PHYSIS_RATIO.items()
}


def indicator_curves() -> tuple[IndicatorCurve, ...]:
    """Every indicator with its windows by sex, its sigma and its curve, in the order of `INDICATOR_NAMES`."""
    return CURVES


def windows_months(sex: str) -> Array:
    """(indicators, 2) first and last maturity of the active windows."""
    return np.array([curve.window_months(sex) for curve in CURVES])


# Mean breadths (mm) by bone age (months), fitted to SVAD.
_BREADTH_MONTHS = np.array([0.0, 3.0, 8.5, 17.0, 34.0, 58.0, 84.0, 110.0, 135.0, 156.0, 181.0, 204.0, 228.0])
_BREADTHS_MM: dict[str, dict[str, list[float]]] = {
    "femur_metaphysis_mm": {
        "F": [20.6, 24.7, 31.2, 40.1, 45.1, 50.2, 55.2, 60.2, 64.0, 65.8, 67.8, 69.5, 71.6],
        "M": [18.6, 26.5, 34.9, 41.2, 47.3, 52.7, 57.3, 60.4, 64.0, 68.0, 71.7, 78.3, 80.7],
    },
    "tibia_metaphysis_mm": {
        "F": [15.4, 19.0, 24.8, 31.2, 36.2, 41.5, 45.0, 49.6, 53.7, 55.8, 59.0, 61.4, 63.1],
        "M": [13.9, 20.9, 27.4, 31.5, 37.5, 43.4, 48.4, 51.1, 53.6, 56.5, 60.7, 69.1, 71.6],
    },
    "femur_shaft_mm": {
        "F": [7.2, 8.8, 11.1, 13.2, 14.5, 16.2, 17.9, 19.0, 21.4, 22.7, 23.7, 24.3, 24.7],
        "M": [7.0, 9.3, 12.0, 13.5, 14.8, 16.4, 18.1, 19.0, 21.2, 22.6, 23.5, 24.1, 24.4],
    },
    "tibia_shaft_mm": {
        "F": [6.4, 7.7, 9.4, 11.7, 12.9, 14.5, 15.9, 17.2, 20.0, 21.3, 21.9, 22.1, 22.2],
        "M": [6.5, 8.2, 10.3, 11.8, 12.9, 14.4, 16.7, 17.6, 18.7, 20.1, 21.9, 23.0, 23.6],
    },
}
BREADTH_NAMES: tuple[str, ...] = tuple(_BREADTHS_MM)


def mean_breadths_mm(sex: str, bone_age_months: Array | float) -> Array:
    """(..., 4) mean of `BREADTH_NAMES` at a bone age; beyond the atlas growth has ended."""
    age = np.clip(np.asarray(bone_age_months, float), _BREADTH_MONTHS[0], _BREADTH_MONTHS[-1])
    return np.stack(
        [PchipInterpolator(_BREADTH_MONTHS, _BREADTHS_MM[b][sex])(age) for b in BREADTH_NAMES], axis=-1
    )


def seen_indicators(sex: str, maturities: Array) -> NDArray[np.bool_]:
    """(n, indicators) whether an indicator can show at all. That depends on other indicators only, never on
    its own maturity: a bridged physis has no thickness, a scar comes after it, an epiphysis without a centre
    has no height."""
    window = windows_months(sex)

    def started(name: str) -> NDArray[np.bool_]:
        return maturities[:, _INDEX[name]] >= window[_INDEX[name], 0]

    def finished(name: str) -> NDArray[np.bool_]:
        return maturities[:, _INDEX[name]] > window[_INDEX[name], 1]

    seen = np.ones(maturities.shape, bool)
    centre = {bone: started(f"{bone}_width_ratio") for bone in ("femur", "tibia")} | {
        "fibula": started("fibula_ratio")
    }
    for bone, ossified in centre.items():
        closed = finished(f"{bone}_bridging")
        seen[:, _INDEX[f"{bone}_physis_mm"]] = ossified & ~closed
        seen[:, _INDEX[f"{bone}_bridging"]] = ossified
        seen[:, _INDEX[f"{bone}_scar"]] = ossified & closed
        if bone != "fibula":
            seen[:, _INDEX[f"{bone}_height_ratio"]] = ossified
            seen[:, _INDEX[f"{bone}_undulation"]] = ossified & ~closed
    seen[:, _INDEX["tuberosity_fusion"]] = started("tuberosity")
    return seen


def shown_windows_months(sex: str, keeper: NDArray[np.bool_]) -> Array:
    """(n, indicators, 2) active windows; the scar of a keeper stops fading at `PERSISTENT_SCAR`."""
    window = np.repeat(windows_months(sex)[None], len(keeper), axis=0)
    for bone in ("femur", "tibia", "fibula"):
        low, high = window[0, _INDEX[f"{bone}_scar"]]
        stops = high - PERSISTENT_SCAR * (high - low)
        window[keeper, _INDEX[f"{bone}_scar"], 1] = stops
    return window


def draw_indicators(
    sex: str, maturities: Array, breadths_mm: Array, keeper: NDArray[np.bool_]
) -> list[Indicators]:
    """What is drawn of `n` knees of one sex.

    maturities: (n, indicators) months, in the order of `INDICATOR_NAMES`; breadths_mm: (n, 4) in the order of
    `BREADTH_NAMES`; keeper: (n,) whether the knee keeps its line for good."""
    seen = seen_indicators(sex, maturities)
    values = np.stack([c.value_at(sex, maturities[:, i]) for i, c in enumerate(CURVES)], axis=1)
    for bone, ratio in OPEN_PHYSIS_RATIO.items():
        breadth = breadths_mm[:, 0] if bone == "femur" else breadths_mm[:, 1]
        values[:, _INDEX[f"{bone}_physis_mm"]] *= ratio * breadth
        scar = values[:, _INDEX[f"{bone}_scar"]]
        values[:, _INDEX[f"{bone}_scar"]] = np.where(keeper, np.maximum(scar, PERSISTENT_SCAR), scar)
    values[~seen] = 0.0
    knees = []
    for row, size in zip(values.tolist(), breadths_mm.tolist(), strict=True):
        knees.append(
            Indicators(
                **dict(zip(BREADTH_NAMES, size, strict=True)), **dict(zip(INDICATOR_NAMES, row, strict=True))
            )
        )
    return knees


def median_age_reached(ages: Array, reached: NDArray[np.bool_]) -> float:
    """Age at which half have reached a stage: logistic regression of `reached` on `ages` (n each), any unit.

    Raises ValueError when all or none have reached it."""
    reached = np.asarray(reached, bool)
    if reached.all() or not reached.any():
        raise ValueError(f"{reached.sum()} of {len(reached)} have reached the stage: no median")
    centre, scale = float(np.mean(ages)), float(np.std(ages))
    design = np.stack([np.ones(len(ages)), (np.asarray(ages, float) - centre) / scale], axis=1)

    def loss(weights: Array) -> tuple[float, Array]:
        logit = design @ weights
        value = np.logaddexp(0.0, logit).sum() - logit[reached].sum()
        return float(value), design.T @ (expit(logit) - reached)

    offset, slope = minimize(loss, np.array([0.0, 1.0]), jac=True, method="BFGS").x
    return centre - scale * float(offset / slope)


def stage_of(indicators: Indicators, bone: str) -> str:
    """SVAD code of femur, tibia or fibula as it follows from what is drawn."""
    ossified = indicators.fibula_ratio if bone == "fibula" else getattr(indicators, f"{bone}_width_ratio")
    if ossified <= 0.0:
        return "0"
    bridged = getattr(indicators, f"{bone}_bridging")
    if bridged >= 1.0:
        return "3" if getattr(indicators, f"{bone}_scar") > 0.0 else "4"
    return next((code for code in ("23", "2", "12") if bridged >= _BRIDGED_AT[code]), "1")
