"""Fine-tuning against training from scratch at equal steps, and the cost of aligning all layers.

    python -m benchmarks.transfer [--seeds 3]

Ten classes of Tiny ImageNet, 200 training pictures of each (``../shared/data`` or ``CNNVIS_DATA``);
tested on the 50 validation pictures of each, which no network was trained on. The embedded network
knows these classes: this measures that its features are used, not that they carry to new ones.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

import cnnvis_core as cv
from cnnvis_core.datasets import sample_tiles
from training.finetune_dogs import PARENT, pictures, share_right

CLASSES = tuple(range(0, 200, 20))
EACH, EPOCHS = 200, 3
INPUTS = 256


def accuracies(seeds: int) -> dict[str, list[float]]:
    """Per cent of the validation pictures named rightly, by each seed, tuned and from scratch."""
    base = cv.load(PARENT)
    # Other names, so that nothing of the last layer is kept.
    names = [f"{base.classes[label]} (new)" for label in CLASSES]
    train, fresh = pictures("train", CLASSES, names, EACH), pictures("val", CLASSES, names)
    found: dict[str, list[float]] = {"fine-tuned": [], "from scratch": []}
    for seed in range(seeds):
        for kind, scratch in (("fine-tuned", False), ("from scratch", True)):
            settings = cv.Finetuning(epochs=EPOCHS, seed=seed, scratch=scratch, validation=0.05)
            done = cv.run(cv.finetune(base, train, None, settings))
            right = share_right(done.checkpoints[-1].load(), fresh)
            found[kind].append(right)
            print(f"seed {seed}, {kind}: {right:.1f} %", flush=True)
    return found


def alignment() -> tuple[float, float]:
    """Seconds of aligning all convolutions of two networks, and of their bare passes."""
    base = cv.load(PARENT)
    layers = [layer.name for layer in base.layers if layer.kind == "Conv2d"]
    tiles = sample_tiles("image")
    inputs = torch.cat([base.preprocess(cv.read_image(data)) for data in tiles.data[:INPUTS]])
    ours, bare = [], []
    for _ in range(5):
        began = time.perf_counter()
        cv.run(cv.align(base, base, inputs, layers, most=INPUTS))
        ours.append(time.perf_counter() - began)
        began = time.perf_counter()
        with torch.inference_mode():
            for _ in range(2):
                for x in inputs.split(32):
                    base.module(x)
        bare.append(time.perf_counter() - began)
    return statistics.median(ours), statistics.median(bare)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    ours, bare = alignment()
    print(f"all {INPUTS} inputs: {ours:.2f} s, bare passes {bare:.2f} s, {ours / bare:.1f} x")
    for kind, values in accuracies(asked.seeds).items():
        print(
            f"{kind}: mean {statistics.mean(values):.1f} %, {min(values):.1f} to {max(values):.1f}"
        )


if __name__ == "__main__":
    main()
