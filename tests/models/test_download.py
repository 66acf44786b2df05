"""Downloads against a server of our own that misbehaves in every way we know."""

from __future__ import annotations

import hashlib
import os
import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from cnnvis_core.errors import ModelError
from cnnvis_core.models import load
from cnnvis_core.models.catalogue import blueprint
from cnnvis_core.models.download import Patience, WeightFile, fetch
from cnnvis_core.models.zoo import fetch_state
from tests.support import torch_file
from tests.weight_site import Site, weight_site

CONTENT = os.urandom(1_500_000)
NAME = f"tiny-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"
HASTY = Patience(silence=0.5, window=0.5, slowest=4096.0)


@pytest.fixture
def site() -> Iterator[Site]:
    with weight_site(CONTENT) as running:
        yield running


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "hub" / "checkpoints"


def files(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir()) if cache.is_dir() else []


def test_a_good_file_arrives_whole_with_progress(site: Site, cache: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = fetch(site.file(NAME), lambda done, total: seen.append((done, total)), HASTY)
    assert path == cache / NAME
    assert path.read_bytes() == CONTENT
    assert files(cache) == [NAME]
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert len(seen) > 2
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    # The second time nobody is asked.
    assert fetch(site.file(NAME)) == path
    assert len(site.asked) == 1
    assert oct(path.stat().st_mode & 0o777) == "0o644"


@pytest.mark.parametrize("mode", ["unsized", "moved"])
def test_servers_that_do_it_in_another_way(site: Site, mode: str) -> None:
    site.mode = mode
    totals: set[int] = set()
    path = fetch(site.file(NAME, size=len(CONTENT)), lambda _, total: totals.add(total), HASTY)
    assert path.read_bytes() == CONTENT
    assert totals == {len(CONTENT)}


@pytest.mark.parametrize(
    ("mode", "sentence"),
    [
        ("missing", "HTTP 404"),
        ("silent", "too slow|broke"),
        ("stalls", "too slow"),
        ("trickles", "too slow"),
        ("cut off", "broke"),
        ("reset", "broke"),
        ("garbage", "broke"),
    ],
)
def test_a_server_that_fails_is_one_sentence_and_leaves_nothing(
    site: Site, cache: Path, mode: str, sentence: str
) -> None:
    site.mode = mode
    with pytest.raises(ModelError, match=sentence) as caught:
        fetch(site.file(NAME), patience=HASTY)
    assert str(caught.value).count(".") <= 3
    assert "\n" not in str(caught.value)
    assert files(cache) == []
    # Once the server is well again, so is the file.
    site.mode = "good"
    assert fetch(site.file(NAME), patience=HASTY).read_bytes() == CONTENT


def test_other_bytes_than_the_hash_are_refused(site: Site, cache: Path) -> None:
    site.content = b"<html>Please log in</html>"
    with pytest.raises(ModelError, match="other bytes"):
        fetch(site.file(NAME))
    assert files(cache) == []


def test_nobody_there_is_one_sentence(cache: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ModelError, match="no connection"):
        fetch(WeightFile(f"http://127.0.0.1:{port}/{NAME}"))
    with pytest.raises(ModelError, match="no connection"):
        fetch(WeightFile(f"http://nowhere.invalid/{NAME}"))
    assert files(cache) == []


def test_a_callback_that_raises_cancels(site: Site, cache: Path) -> None:
    class Cancelled(BaseException):
        pass

    def cancel(done: int, total: int) -> None:
        if done > total // 10:
            raise Cancelled

    with pytest.raises(Cancelled):
        fetch(site.file(NAME), cancel)
    assert files(cache) == []


@pytest.mark.parametrize("old", [b"", b"partial", CONTENT[:-1], CONTENT + b"x"])
def test_a_broken_file_in_the_cache_is_fetched_again(site: Site, cache: Path, old: bytes) -> None:
    cache.mkdir(parents=True)
    (cache / NAME).write_bytes(old)
    assert fetch(site.file(NAME)).read_bytes() == CONTENT
    assert len(site.asked) == 1


def test_a_full_disk_is_one_sentence(site: Site, cache: Path) -> None:
    # A limit on the size of files fails in the middle of a write, as a full disk does.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, before[1]))
    try:
        with pytest.raises(ModelError, match="could not be saved"):
            fetch(site.file(NAME))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files(cache) == []


def test_too_little_room_is_said_before_the_first_byte(site: Site, cache: Path) -> None:
    site.mode = "unsized"
    seen: list[int] = []
    with pytest.raises(ModelError, match="disk has"):
        fetch(site.file(NAME, size=1 << 60), lambda done, _: seen.append(done))
    assert not seen
    assert files(cache) == []


def test_a_cache_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="TORCH_HOME"):
        fetch(WeightFile(f"http://127.0.0.1:9/{NAME}"))


def test_two_at_once_do_not_disturb_each_other(site: Site, cache: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch(site.file(NAME)), range(4)))
    assert all(path.read_bytes() == CONTENT for path in paths)
    assert files(cache) == [NAME]


def test_what_a_killed_process_left_is_removed_in_time(site: Site, cache: Path) -> None:
    cache.mkdir(parents=True)
    old, fresh = cache / f"{NAME}.a.partial", cache / f"{NAME}.b.partial"
    for path in (old, fresh):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 1e6,) * 2)
    fetch(site.file(NAME))
    assert files(cache) == [NAME, fresh.name]


def test_weights_without_a_hash_that_cannot_be_read_are_fetched_again(
    site: Site, cache: Path
) -> None:
    site.content = torch_file(nn.Linear(2, 3).state_dict())
    cache.mkdir(parents=True)
    (cache / "plain.pth").write_bytes(site.content[:-20])
    state = fetch_state(site.file("plain.pth"))
    assert state["weight"].shape == (3, 2)
    assert len(site.asked) == 1


def test_load_downloads_verifies_and_reports(
    site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    module = blueprint("squeezenet1_1").build()
    site.content = torch_file(module.state_dict())
    name = f"squeezenet-{hashlib.sha256(site.content).hexdigest()[:8]}.pth"
    monkeypatch.setattr("cnnvis_core.models.zoo.weight_file", lambda _: site.file(name))
    seen: list[int] = []
    model = load("squeezenet1_1", device="cpu", progress=lambda done, _: seen.append(done))
    assert seen[-1] == len(site.content)
    assert torch.equal(model.module.features[0].weight, module.features[0].weight)  # type: ignore[union-attr, index]
    assert files(cache) == [name]
    site.mode = "missing"
    assert load("squeezenet1_1", device="cpu").card.available_offline
