"""Programs from anybody: nothing in them runs, and each bad one is refused with a sentence."""

from __future__ import annotations

import io
import json
import random
import resource
import subprocess
import sys
import zipfile

import pytest
import torch
from torch import nn

import cnnvis_core as cv
from cnnvis_core.programs import told_shape
from tests.programs.nets import exported, network, old_layout, rewritten, with_graph
from tests.support import Payload, torch_file


@pytest.fixture(scope="module")
def data():
    return exported(network())


def call(tree: dict, target: str) -> dict:
    """The first call of an operation."""
    return next(n for n in tree["graph_module"]["graph"]["nodes"] if n["target"] == target)


def config(files: dict[str, bytes]) -> tuple[str, dict]:
    (name,) = (n for n in files if n.endswith("_weights_config.json"))
    return name, json.loads(files[name])


def pickled(data: bytes, payload: object) -> bytes:
    """The program with a weight that is unpickled."""

    def edit(files):
        name, tree = config(files)
        entry = tree["config"]["stem.bias"]
        entry["use_pickle"] = True
        (path,) = (n for n in files if n.endswith(f"weights/{entry['path_name']}"))
        files[path] = torch_file(payload)
        files[name] = json.dumps(tree).encode()

    return rewritten(data, edit)


def test_what_torch_would_run_is_not_run_here(data, tmp_path):
    proof = tmp_path / "executed"
    evil = pickled(data, Payload(proof))
    with pytest.raises(cv.InputError, match="could run code"):
        cv.load_program(evil)
    assert not proof.exists()
    # The same file in torch's own reader, in a process of its own: the danger is real.
    (tmp_path / "evil.pt2").write_bytes(evil)
    script = f"import torch; torch.export.load({str(tmp_path / 'evil.pt2')!r})"
    subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert proof.exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.hub.load",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.empty.memory_format",
        "torch.ops.aten.set_.source_Storage",
        "torch.ops.aten.as_strided.default",
        "torch.ops.aten.conv2d.out",
        "torch.ops.aten.add.out",
        "torch.ops.aten.__class__.default",
        "torch.ops.aten.relu.__class__",
        "torch.ops.aten.relu",
        "torch.ops.mine.relu.default",
        "torch.ops.higher_order.cond",
        "_operator.attrgetter",
        "_operator.__class__",
        "builtins.exec",
        "math.trunc",
        "",
    ],
)
def test_only_known_operations_are_taken(data, target):
    def edit(tree):
        call(tree, "torch.ops.aten.silu.default")["target"] = target

    with pytest.raises(cv.InputError, match=r"not known here|incomplete or damaged"):
        cv.load_program(with_graph(data, edit))


def test_expressions_are_not_evaluated(data, tmp_path):
    proof = tmp_path / "executed"
    code = f"__import__('pathlib').Path({str(proof)!r}).write_text('x')"

    def edit(tree):
        values = tree["graph_module"]["graph"]["tensor_values"]
        for entry in values.values():
            for size in entry["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = code
        tree["guards_code"] = [code]

    model = cv.load_program(with_graph(data, edit))
    assert model.predict(torch.rand(1, 3, 32, 32)).shape == (1, 5)
    assert not proof.exists()


def test_names_of_layers_cannot_reach_anything(data):
    bad = [
        "__class__",
        "forward",
        "../../etc",
        "a" * 5000,
        "",
        "_parameters",
        "<script>",
        "training",
    ]

    def edit(tree):
        nodes = tree["graph_module"]["graph"]["nodes"]
        for number, node in enumerate(nodes):
            path = bad[number % len(bad)]
            node["metadata"]["nn_module_stack"] = f"L__self__{path},{path},{path}"

    try:
        model = cv.load_program(with_graph(data, edit))
    except cv.InputError:
        return
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(model.module(x), network()(x), rtol=1e-5, atol=1e-6)
    assert all(len(layer.name) < 200 and "<" not in layer.name for layer in model.layers)


def grown(data: bytes, count: int) -> bytes:
    """The program with a step that makes a huge tensor."""

    def edit(tree):
        graph = tree["graph_module"]["graph"]
        step = json.loads(json.dumps(call(tree, "torch.ops.aten.silu.default")))
        step["target"], step["name"] = "torch.ops.aten.ones.default", "huge"
        step["inputs"] = [{"name": "size", "arg": {"as_ints": [count, count]}, "kind": 1}]
        step["outputs"] = [{"as_tensor": {"name": "huge"}}]
        graph["nodes"].insert(0, step)
        graph["tensor_values"]["huge"] = graph["tensor_values"]["silu"]

    return with_graph(data, edit)


def test_sizes_are_checked_before_memory_is_taken(data):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(cv.InputError, match="more numbers than can be kept"):
        cv.load_program(grown(data, 1_000_000))
    with pytest.raises(cv.InputError):
        cv.load_program(grown(data, 2**62))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 200_000  # kilobytes
    cv.load_program(grown(data, 10))


def test_endless_work_is_refused():
    pair = nn.Sequential(nn.Conv2d(3, 4096, 1), nn.Conv2d(4096, 3, 1))
    deep = nn.Sequential(*[pair] * 40, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    data = exported(deep.eval(), (3, 16, 16))
    cv.load_program(data)
    with pytest.raises(cv.InputError, match="more numbers"):
        cv.load_program(data, (3, 2048, 2048))


def test_long_work_on_few_numbers_is_refused():
    wide = nn.Conv2d(512, 512, 9, padding=4)
    deep = nn.Sequential(nn.Conv2d(3, 512, 1), *[wide] * 30, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    data = exported(deep.eval(), (3, 4, 4))
    with pytest.raises(cv.InputError, match="computes for too long"):
        cv.load_program(data, (3, 160, 160))


def claims(data: bytes, **changes: object) -> bytes:
    """The program with another description of a weight."""

    def edit(files):
        name, tree = config(files)
        tree["config"]["stem.weight"]["tensor_meta"].update(changes)
        files[name] = json.dumps(tree).encode()

    return rewritten(data, edit)


@pytest.mark.parametrize(
    "changes",
    [
        {"sizes": [{"as_int": 1 << 20}] * 4},
        {"sizes": [{"as_int": -1}, {"as_int": 3}, {"as_int": 5}, {"as_int": 5}]},
        {"strides": [{"as_int": 0}] * 4, "sizes": [{"as_int": 1000}] * 4},
        {"storage_offset": {"as_int": 1 << 40}},
        {"storage_offset": {"as_int": -4}},
        {"dtype": 8},
        {"dtype": 99},
        {"layout": 1},
        {"sizes": "many"},
        {"sizes": [{"as_expr": {"expr_str": "2**99"}}]},
    ],
)
def test_weights_must_be_what_they_claim(data, changes):
    with pytest.raises(cv.InputError):
        cv.load_program(claims(data, **changes))


def test_a_damaged_file_is_refused_with_a_sentence(data):
    for part in range(20):
        with pytest.raises(cv.InputError):
            cv.load_program(data[: len(data) * part // 20])
    for junk in (b"", b"PK\x03\x04", bytes(1000), torch_file({"w": torch.ones(2)}), b"{}"):
        with pytest.raises(cv.InputError):
            cv.load_program(junk)
        with pytest.raises(cv.InputError):
            told_shape(junk)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mine/models/model.json", b"0" * 10_000_000)
    with pytest.raises(cv.InputError, match="compressed"):
        cv.load_program(buffer.getvalue())


def mutated(tree: object, rng: random.Random) -> object:
    """A tree of JSON in which about one leaf in three hundred is another."""
    if isinstance(tree, dict):
        return {k: mutated(v, rng) for k, v in tree.items() if rng.random() > 0.001}
    if isinstance(tree, list):
        return [mutated(v, rng) for v in tree if rng.random() > 0.001]
    if rng.random() < 0.003:
        return rng.choice([None, -1, 0, 2**63, 1e308, "", "x", [], {}, True, "Infinity"])
    return tree


def test_a_graph_of_nonsense_is_refused_or_works(data):
    outcomes = []
    for seed in range(60):
        rng = random.Random(seed)

        def edit(tree, rng=rng):
            changed = mutated(tree["graph_module"], rng)
            tree["graph_module"] = changed

        try:
            model = cv.load_program(with_graph(data, edit))
        except cv.InputError:
            outcomes.append(False)
        else:
            assert model.predict(torch.rand(1, 3, 32, 32)).shape[0] == 1
            outcomes.append(True)
    assert 5 < sum(outcomes) < 55  # neither all nor none


class Two(nn.Module):
    def forward(self, x, y):
        return (x + y).mean((2, 3))


class Unpicturelike(nn.Module):
    def forward(self, x):
        return x.sum(1, keepdim=True)


class Mixing(nn.Module):
    """Takes the mean over the batch as well."""

    def forward(self, x):
        return (x - x.mean(0, keepdim=True)).mean((2, 3)) * 3


class Writing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.seen += 1
        return x.mean((2, 3)) + self.seen


class Quiet(nn.Module):
    """Switches gradients off inside."""

    def forward(self, x):
        with torch.no_grad():
            x = x * 2
        return x.mean((2, 3))


def saved(net: nn.Module, *inputs: torch.Tensor) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(net, inputs), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: saved(Two(), *[torch.rand(2, 3, 8, 8)] * 2), "one batch of pictures"),
        (lambda: saved(Unpicturelike(), torch.rand(2, 30)), "one batch of pictures"),
        (lambda: saved(Unpicturelike(), torch.rand(2, 3, 8, 8)), "one number a class"),
        (lambda: saved(Mixing(), torch.rand(2, 3, 8, 8)), "one size of batch only"),
        (lambda: saved(Writing(), torch.rand(2, 3, 8, 8)), "while training|not known"),
        (lambda: saved(network().train(), torch.rand(2, 3, 32, 32)), "while training"),
        (lambda: saved(Quiet(), torch.rand(2, 3, 8, 8)), "no_grad|not known"),
    ],
)
def test_what_cannot_be_used_is_said(make, sentence):
    with pytest.raises(cv.InputError, match=sentence):
        cv.load_program(make())


def test_weights_of_the_old_layout_are_not_run_either(data, tmp_path):
    proof = tmp_path / "executed"
    old = old_layout(data, network())
    evil = rewritten(
        old, lambda files: files.update({"serialized_constants.pt": torch_file(Payload(proof))})
    )
    with pytest.raises(cv.InputError, match="could run code"):
        cv.load_program(evil)
    assert not proof.exists()
