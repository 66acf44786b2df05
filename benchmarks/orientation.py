"""Orientation tuning of all layers against the bare forward passes of the same gratings.

    python -m benchmarks.orientation [--network resnet18] [--angles 36] [--runs 3] [--threads 2]

The default run of `rank_orientation` at every layer, control units and all, and beside it the
network's own forward pass over as many inputs, at the batch size that suits it best, its batches
ready in memory. Both take turns, half a second or so each, in one process; the ratio is of the sums
of a run, and the median is over runs. Fewer angles make a shorter run of the same work. Peak memory
is of the whole process, by the end of the last run.

Where ``../shared/data/weights`` is there, also how well angles by responses and by weights agree in
the first layers of real networks.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from pathlib import Path

import torch
from torchvision import models as zoo

import cnnvis_core as cv
from cnnvis_core.filters import on_brightness, spectral_tuning
from cnnvis_core.orientation import Gratings, agreeing, beside_weights, usual_gratings

BATCHES = (4, 8, 16, 32, 64)
SIDE = 224
SECONDS = 0.5  # of one turn
WEIGHTS = Path(os.environ.get("CNNVIS_DATA", "../shared/data")) / "weights"


def bare(module: torch.nn.Module, x: torch.Tensor, count: int) -> float:
    """Seconds of forward passes over so many inputs."""
    began = time.perf_counter()
    with torch.inference_mode():
        for first in range(0, count, len(x)):
            module(x[: min(len(x), count - first)])
    return time.perf_counter() - began


def best_batch(module: torch.nn.Module) -> torch.Tensor:
    """A batch of the size at which the network is quickest."""
    found = {}
    for size in BATCHES:
        x = torch.randn(size, 3, SIDE, SIDE)
        bare(module, x, size)
        found[size] = min(bare(module, x, 64) for _ in range(2))
    return torch.randn(min(found, key=found.__getitem__), 3, SIDE, SIDE)


def ratio(model: cv.Model, x: torch.Tensor, gratings: Gratings) -> tuple[float, float]:
    """Seconds of one run at all layers, and of the bare passes."""
    ours = others = 0.0
    passed = 0
    with cv.rank_orientation(model, [layer.name for layer in model.layers], gratings) as job:
        began = turn = time.perf_counter()
        for progress in job:
            now = time.perf_counter()
            if now - turn > SECONDS or progress.done == progress.total:
                ours += now - began
                others += bare(model.module, x, progress.done - passed)
                passed = progress.done
                began = turn = time.perf_counter()
        ours += time.perf_counter() - began
    return ours, others


def agreements() -> list[str]:
    """A line a network: how many units are selective by both, and how near their angles are."""
    lines = []
    for name, layer in (
        ("squeezenet1_0", "features.0"),
        ("mobilenet_v2", "features.0.0"),
        ("resnet18", "conv1"),
    ):
        model = cv.load_checkpoint(name, (WEIGHTS / f"{name}.pth").read_bytes())
        table = cv.run(cv.rank_orientation(model, layer)).table
        weights = spectral_tuning(on_brightness(model, cv.filters(model, layer)))
        table = beside_weights(table, weights.orientation_deg, weights.coherence)
        count, near, median = agreeing(table)
        lines.append(f"| {name} {layer} | {len(table)} | {count} | {near:.0%} | {median:.1f}° |")
    return lines


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--angles", type=int, default=36)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = cv.from_module(zoo.get_model(arguments.network, weights=None), (3, SIDE, SIDE))
    gratings = usual_gratings(SIDE, 180 / arguments.angles)
    x = best_batch(model.module)
    print(f"{arguments.network}, {len(model.layers)} layers, {len(gratings):,} gratings")
    runs = [ratio(model, x, gratings) for _ in range(arguments.runs)]
    for ours, others in runs:
        print(f"{ours:.1f} s, bare {others:.1f} s (batches of {len(x)}), {ours / others:.2f} x")
    print(f"median {statistics.median(a / b for a, b in runs):.2f} x")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.2f} GiB")
    if WEIGHTS.is_dir():
        print("| first layer | units | selective by both | within 10° | median |")
        print("|---|---|---|---|---|")
        print("\n".join(agreements()))


if __name__ == "__main__":
    main()
