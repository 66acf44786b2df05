"""What a reviewer found: programs that read foreign memory, end or stop the process, or hide work.

Each is refused, quickly, and what would end a process does so in one of its own.
"""

from __future__ import annotations

import copy
import json
import time

import pytest
import torch
from torch import nn

import cnnvis_core as cv
from cnnvis_core.programs.archive import MAX_JSON
from tests.programs.nets import exported, network, rewritten, with_graph
from tests.programs.test_hostile_program import call, claims, config

SILU = "torch.ops.aten.silu.default"


@pytest.fixture(scope="module")
def data():
    return exported(network())


def argument(name: str, **value: object) -> dict:
    return {"name": name, "arg": value, "kind": 1}


def with_step(data: bytes, target: str, inputs: list[dict], made: str = "as_tensor") -> bytes:
    """The program with one more step, whose result takes the place of an activation's."""

    def edit(tree):
        graph = tree["graph_module"]["graph"]
        place = next(n for n, node in enumerate(graph["nodes"]) if node["target"] == SILU)
        step = copy.deepcopy(graph["nodes"][place])
        step.update(target=target, name="planted", inputs=inputs)
        key = "as_name" if made == "as_sym_int" else "name"
        step["outputs"] = [{made: {key: "planted"}}]
        graph["nodes"].insert(place, step)
        graph["tensor_values"]["planted"] = graph["tensor_values"]["silu"]

    return with_graph(data, edit)


def own(data: bytes) -> dict:
    """The argument that the activation is given."""
    found = {}

    def look(tree):
        found.update(call(tree, SILU)["inputs"][0]["arg"])

    with_graph(data, look)
    return found


@pytest.mark.parametrize(
    ("name", "value"),
    [("memory_format", 1000), ("dtype", 1000), ("layout", 1000), ("dtype", -1)],
)
def test_numbers_do_not_pass_for_kinds(data, name, value):
    target = "torch.ops.aten._to_copy.default"
    step = [argument("self", **own(data)), argument(name, as_int=value)]
    with pytest.raises(cv.InputError, match="of another kind"):
        cv.load_program(with_step(data, target, step))


def test_an_argument_that_no_operation_has_is_refused(data):
    step = [argument("self", **own(data)), argument("nonsense", as_int=1)]
    with pytest.raises(cv.InputError, match="of another kind"):
        cv.load_program(with_step(data, SILU, step))


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.div.Tensor_mode",
        "torch.ops.aten.floor_divide.default",
        "torch.ops.aten.fmod.Tensor",
        "torch.ops.aten._weight_norm_interface.default",
        "torch.ops.aten.max.dim_max",
        "torch.ops.aten.min.dim_min",
    ],
)
def test_operations_that_end_the_process_or_write_elsewhere_are_not_known(data, target):
    step = [argument("self", **own(data))]
    with pytest.raises(cv.InputError, match="not known here"):
        cv.load_program(with_step(data, target, step))


def test_statistics_must_be_as_many_as_units(data):
    for name in ("blocks.0.norm.running_mean", "blocks.0.norm.running_var"):

        def edit(files, name=name):
            path, tree = config(files)
            entry = tree["config"][name]
            entry["tensor_meta"]["sizes"] = [{"as_int": 1}]
            files[path] = json.dumps(tree).encode()

        with pytest.raises(cv.InputError):
            cv.load_program(rewritten(data, edit))


def test_a_bare_batch_norm_is_refused(data):
    def edit(tree):
        node = call(tree, "torch.ops.aten.batch_norm.default")
        mean = next(a for a in node["inputs"] if a["name"] == "running_mean")
        mean["arg"] = {"as_tensor": {"name": node["inputs"][0]["arg"]["as_tensor"]["name"]}}

    with pytest.raises(cv.InputError, match="unusual kind"):
        cv.load_program(with_graph(data, edit))


@pytest.mark.parametrize(
    "values",
    [
        [{"as_string": "aaaaaaaa"}, {"as_int": 10**9}],
        [{"as_string": "%100000000d"}, {"as_int": 5}],
        [{"as_int": 2**61}, {"as_int": 2**61}],
        [{"as_ints": [1] * 1000}, {"as_int": 10**6}],
        [{"as_int": 1}, {"as_int": 1}, {"as_int": 1}],
    ],
)
def test_arithmetic_is_of_sizes_alone(data, values):
    step = [argument("", **value) for value in values]
    began = time.monotonic()
    with pytest.raises(cv.InputError):
        cv.load_program(with_step(data, "_operator.mul", step, "as_sym_int"))
    assert time.monotonic() - began < 30  # the first would take eight gigabytes


def test_places_that_depend_on_the_input_are_refused():
    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.rand(256, 5))

        def forward(self, x):
            place = (x.mean((1, 2, 3)) * 255).to(torch.int64)
            return self.table.index_select(0, place)

    with pytest.raises(cv.InputError, match="places that depend on its input"):
        cv.load_program(exported(Looks(), (3, 8, 8)))


def test_reading_is_quick_whatever_is_read(data):
    def many(count, name):
        def edit(tree):
            graph = tree["graph_module"]["graph"]
            place = next(n for n, node in enumerate(graph["nodes"]) if node["target"] == SILU)
            first = graph["nodes"][place]
            before = first["inputs"][0]["arg"]["as_tensor"]["name"]
            steps = []
            for number in range(count):
                step = copy.deepcopy(first)
                step["name"] = name
                step["metadata"]["nn_module_stack"] = ""
                step["inputs"][0]["arg"]["as_tensor"]["name"] = before
                before = f"v{number}"
                step["outputs"][0]["as_tensor"]["name"] = before
                graph["tensor_values"][before] = graph["tensor_values"]["silu"]
                steps.append(step)
            first["inputs"][0]["arg"]["as_tensor"]["name"] = before
            graph["nodes"][place:place] = steps

        return with_graph(data, edit)

    with pytest.raises(cv.InputError, match="too many steps"):
        cv.load_program(many(6000, "a"))
    model = cv.load_program(many(400, "a"))
    assert len({layer.name for layer in model.layers}) == len(model.layers) > 400

    def deep(tree):
        for node in tree["graph_module"]["graph"]["nodes"]:
            path = ".".join("abcdefgh" * 60)
            node["metadata"]["nn_module_stack"] = f"L__self__,{path},x"

    model = cv.load_program(with_graph(data, deep))
    assert max(layer.name.count(".") for layer in model.layers) < 20


def test_huge_numbers_are_refused_before_they_are_multiplied(data):
    nines = int("9" * 4000)
    for sizes in ([{"as_int": nines}] * 8, [{"as_int": 2**62}] * 2 + [{"as_int": 0}]):
        with pytest.raises(cv.InputError):
            cv.load_program(claims(data, sizes=sizes, strides=sizes))
    infinite = with_graph(
        data, lambda tree: tree["graph_module"]["graph"]["tensor_values"]["x"].update(
            sizes=[{"as_int": float("inf")}] * 4
        ),
    )  # fmt: skip
    with pytest.raises(cv.InputError):
        cv.load_program(infinite)

    def padded(files):
        (name,) = (n for n in files if "/models/" in n)
        files[name] = b"[" + b"[]," * (MAX_JSON // 3) + b"[]]"

    with pytest.raises(cv.InputError, match="too large"):
        cv.load_program(rewritten(data, padded))


@pytest.mark.parametrize("pool", [nn.MaxPool2d, nn.AvgPool2d])
def test_work_that_no_product_shows_is_counted(pool):
    parts = nn.Conv2d(3, 8, 1), pool(301, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    small = exported(nn.Sequential(*parts).eval(), (3, 302, 302))
    with pytest.raises(cv.InputError, match="computes for too long"):
        cv.load_program(small, (3, 700, 700))


def test_names_that_modules_have_are_no_obstacle():
    class Mixed(nn.Module):
        def forward(self, x):
            return x.to(torch.float64).mean((2, 3)).to(torch.float32).type_as(x)

    model = cv.load_program(exported(Mixed(), (3, 8, 8)))
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(model.module(x), Mixed()(x))
