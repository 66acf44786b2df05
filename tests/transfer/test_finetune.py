"""Learning further: what learns, what stays, what is kept, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
import torchvision
from PIL import Image
from torch import nn

import cnnvis_core as cv
from cnnvis_core.datasets import Dataset, MemoryDataset
from cnnvis_core.transfer import Finetuning, finetune, stages_of
from cnnvis_core.transfer.augmentation import augmented
from cnnvis_core.transfer.network import set_learning, trainable
from cnnvis_core.transfer.pile import Block, Pile
from cnnvis_core.transfer.splitting import split
from cnnvis_core.transfer.training import _batches
from tests.datasets.piles import as_folder, as_zip
from tests.support import small_network

COLOURS = {"blue": (30, 40, 200), "green": (30, 190, 60), "red": (200, 40, 30)}


def colourful(each: int = 20, seed: int = 0) -> dict[str, bytes]:
    """Pictures of noise about a colour, in folders by its name."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, colour in COLOURS.items():
        for number in range(each):
            noise = rng.integers(-30, 31, (32, 32, 3)) + np.array(colour)
            buffer = io.BytesIO()
            Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
            found[f"{name}/{number:02d}.png"] = buffer.getvalue()
    return found


def dataset_of(files: dict[str, bytes]) -> MemoryDataset:
    classes = sorted({name.split("/")[0] for name in files})
    labels = [classes.index(name.split("/")[0]) for name in files]
    return MemoryDataset(list(files), list(files.values()), labels, classes)


DATA = dataset_of(colourful())


class Normed(nn.Sequential):
    """Two stages with batch normalisation and dropout."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(6, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3))
        self.fc = nn.Linear(8, 4)


@pytest.fixture(scope="module")
def model() -> cv.Model:
    return cv.from_module(Normed(), (3, 32, 32))


def state(model: cv.Model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.module.state_dict().items()}


def test_what_is_learned_answers_and_the_base_is_as_it_was(model):
    before = state(model)
    found = cv.run(finetune(model, DATA, epochs=8, learning_rate=0.02, batch=8))
    assert found.classes == ("blue", "green", "red")
    assert len(found.checkpoints) == len(found.log) == 8
    assert found.best.accuracy == 1
    tuned = found.best.load()
    assert tuned.classes == found.classes
    fresh = dataset_of(colourful(5, seed=9))
    right = [
        int(tuned.predict(tuned.preprocess(cv.read_image(data))).argmax()) == label
        for data, label in zip(fresh.data, fresh.labels, strict=True)
    ]
    assert np.mean(right) == 1
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(w.requires_grad for m in (model, tuned) for w in m.module.parameters())
    assert not any(m.training for m in tuned.module.modules())
    assert tuned.layers[0].name == model.layers[0].name
    cv.run(cv.compare(model, tuned, "first.0"))


def as_table(files: dict[str, bytes], where: Path) -> Path:
    labels = [name.split("/")[0] for name in files]
    table = pa.table({"name": list(files), "label": labels, "image": list(files.values())})
    pq.write_table(table, where, row_group_size=5)
    return where


@pytest.mark.parametrize("form", ["folder", "zip", "parquet"])
def test_files_and_memory_give_the_same_weights(model, form, tmp_path):
    files = colourful(6)
    put = {"folder": as_folder, "zip": as_zip, "parquet": as_table}[form]
    place = put(dict(sorted(files.items())), tmp_path / f"in.{form}")
    wanted = cv.run(finetune(model, dataset_of(dict(sorted(files.items()))), epochs=1))
    found = cv.run(finetune(model, place, tmp_path / "out", epochs=1))
    for name, value in found.checkpoints[0].load().module.state_dict().items():
        assert torch.equal(value, wanted.checkpoints[0].load().module.state_dict()[name])


def test_stages_that_stay_stay_to_the_bit_their_statistics_too(model):
    before = state(model)
    for train, moved in (("head", {"fc"}), (1, {"fc"}), (("second",), {"second", "fc"})):
        found = cv.run(finetune(model, DATA, epochs=1, train=train, learning_rate=0.1))
        after = found.checkpoints[0].load().module.state_dict()
        for name, value in after.items():
            part = name.split(".")[0]
            same = before[name].shape == value.shape and torch.equal(before[name], value)
            if name.endswith("num_batches_tracked"):
                continue
            assert same == (part not in moved), name
    assert stages_of(model) == ("first", "second", "fc")
    with pytest.raises(cv.ModelError, match="cannot train"):
        finetune(model, DATA, train=("third",))
    with pytest.raises(cv.ModelError, match="cannot train"):
        finetune(model, DATA, train=9)


def test_a_training_that_is_broken_off_goes_on_bit_for_bit(model, tmp_path):
    settings = Finetuning(epochs=4, batch=8, augmentation="strong", learning_rate=0.01)
    whole = cv.run(finetune(model, DATA, tmp_path / "whole", settings))
    seen = 0
    for most in (3, 9, 14, 10_000):
        with finetune(model, DATA, tmp_path / "cut", settings) as job:
            for number, progress in enumerate(job):
                seen = max(seen, len(progress.preview.checkpoints))
                # decoding is yielded too; count what was learned
                if number > 60 + most:
                    break
    assert seen == 4
    for number in range(4):
        one, other = (
            (tmp_path / part / f"epoch-{number + 1:03d}.safetensors").read_bytes()
            for part in ("whole", "cut")
        )
        assert one == other
    columns = [c for c in whole.log.columns if c != "seconds"]
    cut = cv.run(finetune(model, DATA, tmp_path / "cut", settings))
    np.testing.assert_array_equal(cut.log[columns], whole.log[columns])
    memory = cv.run(finetune(model, DATA, None, settings))
    assert memory.checkpoints[3].read() == whole.checkpoints[3].read()


def test_a_training_in_memory_goes_on_bit_for_bit(model):
    settings = Finetuning(epochs=3, batch=8, learning_rate=0.01)
    whole = cv.run(finetune(model, DATA, None, settings))
    begun = None
    with finetune(model, DATA, None, settings) as job:
        for progress in job:
            begun = progress.preview
            if len(begun.checkpoints) == 2 and begun.losses:
                break
    found = cv.run(finetune(model, DATA, None, settings, begun))
    assert [point.read() for point in found.checkpoints] == [
        point.read() for point in whole.checkpoints
    ]
    assert len(found.log) == 3


@pytest.mark.parametrize("name", ["state.pt", "epoch-002.safetensors", "log.csv"])
@pytest.mark.parametrize("content", [b"junk", b"", None])
def test_a_damaged_training_gets_one_sentence_and_loses_nothing(model, tmp_path, name, content):
    with finetune(model, DATA, tmp_path / "out", epochs=3) as job:
        for progress in job:
            if len(progress.preview.checkpoints) == 2:
                break
    path = tmp_path / "out" / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    first = (tmp_path / "out" / "epoch-001.safetensors").read_bytes()
    if name == "log.csv" and content is None:
        return  # half a table may be a table
    with pytest.raises(cv.InputError, match="damaged"):
        cv.run(finetune(model, DATA, tmp_path / "out", epochs=3))
    assert (tmp_path / "out" / "epoch-001.safetensors").read_bytes() == first
    path.write_bytes(whole)
    assert len(cv.run(finetune(model, DATA, tmp_path / "out", epochs=3)).checkpoints) == 3


def test_dropout_acts_and_weights_of_the_network_itself_learn():
    class Scaled(Normed):
        def __init__(self):
            super().__init__()
            self.loose = nn.Dropout(0.5)
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.scale * self.fc(self.loose(self.pool(self.second(self.first(x)))))

    model = cv.from_module(Scaled(), (3, 32, 32))
    module = trainable(model, ["a", "b", "c", "d"], 0, False)
    learning = set_learning(module, stages_of(model), True)
    assert any(weight is module.scale for weight in learning)
    x = torch.rand(4, 3, 32, 32)
    assert not torch.equal(module(x), module(x))
    set_learning(module, ["second", "fc"], False)
    assert module.loose.training
    assert not module.first[1].training
    assert module.second[1].training
    assert not module.scale.requires_grad


@pytest.mark.parametrize("name", ["inception_v3", "googlenet", "squeezenet1_1", "vgg11"])
def test_networks_of_torchvision_get_other_classes_and_learn(name):
    extra = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
    torch.manual_seed(0)
    module = torchvision.models.get_model(name, num_classes=6, **extra)
    model = cv.from_module(module, (3, 96, 96))
    stages = stages_of(model)
    assert not any("aux" in stage.lower() for stage in stages)
    assert len(stages) > 5
    files = dict(list(colourful(4).items()))
    found = cv.run(finetune(model, dataset_of(files), epochs=1, train=2, batch=4))
    tuned = found.checkpoints[0].load()
    assert tuned.predict(torch.rand(2, 3, 96, 96)).shape == (2, 3)


def test_heads_that_cannot_be_exchanged_get_one_sentence():
    body = [nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    normed = nn.Sequential(*body, nn.Linear(4, 5), nn.BatchNorm1d(5))
    with pytest.raises(cv.ModelError, match="cannot be given 3 classes"):
        cv.run(finetune(cv.from_module(normed, (3, 32, 32)), DATA))
    weighted = nn.Sequential(*body, nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)))
    model = cv.from_module(weighted, (3, 32, 32), classes=["red", "a", "b", "c", "d"])
    assert len(cv.run(finetune(model, DATA, epochs=1)).checkpoints) == 1


def test_an_empty_folder_of_a_class_is_named(model, tmp_path):
    folder = as_folder(colourful(4), tmp_path / "in")
    (folder / "violet").mkdir()
    with pytest.raises(cv.InputError, match="'violet' of a class holds no file"):
        finetune(model, folder)


def test_the_class_that_is_lost_is_named_also_where_memory_holds_a_part(model, monkeypatch):
    monkeypatch.setattr("cnnvis_core.transfer.training.MEMORY", 4 * 3 * 32 * 32 * 8)
    with pytest.raises(cv.InputError, match="'red' can be read"):
        cv.run(finetune(model, broken_class(), epochs=1))
    seen = [p.done / p.total for p in finetune(model, DATA, epochs=2)]
    assert seen == sorted(seen)
    assert seen[-1] == 1
    assert sum(share < 1 for share in seen) > 0.97 * len(seen)


def test_files_that_were_left_out_are_named_after_a_resume_too(model, tmp_path):
    files = {**colourful(6), "red/00.png": b"nothing"}
    found = cv.run(finetune(model, dataset_of(files), tmp_path / "out", epochs=1))
    again = cv.run(finetune(model, dataset_of(files), tmp_path / "out", epochs=1))
    assert found.broken == again.broken
    assert list(again.broken) == ["red/00.png"]


def test_what_answers_classes_at_once_answers_one_after_it_was_trained(model):
    module = small_network(classes=3)
    several = cv.from_module(module, (3, 32, 32), classes=("blue", "green", "red"), exclusive=False)
    tuned = cv.run(finetune(several, DATA, epochs=1)).checkpoints[0].load()
    assert tuned.predict(torch.rand(2, 3, 32, 32)).sum(1) == pytest.approx([1, 1], abs=1e-5)


def test_a_cancelled_training_keeps_its_last_epoch(model):
    last = None
    with finetune(model, DATA, epochs=50, batch=8) as job:
        for progress in job:
            last = progress.preview
            if len(last.checkpoints) == 2 and last.losses:
                break
    assert last is not None
    assert len(last.log) == 2
    assert last.best.load().classes == ("blue", "green", "red")
    assert progress.seconds_left > 0


def test_held_back_items_are_of_every_class_and_never_changed(model, monkeypatch):
    parts = split(DATA, 0.2, 0)
    assert not set(parts.train) & set(parts.test)
    assert sorted((*parts.train, *parts.test)) == list(range(60))
    assert [sum(DATA.labels[i] == c for i in parts.test) for c in range(3)] == [4, 4, 4]
    assert parts != split(DATA, 0.2, 1)
    seen = []
    monkeypatch.setattr(
        "cnnvis_core.transfer.training.augmented",
        lambda x, *_: seen.append(len(x)) or torch.full_like(x, float("nan")).nan_to_num(0.0),
    )
    found = cv.run(finetune(model, DATA, epochs=1, batch=8, learning_rate=1e-9))
    assert sum(seen) == len(parts.train)
    untouched = [model.preprocess(cv.read_image(DATA.data[i])) for i in parts.test]
    tuned = found.checkpoints[0].load()
    answers = tuned.predict(torch.cat(untouched)).argmax(1)
    right = np.mean([int(a) == DATA.labels[i] for a, i in zip(answers, parts.test, strict=True)])
    assert found.log["test_accuracy"][0] == pytest.approx(right)


def test_memory_holds_a_part_of_the_items_at_a_time(model):
    pile = Pile(model, DATA, range(60), memory=4 * 3 * 32 * 32 * 25)
    blocks = [block for block in pile.blocks() if isinstance(block, Block)]
    assert [len(block.labels) for block in blocks] == [20, 20, 20]
    assert all(len(set(block.labels.tolist())) == 3 for block in blocks)
    everything = torch.cat([x for block in blocks for x in block.inputs])
    whole = Pile(model, DATA, range(60))
    (block,) = [block for block in whole.blocks() if isinstance(block, Block)]
    assert everything.sum() == pytest.approx(float(torch.cat(block.inputs).sum()), rel=1e-4)
    assert whole.whole is block
    assert pile.whole is None


def test_no_batch_holds_a_single_item():
    generator = torch.Generator().manual_seed(0)
    for count in (2, 8, 9, 16, 17):
        parts = _batches(count, 8, generator)
        assert sorted(torch.cat(parts).tolist()) == list(range(count))
        assert min(map(len, parts)) > 1


@pytest.mark.parametrize("modality", ["image", "audio"])
@pytest.mark.parametrize("kind", ["none", "light", "strong"])
def test_changes_at_random_are_repeated_by_the_seed_and_leave_shapes(modality, kind):
    x = torch.rand(6, 1 if modality == "audio" else 3, 24, 30)
    before = x.clone()
    once, again = (augmented(x, kind, modality, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(once, again)
    assert torch.equal(x, before)
    assert once.shape == x.shape
    other = augmented(x, kind, modality, torch.Generator().manual_seed(6))
    assert torch.equal(once, other) == (kind == "none")
    if kind == "light" and modality == "image":
        for old, new in zip(x, once, strict=True):
            assert torch.equal(new, old) or torch.equal(new, old.flip(2))


def test_broken_files_are_left_out_and_named(model):
    files = colourful(6)
    files["red/00.png"] = b"nothing"
    found = cv.run(finetune(model, dataset_of(files), epochs=1))
    assert list(found.broken) == ["red/00.png"]
    assert found.broken["red/00.png"]


def broken_class() -> Dataset:
    files = colourful(6)
    return dataset_of({n: b"x" if n.startswith("red") else d for n, d in files.items()})


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (dataset_of({n: d for n, d in colourful(4).items() if n.startswith("red")}), "no two"),
        (MemoryDataset(["a", "b"], list(DATA.data[:2]), [-1, -1]), "no two"),
        (dataset_of({**colourful(4), "violet/1.png": b"x"}), "'violet' has 1 files"),
        (MemoryDataset(["a"] * 4, list(DATA.data[:4]), [0, 0, 1, 1], ["a", "b", "c"]), "'c' has 0"),
        (broken_class(), "'red' can be read"),
    ],
)
def test_data_that_cannot_teach_get_one_sentence(model, dataset, words):
    with pytest.raises(cv.InputError, match=words):
        cv.run(finetune(model, dataset, epochs=1))


def test_bad_settings_and_folders_get_one_sentence(model, tmp_path):
    for wrong in (
        {"epochs": 0}, {"batch": 1}, {"learning_rate": 0}, {"learning_rate": float("nan")},
        {"weight_decay": -1}, {"validation": 0.9}, {"schedule": "linear"}, {"seed": -1},
        {"augmentation": "heavy"}, {"speed": 3}, {"epochs": 2.5}, {"epochs": "3"},
        {"batch": 2.5}, {"seed": True}, {"learning_rate": "fast"},
    ):  # fmt: skip
        with pytest.raises(cv.InputError):
            finetune(model, DATA, **wrong)
    (tmp_path / "file").write_text("x")
    with pytest.raises(cv.InputError, match="is a file"):
        finetune(model, DATA, tmp_path / "file")
    with pytest.raises(cv.InputError, match="cannot be made"):
        cv.run(finetune(model, DATA, tmp_path / "file" / "below", epochs=1))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(cv.InputError, match="other files"):
        cv.run(finetune(model, DATA, tmp_path / "full", epochs=1))
    cv.run(finetune(model, DATA, tmp_path / "out", epochs=1))
    with pytest.raises(cv.InputError, match="other settings"):
        cv.run(finetune(model, DATA, tmp_path / "out", epochs=2))
    ends = [nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1)]
    headless = cv.from_module(nn.Sequential(*ends, nn.ZeroPad1d((0, 2))), (3, 32, 32))
    with pytest.raises(cv.ModelError, match="does not end with"):
        cv.run(finetune(headless, DATA))


def test_a_loss_that_is_no_number_ends_the_training_with_a_sentence():
    module = small_network(classes=3)
    module[2].weight.data.fill_(1e38)
    broken = cv.from_module(module, (3, 32, 32), classes=["blue", "green", "red"])
    with pytest.raises(cv.InputError, match="smaller learning rate"):
        cv.run(finetune(broken, DATA, epochs=1))


def test_a_file_of_an_epoch_is_a_checkpoint_with_the_names_of_its_classes(tmp_path):
    base = cv.load("resnet64-tiny-imagenet")
    found = cv.run(finetune(base, dataset_of(colourful(4)), tmp_path / "out", epochs=1))
    data = (tmp_path / "out" / "epoch-001.safetensors").read_bytes()
    loaded = cv.load_checkpoint("resnet64-tiny-imagenet", data)
    assert loaded.classes == ("blue", "green", "red")
    x = torch.rand(2, 3, 64, 64)
    assert torch.allclose(loaded.predict(x), found.checkpoints[0].load().predict(x), atol=1e-6)
    (tmp_path / "out" / "epoch-001.safetensors").write_bytes(data[:1000])
    with pytest.raises(cv.InputError, match="damaged"):
        found.checkpoints[0].load()


def test_classes_that_are_known_keep_their_layer():
    module = small_network(classes=3, seed=4)
    model = cv.from_module(module, (3, 32, 32), classes=("blue", "green", "red"))
    found = cv.run(finetune(model, DATA, epochs=1, learning_rate=1e-9))
    after = found.checkpoints[0].load().module.state_dict()
    assert torch.allclose(after["6.weight"], model.module.state_dict()["6.weight"], atol=1e-6)
    fresh = cv.run(finetune(model, DATA, epochs=1, learning_rate=1e-9, scratch=True))
    renewed = fresh.checkpoints[0].load().module.state_dict()
    assert not torch.allclose(renewed["0.weight"], model.module.state_dict()["0.weight"], atol=0.01)


def test_a_class_that_is_known_by_name_keeps_its_weights():
    model = cv.from_module(small_network(), (3, 32, 32), classes=["a", "red", "b", "c", "green"])
    found = cv.run(finetune(model, DATA, epochs=1, learning_rate=1e-9))
    before = model.module.state_dict()
    after = found.checkpoints[0].load().module.state_dict()
    for part in ("6.weight", "6.bias"):
        assert torch.allclose(after[part][1], before[part][4], atol=1e-6)
        assert torch.allclose(after[part][2], before[part][1], atol=1e-6)
        assert not torch.allclose(after[part][0], before[part][0], atol=1e-3)


def test_sounds_are_learned():
    rng = np.random.default_rng(0)
    time = np.arange(16000) / 16000
    files = {}
    for number in range(8):
        for name, wave in (
            ("hum", np.sin(2 * np.pi * (200 + 10 * number) * time)),
            ("hiss", rng.normal(size=16000) / 3),
        ):
            buffer = io.BytesIO()
            soundfile.write(buffer, 0.3 * wave, 16000, format="WAV")
            files[f"{name}/{number}.wav"] = buffer.getvalue()
    base = cv.load("soundnet-esc10")
    found = cv.run(finetune(base, dataset_of(files), epochs=3, batch=4, augmentation="strong"))
    assert found.best.accuracy == 1
    assert found.best.load().classes == ("hiss", "hum")
