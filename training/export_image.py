"""Measure the trained image network and write it, with its card, into ``assets/models``.

python -m training.export_image
"""

from __future__ import annotations

import csv
import json
from collections import Counter

import torch
from safetensors.torch import load_file, save_file

from cnnvis_core.models.resnet64 import ResNet64
from training.common import DATA, LOGS, ROOT, append_row
from training.train_image import CYCLES, MEAN, STD, cycle_end, decode, evaluate, merge

MODEL_ID = "resnet64-tiny-imagenet"


def class_names() -> list[str]:
    """The first of each class's names, or all of them where two classes share the first."""
    with (DATA / "tiny_imagenet" / "classes.csv").open(newline="") as file:
        names = [row["name"] for row in sorted(csv.DictReader(file), key=lambda r: int(r["label"]))]
    first = [name.split(",")[0] for name in names]
    count = Counter(first)
    return [short if count[short] == 1 else name for short, name in zip(first, names, strict=True)]


def log_mean(top1: float, top5: float) -> int:
    """Write the merged network's figures below the log's epochs; return their number."""
    log = LOGS / "image.csv"
    with log.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["epoch"].isdigit()]
    mean = {
        "epoch": "mean of both ends",
        "size": 64,
        "top1": round(top1, 2),
        "top5": round(top5, 2),
    }
    log.unlink()
    for row in [*rows, dict.fromkeys(rows[0], "") | mean]:
        append_row(log, row)
    return len(rows)


def main() -> None:
    """Merge the ends of the cycles, round to half precision, measure, and write both files."""
    pictures, _ = decode("train")
    ends = [torch.load(cycle_end(n), weights_only=True) for n in range(len(CYCLES))]
    merged = merge(ends, pictures)
    target = ROOT / "assets" / "models" / f"{MODEL_ID}.safetensors"
    halves = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in merged.state_dict().items()
    }
    save_file({name: tensor.contiguous() for name, tensor in halves.items()}, target)
    target.chmod(0o644)  # safetensors writes it for the owner alone

    model = ResNet64()
    model.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in load_file(target).items()}
    )
    x, y = decode("val")
    top1, top5 = evaluate(model, x, y, torch.float32)
    epochs = log_mean(top1, top5)
    size = target.stat().st_size
    card = {
        "id": MODEL_ID,
        "title": "ResNet64 (Tiny ImageNet)",
        "modality": "image",
        "architecture": {"name": "ResNet64", "kwargs": {"classes": 200}},
        "frontend": {
            "resize": 64,
            "crop": [64, 64],
            "mean": [round(v, 3) for v in MEAN.flatten().tolist()],
            "std": [round(v, 3) for v in STD.flatten().tolist()],
            "interpolation": "bilinear",
        },
        "classes": class_names(),
        "input_shape": [3, 64, 64],
        "parameters": sum(p.numel() for p in model.parameters()),
        "bytes": size,
        "source": "trained for this project (training/train_image.py)",
        "licence": "weights free to use with this project; trained on Tiny ImageNet, whose "
        "pictures are ImageNet's (research use)",
        "data": "Tiny ImageNet: 100,000 pictures of 200 classes at 64 x 64 pixels, re-encoded as "
        "WebP at quality 72.",
        "training_command": "python -m training.train_image",
        "training": f"{epochs} epochs from random weights in two cosine cycles of stochastic "
        "gradient descent with label smoothing 0.1. The first, of 33 epochs, on resampled crops of "
        "48, then 56 pixels with flips and brightness, its end on shifts by whole pixels at 64; "
        "the second, of 9, only on windows at whole pixels, as sharp as pictures are when they are "
        "named. The shipped weights are the mean of both cycles' ends (each a running average), "
        "with batch-norm statistics taken anew. The first cycle was lengthened from 28 to 31 "
        "epochs after epoch 19 and to 33 after epoch 29.",
        "accuracy": {
            "top1": round(top1, 2),
            "top5": round(top5, 2),
            "on": f"{len(x)} pictures of Tiny ImageNet's validation split, half-precision weights "
            "computed in float32",
        },
        "accuracy_log": "training/logs/image.csv",
        "limits": "It knows 200 classes and sees 64 x 64 pixels: expect plausible rather than "
        "right answers on photographs of other things. The validation split chose no weights, but "
        "it was looked at when the second cycle and the mean were decided on.",
    }
    target.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")
    print(f"top-1 {top1:.2f} %, top-5 {top5:.2f} %, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
