"""The notebook of one's own network: it runs, leaves no method out, and finds what is there."""

from __future__ import annotations

import ast
import base64
import io
import json
import math
import socket
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import cnnvis_core as cv
from training import draw_notebook

PATH = Path(__file__).parent.parent / draw_notebook.NOTEBOOK
NOTEBOOK: dict[str, Any] = json.loads(PATH.read_text("utf-8"))
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
# These open networks of the catalogue, not a module of one's own.
OF_THE_CATALOGUE = {"catalogue", "load", "load_checkpoint"}
NEAR_DEG = 12.0


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """All names after the last cell, what each cell did, what was warned of, files left behind."""

    def refuse(*_):
        raise OSError("the notebook reaches for the network")

    names: dict[str, Any] = {"__name__": "__main__"}
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        patch.setattr(socket.socket, "connect", refuse)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("default")
            cells = {done.cell["id"]: done for done in draw_notebook.run_cells(NOTEBOOK, names)}
        left = [path.name for path in Path().iterdir()]
    names |= {
        "cells_run": cells,
        "warned": [str(one.message) for one in warned],
        "files_left": left,
    }
    return SimpleNamespace(**{name: names[name] for name in names if not name.startswith("__")})


def apart_deg(a, b):
    """Angle between orientations."""
    turned = np.abs(np.asarray(a) - np.asarray(b)) % 180
    return np.minimum(turned, 180 - turned)


def test_every_cell_runs_quietly_and_leaves_nothing(ran):
    assert list(ran.cells_run) == [cell["id"] for cell in CODE]
    assert ran.warned == []
    assert ran.files_left == []
    assert not ran.folder.exists()


def test_no_method_is_left_out():
    methods = {name for name in cv.__all__ if name[0].islower()} - OF_THE_CATALOGUE
    trees = [ast.parse("".join(cell["source"])) for cell in CODE]
    called = {
        node.func.attr
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "cv"
    }
    assert methods - called == set()
    assert called <= set(cv.__all__)


def test_the_network_learned_and_is_wrapped_as_it_is(ran):
    assert ran.accuracy > 0.95
    assert ran.model.class_index(ran.truth) == int(ran.model.predict(ran.x).argmax())
    torch.testing.assert_close(ran.by_model, ran.by_module, atol=1e-5, rtol=0)
    assert {layer.kind for layer in ran.model.layers} >= {"Conv2d", "SiLU", "BatchNorm2d", "Linear"}
    assert next(ran.net.parameters()).requires_grad


def test_the_occlusion_map_lies_on_the_stripes(ran):
    heatmap, scene = ran.occlusion.heatmap, ran.scene
    assert scene.stripes[tuple(ran.peak)]
    assert math.dist(ran.peak, scene.centre) < ran.RADIUS / 2
    assert heatmap[scene.stripes].mean() > 4 * abs(heatmap[scene.bait].mean())
    # What the text says of probabilities of a network that is sure.
    assert ran.in_probability.drop.max() < 0.05 * ran.in_probability.baseline
    assert ran.occlusion.drop.max() > 0.2 * ran.occlusion.baseline
    assert ran.belief.deletion_area < ran.belief.random_deletion_area - 0.1
    assert ran.belief.insertion_area > ran.belief.random_insertion_area + 0.05


def test_gradients_are_complete_and_on_the_stripes(ran):
    def density(name, disc):
        """How much of the map lies on a disc, over how much of the picture does."""
        size = np.abs(ran.maps[name].heatmap)
        return size[disc].sum() / size.sum() / disc.mean()

    stripes, bait = ran.scene.stripes, ran.scene.bait
    assert ran.maps["integrated_gradients"].completeness_gap < 0.01
    assert ran.maps["grad_cam"].completeness_gap is None
    for name in ran.METHODS:
        assert density(name, stripes) > 2.5
        assert density(name, stripes) > 2 * density(name, bait)
    # What the text says of the control: it shows both discs, and the stripes less than the map.
    assert density("shuffled weights", bait) > 1
    assert density("shuffled weights", stripes) < 0.7 * density("integrated_gradients", stripes)


def test_errors_say_what_to_do(ran):
    said = ran.cells_run["errors"].printed.splitlines()
    assert [line.split(":")[0] for line in said] == ["ModelError", "ModelError", "InputError"]
    assert "use integrated gradients" in said[0]


def test_kernels_are_oriented_and_agree_with_the_responses(ran):
    assert ran.kernels.weight.shape == ran.net.stem.weight.shape
    assert (ran.own.coherence > 0.5).mean() > 0.7
    assert ran.count >= 8
    assert ran.share > 0.8
    assert ran.stem["selective"].sum() >= 8


def test_maps_see_the_stripes(ran):
    for name, values in ran.activations.items():
        row, col = np.unravel_index(int(values.amax(0).argmax()), values.shape[1:])
        top, left, bottom, right = ran.model.layer(name).receptive_field.box(row, col)
        middle = (top + bottom) / 2, (left + right) / 2
        assert math.dist(middle, ran.scene.centre) < ran.RADIUS + 4, name


def test_the_head_prefers_what_it_was_taught(ran):
    assert list(ran.head["taught_deg"]) == [0, 45, 90, 135]
    assert apart_deg(ran.head["preferred_deg"], ran.head["taught_deg"]).max() < NEAR_DEG
    assert ran.head["selectivity"].min() > 0.6
    assert apart_deg(ran.drawn_deg, list(ran.CLASSES.values())).max() < NEAR_DEG
    assert (ran.maximized.end_activation > ran.of_pictures.numpy()).all()


@pytest.mark.parametrize("angle", [0, 30, 45, 90, 135, 170])
def test_the_angle_of_drawn_stripes_is_measured_rightly(ran, angle):
    scene = ran.draw(np.random.default_rng(0), angle, 8)
    values = np.where(scene.stripes, np.asarray(scene.picture, float).mean(2), 128)
    rows, cols = scene.centre
    inside = values[rows - 8 : rows + 9, cols - 8 : cols + 9]
    assert apart_deg(ran.stripes_deg(inside), angle) < 5


def test_exemplars_of_a_unit_are_of_its_class(ran):
    assert set(ran.top["class"]) == {"vertical"}
    assert len(ran.strongest) == 5
    assert ran.top["activation"].is_monotonic_decreasing
    layer = ran.model.layer(ran.LAYER)
    for row in ran.top.itertuples():
        scene = ran.test_scenes[int(Path(row.file).stem)]
        top, left, bottom, right = layer.receptive_field.box(row.row, row.col)
        assert math.dist(((top + bottom) / 2, (left + right) / 2), scene.centre) < ran.RADIUS


def test_the_second_task_is_learned_and_its_widths_are_preferred(ran):
    assert ran.learned.best.accuracy > 0.85
    coarse, fine = ran.widths["preferred_frequency"]
    assert 1 / 25 < coarse < 1 / 9
    assert 1 / 7.5 < fine < 1 / 4
    assert ran.widths["selectivity"].max() < ran.head["selectivity"].min()


def test_what_did_not_learn_did_not_change(ran):
    assert (ran.same.table[["weight_change", "response_change"]].to_numpy() == 0).all()
    np.testing.assert_allclose(np.diag(ran.still.values), 1, atol=1e-6)
    diagonal = np.diag(ran.alignment.values)
    assert diagonal[0] > diagonal[-1] + 0.1
    assert ran.change.table["weight_change"].min() > 0
    assert ran.change.controls == 1


def test_a_cancelled_job_leaves_the_model_as_it_was(ran):
    assert not ran.job.finished
    assert ran.progress.done < ran.progress.total
    assert (ran.hooked, ran.learning, ran.as_it_is) == (False, False, ran.fingerprint)


def test_ripples_and_silence_find_what_the_kernels_hear(ran):
    signed = ran.modulation["preferred_rate_hz"] * np.sign(ran.modulation["direction"])
    np.testing.assert_allclose(signed, list(ran.TAUGHT.values()), rtol=0.1)
    first = ran.heard.iloc[0]
    assert first["start_s"] < ran.END
    assert first["end_s"] > ran.START
    assert ran.START <= (first["start_s"] + first["end_s"]) / 2 <= ran.END
    assert first["drop"] > 0.2 * ran.moments.baseline


def test_the_program_is_the_same_network(ran):
    inputs = ran.test_inputs
    torch.testing.assert_close(ran.again.predict(inputs), ran.model.predict(inputs))
    assert ran.known <= {layer.name for layer in ran.again.layers}


def test_the_stored_outputs_are_complete_and_name_no_folder():
    written = PATH.read_text("utf-8")
    assert len(written.encode()) <= draw_notebook.MOST_BYTES
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    pictures = 0
    for cell in CODE:
        assert all(part["output_type"] in ("stream", "execute_result") for part in cell["outputs"])
        for part in cell["outputs"]:
            text = "".join([*part.get("text", []), *part.get("data", {}).get("text/plain", [])])
            assert not any(root in text for root in ("/tmp", "/home", "/root", "/work", ":\\"))
            if "image/png" in part.get("data", {}):
                found = Image.open(io.BytesIO(base64.b64decode(part["data"]["image/png"])))
                found.load()
                pictures += 1
    assert pictures >= 8


def test_the_notebook_is_of_version_4_5():
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids)
    headings = [
        "".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "markdown"
    ]
    server = [text for text in headings if text.startswith("## On your server")]
    assert len(server) == 1
    assert "hosting.md" in server[0]


def test_outputs_are_those_of_a_notebook():
    cells = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["words"]},
        {
            "cell_type": "code",
            "id": "b",
            "metadata": {},
            "source": ["n = 2\n", "print(n)\n", "n + 1"],
        },
        {"cell_type": "code", "id": "c", "metadata": {}, "source": ["n = n"]},
    ]
    names = {"__name__": "__main__"}
    first, second = draw_notebook.run_cells({"cells": cells}, names)
    assert names["n"] == 2
    assert draw_notebook.outputs(second, 2) == []
    stream, result = draw_notebook.outputs(first, 1)
    assert stream == {"output_type": "stream", "name": "stdout", "text": ["2\n"]}
    assert (result["data"], result["execution_count"]) == ({"text/plain": ["3"]}, 1)


def test_a_cell_that_raises_is_named():
    cells = [{"cell_type": "code", "id": "wrong", "metadata": {}, "source": ["1 / 0"]}]
    with pytest.raises(ZeroDivisionError) as caught:
        list(draw_notebook.run_cells({"cells": cells}, {"__name__": "__main__"}))
    assert any("wrong" in str(entry.path) for entry in caught.traceback)


def test_a_notebook_that_names_a_folder_is_not_written(tmp_path, monkeypatch):
    source = ["from pathlib import Path\n", "print(Path.home() / 'mine')"]
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": source, "outputs": []}
    path = tmp_path / "notebook.ipynb"
    path.write_text(json.dumps({"cells": [cell]}))
    before = path.read_bytes()
    monkeypatch.setattr("sys.argv", ["draw_notebook", str(path)])
    with pytest.raises(SystemExit, match="names of files alone"):
        draw_notebook.main()
    assert path.read_bytes() == before
    cell["source"] = ["print('mine')"]
    path.write_text(json.dumps({"cells": [cell]}))
    draw_notebook.main()
    assert json.loads(path.read_text())["cells"][0]["outputs"][0]["text"] == ["mine\n"]
