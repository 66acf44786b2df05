"""Speed and quality of activation maximisation, against lucent.

    pip install --no-deps --target DIR -r benchmarks/requirements-maximization.txt
    PYTHONPATH=DIR python -m benchmarks.maximization [--rounds 11] [--threads 2] [--only VGG16]
    PYTHONPATH=DIR python -m benchmarks.maximization --quality ../shared/data/weights [--steps 128]

The first table is of steps a second for one picture of 128 px on the CPU: Fourier, decorrelated
colours, Adam, and the same bounds for shifts, scales, rotations and padding. The networks of
torchvision have random weights: the time does not depend on them. lucent enlarges what it shows to
the network to 224 px unless it is told otherwise; beside that stands lucent showing it at the size
that ours has, so that what is left is the method. A row has a process of its own; its rounds take
the three ways in turn, and a ratio is the median of the rounds' ratios, with the lowest and the
highest; below stands what the fastest rounds of each way give, which others' work on the machine
disturbs least. What comes before the first step is left out and has a column of its own.

``--quality`` draws units of trained networks with both, each as it is by default, in as many steps.
All pictures are judged alike: by the mean of the unit's map over the same random views, once at the
size that ours shows to the network and once enlarged to lucent's. The layers are such as lucent
sees as they are: where a ReLU follows that works in place, it climbs the ReLU's values instead.
"""

from __future__ import annotations

import argparse
import importlib
import math
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import cnnvis_core as cv
from cnnvis_core.maximization import Settings
from cnnvis_core.maximization.transforms import Transforms, look
from cnnvis_core.models.levels import levels_of
from cnnvis_core.models.model import Model
from cnnvis_core.models.probe import Probe

MISSING = (
    "lucent is not here ({error}): pip install --no-deps --target DIR "
    "-r benchmarks/requirements-maximization.txt, then run this with PYTHONPATH=DIR."
)
SIZE = 128  # of a picture, in pixels
LUCENTS = 224  # of what lucent shows to the network by default
RATE = 0.05
# lucent shifts twice, by 0 to 7 and by 0 to 3 pixels, which is 5 from the middle.
LIKE_LUCENT = Transforms(jitter=6, scale=0.1, rotate=10, pad=12, border="empty")
SHOWN = SIZE + 2 * LIKE_LUCENT.pad  # of what ours shows to the network
WARM_UP, TIMED = 2, 8  # steps
CHANNEL = 7
ASKED, ASKED_LATE = 5, 2
VIEWS = 16
SEED = 0


@dataclass(frozen=True)
class Row:
    """One line of the table of times."""

    network: str
    layer: str
    late: bool = False


ROWS = (
    Row("VGG16", "features.2"),
    Row("VGG16", "features.14"),
    Row("VGG16", "features.28", late=True),
    Row("ResNet18", "layer1.0.conv1"),
    Row("ResNet18", "layer2.1.conv2"),
    Row("ResNet18", "layer4.1.conv2", late=True),
)
# Of each network a middle and a late layer, five units of each at even distances.
UNITS = 5
DRAWN = {
    "squeezenet1_0": ("features.7.expand3x3_activation", "features.12.expand3x3_activation"),
    "resnet18": ("layer2.1.conv2", "layer4.1.conv2"),
    "mobilenet_v2": ("features.10.conv.2", "features.18.0"),
}
WAYS = {
    "cnnvis": Settings(),
    "cnnvis, empty border": Settings(transforms=Transforms(border="empty")),
}


class Lucent:
    """The peer, made to run on today's kornia and without IPython.

    Raises
    ------
    ImportError
        If it is not installed.
    """

    def __init__(self) -> None:
        kornia = importlib.import_module("kornia")
        moved = importlib.import_module("kornia.geometry.transform")
        for name in ("get_rotation_matrix2d", "warp_affine"):  # no longer at the top
            setattr(kornia, name, getattr(moved, name))
        # IPython is imported for showing pictures in notebooks, and never called here.
        absent = [name for name in ("IPython", "IPython.display") if name not in sys.modules]
        sys.modules.update({name: ModuleType(name) for name in absent})
        try:
            self.render: Any = importlib.import_module("lucent.optvis.render")
            self.objectives: Any = importlib.import_module("lucent.optvis.objectives")
            self.param: Any = importlib.import_module("lucent.optvis.param")
        finally:
            for name in absent:
                del sys.modules[name]

    def draw(
        self,
        module: nn.Module,
        layer: str,
        channel: int,
        steps: int,
        seed: int,
        side: int | None = None,
        stepped: Callable[[], object] = lambda: None,
    ) -> torch.Tensor:
        """Draw a unit's picture (1, C, H, W), with lucent's defaults but for the steps.

        Parameters
        ----------
        module : torch.nn.Module
            In eval mode; left with gradients of its weights, as lucent leaves it.
        layer : str
            Dotted name.
        channel, steps, seed : int
            The unit, the length and the beginning.
        side : int, optional
            What is shown to the network, in pixels.
        stepped : callable, optional
            Called after each step.
        """

        def note(*_: object) -> None:
            stepped()

        def adam(parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
            optimizer = torch.optim.Adam(parameters, lr=RATE)
            optimizer.register_step_post_hook(note)
            return optimizer

        torch.manual_seed(seed)
        np.random.seed(seed)
        try:
            found = self.render.render_vis(
                module, self.objectives.channel(layer.replace(".", "_"), channel),
                lambda: self.param.image(SIZE), adam, thresholds=(steps,), progress=False,
                show_image=False, fixed_image_size=side,
            )  # fmt: skip
        finally:
            for part in module.modules():  # it leaves its hooks, which add up
                part._forward_hooks.clear()
        return torch.from_numpy(found[-1]).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Timing:
    """What a row found: seconds by way, a value a round."""

    step: dict[str, list[float]]
    first: dict[str, list[float]]

    def ratios(self, way: str) -> list[float]:
        """Steps of ours in the time of one of another way, round by round."""
        return [a / b for a, b in zip(self.step[way], self.step["cnnvis"], strict=True)]

    def median(self, way: str) -> float:
        """Median of the rounds' ratios."""
        return statistics.median(self.ratios(way))

    def fastest(self, way: str) -> float:
        """Ratio of the fastest rounds."""
        return min(self.step[way]) / min(self.step["cnnvis"])


def marks_of(draw: Callable[[Callable[[], object]], object]) -> list[float]:
    """Times of the start and of the end of each step; what is given tells when a step ended."""
    marks = [time.perf_counter()]
    draw(lambda: marks.append(time.perf_counter()))
    return marks


def measure(row: Row, rounds: int) -> Timing:
    """Time the three ways in turn."""
    lucent = Lucent()
    torch.manual_seed(SEED)
    module = torchvision.models.get_model(row.network.lower()).eval()
    model = cv.from_module(
        module, (3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), name=row.network,
        device="cpu",
    )  # fmt: skip
    steps = WARM_UP + TIMED

    def ours(stepped: Callable[[], object]) -> None:
        # The last step, which also judges the picture, is not waited for.
        settings = Settings(rate=RATE, transforms=LIKE_LUCENT)
        with cv.maximize(
            model, row.layer, CHANNEL, steps + 1, SIZE, SEED, settings=settings
        ) as job:
            for progress in job:
                stepped()
                if progress.done == steps:
                    break

    def lucents(side: int | None) -> Callable[[Callable[[], object]], object]:
        return lambda stepped: lucent.draw(module, row.layer, CHANNEL, steps, SEED, side, stepped)

    ways: dict[str, Callable[[Callable[[], object]], object]] = {
        "lucent": lucents(None),
        f"lucent at {SHOWN} px": lucents(SHOWN),
        "cnnvis": ours,
    }
    found = Timing({name: [] for name in ways}, {name: [] for name in ways})
    for number in range(rounds + 1):
        for name, way in ways.items():
            marks = marks_of(way)
            if number:  # the first round imports and allocates
                found.step[name].append((marks[-1] - marks[WARM_UP]) / TIMED)
                found.first[name].append(marks[1] - marks[0])
    return found


def spread(ratios: list[float]) -> str:
    """Median, lowest and highest."""
    return f"{statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})"


def speed(rounds: int, threads: int, only: str) -> None:
    """Print the table of times."""
    peers = ("lucent", f"lucent at {SHOWN} px")
    print(
        f"| network | layer | {peers[0]}, steps a second | {peers[1]} | cnnvis | ratio | "
        f"ratio to {peers[1]} | until the first step: {peers[0]}, cnnvis |"
    )
    print("|---|---|---|---|---|---|---|---|")
    found: dict[Row, Timing] = {}
    context = multiprocessing.get_context("spawn")
    for row in ROWS:
        if only.lower() not in row.network.lower():
            continue
        # An executor lets its process end by itself, so that tqdm takes its locks away.
        with ProcessPoolExecutor(1, context, torch.set_num_threads, (threads,)) as pool:
            found[row] = timing = pool.submit(measure, row, rounds).result()
        rates = {name: 1 / statistics.median(values) for name, values in timing.step.items()}
        first = {name: statistics.median(values) for name, values in timing.first.items()}
        print(
            f"| {row.network} | {row.layer} | {rates[peers[0]]:.2f} | {rates[peers[1]]:.2f} | "
            f"{rates['cnnvis']:.2f} | {spread(timing.ratios(peers[0]))} | "
            f"{spread(timing.ratios(peers[1]))} | {first[peers[0]]:.2f} s, "
            f"{first['cnnvis']:.2f} s |",
            flush=True,
        )
    if not found:
        return
    print(
        f"\n| to | ratio of | geometric mean (asked: {ASKED} x) | "
        f"lowest of the late layers (asked: {ASKED_LATE} x) |"
    )
    print("|---|---|---|---|")
    for peer in peers:
        for name, ratio in (("medians", Timing.median), ("fastest rounds", Timing.fastest)):
            mean = statistics.geometric_mean(ratio(timing, peer) for timing in found.values())
            late = [ratio(timing, peer) for row, timing in found.items() if row.late]
            print(f"| {peer} | {name} | {mean:.2f} x | {min(late):.2f} x |")


class Judge:
    """The mean of a unit's map over random views that are the same for every picture."""

    def __init__(self, model: Model, layer: str) -> None:
        generator = torch.Generator().manual_seed(SEED)
        shaken = Transforms(pad=LIKE_LUCENT.pad, border="empty")
        self.views = [shaken.draw(generator) for _ in range(VIEWS)]
        self.layer, self.levels = layer, levels_of(model)
        self.probes = {side: Probe(model, [layer], (3, side, side)) for side in (SHOWN, LUCENTS)}

    def __call__(self, picture: torch.Tensor, channel: int) -> list[float]:
        """The mean at each of the two sizes, of a picture (1, C, H, W)."""
        empty = torch.tensor(self.levels.empty)
        shaken = [
            look(picture, view, (SHOWN, SHOWN), LIKE_LUCENT.pad, empty) for view in self.views
        ]
        x = self.levels.to_input(torch.cat(shaken))
        means = []
        with torch.no_grad():
            for side, probe in self.probes.items():
                seen = x
                if side != SHOWN:
                    seen = F.interpolate(x, (side, side), mode="bilinear", align_corners=True)
                means.append(float(probe.maps(seen)[self.layer][:, channel].mean()))
        return means


@dataclass(frozen=True)
class Drawn:
    """What a unit's pictures reach, by way: at each of the two sizes."""

    network: str
    layer: str
    channel: int
    means: dict[str, list[float]]


def drawn(folder: Path, steps: int, only: str, seconds: dict[str, float]) -> Iterator[Drawn]:
    """Draw the units and judge them, a layer at a time; adds up the time of each way."""
    lucent = Lucent()
    for network, layers in DRAWN.items():
        if only.lower() not in network:
            continue
        weights = (folder / f"{network}.pth").read_bytes()
        model = cv.load_checkpoint(network, weights, device="cpu")
        theirs = cv.load_checkpoint(network, weights, device="cpu").module.requires_grad_()
        for layer in layers:
            judge = Judge(model, layer)
            count = next(found.channels for found in model.layers if found.name == layer)
            channels = [round((i + 0.5) * count / UNITS) for i in range(UNITS)]
            pictures: dict[str, list[torch.Tensor]] = {}
            began = time.perf_counter()
            pictures["lucent"] = [
                lucent.draw(theirs, layer, channel, steps, SEED) for channel in channels
            ]
            seconds["lucent"] = seconds.get("lucent", 0) + time.perf_counter() - began
            for way, settings in WAYS.items():
                began = time.perf_counter()
                job = cv.maximize(model, layer, channels, steps, SIZE, SEED, settings=settings)
                found = cv.run(job)
                seconds[way] = seconds.get(way, 0) + time.perf_counter() - began
                pictures[way] = list(found.images.split(1))
                for channel, note in zip(channels, found.notes, strict=True):
                    if note:
                        print(f"{network} {layer} {channel}, {way}: {note}", file=sys.stderr)
            for i, channel in enumerate(channels):
                means = {way: judge(made[i], channel) for way, made in pictures.items()}
                yield Drawn(network, layer, channel, means)


def quality(folder: Path, steps: int, only: str) -> None:
    """Print what the pictures of both reach."""
    sizes = (SHOWN, LUCENTS)
    heads = [f"{way}, {side} px" for side in sizes for way in ("lucent", *WAYS)]
    print(f"| network | layer | unit | {' | '.join(heads)} |")
    print("|" + "---|" * (3 + len(heads)))
    seconds: dict[str, float] = {}
    found = []
    for unit in drawn(folder, steps, only, seconds):
        found.append(unit)
        cells = [f"{unit.means[way][i]:.3g}" for i in range(2) for way in ("lucent", *WAYS)]
        print(
            f"| {unit.network} | {unit.layer} | {unit.channel} | {' | '.join(cells)} |", flush=True
        )
    print()
    print(
        "| judged at | way | gain, in lucent's mean of the layer: mean ± its error | "
        "gain, in lucent's value of the unit: median | "
        "gain, in standard deviations of lucent's values of the layer: mean | higher |"
    )
    print("|---|---|---|---|---|---|")
    of_layer: dict[tuple[str, str], list[Drawn]] = {}
    for unit in found:
        of_layer.setdefault((unit.network, unit.layer), []).append(unit)
    for i, side in enumerate(sizes):
        for way in WAYS:
            shares, own, scaled = [], [], []
            for units in of_layer.values():
                theirs = np.array([unit.means["lucent"][i] for unit in units])
                gains = np.array([unit.means[way][i] for unit in units]) - theirs
                shares += list(gains / np.abs(theirs).mean())
                own += list(gains / np.maximum(np.abs(theirs), 1e-9))  # 0 where a ReLU is dead
                scaled += list(gains / theirs.std(ddof=1))
            error = np.std(shares, ddof=1) / math.sqrt(len(shares))
            print(
                f"| {side} px | {way} | {100 * np.mean(shares):+.0f} ± {100 * error:.0f} % | "
                f"{100 * np.median(own):+.0f} % | {np.mean(scaled):+.2f} | "
                f"{sum(gain > 0 for gain in shares)} of {len(shares)} |"
            )
    taken = ", ".join(f"{way} {spent:.0f} s" for way, spent in seconds.items())
    print(f"\n{steps} steps each, {len(found)} units: {taken}.")


def main() -> None:
    """Print a table, or say what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="rows whose network's name contains this")
    parser.add_argument("--quality", type=Path, help="a folder with trained weights")
    parser.add_argument("--steps", type=int, default=128, help="of --quality")
    arguments = parser.parse_args()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # lucent takes a GPU where there is one
    torch.set_num_threads(arguments.threads)
    try:
        Lucent()
    except ImportError as error:
        sys.exit(MISSING.format(error=error))
    if arguments.quality:
        quality(arguments.quality, arguments.steps, arguments.only)
    else:
        speed(arguments.rounds, arguments.threads, arguments.only)


if __name__ == "__main__":
    main()
