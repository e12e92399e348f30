"""Virtual children: who comes to the clinic, how old the hand would say they are, what their knees show, and
how well anybody could tell (the oracle). The clock of a child, its latent age, is chronological age plus a
deviation; the true bone age is that clock within the range of a hand atlas (0 to 18 y girls, 19 y boys),
where it saturates. The knee as a whole and each indicator deviate from the clock on their own. All ages in
months."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr, ndtri

from .maturation import (
    BONE_AGE_CAP_MONTHS,
    CURVES,
    INDICATOR_NAMES,
    KEEPER_SHARE,
    SEXES,
    SIGMAS_MONTHS,
    Array,
    Indicators,
    draw_indicators,
    mean_breadths_mm,
    seen_indicators,
    shown_windows_months,
    spread,
    stage_of,
)

OLDEST_MONTHS = 216.0
CORE_SD_MONTHS = 11.0  # bone age - chronological age, nine children of ten
STRAY_SHARE = 0.10  # the tenth is advanced or delayed by
STRAY_MONTHS = (24.0, 42.0)
READER_SD_MONTHS = 4.0  # assigned bone age, as of two readers averaged
HAND_MODEL_SD_MONTHS = 3.5  # pseudo-label of a hand model
KNEE_SD_MONTHS = 1.9  # the knee as a whole against the hand; sets the oracle to 3.0 months
STATURE_SD = 0.07  # overall size of a child, log
BREADTH_SD = 0.025  # a single breadth against it, log

CLINIC_MEAN_MONTHS, CLINIC_SD_MONTHS = 128.0, 38.0  # most children of a clinic are 6 to 16 y (chosen)
SMALL_SHARE, SMALL_MONTHS = 0.08, 72.0  # and a few are small: even between birth and 6 y (chosen)


@dataclass(frozen=True)
class Child:
    """One virtual child; both knees share it. Ages in months; stages are SVAD codes."""

    patient_id: str
    sex: str
    chronological_age_months: float
    latent_age_months: float  # the clock that the knee follows; it runs on beyond the atlas
    true_bone_age_months: float  # the clock within the atlas
    bone_age_months: float  # as assigned by readers
    pseudo_label_months: float  # as read by a hand model
    oracle_months: (
        float  # posterior mean of the true bone age, all indicators, sex and chronological age known
    )
    oracle_no_age_months: float  # the same without chronological age
    indicators: Indicators
    maturities: dict[str, float]  # months, by indicator, whether it shows or not
    readable: dict[str, bool]  # whether an indicator shows its maturity: seen and within its window
    stage_femur: str
    stage_tibia: str
    stage_fibula: str
    keeps_line: bool  # the residual line never fades below `PERSISTENT_SCAR`
    stature_factor: float


def cohort_numbers(children: Sequence[Child]) -> list[dict[str, str | float | bool]]:
    """One flat row a child, ready for a CSV file: own values, what is drawn, `maturity_<indicator>`."""
    rows: list[dict[str, str | float | bool]] = []
    for child in children:
        own = {f.name: getattr(child, f.name) for f in fields(child) if f.name not in _NESTED}
        maturities = {f"maturity_{name}": value for name, value in child.maturities.items()}
        rows.append(own | asdict(child.indicators) | maturities)
    return rows


_NESTED = ("indicators", "maturities", "readable")


@dataclass(frozen=True)
class BandErrors:
    """Mean absolute errors (months) against the true bone age of the children of one band of it."""

    sex: str
    band_months: tuple[float, float]
    children: int
    oracle: float
    oracle_no_age: float
    chronological_age: float


def errors_by_band(children: Sequence[Child], edges_months: Sequence[float]) -> list[BandErrors]:
    """The oracle's errors by sex and band of true bone age; bands without children are left out."""
    found = []
    for sex in SEXES:
        for low, high in pairwise(edges_months):
            band = [c for c in children if c.sex == sex and low <= c.true_bone_age_months < high]
            if not band:
                continue
            guesses = [(c.oracle_months, c.oracle_no_age_months, c.chronological_age_months) for c in band]
            errors = np.abs(np.array(guesses) - np.array([[c.true_bone_age_months] for c in band])).mean(
                axis=0
            )
            found.append(BandErrors(sex, (low, high), len(band), *errors.tolist()))
    return found


def maturity_vector(child: Child) -> Array:
    """(20,) maturity of each indicator, (months - 108) / 60, NaN where the knee does not show it."""
    values = [(child.maturities[n] - 108.0) / 60.0 if child.readable[n] else np.nan for n in INDICATOR_NAMES]
    return np.array(values)


def _clinic_cdf(age_months: Array | float) -> Array:
    """Share of the clinic's children younger than an age."""
    age = np.clip(np.asarray(age_months, float), 0.0, OLDEST_MONTHS)
    low, high = ndtr((np.array([0.0, OLDEST_MONTHS]) - CLINIC_MEAN_MONTHS) / CLINIC_SD_MONTHS)
    most = (ndtr((age - CLINIC_MEAN_MONTHS) / CLINIC_SD_MONTHS) - low) / (high - low)
    return SMALL_SHARE * np.clip(age / SMALL_MONTHS, 0.0, 1.0) + (1.0 - SMALL_SHARE) * most


def _clinic_age(share: Array) -> Array:
    """Chronological age below which this share of the clinic's children is."""
    grid = np.linspace(0.0, OLDEST_MONTHS, 2161)
    return np.interp(share, _clinic_cdf(grid), grid)


def _deviation(which: Array, how_far: Array) -> Array:
    """Bone age - chronological age at full spread, from two uniform draws."""
    stray = which < STRAY_SHARE
    sign = np.where(which < STRAY_SHARE / 2, -1.0, 1.0)
    low, high = STRAY_MONTHS
    return np.where(
        stray,
        sign * (low + (high - low) * how_far),
        CORE_SD_MONTHS * ndtri(np.clip(how_far, 1e-12, 1 - 1e-12)),
    )


def _deviation_cdf(deviation: Array) -> Array:
    """Distribution function of `_deviation`."""
    low, high = STRAY_MONTHS
    upper = np.clip((deviation - low) / (high - low), 0.0, 1.0)
    lower = np.clip((deviation + high) / (high - low), 0.0, 1.0)
    return (1.0 - STRAY_SHARE) * ndtr(deviation / CORE_SD_MONTHS) + STRAY_SHARE / 2 * (lower + upper)


def draw_children(
    n: int,
    seed: int,
    chronological_age_months: Sequence[float] | Array | None = None,
    sexes: Sequence[str] | None = None,
    with_oracle: bool = True,
) -> list[Child]:
    """`n` children. Child `i` follows from `seed` and `i` alone, whatever `n` is.

    Ages (months) and sexes ("F", "M") may be given, n each, to draw children like those of another cohort;
    the oracle still takes the clinic's prior. Without the oracle its two fields are NaN. Raises ValueError
    when what is given has another length or another sex."""
    for given in (chronological_age_months, sexes):
        if given is not None and len(given) != n:
            raise ValueError(f"{len(given)} values given for {n} children")
    if sexes is not None and not set(sexes) <= set(SEXES):
        raise ValueError(f"sexes are {', '.join(SEXES)}, not {', '.join(sorted(set(sexes) - set(SEXES)))}")
    uniform = np.empty((n, 5))
    normal = np.empty((n, 8 + len(CURVES)))
    for i in range(n):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(i,)))
        uniform[i] = rng.random(uniform.shape[1])
        normal[i] = rng.standard_normal(normal.shape[1])
    sex = np.where(uniform[:, 0] < 0.5, "F", "M") if sexes is None else np.array(list(sexes))
    age = (
        _clinic_age(uniform[:, 1])
        if chronological_age_months is None
        else np.array(chronological_age_months, float)
    )
    clock = age + spread(age) * _deviation(uniform[:, 2], uniform[:, 3])
    keeper = uniform[:, 4] < KEEPER_SHARE
    share = spread(clock)[:, None]
    maturities = clock[:, None] + share * (KNEE_SD_MONTHS * normal[:, 2:3] + SIGMAS_MONTHS * normal[:, 8:])
    stature = np.exp(STATURE_SD * normal[:, 3] - STATURE_SD**2 / 2)
    own_size = np.exp(BREADTH_SD * normal[:, 4:8] - BREADTH_SD**2 / 2)

    children: list[Child | None] = [None] * n
    for which in SEXES:
        rows = np.flatnonzero(sex == which)
        if len(rows) == 0:
            continue
        cap = BONE_AGE_CAP_MONTHS[which]
        true = np.clip(clock[rows], 0.0, cap)
        assigned = np.clip(true + READER_SD_MONTHS * normal[rows, 0], 0.0, cap)
        pseudo = np.clip(true + HAND_MODEL_SD_MONTHS * normal[rows, 1], 0.0, cap)
        breadths = mean_breadths_mm(which, true) * stature[rows, None] * own_size[rows]
        knees = draw_indicators(which, maturities[rows], breadths, keeper[rows])
        states = _states(which, maturities[rows], keeper[rows])
        known = (
            oracle(which, maturities[rows], keeper[rows], age[rows])
            if with_oracle
            else np.full(len(rows), np.nan)
        )
        unknown = (
            oracle(which, maturities[rows], keeper[rows], None) if with_oracle else np.full(len(rows), np.nan)
        )
        for j, row in enumerate(rows):
            knee = knees[j]
            children[row] = Child(
                patient_id=f"PH{seed}-{row:05d}",
                sex=which,
                chronological_age_months=float(age[row]),
                latent_age_months=float(clock[row]),
                true_bone_age_months=float(true[j]),
                bone_age_months=float(assigned[j]),
                pseudo_label_months=float(pseudo[j]),
                oracle_months=float(known[j]),
                oracle_no_age_months=float(unknown[j]),
                indicators=knee,
                maturities=dict(zip(INDICATOR_NAMES, maturities[row].tolist(), strict=True)),
                readable=dict(zip(INDICATOR_NAMES, (states[j] == 0).tolist(), strict=True)),
                stage_femur=stage_of(knee, "femur"),
                stage_tibia=stage_of(knee, "tibia"),
                stage_fibula=stage_of(knee, "fibula"),
                keeps_line=bool(keeper[row]),
                stature_factor=float(stature[row]),
            )
    return [child for child in children if child is not None]


def _states(sex: str, maturities: Array, keeper: NDArray[np.bool_]) -> NDArray[np.int8]:
    """(n, indicators) 0 = the maturity shows, -1 = not started, 1 = finished, 2 = cannot be seen."""
    window = shown_windows_months(sex, keeper)
    state = np.where(maturities < window[..., 0], -1, np.where(maturities > window[..., 1], 1, 0))
    state[~seen_indicators(sex, maturities)] = 2
    return state.astype(np.int8)


@dataclass(frozen=True)
class _Grid:
    """Likelihood tables of one sex over latent age (a) and the knee's own deviation (k), flattened."""

    clock: Array  # (a,) latent ages
    edges: Array  # (a + 1,) between them
    log_weight: Array  # (k,) of the knee's deviation
    gaussian: Array  # (4, a * k) factors of [sum 1/s2, sum m/s2, sum m2/s2, count]
    not_started: Array  # (indicators, a * k) log probability
    finished: Array
    finished_keeper: Array
    marginal: Array  # (a,) prior without chronological age


_BLOCK = 128  # children whose posteriors are worked out together


@lru_cache(maxsize=2)
def _grid(sex: str) -> _Grid:
    clock = np.concatenate([np.arange(-12.0, 48.0, 0.25), np.arange(48.0, 300.0, 1.0)])
    middle = (clock[1:] + clock[:-1]) / 2
    edges = np.concatenate([[-np.inf], middle, [np.inf]])
    nodes, weights = np.polynomial.hermite_e.hermegauss(11)
    share = spread(clock)[:, None]
    knee = (clock[:, None] + share * KNEE_SD_MONTHS * nodes).ravel()
    share = np.broadcast_to(share, (len(clock), len(nodes))).ravel()
    gaussian = np.stack([-0.5 * (knee / share) ** 2, knee / share**2, -0.5 / share**2, -np.log(share)])
    windows = shown_windows_months(sex, np.array([False, True]))
    sd = SIGMAS_MONTHS[:, None] * share
    not_started = log_ndtr((windows[0, :, :1] - knee) / sd)
    finished, finished_keeper = (log_ndtr((knee - w[:, 1:]) / sd) for w in windows)
    ages = np.linspace(0.0, OLDEST_MONTHS, 433)
    ages = (ages[1:] + ages[:-1]) / 2
    mass = np.diff(_clinic_cdf(np.linspace(0.0, OLDEST_MONTHS, 433)))
    marginal = mass @ _prior(edges, ages)
    log_weight = np.log(weights / weights.sum())
    return _Grid(clock, edges, log_weight, gaussian, not_started, finished, finished_keeper, marginal)


def _prior(edges: Array, age_months: Array) -> Array:
    """(n, a) probability of each cell of latent age, given chronological age."""
    scaled = (edges[None] - age_months[:, None]) / spread(age_months)[:, None]
    return np.diff(_deviation_cdf(scaled), axis=1)


def posterior(
    sex: str, maturities: Array, keeper: NDArray[np.bool_], age_months: Array | None
) -> tuple[Array, Array]:
    """What can be known of the true bone age of n children of one sex: bone ages (a,) in months and, of each child,
    their probabilities, (n, a).

    Given are the maturity of every indicator that shows one, "not started" or "finished" of the others that
    can be seen, sex, and chronological age (n,) or None, where the clinic's own distribution is the prior."""
    grid = _grid(sex)
    n = len(maturities)
    # Blocks of one size, the last one filled up: a matrix product rounds by its shape, and a child must not
    # depend on how many are drawn after it.
    padded = np.arange(-(-n // _BLOCK) * _BLOCK) % max(n, 1)
    found = np.empty((len(padded), len(grid.clock)))
    for start in range(0, len(padded), _BLOCK):
        rows = padded[start : start + _BLOCK]
        m, kept = maturities[rows], keeper[rows, None]
        state = _states(sex, m, keeper[rows])
        precision = np.where(state == 0, 1.0 / SIGMAS_MONTHS**2, 0.0)
        sums = [precision.sum(1), (precision * m).sum(1), (precision * m**2).sum(1), (state == 0).sum(1)]
        log_like = np.stack(sums, axis=1) @ grid.gaussian
        log_like += (state == -1).astype(float) @ grid.not_started
        log_like += ((state == 1) & ~kept).astype(float) @ grid.finished
        log_like += ((state == 1) & kept).astype(float) @ grid.finished_keeper
        log_like = log_like.reshape(_BLOCK, len(grid.clock), -1) + grid.log_weight
        like = np.exp(log_like - log_like.max(axis=(1, 2), keepdims=True)).sum(axis=2)
        prior = grid.marginal[None] if age_months is None else _prior(grid.edges, age_months[rows])
        joint = like * prior
        found[start : start + _BLOCK] = joint / joint.sum(axis=1, keepdims=True)
    return np.clip(grid.clock, 0.0, BONE_AGE_CAP_MONTHS[sex]), found[:n]


def oracle(sex: str, maturities: Array, keeper: NDArray[np.bool_], age_months: Array | None) -> Array:
    """(n,) mean of `posterior`. No method that sees only what it is given has a lower mean squared error."""
    clock, share = posterior(sex, maturities, keeper, age_months)
    return (share * clock).sum(axis=1)
