"""Train the embedded audio network on ESC-10, five folds and the shipped one.

    python -m training.train_audio --epochs 60 --folds 1,2,3,4,5 --final

Each fold of ``clips.csv`` is tested once by a network that never saw it; what counts is the
averaged weights at the fixed last epoch. The shipped network is trained on all clips with the same
settings. Mixing, noise, stretching and the rest work on mel power spectrograms: powers of
independent sounds add, a gain multiplies, a filter multiplies each band. Resumes from the last
checkpoint in ``training/runs`` (``CNNVIS_RUNS``); data is read from ``../shared/data``
(``CNNVIS_DATA``). The log goes to ``training/logs/audio.csv``.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import math
import time
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import soundfile as sf
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from cnnvis_core.inputs.clip import Clip
from cnnvis_core.models.logmel import LogMel
from cnnvis_core.models.soundnet import SoundNet
from training.common import DATA, LOGS, ROOT, RUNS, append_row, save_atomically, update_average

CLASSES = {
    "dog_bark": "dog bark",
    "rain": "rain",
    "sea_waves": "sea waves",
    "baby_cry": "crying baby",
    "clock_tick": "clock tick",
    "person_sneeze": "sneeze",
    "helicopter": "helicopter",
    "chainsaw": "chainsaw",
    "rooster": "rooster",
    "fire_crackling": "crackling fire",
}
FRONTEND = LogMel(
    sample_rate=32000,
    window=1024,
    hop=512,
    n_fft=1024,
    n_mels=64,
    fmin=50.0,
    fmax=14000.0,
    offset=1e-5,
    mean=-5.0,
    std=4.0,
    min_seconds=5.0,
)
KWARGS: dict[str, Any] = {"classes": len(CLASSES), "widths": [32, 64, 128, 256], "depth": 2}
CHOICES = (
    "Light tuning on folds 1 and 2 only, by trials that were watched or cut short: batches of 16 "
    "instead of 32 (a first run ended at 90.0 and 85.0 % on them) and weaker added noise, chosen "
    "together; a head that keeps frequency rows apart, tried and left out; 60 epochs, for time. "
    "So these two folds are slightly flattering; nothing was tuned on folds 3 to 5."
)
LIMITS = (
    "It knows ten sounds and must name one of them: speech, music or anything else gets a wrong "
    "name, sometimes a sure one. It heard 40 clips of each class, most of them clean and close; "
    "a far, short or overlaid sound may be missed. Engines are easily confused with each other, "
    "and so are steady noises (rain, sea waves, crackling fire). Nothing above 14 kHz is heard."
)
SILENCE = (math.log(FRONTEND.offset) - FRONTEND.mean) / FRONTEND.std


def load_clips() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mel powers (400, 64, 313), labels (400,) and folds (400,), cached as a tensor file."""
    cache = RUNS / "esc10_mel.pt"
    if cache.exists():
        mel, labels, folds = torch.load(cache, weights_only=True)
        return mel, labels, folds
    with (DATA / "esc10" / "clips.csv").open() as file:
        rows = list(csv.DictReader(file))
    mels = []
    for row in rows:
        samples, rate = sf.read(DATA / "esc10" / "clips" / row["file"], dtype="float32")
        wave = FRONTEND.resample(Clip(samples, rate))[: FRONTEND.min_samples]
        mels.append(FRONTEND.mel(wave[None])[0])
    mel = torch.stack(mels)
    labels = torch.tensor([int(row["label"]) for row in rows])
    folds = torch.tensor([int(row["fold"]) for row in rows])
    save_atomically((mel, labels, folds), cache)
    return mel, labels, folds


def normalise(mel: torch.Tensor) -> torch.Tensor:
    """Network inputs (N, 1, mels, frames) of mel powers (N, mels, frames)."""
    return ((mel + FRONTEND.offset).log() - FRONTEND.mean).div(FRONTEND.std).unsqueeze(1)


def uniform(shape: tuple[int, ...], low: float, high: float, rng: torch.Generator) -> torch.Tensor:
    """Uniform random numbers of a shape."""
    return torch.empty(shape).uniform_(low, high, generator=rng)


def warp(mel: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Shift in time (around the clip), stretch time and shift pitch by a few bands."""
    n, bands, frames = mel.shape
    shifts = torch.randint(0, frames, (n,), generator=rng)
    columns = (torch.arange(frames)[None] + shifts[:, None]) % frames
    mel = mel.gather(2, columns[:, None].expand(n, bands, frames))
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = uniform((n,), -0.2, 0.2, rng).exp()
    theta[:, 1, 1] = 1
    theta[:, 1, 2] = uniform((n,), -5 / bands, 5 / bands, rng)
    grid = F.affine_grid(theta, [n, 1, bands, frames], align_corners=False)
    return F.grid_sample(
        mel[:, None], grid, padding_mode="reflection", align_corners=False
    ).squeeze(1)


def colour(n: int, bands: int, decibels: float, rng: torch.Generator) -> torch.Tensor:
    """Smooth random frequency responses (n, bands, 1) as power gains: a phone's microphone."""
    knots = torch.randn(n, 1, 5, generator=rng) * decibels
    curve = F.interpolate(knots, bands, mode="linear", align_corners=True)
    return (10 ** (curve / 10)).transpose(1, 2)


def low_pass(mel: torch.Tensor, share: float, rng: torch.Generator) -> torch.Tensor:
    """Weaken the bands above a random one by 20 to 60 dB in a share of the clips."""
    n, bands, _ = mel.shape
    edge = uniform((n, 1, 1), 0.6, 1.0, rng) * bands
    edge = torch.where(torch.rand(n, 1, 1, generator=rng) < share, edge, torch.full((), bands))
    above = torch.arange(bands)[None, :, None] >= edge
    return torch.where(above, mel * 10 ** -uniform((n, 1, 1), 2, 6, rng), mel)


@lru_cache(maxsize=1)
def white_noise() -> torch.Tensor:
    """Mel powers (bands, frames) of a minute of white noise, each band of mean 1."""
    rng = torch.Generator().manual_seed(0)
    mel = FRONTEND.mel(torch.randn(1, 60 * FRONTEND.sample_rate, generator=rng))[0]
    return mel / mel.mean(1, keepdim=True)


def grain(n: int, frames: int, rng: torch.Generator) -> torch.Tensor:
    """Random stretches (n, bands, frames) of white noise of mean power 1 in each band."""
    field = white_noise()
    starts = torch.randint(0, field.shape[1] - frames, (n,), generator=rng).tolist()
    return torch.stack([field[:, start : start + frames] for start in starts])


def noise(mel: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Add steady coloured noise, from inaudible to 10 dB under the clip, to two clips in five."""
    n, bands, frames = mel.shape
    level = mel.mean((1, 2), keepdim=True).clamp(min=1e-5)
    ratio = 10 ** -uniform((n, 1, 1), 1, 6, rng)
    used = (torch.rand(n, 1, 1, generator=rng) < 0.4).float()
    return mel + used * level * ratio * colour(n, bands, 5.0, rng) * grain(n, frames, rng)


def mix(
    mel: torch.Tensor, target: torch.Tensor, share: float, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix clips in pairs at equal loudness, labels by their part (Tokozume et al. 2018)."""
    n = len(mel)
    other = torch.randperm(n, generator=rng)
    part = torch.rand(n, 1, 1, generator=rng)
    part = torch.where(torch.rand(n, 1, 1, generator=rng) < share, part, torch.ones(()))
    # Loudness of the loudest tenth of frames: a bark between silences counts as its bark.
    loud = mel.sum(1).kthvalue(int(0.9 * mel.shape[2]), 1).values.clamp(min=1e-4)
    ratio = (loud / loud[other]).clamp(1e-4, 1e4)[:, None, None]
    mixed = part**2 * mel + (1 - part) ** 2 * ratio * mel[other]
    mixed = mixed / (part**2 + (1 - part) ** 2)
    soft = part[:, :, 0] * target + (1 - part[:, :, 0]) * target[other]
    return mixed, soft


def mask(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Cover a band of frequencies and a stretch of time (Park et al. 2019, SpecAugment)."""
    n, _, bands, frames = x.shape
    for axis, size, widest in ((2, bands, 12), (3, frames, 60)):
        width = uniform((n,), 0, widest, rng)
        start = uniform((n,), 0, 1, rng) * (size - width)
        place = torch.arange(size)[None]
        hidden = (place >= start[:, None]) & (place < (start + width)[:, None])
        view = [n, 1, 1, 1]
        view[axis] = size
        x = x.masked_fill(hidden.view(view), SILENCE)
    return x


def augment(
    mel: torch.Tensor, target: torch.Tensor, rng: torch.Generator, share: float = 0.6
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make inputs (N, 1, mels, frames) and soft labels (N, classes) of mel powers and labels."""
    mel = warp(mel, rng)
    mel, target = mix(mel, target, share, rng)
    mel = mel * colour(len(mel), mel.shape[1], 3.0, rng)
    mel = noise(low_pass(mel, 0.2, rng), rng)
    mel = mel * 10 ** uniform((len(mel), 1, 1), -1.5, 1.0, rng)
    return mask(normalise(mel), rng), target


@torch.no_grad()
def evaluate(model: nn.Module, x: torch.Tensor, labels: torch.Tensor) -> float:
    """Accuracy in percent on unaltered clips, in float32."""
    model.eval()
    answers = torch.cat([model(part).argmax(1) for part in x.split(40)])
    return round(100 * int((answers == labels).sum()) / len(labels), 2)


def phone(mel: torch.Tensor) -> torch.Tensor:
    """Mel powers as a phone might record them: 10 dB softer, nothing above 8 kHz, room noise.

    The noise lies 20 dB under the clip's mean power; no random number differs between calls.
    """
    rng = torch.Generator().manual_seed(7)
    centres = torch.from_numpy(FRONTEND.mel_centres_hz()).float()[None, :, None]
    mel = torch.where(centres > 8000, mel * 1e-4, mel) * colour(len(mel), mel.shape[1], 3.0, rng)
    level = 0.01 * mel.mean((1, 2), keepdim=True).clamp(min=1e-4)
    fall = 3 * 300 / centres.clamp(min=300)
    return 0.1 * (mel + level * fall * grain(len(mel), mel.shape[2], rng))


def in_half(model: nn.Module) -> nn.Module:
    """Copy a network with its weights rounded to half precision, as they are shipped."""
    copied = copy.deepcopy(model)
    for value in copied.state_dict().values():
        if value.is_floating_point():
            value.copy_(value.half())
    return copied


def learning_rate(highest: float, done: float) -> float:
    """One cycle: up over the first tenth, then down along a cosine."""
    fall = max(0.0, (done - 0.1) / 0.9)
    return highest * min(1.0, done / 0.1) * 0.5 * (1 + math.cos(math.pi * fall))


def build(settings: argparse.Namespace) -> tuple[nn.Module, nn.Module, torch.optim.Optimizer]:
    """Make a network, its average and the optimizer; biases and norms are not decayed."""
    model = SoundNet(**KWARGS).to(memory_format=torch.channels_last)
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": settings.decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return model, copy.deepcopy(model).eval(), torch.optim.AdamW(groups, lr=settings.rate)


def train(
    fold: int,
    mel: torch.Tensor,
    labels: torch.Tensor,
    folds: torch.Tensor,
    settings: argparse.Namespace,
) -> nn.Module:
    """Averaged network trained on all folds but one, or on all clips where ``fold`` is 0.

    The log gets a row every ten epochs; nothing is chosen by its accuracies.
    """
    used, held = folds != fold, folds == fold
    train_mel, targets = mel[used], F.one_hot(labels[used], len(CLASSES)).float()
    torch.manual_seed(settings.seed + fold)
    model, average, optimizer = build(settings)
    checkpoint = RUNS / f"audio-{fold}.pt"
    recipe = {k: v for k, v in vars(settings).items() if k not in ("folds", "final")}
    start, spent = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["recipe"] == recipe:
            model.load_state_dict(state["model"])
            average.load_state_dict(state["average"])
            optimizer.load_state_dict(state["optimizer"])
            start, spent = state["epoch"], state["seconds"]
            print(f"fold {fold}: resuming after epoch {start}", flush=True)
    per_epoch = len(train_mel) // settings.batch
    began, losses = time.perf_counter() - spent, []
    for epoch in range(start, settings.epochs):
        seed = 100_000 * settings.seed + 1000 * fold + epoch
        rng = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # dropout
        order = torch.randperm(len(train_mel), generator=rng)
        model.train()
        for step in range(per_epoch):
            count = epoch * per_epoch + step
            rate = learning_rate(settings.rate, count / (per_epoch * settings.epochs))
            for group in optimizer.param_groups:
                group["lr"] = rate
            picked = order[step * settings.batch : (step + 1) * settings.batch]
            x, target = augment(train_mel[picked], targets[picked], rng, settings.mix)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(x.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), target, label_smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            update_average(average, model, min(0.995, 1 - 1 / (count + 1)))
            losses.append(float(loss.detach()))
        last = epoch + 1 == settings.epochs
        if epoch % 10 != 9 and not last:
            continue
        seconds = time.perf_counter() - began
        save_atomically(
            {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "epoch": epoch + 1,
                "seconds": seconds,
                "recipe": recipe,
            },
            checkpoint,
        )
        row: dict[str, Any] = {
            "fold": fold or "all",
            "epoch": epoch + 1,
            "epochs": settings.epochs,
            "clips": len(train_mel),
            "loss": round(sum(losses) / len(losses), 4),
            "accuracy": "",
            "accuracy_half": "",
            "accuracy_phone": "",
            "seconds": round(seconds),
        }
        if fold:
            x = normalise(mel[held])
            row["accuracy"] = evaluate(average, x, labels[held])
        if fold and last:
            row["accuracy_half"] = evaluate(in_half(average), x, labels[held])
            row["accuracy_phone"] = evaluate(average, normalise(phone(mel[held])), labels[held])
        append_row(LOGS / "audio.csv", row)
        print(row, flush=True)
        losses = []
    return average


def cross_validated(epochs: int) -> dict[str, list[float]]:
    """Accuracies of the five folds at the last epoch, read from the log."""
    with (LOGS / "audio.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if int(r["epoch"]) == int(r["epochs"]) == epochs]
    found = {row["fold"]: row for row in rows}
    missing = [fold for fold in "12345" if fold not in found]
    if missing:
        raise SystemExit(f"fold {', '.join(missing)} is not trained for {epochs} epochs yet")
    columns = ("accuracy", "accuracy_half", "accuracy_phone")
    return {name: [float(found[fold][name]) for fold in "12345"] for name in columns}


def multiply_adds(model: nn.Module, x: torch.Tensor) -> int:
    """Multiplications of one forward pass in convolutions and linear layers."""
    total = 0

    def count(module: nn.Module, _: Any, output: torch.Tensor) -> None:
        nonlocal total
        weight = module.get_parameter("weight")
        total += output.numel() * weight.numel() // weight.shape[0]

    kinds = (nn.Conv2d, nn.Linear)
    handles = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, kinds)]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return total


def ship(model: nn.Module, mel: torch.Tensor, settings: argparse.Namespace) -> None:
    """Write the weights in half precision and the card."""
    scores = cross_validated(settings.epochs)
    target = ROOT / "assets" / "models" / "soundnet-esc10.safetensors"
    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in model.state_dict().items()
    }
    save_file(state, target)
    target.chmod(0o644)  # safetensors makes it private, which a container's user could not read
    x = normalise(mel[:1])
    mean = {name: sum(values) / len(values) for name, values in scores.items()}
    card = {
        "id": "soundnet-esc10",
        "title": "SoundNet (ESC-10)",
        "modality": "audio",
        "architecture": {"name": "SoundNet", "kwargs": KWARGS},
        "frontend": asdict(FRONTEND),
        "classes": list(CLASSES.values()),
        "input_shape": list(x.shape[1:]),
        "parameters": sum(p.numel() for p in model.parameters()),
        "multiply_adds": multiply_adds(model.eval(), x),
        "bytes": target.stat().st_size,
        "source": "Trained for cnnvis from random weights by training/train_audio.py.",
        "licence": (
            "Weights trained on ESC-10 (K. J. Piczak, 'ESC: Dataset for Environmental Sound "
            "Classification', ACM Multimedia 2015; CC BY 3.0), clips by users of Freesound; "
            "name the data set where you use them."
        ),
        "data": (
            f"ESC-10: {len(mel)} clips of 5 s, {len(CLASSES)} classes, five folds; the shipped "
            "weights have seen all of them."
        ),
        "training_command": (
            f"python -m training.train_audio --epochs {settings.epochs} --folds 1,2,3,4,5 --final"
        ),
        "accuracy": {
            "mean": round(mean["accuracy"], 2),
            "folds": scores["accuracy"],
            "mean_half_precision": round(mean["accuracy_half"], 2),
            "mean_simulated_phone": round(mean["accuracy_phone"], 2),
            "unit": "per cent of clips named rightly",
            "on": (
                f"{len(mel)} clips of ESC-10, {len(mel) // 5} a fold, each named by a network that "
                "had not heard it (averaged weights at the fixed last epoch); the shipped weights "
                "were trained on all folds with the same settings"
            ),
        },
        "choices": CHOICES,
        "accuracy_log": "training/logs/audio.csv",
        "limits": LIMITS,
    }
    text = json.dumps(card, indent=2, ensure_ascii=False)
    target.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    print(text, flush=True)


def main() -> None:
    """Train folds and the shipped network, resuming where the last run stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--decay", type=float, default=5e-2)
    parser.add_argument("--mix", type=float, default=0.6, help="share of clips that are mixed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folds", default="", help="folds to test, such as 1,2,3,4,5")
    parser.add_argument("--final", action="store_true", help="train and write the shipped weights")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    mel, labels, folds = load_clips()
    for fold in filter(None, settings.folds.split(",")):
        train(int(fold), mel, labels, folds, settings)
    if settings.final:
        ship(train(0, mel, labels, folds, settings), mel, settings)


if __name__ == "__main__":
    main()
