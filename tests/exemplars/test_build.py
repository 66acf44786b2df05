"""The index is what brute force finds, whatever the collection lies in and however it is cut."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision import models as zoo

import cnnvis_core as cv
from cnnvis_core.datasets import MemoryDataset
from cnnvis_core.exemplars import build_exemplars, open_exemplars
from cnnvis_core.exemplars.tally import QUANTILES
from tests.datasets.piles import CLASSES, as_folder, as_parquet, as_zip, pictures
from tests.support import lively, small_network

FILES = pictures()
SHAPE = (3, 64, 64)


@pytest.fixture(scope="module")
def model() -> cv.Model:
    return cv.from_module(small_network(), (3, 32, 32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return as_folder(FILES, tmp_path_factory.mktemp("pictures"))


def brute_force(model: cv.Model, layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Maps of all pictures by hooks set by hand, one picture at a time (items, units, h, w)."""
    found, first = [], []
    part = dict(model.module.named_modules())[layer]
    handle = part.register_forward_hook(lambda _, __, output: found.append(output.clone()))
    with torch.no_grad():
        for data in FILES.values():
            found.clear()
            model.module(model.preprocess(cv.read_image(data)))
            first.append(found[0])  # a module may be used again further on
    handle.remove()
    maps = torch.cat(first).numpy()
    return maps.max((2, 3)), maps


def untrained(name: str) -> cv.Model:
    torch.manual_seed(0)
    module = zoo.get_model(name, weights=None, num_classes=6)
    return cv.from_module(lively(module, SHAPE), SHAPE)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet18", ["conv1", "layer2.0.bn2", "layer3.1.relu"]),
        ("mobilenet_v2", ["features.0.0", "features.5.conv.1.0"]),
        ("squeezenet1_1", ["features.0", "features.6.expand3x3"]),
    ],
)
def test_it_is_what_brute_force_finds(name, layers, folder, tmp_path):
    model = untrained(name)
    found = cv.run(build_exemplars(model, folder, layers, 5, tmp_path / "out", batch=7, chunk=20))
    names = list(FILES)
    for layer in layers:
        maxima, maps = brute_force(model, layer)
        scale = float(np.abs(maps).max())
        for unit in (0, maps.shape[1] // 2, maps.shape[1] - 1):
            top = found.top(layer, unit)
            assert len(top) == 5
            np.testing.assert_allclose(
                top["activation"], np.sort(maxima[:, unit])[::-1][:5], atol=1e-5 * scale
            )
            for row in top.itertuples():
                item = names.index(row.file)
                assert maps[item, unit, row.row, row.col] == pytest.approx(
                    row.activation, abs=1e-5 * scale
                )
            means = maps.mean((2, 3))[:, unit]
            by_mean = found.top(layer, unit, by="mean")
            np.testing.assert_allclose(
                by_mean["activation"], np.sort(means)[::-1][:5], atol=1e-5 * scale
            )
            for row in by_mean.itertuples():
                assert means[names.index(row.file)] == pytest.approx(
                    row.activation, abs=1e-5 * scale
                )
            _check_classes_and_quantiles(found, layer, unit, maxima[:, unit], means)


def _check_classes_and_quantiles(found, layer, unit, maxima, means):
    table = found.by_class(layer, unit).set_index("class")
    labels = np.array([name.split("/")[0] for name in FILES])
    for name in CLASSES:
        assert table.loc[name, "count"] == 20
        for column, values in (("mean_max", maxima), ("mean_mean", means)):
            expected = values[labels == name].mean()
            assert table.loc[name, column] == pytest.approx(expected, abs=1e-4, rel=1e-4)
    quantiles = found.quantiles(layer, unit).set_index("share")
    for share in QUANTILES:
        for column, values in (("max", maxima), ("mean", means)):
            exact = np.quantile(values, share, method="lower")
            assert quantiles.loc[share, column] == pytest.approx(exact, rel=0.06, abs=2e-5)


def same(a: cv.Exemplars, b: cv.Exemplars) -> bool:
    """Whether all tables are the same to the bit."""
    for name in ("top", "units", "classes", "items"):
        if (a.path / f"{name}.parquet").read_bytes() != (b.path / f"{name}.parquet").read_bytes():
            return False
    return a.manifest["broken"] == b.manifest["broken"]


def test_a_folder_a_zip_and_a_table_give_one_index(model, folder, tmp_path):
    sources = {
        "folder": folder,
        "zip": as_zip(FILES, tmp_path / "pictures.zip"),
        "parquet": as_parquet(FILES, tmp_path / "pictures.parquet"),
    }
    found = {
        name: cv.run(build_exemplars(model, path, ["0", "2"], out=tmp_path / name))
        for name, path in sources.items()
    }
    assert same(found["folder"], found["zip"])
    table = found["parquet"]
    for by in ("max", "mean"):
        mine, other = table.top("2", 3, by), found["folder"].top("2", 3, by)
        assert mine["file"].tolist() == other["file"].tolist()
        assert mine["activation"].tolist() == other["activation"].tolist()
    assert table.classes == ["0", "1", "2"]
    assert found["zip"].classes == list(CLASSES)


def test_an_index_in_memory_is_that_of_a_folder(model, folder, tmp_path):
    written = cv.run(build_exemplars(model, folder, ["0", "2"], out=tmp_path / "out"))
    kept = cv.run(build_exemplars(model, folder, ["0", "2"], out=None))
    assert kept.path is None
    assert {**kept.manifest} == {**written.manifest}
    for name, table in kept.tables.items():
        assert table == (tmp_path / "out" / name).read_bytes()
    pd.testing.assert_frame_equal(kept.top("2", 3), written.top("2", 3))
    assert not (tmp_path / "exemplars").exists()


def test_a_damaged_table_of_an_index_gets_a_sentence(model, folder, tmp_path):
    found = cv.run(build_exemplars(model, folder, "0", out=tmp_path / "out"))
    (tmp_path / "out" / "top.parquet").write_bytes(b"PAR1")
    with pytest.raises(cv.InputError, match="build it again"):
        found.top("0", 0)


def test_a_run_that_is_broken_off_goes_on_and_ends_at_the_same_index(model, folder, tmp_path):
    whole = cv.run(build_exemplars(model, folder, ["0", "2"], out=tmp_path / "a", chunk=8, batch=4))
    seen = []
    for _ in range(20):
        with build_exemplars(
            model, folder, ["0", "2"], out=tmp_path / "b", chunk=8, batch=4
        ) as job:
            for progress in job:
                seen.append(progress.done)
                if len(seen) % 4 == 0:
                    break
            else:
                break
    assert seen[0] < seen[5] < 60
    assert same(whole, job.result)
    again = cv.run(build_exemplars(model, folder, ["0", "2"], out=tmp_path / "b", chunk=8, batch=4))
    assert same(whole, again)


def test_broken_files_are_counted_listed_and_left_out(model, tmp_path):
    files = dict(FILES)
    names = list(files)
    files[names[3]] = files[names[3]][:60]
    files[names[10]] = b"no picture"
    folder = as_folder(files, tmp_path / "in")
    found = cv.run(build_exemplars(model, folder, "2", 60, tmp_path / "out", chunk=7))
    assert [part["file"] for part in found.broken] == [names[3], names[10]]
    assert all(part["reason"] for part in found.broken)
    top = found.top("2", 0)
    assert len(top) == 58
    assert not set(top["file"]) & {names[3], names[10]}
    assert found.by_class("2", 0)["count"].sum() == 58
    only = as_folder({"a.png": b"nothing"}, tmp_path / "nothing")
    with pytest.raises(cv.InputError, match="Nothing in the collection"):
        cv.run(build_exemplars(model, only, "2", out=tmp_path / "none"))


def test_units_that_like_a_class_are_found(tmp_path):
    module = small_network()
    module[0].weight.data.zero_()
    module[0].bias.data.zero_()
    for unit in range(3):  # one unit a colour
        module[0].weight.data[unit, unit] = 1.0
    model = cv.from_module(module, (3, 32, 32))

    files = {}
    for number, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
        for index in range(4):
            buffer = io.BytesIO()
            Image.new("RGB", (32, 32), tuple(c // (index + 1) for c in colour)).save(buffer, "PNG")
            files[f"{CLASSES[number]}/{index}.png"] = buffer.getvalue()
    folder = as_folder(files, tmp_path / "in")
    found = cv.run(build_exemplars(model, folder, "0", out=tmp_path / "out"))
    for number, name in enumerate(CLASSES):
        assert found.units_for("0", name)["unit"][0] == number
        assert found.by_class("0", number)["class"][0] == name
    with pytest.raises(cv.InputError, match="no class"):
        found.units_for("0", "dog")


def test_an_index_of_something_else_is_refused(model, folder, tmp_path):
    out = tmp_path / "out"
    cv.run(build_exemplars(model, folder, "0", 4, out))
    other = cv.from_module(small_network(seed=1), (3, 32, 32))
    for arguments in (
        (other, folder, "0", 4),
        (model, folder, "2", 4),
        (model, folder, "0", 5),
        (model, as_zip(pictures(9), tmp_path / "other.zip"), "0", 4),
    ):
        with pytest.raises(cv.InputError, match="choose another folder"):
            build_exemplars(*arguments, out)
    open_exemplars(out, model)
    with pytest.raises(cv.InputError, match="of another model"):
        open_exemplars(out, other)
    text = (out / "manifest.json").read_text()
    later = text.replace('"version": 1', '"version": 99, "further": 1')
    (out / "manifest.json").write_text(later)
    with pytest.raises(cv.InputError, match="another version"):
        open_exemplars(out)
    (out / "manifest.json").write_text("{}")
    with pytest.raises(cv.InputError, match="damaged"):
        open_exemplars(out)


def test_the_same_weights_that_are_given_other_inputs_are_another_model(folder, tmp_path):
    first = cv.from_module(small_network(), (3, 32, 32), name="net")
    cv.run(build_exemplars(first, folder, "0", 4, tmp_path / "out"))
    strided = small_network()
    strided[0].stride = (1, 1)
    for other in (
        cv.from_module(small_network(), (3, 32, 32), mean=(0.5,) * 3, std=(0.1,) * 3, name="net"),
        cv.from_module(small_network(), (3, 40, 40), name="net"),
        cv.from_module(strided, (3, 32, 32), name="net"),
    ):
        assert other.weights == first.weights
        with pytest.raises(cv.InputError, match="of another model"):
            build_exemplars(other, folder, "0", 4, tmp_path / "out")
        with pytest.raises(cv.InputError, match="of another model"):
            open_exemplars(tmp_path / "out", other)


def test_a_damaged_index_is_built_again(model, folder, tmp_path):
    whole = cv.run(build_exemplars(model, folder, "0", out=tmp_path / "whole"))
    found = cv.run(build_exemplars(model, folder, "0", out=tmp_path / "out"))
    (tmp_path / "out" / "top.parquet").write_bytes(b"PAR1")
    (tmp_path / "out" / "state.npz").write_bytes(b"left by a kill")
    found = cv.run(build_exemplars(model, folder, "0", out=tmp_path / "out"))
    assert same(whole, found)
    assert not (tmp_path / "out" / "state.npz").exists()
    (tmp_path / "out" / "state.npz").write_bytes(b"left by a kill")
    cv.run(build_exemplars(model, folder, "0", out=tmp_path / "out"))
    assert not (tmp_path / "out" / "state.npz").exists()


@pytest.mark.parametrize("content", [{"done": np.array(1)}, None])
def test_a_state_of_other_making_is_counted_anew(model, folder, tmp_path, content):
    whole = cv.run(build_exemplars(model, folder, "0", out=tmp_path / "whole", chunk=8, batch=4))
    with build_exemplars(model, folder, "0", out=tmp_path / "out", chunk=8, batch=4) as job:
        for progress in job:
            if progress.done > 20:
                break
    buffer = io.BytesIO()
    if content is None:
        np.save(buffer, np.zeros(3))
    else:
        np.savez(buffer, **content)
    (tmp_path / "out" / "state.npz").write_bytes(buffer.getvalue())
    found = build_exemplars(model, folder, "0", out=tmp_path / "out", chunk=8, batch=4)
    assert same(whole, cv.run(found))


def test_a_class_whose_folder_is_no_text_costs_nothing(model, tmp_path):
    folder = as_folder(pictures(6), tmp_path / "in")
    try:
        (folder / "ant").rename(folder / "caf\udce9")
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system takes no such names")
    found = cv.run(build_exemplars(model, folder, "0", 2, tmp_path / "out"))
    assert found.classes == ["bee", "caf?", "cat"] or "caf?" in found.classes
    assert len(found.top("0", 0)) == 2


def test_a_dataset_that_leaves_out_its_last_item_loses_no_other(model):
    class Short(MemoryDataset):
        def items(self, wanted):
            yield from super().items([index for index in wanted if index < 4])

    files = pictures(5)
    short = Short(list(files), list(files.values()), [-1] * 5)
    assert len(cv.run(build_exemplars(model, short, "0", 9, None)).top("0", 0)) == 4


def test_two_runs_do_not_write_to_one_folder(model, folder, tmp_path):
    arguments = (model, folder, "0", 4, tmp_path / "out")
    with build_exemplars(*arguments, chunk=5) as first:
        next(first)
        with (
            pytest.raises(cv.InputError, match="Another run"),
            build_exemplars(*arguments, chunk=5) as second,
        ):
            next(second)
        for _ in first:
            pass
    assert len(first.result.top("0", 1)) == 4


def test_bad_values_get_one_sentence(model, folder, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    for arguments in (
        {"images": tmp_path / "nowhere"},
        {"images": tmp_path / "file"},
        {"images": tmp_path / "full"},
        {"layers": []},
        {"layers": "9"},
        {"k": 0},
        {"k": 101},
        {"k": 2.5},
        {"images": None},
        {"batch": 0},
        {"out": tmp_path / "file"},
        {"out": tmp_path / "full"},
    ):
        wrong = {"images": folder, "layers": "0", "out": out, **arguments}
        with pytest.raises(cv.CnnvisError):
            build_exemplars(model, **wrong)
    with pytest.raises(cv.InputError, match="build one there first"):
        open_exemplars(tmp_path / "nothing")
    with build_exemplars(model, folder, "0", out=out, chunk=5, batch=5) as job:
        next(job)
    with pytest.raises(cv.InputError, match="not finished"):
        open_exemplars(out)
    found = cv.run(build_exemplars(model, folder, "0", out=out, chunk=5, batch=5))
    for call in (
        lambda: found.top("9", 0),
        lambda: found.top("0", 8),
        lambda: found.top("0", 0, by="size"),
    ):
        with pytest.raises(cv.CnnvisError):
            call()


def test_a_damaged_state_is_counted_anew_and_other_files_are_left_alone(model, folder, tmp_path):
    out = tmp_path / "out"
    whole = cv.run(build_exemplars(model, folder, "0", out=tmp_path / "whole", chunk=8, batch=4))
    out.mkdir()
    (out / ".gitkeep").write_text("mine")
    with build_exemplars(model, folder, "0", out=out, chunk=8, batch=4) as job:
        for progress in job:
            if progress.done > 20:
                break
    (out / ".state.npz.123.unfinished").write_bytes(b"half")
    state = (out / "state.npz").read_bytes()
    (out / "state.npz").write_bytes(state[: len(state) // 2])
    found = cv.run(build_exemplars(model, folder, "0", out=out, chunk=8, batch=4))
    assert same(whole, found)
    assert (out / ".gitkeep").read_text() == "mine"
    assert not (out / ".state.npz.123.unfinished").exists()


def test_a_unit_that_is_no_number_comes_last_and_spoils_no_mean(folder, tmp_path):
    module = small_network()
    module[0].weight.data[3] = float("nan")
    model = cv.from_module(module, (3, 32, 32))
    found = cv.run(build_exemplars(model, folder, "0", 4, tmp_path / "out"))
    assert len(found.top("0", 3)) == 0
    assert len(found.neighbours("0", 3)) == 0
    assert 3 not in found.units_for("0", "ant")["unit"].tolist()
    assert np.isfinite(found.top("0", 2)["activation"]).all()
    assert np.isfinite(found.by_class("0", 2)["mean_max"]).all()


def test_items_whose_answer_is_no_number_count_in_no_mean_and_no_quantile():
    class Root(torch.nn.Module):
        def forward(self, x):
            return (x - 0.5).sqrt()  # no number for dark pictures

    module = torch.nn.Sequential(Root(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    model = cv.from_module(module, (3, 8, 8))
    names, data = [], []
    for level in (0, 100, 200, 255):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), (level,) * 3).save(buffer, "PNG")
        names.append(str(level))
        data.append(buffer.getvalue())
    dataset = MemoryDataset(names, data, [0, 1, 0, 1], ["a", "b"])
    found = cv.run(build_exemplars(model, dataset, "0", 4, None))
    roots = [np.sqrt(level / 255 - 0.5) for level in (200, 255)]
    assert found.top("0", 1)["file"].tolist() == ["255", "200"]
    table = found.by_class("0", 1).set_index("class")
    assert table["count"].to_dict() == {"a": 1, "b": 1}
    assert table["mean_max"].to_dict() == pytest.approx({"a": roots[0], "b": roots[1]}, rel=1e-4)
    assert found.quantiles("0", 1)["max"].min() == pytest.approx(roots[0], rel=0.06)
