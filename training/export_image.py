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
from training.common import DATA, LOGS, ROOT, RUNS
from training.train_image import MEAN, STD, decode, evaluate

MODEL_ID = "resnet64-tiny-imagenet"


def class_names() -> list[str]:
    """The first of each class's names, or all of them where two classes share the first."""
    with (DATA / "tiny_imagenet" / "classes.csv").open(newline="") as file:
        names = [row["name"] for row in sorted(csv.DictReader(file), key=lambda r: int(r["label"]))]
    first = [name.split(",")[0] for name in names]
    count = Counter(first)
    return [short if count[short] == 1 else name for short, name in zip(first, names, strict=True)]


def main() -> None:
    """Round the averaged weights to half precision, measure those, and write both files."""
    state = torch.load(RUNS / "image.pt", weights_only=True)
    target = ROOT / "assets" / "models" / f"{MODEL_ID}.safetensors"
    halves = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in state["average"].items()
    }
    save_file({name: tensor.contiguous() for name, tensor in halves.items()}, target)
    target.chmod(0o644)  # safetensors writes it for the owner alone

    model = ResNet64()
    model.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in load_file(target).items()}
    )
    x, y = decode("val")
    top1, top5 = evaluate(model, x, y, torch.float32)
    with (LOGS / "image.csv").open(newline="") as file:
        epochs = len(list(csv.DictReader(file)))
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
        "training": f"{epochs} epochs from random weights, on crops of 48, then 56, then 64 "
        "pixels; stochastic gradient descent with one cosine cycle, label smoothing 0.1, random "
        "crops, flips and brightness; at the end only shifts by whole pixels and flips, which "
        "leave pictures as sharp as they are when they are named. The run was lengthened from 28 "
        "to 31 epochs after epoch 19 and to 33 after epoch 29.",
        "accuracy": {
            "top1": round(top1, 2),
            "top5": round(top5, 2),
            "on": f"{len(x)} pictures of Tiny ImageNet's validation split, half-precision weights "
            "computed in float32",
        },
        "accuracy_log": "training/logs/image.csv",
        "limits": "It knows 200 classes and sees 64 x 64 pixels: expect plausible rather than "
        "right answers on photographs of other things. The weights are the running average at the "
        "last epoch; the validation split chose nothing.",
    }
    target.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")
    print(f"top-1 {top1:.2f} %, top-5 {top5:.2f} %, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
