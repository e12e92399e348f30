"""What an estimate costs, each figure as a ratio within one run: `make bench`.

- one film in a warm process, from the file to its result, over the bare forward passes of the same five timm networks
- a folder of 200 films over reading them plus those forward passes, and how memory grows, in all and once settled
- the command cold on one film over the bare interpreter, and what its imports take
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch

from KneeBoneAgeLib.estimator import Estimator
from KneeBoneAgeLib.folder import read_ahead
from KneeBoneAgeLib.phantom.cohort import write_cohort
from KneeBoneAgeLib.radiograph import read_film

FILMS, COPIES = 20, 10


def median_seconds(call: Callable[[], object], times: int) -> float:
    """Median wall time of a call after one warm-up."""
    call()
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def bare_networks(estimator: Estimator) -> list[torch.nn.Module]:
    """The five backbones as timm builds them, with the estimator's weights, in eager mode and timm's own layout."""
    config = estimator.config
    networks = []
    for fold in estimator.folds:
        network = timm.create_model(
            config.backbone, pretrained=False, in_chans=1, num_classes=0, **dict(config.backbone_options)
        )
        network.load_state_dict(
            {k: v.contiguous() for k, v in fold.backbone.state_dict().items()}, strict=False
        )
        networks.append(network.eval())
    return networks


def forward(networks: list[torch.nn.Module], size: int, crops: int = 1) -> None:
    """The bare passes of one film: every network sees its crops at once."""
    with torch.no_grad():
        for network in networks:
            network(torch.zeros(crops, 1, size, size))


def memory_mib() -> float:
    """Memory that this process holds now; where the system does not tell, the most that it ever held."""
    statm = Path("/proc/self/statm")
    if statm.is_file():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def walk(estimator: Estimator, films: list[Path]) -> tuple[float, list[float]]:
    """Seconds that a folder takes, and the memory held after each film, MiB."""
    began, held = time.perf_counter(), []
    for _, film in read_ahead(films, read_film):
        estimator.estimate(film)
        held.append(memory_mib())
    return time.perf_counter() - began, held


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    estimator = Estimator.load(given.bundle, device="cpu")
    networks = bare_networks(estimator)
    size = estimator.folds[0].window_px(estimator.config.image_size)  # what the networks look at
    found: dict[str, object] = {
        "threads": given.threads,
        "networks": f"{len(networks)} x {estimator.config.backbone} at {size}",
    }
    with tempfile.TemporaryDirectory() as scratch:
        write_cohort(Path(scratch), FILMS, seed=404, workers=1)
        films = sorted((Path(scratch) / "films").iterdir())
        crops = [len(estimator.find(read_film(path)).knees) for path in films]
        films, crops = [f for f, n in zip(films, crops, strict=True) if n], [n for n in crops if n]
        bare = median_seconds(lambda: forward(networks, size), 30)
        ratios, reading = [], []
        for path, count in zip(films, crops, strict=True):
            whole = median_seconds(lambda path=path: estimator.estimate(read_film(path)), 5)
            reading.append(median_seconds(lambda path=path: read_film(path), 3))
            ratios.append(whole / median_seconds(lambda count=count: forward(networks, size, count), 5))
        found["forward_passes_s"] = round(bare, 4)
        found["reading_over_forward_passes"] = round(statistics.median(reading) / bare, 3)
        found["film_over_forward_passes"] = round(statistics.median(ratios), 3)

        many = films * COPIES
        before = memory_mib()
        whole, held = walk(estimator, many)
        began = time.perf_counter()
        for path, count in zip(many, crops * COPIES, strict=True):
            read_film(path)
            forward(networks, size, count)
        found["folder_over_reading_and_forward_passes"] = round(whole / (time.perf_counter() - began), 3)
        quarter = len(held) // 4
        settled = max(held[2 * quarter :]) - max(held[quarter : 2 * quarter])
        found["memory_grown_mib"] = round(max(held) - before, 1)
        found["memory_grown_in_second_half_mib"] = round(settled, 1)

        bundle = ["--bundle", str(given.bundle)] if given.bundle else []
        command = str(Path(sys.executable).with_name("kneeboneage"))
        cold = [command, "estimate", str(films[0]), "--json", "-", *bundle]
        nothing = median_seconds(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True), 5)
        imports = [sys.executable, "-c", "import KneeBoneAgeLib.estimator, KneeBoneAgeLib.radiograph.dicom"]
        cold_s = median_seconds(lambda: subprocess.run(cold, check=True, capture_output=True), 3)
        imports_s = median_seconds(lambda: subprocess.run(imports, check=True), 3)
        found["cold_command_over_interpreter"] = round(cold_s / nothing, 1)
        found["imports_share_of_cold_command"] = round(imports_s / cold_s, 3)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
