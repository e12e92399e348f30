"""A figure of the phantom's numbers: breadths and stage medians against the real children of SVAD, the
indicators' curves, and the oracle's error by bone age. `python Testing/maturation_figure.py OUT.png`."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from KneeBoneAgeLib.phantom.children import Child, draw_children, errors_by_band
from KneeBoneAgeLib.phantom.maturation import (
    SEXES,
    STAGES,
    indicator_curves,
    median_age_reached,
)

SVAD_FILE = Path(__file__).resolve().parents[2] / "shared" / "data" / "svad_us_knee.csv"
BANDS_YEARS = (0, 0.5, 1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 21)
COLOURS = {"F": "#c0392b", "M": "#1f5fa8"}
SHOWN_STAGES = ("1", "12", "2", "23", "3")
EACH = 8  # virtual children for each real one


def draw_breadths(
    axes: Axes, rows: list[dict[str, str]], children: list[Child], column: str, name: str
) -> None:
    """Mean by sex and age band: real with standard error, virtual children of the same ages as a line."""
    years = np.array([float(row["agey"]) for row in rows])
    real = np.array([float(row[column]) if row[column] != "NA" else np.nan for row in rows])
    drawn = np.array([getattr(c.indicators, name) for c in children]).reshape(len(rows), EACH).mean(axis=1)
    sexes, band = np.array([row["SEX"] for row in rows]), np.digitize(years, BANDS_YEARS)
    for sex in SEXES:
        cells = [(sexes == sex) & (band == i) & np.isfinite(real) for i in range(1, len(BANDS_YEARS))]
        cells = [cell for cell in cells if cell.sum() > 2]
        at = [years[cell].mean() for cell in cells]
        error = [real[cell].std(ddof=1) / np.sqrt(cell.sum()) for cell in cells]
        mean = np.array([drawn[cell].mean() for cell in cells])
        axes.errorbar(
            at, [real[c].mean() for c in cells], error, fmt="o", ms=4, capsize=2, color=COLOURS[sex]
        )
        axes.plot(at, mean, color=COLOURS[sex], label={"F": "girls", "M": "boys"}[sex])
        axes.fill_between(at, mean * 0.95, mean * 1.05, color=COLOURS[sex], alpha=0.12, lw=0)
    axes.set(
        title=f"{name.removesuffix('_mm').replace('_', ' ')}: SVAD ± SE, phantom ± 5 %", xlabel="age (y)"
    )
    axes.set_ylabel("mm")
    axes.legend(frameon=False)


def draw_stages(axes: Axes, rows: list[dict[str, str]], children: list[Child]) -> None:
    """Median age at each stage, real against virtual, with the 0.3 y that are allowed."""
    order = {code: i for i, code in enumerate(STAGES)}
    sexes = np.array([row["SEX"] for row in rows])
    years = np.array([float(row["agey"]) for row in rows])
    marks = {"femur": "o", "tibia": "s", "fibula": "^", "patella": "D"}
    columns = {"femur": "FDE_EF_L", "tibia": "TPE_EF_L", "fibula": "FBPE_EF_L", "patella": "PC_Oss_L"}
    for bone, column in columns.items():
        codes = np.array([order.get(row[column], -1) for row in rows])
        if bone == "patella":
            virtual = np.array([int(c.indicators.patella_ratio > 0) for c in children])
        else:
            virtual = np.array([order[getattr(c, f"stage_{bone}")] for c in children])
        for sex in SEXES:
            use = (sexes == sex) & (codes >= 0)
            each = np.repeat(use, EACH)
            for stage in SHOWN_STAGES if bone != "patella" else ("1",):
                real = median_age_reached(years[use], codes[use] >= order[stage])
                ours = median_age_reached(np.repeat(years, EACH)[each], virtual[each] >= order[stage])
                axes.plot(real, ours - real, marks[bone], color=COLOURS[sex], ms=6, mfc="none")
                axes.annotate(
                    stage, (real, ours - real), xytext=(4, 3), textcoords="offset points", fontsize=7
                )
    for bone, mark in marks.items():
        axes.plot([], [], mark, color="black", mfc="none", label=bone)
    axes.axhspan(-0.3, 0.3, color="black", alpha=0.07, lw=0)
    axes.set(
        title="median age at a stage (SVAD code): phantom − SVAD", xlabel="SVAD median (y)", ylabel="years"
    )
    axes.set_ylim(-0.6, 0.6)
    axes.legend(frameon=False, ncols=2)


def draw_curves(axes: Axes, sex: str) -> None:
    """Every indicator over its active window, from its least (bottom of its row) to its greatest value."""
    curves = indicator_curves()
    for row, curve in enumerate(reversed(curves)):
        low, high = curve.window_months(sex)
        at = np.linspace(low, high, 200)
        value = curve.value_at(sex, at)
        share = (value - value.min()) / (value.max() - value.min())
        axes.fill_between(at / 12, row, row + 0.85 * share, color=COLOURS[sex], alpha=0.35, lw=0)
        axes.plot(at / 12, row + 0.85 * share, color=COLOURS[sex], lw=1)
    names = [f"{c.name.removesuffix('_mm').replace('_', ' ')} ({c.sigma_months:g})" for c in reversed(curves)]
    axes.set_yticks(np.arange(len(curves)) + 0.4, names, fontsize=7)
    axes.set(
        title=f"active windows, {'girls' if sex == 'F' else 'boys'} (sigma in months)", xlabel="maturity (y)"
    )
    axes.set_xlim(-1, 19)
    axes.grid(axis="y", alpha=0.3)


def draw_oracle(axes: Axes, children: list[Child]) -> None:
    """The oracle's mean absolute error by true bone age, with and without chronological age."""
    for sex in SEXES:
        bands = [b for b in errors_by_band(children, np.arange(0, 241, 12).tolist()) if b.sex == sex]
        at = [(b.band_months[0] + 6) / 12 for b in bands]
        name = "girls" if sex == "F" else "boys"
        axes.plot(at, [b.oracle for b in bands], "o-", ms=3, color=COLOURS[sex], label=f"oracle, {name}")
        axes.plot(at, [b.oracle_no_age for b in bands], "--", color=COLOURS[sex], label="without age")
        axes.plot(at, [b.chronological_age for b in bands], ":", color=COLOURS[sex], label="age alone")
    true = np.array([c.true_bone_age_months for c in children])
    told = np.array([(c.oracle_months, c.oracle_no_age_months, c.chronological_age_months) for c in children])
    overall = np.abs(told - true[:, None]).mean(axis=0)
    axes.set_title(
        "oracle MAE {:.2f}, without age {:.2f}, age alone {:.2f} months".format(*overall), fontsize=10
    )
    axes.set(xlabel="true bone age (y)", ylabel="mean absolute error (months)", ylim=(0, 18))
    axes.legend(frameon=False, fontsize=7, ncols=2)


def draw_clinic(axes: Axes, children: list[Child]) -> None:
    """Who comes: chronological against true bone age."""
    for sex in SEXES:
        some = [c for c in children if c.sex == sex][:2500]
        ages = np.array([(c.chronological_age_months, c.true_bone_age_months) for c in some]) / 12
        axes.plot(*ages.T, ".", ms=1.5, alpha=0.5, color=COLOURS[sex])
    axes.set(title="the clinic's children", xlabel="chronological age (y)", ylabel="true bone age (y)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--svad", type=Path, default=SVAD_FILE)
    chosen = parser.parse_args()
    clinic = draw_children(20000, 7)
    figure, axes = plt.subplots(3, 3, figsize=(18, 15), constrained_layout=True)
    if chosen.svad.is_file():
        with chosen.svad.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["SEX"] in SEXES]
        months = np.repeat([12 * float(row["agey"]) for row in rows], EACH)
        alike = draw_children(
            len(months), 11, months, [row["SEX"] for row in rows for _ in range(EACH)], with_oracle=False
        )
        breadths = {
            "FDB_L": "femur_metaphysis_mm",
            "TPB_L": "tibia_metaphysis_mm",
            "FMSB_L": "femur_shaft_mm",
            "TMSB_L": "tibia_shaft_mm",
        }
        for place, (column, name) in zip(axes.flat, breadths.items(), strict=False):
            draw_breadths(place, rows, alike, column, name)
        draw_stages(axes[1, 1], rows, alike)
    else:
        print(f"{chosen.svad} is missing: the comparison with SVAD is left empty")
    draw_clinic(axes[1, 2], clinic)
    draw_curves(axes[2, 0], "F")
    draw_curves(axes[2, 1], "M")
    draw_oracle(axes[2, 2], clinic)
    figure.savefig(chosen.out, dpi=75)
    print(f"written: {chosen.out}")


if __name__ == "__main__":
    main()
