"""Fine-tune the embedded image network on the dogs of Tiny ImageNet, and ship the child.

    python -m training.finetune_dogs

Goes on from the last epoch in ``training/runs/dogs`` (``CNNVIS_RUNS``); data is read from
``../shared/data`` (``CNNVIS_DATA``). The child goes to ``assets/models`` as differences from the
network it was made from, with its card; the figures of all epochs to ``training/logs/dogs.csv``.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

import cnnvis_core as cv
from cnnvis_core.datasets import MemoryDataset
from cnnvis_core.models.embedded import read_card
from cnnvis_core.models.offspring import child_of, difference
from cnnvis_core.transfer import Finetuning, finetune
from training.common import DATA, LOGS, ROOT, RUNS

PARENT, CHILD = "resnet64-tiny-imagenet", "resnet64-dogs"
BREEDS = (24, 25, 26, 27, 28, 29)
EPOCHS = (1, 3, 8)  # that are shipped
CONTROL = 0  # in place of an epoch: the last one of a training with another seed
SETTINGS = Finetuning(
    train="all", epochs=max(EPOCHS), batch=32, learning_rate=2e-4, augmentation="strong",
    validation=0.1, seed=0,
)  # fmt: skip
ASSETS = ROOT / "assets" / "models"


def pictures(
    part: str, labels: tuple[int, ...], names: list[str], each: int = 500
) -> MemoryDataset:
    """The pictures of some classes of Tiny ImageNet, of each class the first so many."""
    found: list[tuple[str, bytes, int]] = []
    for path in sorted((DATA / "tiny_imagenet").glob(f"{part}*.parquet")):
        table = pq.read_table(path)
        mine = table.filter(pc.is_in(table["label"], pc.cast(list(labels), table["label"].type)))
        rows = zip(
            mine["name"].to_pylist(), mine["webp"].to_pylist(), mine["label"].to_pylist(),
            strict=True,
        )  # fmt: skip
        for name, data, label in rows:
            number = labels.index(label)
            if sum(number == known for _, _, known in found) < each:
                found.append((name, data, number))
    return MemoryDataset(
        [name for name, _, _ in found], [data for _, data, _ in found],
        [label for _, _, label in found], names,
    )  # fmt: skip


def share_right(
    model: cv.Model, data: MemoryDataset, among: tuple[int, ...] | None = None
) -> float:
    """Share of pictures that are named rightly, in per cent; ``among`` some classes alone."""
    inputs = torch.cat([model.preprocess(cv.read_image(content)) for content in data.data])
    answers = torch.cat([model.predict(x) for x in inputs.split(100)])
    if among is not None:
        answers = answers[:, list(among)]
    return 100 * float((answers.argmax(1).cpu() == torch.tensor(data.labels)).float().mean())


def trained(parent: cv.Model, data: MemoryDataset, name: str, settings: Finetuning) -> cv.Finetuned:
    """A training that goes on from its last epoch."""
    with finetune(parent, data, RUNS / name, settings) as job:
        for progress in job:
            print(f"\r{name}: {progress.done / progress.total:.0%}", end="", flush=True)
    print()
    return job.result


def main() -> None:
    """Train, round, measure on pictures that neither network has seen, and write both files."""
    parent = cv.load(PARENT)
    names = [parent.classes[label] for label in BREEDS]
    train, fresh = pictures("train", BREEDS, names), pictures("val", BREEDS, names)
    found = trained(parent, train, "dogs", SETTINGS)
    found.log.to_csv(LOGS / "dogs.csv", index=False)
    control = trained(parent, train, "dogs-control", replace(SETTINGS, seed=1))
    after = {epoch: found.checkpoints[epoch - 1] for epoch in EPOCHS}
    after[CONTROL] = control.checkpoints[-1]
    before = {name: value.cpu() for name, value in parent.module.state_dict().items()}
    kept: dict[str, torch.Tensor] = {}
    right: dict[int, float] = {}
    for epoch, checkpoint in after.items():
        child = checkpoint.load()
        state = {name: value.cpu() for name, value in child.module.state_dict().items()}
        kept |= difference(before, state, epoch)
        child.module.load_state_dict(child_of(before, kept, epoch))
        right[epoch] = round(share_right(child, fresh), 1)
    untouched = round(share_right(parent, fresh, BREEDS), 1)
    target = ASSETS / f"{CHILD}.safetensors"
    save_file(kept, target)
    target.chmod(0o644)
    base = read_card(ASSETS / f"{PARENT}.json")
    card = {
        "id": CHILD,
        "title": "ResNet64 fine-tuned on dogs",
        "modality": "image",
        "parent": PARENT,
        "epochs": list(EPOCHS),
        "control": CONTROL,
        "architecture": {"name": "ResNet64", "kwargs": {"classes": len(BREEDS)}},
        "frontend": base["frontend"],
        "classes": names,
        "input_shape": base["input_shape"],
        "parameters": sum(value.numel() for value in child.module.parameters()),
        "bytes": target.stat().st_size,
        "source": "fine-tuned for this project (training/finetune_dogs.py)",
        "licence": base["licence"],
        "data": f"The {len(train.data):,} training pictures of {len(BREEDS)} breeds of dogs in "
        "Tiny ImageNet, which its parent was trained on as well.",
        "training_command": "python -m training.finetune_dogs",
        "training": SETTINGS.as_json(),
        "accuracy": f"{right[max(EPOCHS)]:.1f} % on {len(fresh.data)} validation pictures of Tiny "
        f"ImageNet (parent, asked among the same breeds: {untouched:.1f} %)",
        "accuracy_by_epoch": {epoch: right[epoch] for epoch in EPOCHS},
        "accuracy_of_control": right[CONTROL],
        "accuracy_log": "training/logs/dogs.csv",
        "limits": "It knows six breeds and calls everything one of them; it ships to show how a "
        "network changes. Weights are kept as differences of a byte each.",
    }
    (ASSETS / f"{CHILD}.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    print(card["accuracy"], right)


if __name__ == "__main__":
    main()
