"""Time a whole occlusion map against Captum's `Occlusion` at its best batch size.

    python -m benchmarks.occlusion [--runs 5] [--threads 2]

Prints medians over interleaved runs, the ratio, and how far the two maps are apart.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from captum.attr import Occlusion as CaptumOcclusion

import cnnvis_core as cv
from cnnvis_core.inputs.samples import samples
from cnnvis_core.occlusion import default_patch

BATCHES = (1, 8, 16, 32)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Measure the embedded image network at its default settings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    model = cv.load("resnet64-tiny-imagenet", "cpu")
    x = model.preprocess(cv.read_image(samples("image")[0].read()))
    target = int(model.predict(x).argmax())
    side, step = default_patch(model)
    patch, stride = (side, side), (step, step)
    peer = CaptumOcclusion(model.module)
    black = model.frontend.normalise(torch.zeros(1, 3, 64, 64))  # type: ignore[attr-defined]

    def ours() -> torch.Tensor:
        found = cv.run(cv.occlude(model, x, target, patch, stride, "black", "logit"))
        return torch.from_numpy(found.heatmap)

    def theirs(batch: int) -> torch.Tensor:
        with torch.inference_mode():
            values: torch.Tensor = peer.attribute(
                x,
                sliding_window_shapes=(3, *patch),
                strides=(3, *stride),
                baselines=black,
                target=target,
                perturbations_per_eval=batch,
            )
        return values[0, 0]

    gap = float((ours() - theirs(16)).abs().max())
    names = ("cnnvis", *(f"Captum, {batch}" for batch in BATCHES))
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(arguments.runs):
        times["cnnvis"].append(seconds(ours))
        for batch in BATCHES:
            times[f"Captum, {batch}"].append(seconds(lambda batch=batch: theirs(batch)))  # type: ignore[misc]
    medians = {name: statistics.median(values) for name, values in times.items()}
    best = min(value for name, value in medians.items() if name != "cnnvis")
    for name, value in medians.items():
        print(f"{name:12s} {value:7.3f} s")
    print(f"ratio to Captum's best {best / medians['cnnvis']:.2f}, largest difference {gap:.1e}")


if __name__ == "__main__":
    main()
