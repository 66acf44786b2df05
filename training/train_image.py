"""Train the embedded image network on Tiny ImageNet.

    python -m training.train_image

Resumes from the last checkpoint in ``training/runs`` (``CNNVIS_RUNS``); data is read from
``../shared/data`` (``CNNVIS_DATA``). The log goes to ``training/logs/image.csv``.
"""

from __future__ import annotations

import argparse
import copy
import io
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from cnnvis_core.models.resnet64 import ResNet64
from training.common import DATA, LOGS, RUNS, append_row, save_atomically, update_average

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


@dataclass(frozen=True)
class Phase:
    """Epochs on pictures of one kind.

    Attributes
    ----------
    epochs : int
        Their number.
    size : int
        Pixels a side. Smaller pictures are cheaper.
    crop : float
        Smallest share of the picture's area that a resampled crop keeps: crops make things look as
        large as the whole picture at 64 pixels does (Touvron et al. 2019, the train-test resolution
        discrepancy). 1 stands for windows at whole pixels, as sharp as pictures are when named.
    """

    epochs: int
    size: int
    crop: float


@dataclass(frozen=True)
class Cycle:
    """Phases through which the rate rises (for a tenth), then falls to nothing as a cosine does."""

    rate: float
    phases: tuple[Phase, ...]

    @property
    def epochs(self) -> int:
        """Epochs of all phases."""
        return sum(phase.epochs for phase in self.phases)

    def rate_at(self, done: float) -> float:
        """Rate after a share of the cycle, 0 to 1."""
        warm, fall = min(1.0, done / 0.1), max(0.0, (done - 0.1) / 0.9)
        return self.rate * warm * 0.5 * (1 + math.cos(math.pi * fall))


# Resampling blurs, and who learned from blurred pictures names sharp ones badly: hence a second
# cycle, which sees only sharp ones.
CYCLES = (
    Cycle(
        0.3,
        (
            Phase(9, 48, 0.4),
            Phase(10, 56, 0.45),
            Phase(8, 56, 0.7),
            Phase(1, 64, 0.85),
            Phase(5, 64, 1),
        ),
    ),
    Cycle(0.08, (Phase(5, 56, 1), Phase(4, 64, 1))),
)


def decode(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (N, 3, 64, 64) uint8 and labels (N,) of one split, cached as a tensor file."""
    cache = RUNS / f"tiny_imagenet_{name}.pt"
    if cache.exists():
        pictures, labels = torch.load(cache, weights_only=True)
        return pictures, labels
    files = sorted((DATA / "tiny_imagenet").glob(f"{name}*.parquet"))
    pictures_, labels_ = [], []
    for file in files:
        table = pq.read_table(file, columns=["label", "webp"])
        labels_.append(torch.from_numpy(table["label"].to_numpy().astype(np.int64)))
        for cell in table["webp"]:
            picture = Image.open(io.BytesIO(cell.as_py())).convert("RGB")
            pictures_.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1))
    pictures, labels = torch.stack(pictures_), torch.cat(labels_)
    save_atomically((pictures, labels), cache)
    return pictures, labels


def windows(x: torch.Tensor, size: int, rng: torch.Generator, border: int = 4) -> torch.Tensor:
    """Windows of ``size`` pixels at whole pixels, mirrored at the border, half of them flipped."""
    n, _, height, width = x.shape
    padded = F.pad(x, (border,) * 4, mode="reflect")
    top, left = (
        torch.randint(0, side + 2 * border - size + 1, (n,), generator=rng)
        for side in (height, width)
    )
    rows = top[:, None] + torch.arange(size)
    cols = left[:, None] + torch.arange(size)
    flip = torch.randint(0, 2, (n,), generator=rng).bool()
    cols = torch.where(flip[:, None], cols.flip(1), cols)
    return padded[torch.arange(n)[:, None, None], :, rows[:, :, None], cols[:, None]].movedim(3, 1)


def augment(x: torch.Tensor, size: int, scale: float, rng: torch.Generator) -> torch.Tensor:
    """Random crop, aspect, flip and brightness of normalised pictures, resampled to ``size``."""
    n = len(x)
    area = torch.empty(n).uniform_(scale, 1, generator=rng)
    aspect = torch.empty(n).uniform_(-0.25, 0.25, generator=rng).exp()
    width = (area * aspect).sqrt().clamp(max=1)
    height = (area / aspect).sqrt().clamp(max=1)
    flip = torch.randint(0, 2, (n,), generator=rng) * 2.0 - 1
    slack = 0.06  # a little over the border, as a padded shift would give
    cx = torch.empty(n).uniform_(-1, 1, generator=rng) * (1 - width + slack)
    cy = torch.empty(n).uniform_(-1, 1, generator=rng) * (1 - height + slack)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = width * flip, cx
    theta[:, 1, 1], theta[:, 1, 2] = height, cy
    grid = F.affine_grid(theta, [n, 3, size, size], align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    gain = torch.empty(n, 1, 1, 1).uniform_(0.8, 1.2, generator=rng)
    shift = torch.empty(n, 3, 1, 1).uniform_(-0.15, 0.15, generator=rng)
    return x * gain + shift


@torch.no_grad()
def evaluate(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, dtype: torch.dtype = torch.bfloat16
) -> tuple[float, float]:
    """Top-1 and top-5 accuracy in percent, computed in a type."""
    model.eval()
    top1 = top5 = 0
    for i in range(0, len(x), 500):
        batch = (x[i : i + 500].float() / 255 - MEAN) / STD
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            best = model(batch).float().topk(5).indices
        hit = best == y[i : i + 500, None]
        top1 += int(hit[:, 0].sum())
        top5 += int(hit.sum())
    return 100 * top1 / len(x), 100 * top5 / len(x)


def twins(model: nn.Module, count: int) -> list[nn.Module]:
    """The model and copies that share its weights but have statistics of their own."""
    copies = [model]
    for _ in range(count - 1):
        twin = copy.deepcopy(model)
        for theirs, ours in zip(twin.modules(), model.modules(), strict=True):
            theirs._parameters.update(ours._parameters)
        copies.append(twin)
    return copies


def gradients(
    model: nn.Module, weights: Sequence[nn.Parameter], x: torch.Tensor, y: torch.Tensor
) -> tuple[float, tuple[torch.Tensor, ...]]:
    """Loss of a part of a batch and its gradients."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(x)
    loss = F.cross_entropy(logits.float(), y, label_smoothing=0.1)
    return float(loss.detach()), torch.autograd.grad(loss, weights)


def timetable() -> list[tuple[Cycle, int, Phase]]:
    """Every epoch's cycle, number within the cycle, and phase."""
    rows = []
    for cycle in CYCLES:
        phases = [phase for phase in cycle.phases for _ in range(phase.epochs)]
        rows += [(cycle, within, phase) for within, phase in enumerate(phases)]
    return rows


def cycle_end(number: int) -> Path:
    """Where the averaged weights at the end of a cycle are kept."""
    return RUNS / f"image-cycle{number}.pt"


@torch.no_grad()
def merge(states: Sequence[dict[str, torch.Tensor]], pictures: torch.Tensor) -> nn.Module:
    """Network with the mean of several ends' weights (Izmailov et al. 2018, algorithm 1).

    The statistics of its batch norms are taken anew from 10,240 training ``pictures``.
    """
    model = ResNet64().to(memory_format=torch.channels_last)
    first = states[0]
    model.load_state_dict(
        {
            name: torch.stack([state[name] for state in states]).mean(0)
            if value.is_floating_point()
            else value
            for name, value in first.items()
        }
    )
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.reset_running_stats()
            part.momentum = None  # the mean of all batches
    model.train()
    rng = torch.Generator().manual_seed(0)
    for _ in range(40):
        picked = torch.randint(0, len(pictures), (256,), generator=rng)
        model(windows((pictures[picked].float() / 255 - MEAN) / STD, 64, rng))
    return model.eval()


def main() -> None:
    """Train, resuming where the last run stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--decay", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit-steps", type=int, default=0, help="stop early, for timing")
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    x, y = decode("train")
    x_val, y_val = decode("val")
    model = ResNet64().to(memory_format=torch.channels_last)
    average = copy.deepcopy(model).eval()
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": weights, "weight_decay": arguments.decay}, {"params": others}],
        lr=CYCLES[0].rate,
        momentum=0.9,
        nesterov=True,
    )
    per_epoch = len(x) // arguments.batch
    checkpoint = RUNS / "image.pt"
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["epoch"]
        print(f"resuming after epoch {start}", flush=True)

    # One thread a part of the batch: unlike threads inside each operation, these wait for each
    # other once a step, which matters where other programs use the same cores.
    torch.set_num_threads(1)
    workers = os.cpu_count() or 1
    pool, models = ThreadPoolExecutor(workers), twins(model, workers)
    parameters, producer = list(model.parameters()), ThreadPoolExecutor(1)

    for epoch, (cycle, within, phase) in enumerate(timetable()):
        if epoch < start:
            continue
        rng = torch.Generator().manual_seed(1000 * arguments.seed + epoch)
        order = torch.randperm(len(x), generator=rng)
        began, loss_sum = time.perf_counter(), 0.0
        for twin in models:
            twin.train()
        batches = order[: per_epoch * arguments.batch].split(arguments.batch)

        def prepare(
            picked: torch.Tensor, phase: Phase = phase, rng: torch.Generator = rng
        ) -> tuple[torch.Tensor, torch.Tensor]:
            batch = (x[picked].float() / 255 - MEAN) / STD
            if phase.crop == 1:
                batch = windows(batch, phase.size, rng)
            else:
                batch = augment(batch, phase.size, phase.crop, rng)
            return batch.contiguous(memory_format=torch.channels_last), y[picked]

        ahead = producer.submit(prepare, batches[0])
        for step in range(per_epoch):
            rate = cycle.rate_at((within + step / per_epoch) / cycle.epochs)
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch, target = ahead.result()
            if step + 1 < per_epoch:
                ahead = producer.submit(prepare, batches[step + 1])
            parts = pool.map(
                lambda twin, *part: gradients(twin, parameters, *part),
                models,
                batch.chunk(workers),
                target.chunk(workers),
            )
            losses, summed = zip(*parts, strict=True)
            for parameter, pieces in zip(parameters, zip(*summed, strict=True), strict=True):
                parameter.grad = torch.stack(pieces).mean(0)
            optimizer.step()
            loss_sum += sum(losses) / workers
            if step % 4 == 3:
                update_average(average, model, 0.99)
            if step % 100 == 99:
                seconds = (time.perf_counter() - began) / (step + 1)
                mean_loss = loss_sum / (step + 1)
                print(f"{epoch} {step + 1}/{per_epoch} {mean_loss:.3f} {seconds:.3f} s", flush=True)
            if arguments.limit_steps and step + 1 >= arguments.limit_steps:
                return
        top1, top5 = evaluate(average, x_val, y_val)
        row = {
            "epoch": epoch + 1,
            "size": phase.size,
            "rate": round(rate, 5),
            "loss": round(loss_sum / per_epoch, 4),
            "top1": round(top1, 2),
            "top5": round(top5, 2),
            "seconds": round(time.perf_counter() - began),
        }
        append_row(LOGS / "image.csv", row)
        print(row, flush=True)
        save_atomically(
            {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "epoch": epoch + 1,
            },
            checkpoint,
        )
        if within + 1 == cycle.epochs:
            save_atomically(average.state_dict(), cycle_end(CYCLES.index(cycle)))


if __name__ == "__main__":
    main()
