"""Time whole occlusion maps against Captum's `Occlusion` at its best batch size.

    python -m benchmarks.occlusion [--runs 3] [--threads 2] [--only VGG16] [--whole]
    python -m benchmarks.occlusion --adaptive ../shared/data

Networks of torchvision have random weights: the time does not depend on them. Each row prints
medians over interleaved runs; how far the two maps are apart, in shares of the map's range; the
peak memory of the process during ours; and the bound by counting, which is what the multiply-adds
of the whole network are to those that the incremental engine really makes.

Captum does the same work for every position. Where a whole map would take it over a minute, it is
timed on a part of the picture's positions (`SAMPLE`) and scaled, unless ``--whole`` is given.

``--adaptive`` measures the approximate mode on 20 pictures with trained weights, from a folder
with ``images/`` and ``weights/``: positions, time and structural similarity to the exact map. No
trained VGG16 is at hand: its line is the time that VGG16 takes for the places that each picture's
map of the trained network asked for, against Captum's best on VGG16.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision
from captum.attr import Occlusion as CaptumOcclusion
from skimage.metrics import structural_similarity
from torch.utils.flop_counter import FlopCounterMode

import cnnvis_core as cv
from cnnvis_core.inputs.samples import samples
from cnnvis_core.models.model import Model
from cnnvis_core.occlusion import default_patch, occluder_for
from cnnvis_core.occlusion.evaluators import IncrementalEvaluator
from cnnvis_core.occlusion.grid import Cell
from cnnvis_core.occlusion.incremental import CleanPass, Pass, forgets, rule_for

BATCHES = (1, 8, 16, 32)
EMBEDDED = "resnet64-tiny-imagenet"
SAMPLE = 96  # positions, at least
LONG_SECONDS = 60.0
PICTURES = 20


@dataclass(frozen=True)
class Row:
    """One line of the table; None for patch and stride stands for the default."""

    name: str
    patch: int | None
    stride: int | None
    asked: float


ROWS = (
    Row("VGG16", 16, 4, 6),
    Row("VGG16", 32, 16, 5),
    Row("ResNet18", 16, 4, 2),
    Row("SqueezeNet1_0", 16, 8, 2),
    Row("MobileNet_V2", 16, 8, 2),
    Row(EMBEDDED, None, None, 2),
)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def load(name: str) -> Model:
    """The embedded network, or one of torchvision's with random weights."""
    if name == EMBEDDED:
        return cv.load(name, "cpu")
    torch.manual_seed(0)
    module = torchvision.models.get_model(name.lower())
    return cv.from_module(
        module, (3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), name=name
    )


def peak_bytes(reset: bool = False) -> int:
    """Largest resident memory of this process since the last reset (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def bound(model: Model, x: torch.Tensor, patch: int, stride: int) -> float:
    """Multiply-adds of the whole network to those of the incremental engine."""
    occluder = occluder_for(model, x, patch, stride, "black")
    cells = occluder.grid.coarse_first()
    some = cells[:: max(1, len(cells) // 256)]
    with torch.no_grad():
        clean = CleanPass(model.graph(tuple(x.shape[1:])), x, forgets)
        with FlopCounterMode(display=False) as full:
            model.module(x)
        with FlopCounterMode(display=False) as ours:
            for cell in some:
                Pass(clean, 1, occluder.changes([cell])).run(rule_for)
    return full.get_total_flops() * len(some) / ours.get_total_flops()


class Captum:
    """Captum's `Occlusion` of one network and picture, in black."""

    def __init__(self, model: Model, x: torch.Tensor, target: int, patch: int, stride: int) -> None:
        self.x, self.target = x, target
        self.patch, self.stride = patch, stride
        zeros = torch.zeros(1, *x.shape[1:])
        self.black = model.frontend.normalise(zeros)  # type: ignore[attr-defined]
        self.peer = CaptumOcclusion(model.module)

    def map(self, batch: int, rows: int | None = None) -> torch.Tensor:
        """The map, or that of the first rows of patches only."""
        x, black = self.x, self.black
        window, stride = (3, self.patch, self.patch), (3, self.stride, self.stride)
        if rows is not None:
            # The same network on the same inputs: a mask keeps the patches to a strip.
            strip = self.patch + (rows - 1) * self.stride
            return self._strip(x, black, batch, strip)
        with torch.inference_mode():
            found: torch.Tensor = self.peer.attribute(
                x, window, baselines=black, strides=stride, target=self.target,
                perturbations_per_eval=batch,
            )  # fmt: skip
        return found[0, 0]

    def _strip(self, x: torch.Tensor, black: torch.Tensor, batch: int, height: int) -> torch.Tensor:
        below = x[:, :, height:]

        def forward(top: torch.Tensor) -> torch.Tensor:
            whole = torch.cat([top, below.expand(len(top), -1, -1, -1)], 2)
            logits: torch.Tensor = self.peer.forward_func(whole)
            return logits

        with torch.inference_mode():
            found: torch.Tensor = CaptumOcclusion(forward).attribute(
                x[:, :, :height], (3, self.patch, self.patch), baselines=black[:, :, :height],
                strides=(3, self.stride, self.stride), target=self.target,
                perturbations_per_eval=batch,
            )  # fmt: skip
        return found[0, 0]


def measure(row: Row, runs: int, whole: bool) -> str:
    """One line of the table."""
    model = load(row.name)
    x = model.preprocess(cv.read_image(samples("image")[0].read()))
    target = int(model.predict(x).argmax())
    usual = default_patch(model)
    patch, stride = row.patch or usual[0], row.stride or usual[1]
    across = -(-(x.shape[-1] - patch) // stride) + 1
    positions = across * across

    def ours(engine: str = "auto") -> torch.Tensor:
        found = cv.run(
            cv.occlude(model, x, target, patch, stride, "black", "logit", engine=engine)  # type: ignore[arg-type]
        )
        return torch.from_numpy(found.heatmap)

    peak_bytes(reset=True)
    first = seconds(ours)
    peak = peak_bytes()
    captum = Captum(model, x, target, patch, stride)

    # The map of the first rows of patches holds the same numbers as the whole map.
    rows = max(1, -(-SAMPLE // across))
    strip = seconds(lambda: captum.map(16, rows))
    scaled = not whole and strip * across / rows > LONG_SECONDS
    part = rows if scaled else None
    factor = across / rows if scaled else 1.0

    times: dict[str, list[float]] = {"ours": [first]}
    for run in range(runs):
        if run:
            times["ours"].append(seconds(ours))
        for batch in BATCHES:
            took = seconds(lambda batch=batch: captum.map(batch, part))  # type: ignore[misc]
            times.setdefault(str(batch), []).append(took * factor)
    medians = {name: statistics.median(values) for name, values in times.items()}
    best = min((value, name) for name, value in medians.items() if name != "ours")

    mine, theirs = ours(), captum.map(16, part)
    depth = mine.shape[0] if part is None else rows * stride  # below, patches are missing
    gap = float((mine[:depth] - theirs[:depth]).abs().max() / np.ptp(mine.numpy()))
    return (
        f"| {row.name} | {patch}, {stride} | {positions} | {best[0]:.2f} s "
        f"({best[1]} at once{', scaled' if scaled else ''}) | {medians['ours']:.2f} s | "
        f"{best[0] / medians['ours']:.1f} x | {row.asked:g} x | "
        f"{bound(model, x, patch, stride):.2f} x | {gap:.0e} | {peak / 2**30:.2f} GiB |"
    )


def captum_best(model: Model, x: torch.Tensor, patch: int, stride: int, runs: int = 3) -> float:
    """Seconds of Captum's best batch size for a whole map, scaled from its first rows."""
    across = -(-(x.shape[-1] - patch) // stride) + 1
    rows = max(1, -(-SAMPLE // across))
    peer = Captum(model, x, int(model.predict(x).argmax()), patch, stride)
    best = min(
        statistics.median(seconds(lambda: peer.map(batch, rows)) for _ in range(runs))  # noqa: B023
        for batch in BATCHES
    )
    return best * across / rows


def at_places(model: Model, x: torch.Tensor, patch: int, stride: int, cells: list[Cell]) -> float:
    """Seconds of the incremental engine for some positions."""

    def work() -> None:
        evaluator = IncrementalEvaluator(model, occluder_for(model, x, patch, stride, "black"))
        rest = cells
        while rest:
            size = evaluator.size()
            evaluator.logits(rest[:size])
            rest = rest[size:]

    return seconds(work)


def approximate(folder: Path, patch: int, stride: int, only: str) -> None:
    """The adaptive mode on pictures, with trained weights."""
    print(
        "| network | positions measured | SSIM, mean (worst) | Captum's best, scaled | exact | "
        "adaptive | ratio to Captum |"
    )
    print("|---|---|---|---|---|---|---|")
    vgg = load("VGG16")
    vgg_s: list[float] = []
    for name in ("squeezenet1_0", "resnet18"):
        if only.lower() not in name:
            continue
        model = cv.load_checkpoint(name, (folder / "weights" / f"{name}.pth").read_bytes())
        share, similar = [], []
        spent: dict[bool, list[float]] = {False: [], True: []}
        files = sorted((folder / "images").glob("*.JPEG"))
        for file in files[:: max(1, len(files) // PICTURES)][:PICTURES]:
            x = model.preprocess(cv.read_image(file.read_bytes()))
            found = {}
            for adaptive, times in spent.items():
                began = time.perf_counter()
                found[adaptive] = cv.run(
                    cv.occlude(model, x, None, patch, stride, adaptive=adaptive)
                )
                times.append(time.perf_counter() - began)
            exact, near = found[False].heatmap, found[True].heatmap
            share.append(found[True].measured.mean())
            spread = float(np.ptp(exact))
            similar.append(structural_similarity(exact, near, data_range=spread))  # type: ignore[no-untyped-call]
            if name == "squeezenet1_0":
                order = found[True].grid.coarse_first()
                cells = [cell for cell in order if found[True].measured[cell]]
                vgg_s.append(at_places(vgg, x, patch, stride, cells))
        peer = captum_best(model, x, patch, stride)
        exact_s, ours_s = (float(np.mean(spent[key])) for key in (False, True))
        said = f"{100 * np.mean(share):.1f} % | {np.mean(similar):.3f} ({min(similar):.3f})"
        print(
            f"| {name} | {said} | {peer:.1f} s | {exact_s:.2f} s | {ours_s:.2f} s | "
            f"{peer / ours_s:.1f} x |",
            flush=True,
        )
        if vgg_s and name == "squeezenet1_0":
            peer, ours_s = captum_best(vgg, x, patch, stride, 1), float(np.mean(vgg_s))
            print(
                f"| VGG16 at the places of squeezenet1_0 | {said} | {peer:.1f} s | | "
                f"{ours_s:.2f} s | {peer / ours_s:.1f} x |",
                flush=True,
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", help="rows whose network's name contains this")
    parser.add_argument("--whole", action="store_true", help="let Captum finish long maps too")
    parser.add_argument("--adaptive", type=Path, help="a folder with images/ and weights/")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.adaptive:
        approximate(arguments.adaptive, 16, 4, arguments.only or "")
        return
    print(
        "| network | patch, stride | positions | Captum's best | cnnvis | ratio | asked | "
        "bound by counting | difference | peak memory |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    context = multiprocessing.get_context("spawn")
    for row in ROWS:
        if not arguments.only or arguments.only.lower() in row.name.lower():
            # A process each: memory that one row leaves behind is not the next one's.
            with context.Pool(1, torch.set_num_threads, [arguments.threads]) as pool:
                print(pool.apply(measure, [row, arguments.runs, arguments.whole]), flush=True)


if __name__ == "__main__":
    main()
