"""On a Ray cluster of two nodes the index is that of one machine, also when workers are killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from safetensors.torch import save

import cnnvis_core as cv
from cnnvis_core.datasets import open_dataset
from cnnvis_core.exemplars.cluster import Cluster
from tests.datasets.piles import as_folder, pictures
from tests.exemplars.test_build import same

ray = pytest.importorskip("ray", reason="Ray is optional (requirements-ray.txt)")
ROOT = Path(__file__).resolve().parents[2]
MODEL = "resnet64-tiny-imagenet"
LAYERS = ["stem.0", "stages.2.0.conv1"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of two nodes on this machine."""
    from ray.cluster_utils import Cluster as Nodes

    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    yield nodes.address
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture(scope="module")
def pile(tmp_path_factory) -> Path:
    files = pictures(120, 64)
    files["ant/broken.png"] = b"nothing"
    return as_folder(files, tmp_path_factory.mktemp("pile"))


def build(pile: Path, out: Path, crew: Cluster | None = None) -> cv.Job[cv.Exemplars, None]:
    return cv.build_exemplars(cv.load(MODEL), pile, LAYERS, 5, out, 8, 16, crew)


def crew_of(address: str) -> Cluster:
    return Cluster(address, partial(cv.load, MODEL), workers=2)


@pytest.fixture(scope="module")
def whole(pile, tmp_path_factory) -> cv.Exemplars:
    return cv.run(build(pile, tmp_path_factory.mktemp("index") / "whole"))


def test_the_index_is_that_of_one_machine_to_the_bit(cluster, pile, whole, tmp_path):
    assert same(whole, cv.run(build(pile, tmp_path / "out", crew_of(cluster))))
    assert not ray.is_initialized()


def test_a_killed_workers_chunks_are_done_by_another(cluster, pile, whole, tmp_path):
    killed = []
    ray.init(address=cluster, logging_level="ERROR", log_to_driver=False)
    try:
        with build(pile, tmp_path / "out", crew_of(cluster)) as job:
            for progress in job:
                if progress.done and len(killed) < 2:
                    (victim, *_) = _worker_processes()
                    os.kill(victim, signal.SIGKILL)
                    killed.append(victim)
        assert len(killed) == 2
        assert same(whole, job.result)
    finally:
        ray.shutdown()


def _worker_processes() -> list[int]:
    """Processes that run our actors on this machine."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                title = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if title.startswith("ray::Worker"):
                found.append(int(entry.name))
    return found


def test_a_run_that_is_cancelled_leaves_no_worker_and_goes_on(cluster, pile, whole, tmp_path):
    with build(pile, tmp_path / "out", crew_of(cluster)) as job:
        for progress in job:
            if progress.done:
                break
    assert not ray.is_initialized()
    assert same(whole, cv.run(build(pile, tmp_path / "out")))


def test_workers_with_another_model_or_without_the_data_are_refused(cluster, pile, tmp_path):
    other = Cluster(cluster, partial(other_weights, MODEL), workers=2)
    with pytest.raises(cv.InputError, match="other weights"):
        cv.run(build(pile, tmp_path / "out", other))
    dataset = open_dataset(pile, "image")
    assert dataset.fingerprint  # remembered; the workers look for themselves
    (pile / "ant" / "broken.png").rename(pile / "ant" / "gone")
    try:
        with pytest.raises(cv.InputError, match="same data"):
            cv.run(cv.build_exemplars(
                cv.load(MODEL), dataset, LAYERS, 5, tmp_path / "b", 8, 16, crew_of(cluster)
            ))  # fmt: skip
    finally:
        (pile / "ant" / "gone").rename(pile / "ant" / "broken.png")


def other_weights(name: str) -> cv.Model:
    model = cv.load(name)
    state = {name: value + 1 if value.is_floating_point() else value
             for name, value in model.module.state_dict().items()}  # fmt: skip
    return cv.load_checkpoint(name, save(state))


def test_an_address_without_a_cluster_gets_one_sentence(pile, tmp_path):
    with pytest.raises(cv.InputError, match="no Ray cluster"):
        cv.run(build(pile, tmp_path / "out", crew_of("127.0.0.1:1")))
