"""Throughput of an index of exemplars against the bare forward pass over the same loader.

    python -m benchmarks.exemplars [--network resnet18] [--pictures 512] [--runs 3] [--memory]

Noise pictures of 256 px, as JPEG files in a folder. The bare pass decodes and preprocesses them by
the same threads, in the same batches, and throws the answers away; the index keeps the nine
strongest of every unit of all convolutions. Both take turns in one process; the ratio is that of
medians.

``--memory`` builds an index of the embedded network over 1,000 and then 20,000 pictures, each in a
process of its own, and prints the peak of both.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import models as zoo

import cnnvis_core as cv
from cnnvis_core.datasets import open_dataset
from cnnvis_core.datasets.decoding import decoded

SIDE, BATCH = 224, 32
DIFFERENT = 64  # pictures; the others are copies


def pile(folder: Path, count: int, side: int) -> Path:
    """A folder of noise pictures."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number % 10}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < DIFFERENT:
            coarse = rng.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(coarse).resize((side, side)).save(path, quality=90)
        else:
            path.hardlink_to(
                folder / f"{number % DIFFERENT % 10}" / f"{number % DIFFERENT:06d}.jpg"
            )
    return folder


def bare(model: cv.Model, folder: Path) -> float:
    """Seconds of decoding and passing alone."""
    dataset = open_dataset(folder, "image")
    began = time.perf_counter()
    waiting: list[torch.Tensor] = []
    with torch.inference_mode():
        for _, inputs in decoded(model, dataset, range(len(dataset.names)), 3 * BATCH):
            waiting += inputs if isinstance(inputs, list) else []
            if len(waiting) >= BATCH:
                model.module(torch.cat(waiting[:BATCH]))
                waiting = waiting[BATCH:]
        if waiting:
            model.module(torch.cat(waiting))
    return time.perf_counter() - began


def ours(model: cv.Model, folder: Path) -> float:
    """Seconds of an index of all convolutions."""
    layers = [layer.name for layer in model.layers if layer.kind == "Conv2d"]
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        cv.run(cv.build_exemplars(model, folder, layers, 9, Path(out) / "index", BATCH))
        return time.perf_counter() - began


def peak(count: int) -> None:
    """Print the peak of a process that indexes so many pictures with the embedded network."""
    model = cv.load("resnet64-tiny-imagenet")
    layers = [layer.name for layer in model.layers if layer.kind == "Conv2d"]
    with tempfile.TemporaryDirectory() as folder:
        pictures = pile(Path(folder) / "in", count, 64)
        cv.run(cv.build_exemplars(model, pictures, layers, 9, Path(folder) / "out"))
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{count:,} pictures: peak {used:.2f} GiB", flush=True)


def main() -> None:
    """Print the ratio, or the peaks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--pictures", type=int, default=512)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        peak(arguments.peak)
        return
    if arguments.memory:
        for count in (1_000, 20_000):
            command = [sys.executable, "-m", "benchmarks.exemplars", "--peak", str(count)]
            subprocess.run(command, check=True)
        return
    torch.manual_seed(0)
    model = cv.from_module(zoo.get_model(arguments.network, weights=None), (3, SIDE, SIDE))
    with tempfile.TemporaryDirectory() as folder:
        pictures = pile(Path(folder), arguments.pictures, 256)
        bare(model, pictures)
        times: dict[str, list[float]] = {"bare": [], "index": []}
        for _ in range(arguments.runs):
            times["bare"].append(bare(model, pictures))
            times["index"].append(ours(model, pictures))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name}: {arguments.pictures / median:.1f} pictures a second ({median:.1f} s)")
    print(f"throughput {medians['bare'] / medians['index']:.2f} x that of the bare pass")


if __name__ == "__main__":
    main()
