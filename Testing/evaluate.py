"""What a bundle is worth, measured: on a phantom cohort never seen, and on real films as far as their truth goes.

    python Testing/evaluate.py phantom --knees 474 --seed 90210 [--cohort DIR] [--others 60] [--knees-csv OUT]
    python Testing/evaluate.py real ../shared/data/radiographs

A phantom cohort is drawn into ``--cohort`` unless it is there. Figures go to standard output as one JSON object.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from KneeBoneAgeLib.crop import KneeCrop, iou
from KneeBoneAgeLib.estimator import Estimator, KneeEstimate
from KneeBoneAgeLib.phantom.cohort import write_cohort
from KneeBoneAgeLib.radiograph import read_film


def best_number(knee: KneeEstimate) -> float:
    """The mean of the distribution, whether it is shown, withheld or replaced by "mature, at least"."""
    return float(knee.probabilities @ knee.bin_months)


def match(box, knees):
    """The crop that overlaps a reference box most, with its overlap; (None, 0) without crops."""
    return max(((k, iou(box, k.crop.box_px)) for k in knees), key=lambda pair: pair[1], default=(None, 0.0))


def ages(rows: list[dict[str, float]], column: str) -> dict[str, float]:
    """Errors of one column of estimates against the true and the assigned bone age, and intervals' coverage; nothing
    where there are no rows."""
    if not rows:
        return {}
    guess = np.array([r[column] for r in rows])
    truth, assigned = (np.array([r[k] for r in rows]) for k in ("true", "assigned"))
    found = {
        "mae_true": np.abs(guess - truth).mean(),
        "mae_assigned": np.abs(guess - assigned).mean(),
        "bias_true": (guess - truth).mean(),
        "limits_of_agreement": 1.96 * (guess - truth).std(),
    }
    if f"{column}_low" in rows[0]:
        low, high = (np.array([r[f"{column}_{end}"] for r in rows]) for end in ("low", "high"))
        found["coverage_true"] = ((low <= truth) & (truth <= high)).mean()
        found["interval_width"] = (high - low).mean()
    return {k: round(float(v), 4) for k, v in found.items()}


def ratio(errors: dict[str, dict[str, float]], column: str, other: str) -> float | None:
    """One column's error against the true bone age over another's; None where there is none."""
    if not errors[column]:
        return None
    return errors[column]["mae_true"] / errors[other]["mae_true"]


def phantom(estimator: Estimator, cohort: Path, knees_csv: Path | None = None) -> dict[str, object]:
    """Figures on a cohort that `kneeboneage phantom` has drawn; one row a knee that was found goes to ``knees_csv``."""
    with (cohort / "cohort.csv").open() as stream:
        table = list(csv.DictReader(stream))
    films: dict[str, list[dict[str, str]]] = {}
    for row in table:
        films.setdefault(row["file"], []).append(row)
    rows, overlaps, sides, refused, false_crops, negatives = [], [], [], 0, 0, 0
    for file, truths in films.items():
        film = read_film(cohort / file)
        found = estimator.estimate(film).knees
        if truths[0]["knee_index"] == "0":
            negatives += 1
            false_crops += bool(found)
            continue
        crops = []
        for truth in truths:
            box = tuple(float(truth[k]) for k in ("x0", "y0", "x1", "y1"))
            knee, overlap = match(box, found)
            overlaps.append(overlap)
            sides.append(knee is not None and overlap > 0.1 and knee.crop.side == truth["side"])
            if knee is not None and overlap > 0.1:
                crops.append((truth, knee))
        bare = replace(film, age_months=None)
        again = estimator.estimate(bare, [knee.crop for _, knee in crops]).knees if crops else ()
        for (truth, knee), alone in zip(crops, again, strict=True):
            refused += knee.status == "refused"
            ends = knee.interval_months or (np.nan, np.nan)
            low, high = (float(v) for v in estimator.calibration_of(film).interval(knee.probabilities))
            low_alone, high_alone = (
                float(v) for v in estimator.calibration_of(bare).interval(alone.probabilities)
            )
            rows.append(
                {
                    "file": file,
                    "knee_index": truth["knee_index"],
                    "true": float(truth["true_bone_age_months"]),
                    "assigned": float(truth["bone_age_months"]),
                    "estimate": best_number(knee),
                    "estimate_low": low,
                    "estimate_high": ends[1] if knee.mature else high,
                    "no_age": best_number(alone),
                    "no_age_low": low_alone,
                    "no_age_high": high_alone,
                    "oracle": float(truth["oracle_months"]),
                    "oracle_no_age": float(truth["oracle_no_age_months"]),
                    "chronological_age": float(truth["chronological_age_months"]),
                    "answered": float(knee.status == "ok"),
                    "mature": float(knee.mature),
                    "at_least": float(knee.at_least_months or 0.0),
                }
            )
    if knees_csv is not None:
        with knees_csv.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]) if rows else ["file"])
            writer.writeheader()
            writer.writerows(rows)
    columns = ("estimate", "no_age", "oracle", "oracle_no_age", "chronological_age")
    errors = {c: ages(rows, c) for c in columns}
    answered = {c: ages([r for r in rows if r["answered"]], c) for c in columns}
    immature = [r for r in rows if not r["mature"]]
    return {
        "knees": len(overlaps),
        "found": len(rows),
        "errors": errors,
        "errors_of_knees_answered": answered,
        "errors_of_knees_not_mature": {c: ages(immature, c) for c in columns},
        "ratio_to_oracle": ratio(errors, "estimate", "oracle"),
        "ratio_to_oracle_answered": ratio(answered, "estimate", "oracle"),
        "ratio_to_oracle_no_age": ratio(errors, "no_age", "oracle_no_age"),
        "ratio_to_oracle_no_age_answered": ratio(answered, "no_age", "oracle_no_age"),
        "mature": int(sum(r["mature"] for r in rows)),
        "mature_truly_at_least": int(sum(r["mature"] and r["true"] >= r["at_least"] for r in rows)),
        "mature_youngest_true": min((r["true"] for r in rows if r["mature"]), default=None),
        "refused": refused,
        "iou_0.8": float(np.mean(np.array(overlaps) >= 0.8)),
        "iou_median": float(np.median(overlaps)),
        "side_right": float(np.mean(sides)),
        "negatives": negatives,
        "negatives_with_a_crop": false_crops,
    }


def real(estimator: Estimator, folder: Path) -> dict[str, object]:
    """Figures on real films with a `truth.csv`; sex and age are unknown there."""
    with (folder / "truth.csv").open() as stream:
        table = list(csv.DictReader(stream))
    knees, false_crops, empty = [], 0, 0
    for file in dict.fromkeys(r["file"] for r in table):
        film = read_film(folder / file)
        found = list(estimator.estimate(film).knees)
        for truth in (r for r in table if r["file"] == file):
            if truth["knee_index"] == "0":
                empty += 1
                false_crops += bool(found)
                continue
            if not truth["condyle_width"]:
                continue
            reference = KneeCrop(
                (float(truth["joint_x"]), float(truth["joint_y"])), 2 * float(truth["condyle_width"])
            )
            knee, overlap = match(reference.box_px, found)
            record: dict[str, object] = {"file": file, "stage": truth["stage"], "iou": round(overlap, 3)}
            if knee is not None and overlap > 0.1:
                number = best_number(knee)
                closed = truth["physis"] == "closed"
                record |= {
                    "status": knee.status,
                    "reason": knee.reason,
                    "mature": knee.mature,
                    "months": round(number, 1),
                    "side_right": knee.crop.mirrored == (truth["fibula_side"] == "right"),
                    "as_expected": (knee.mature or number >= 180) if closed else number < 60,
                }
            knees.append(record)
    overlaps = np.array([k["iou"] for k in knees])
    return {
        "knees": knees,
        "iou_0.6": float((overlaps >= 0.6).mean()),
        "iou_0.75": float((overlaps >= 0.75).mean()),
        "refused": sum(k.get("status") == "refused" for k in knees),
        "as_expected": sum(bool(k.get("as_expected")) for k in knees),
        "films_without_knee": empty,
        "of_them_with_a_crop": false_crops,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("kind", choices=["phantom", "real"])
    parser.add_argument("folder", type=Path, nargs="?", help="real films with truth.csv")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--knees", type=int, default=474)
    parser.add_argument("--others", type=int, default=60)
    parser.add_argument("--seed", type=int, default=90210)
    parser.add_argument("--cohort", type=Path)
    parser.add_argument("--knees-csv", type=Path, help="one row a knee that was found goes here (phantom)")
    given = parser.parse_args()
    estimator = Estimator.load(given.bundle)
    if given.kind == "real":
        if given.folder is None:
            parser.error("real: which folder?")
        if given.knees_csv is not None:
            parser.error("--knees-csv: only with phantom")
        json.dump(real(estimator, given.folder), sys.stdout, indent=1)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            cohort = given.cohort or Path(scratch)
            if not (cohort / "cohort.csv").exists():
                write_cohort(cohort, given.knees, given.seed, others=given.others)
            json.dump(phantom(estimator, cohort, given.knees_csv), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
