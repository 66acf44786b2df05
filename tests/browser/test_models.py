"""Other networks than the embedded ones: a visitor's own weights, and public ones to download."""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Page, expect
from safetensors.torch import save as save_safetensors

from cnnvis_core.models.catalogue import blueprint
from cnnvis_core.models.download import WeightFile
from tests.browser.conftest import serve
from tests.browser.visit import (
    IDLE,
    MAP,
    box_in_sidebar,
    nothing_broke,
    settled,
    upload,
    wait_for_map,
)
from tests.programs.nets import exported, network
from tests.support import Payload, torch_file
from tests.weight_site import Site, weight_site

NAME, TITLE = "squeezenet1_1", "SqueezeNet 1.1"


def random_state(model_id: str, classes: int = 1000) -> dict[str, torch.Tensor]:
    """Weights as training starts with them, for some number of classes."""
    torch.manual_seed(0)
    state = blueprint(model_id).build().state_dict()
    return {k: v[:classes] if v.shape[:1] == (1000,) else v for k, v in state.items()}


def choose(page: Page, title: str) -> None:
    """Choose a model in the sidebar by typing its name."""
    box = page.locator("[data-testid=stSidebar]").get_by_role("combobox")
    box.click()
    box.fill(title)
    page.get_by_role("option", name=title, exact=True).click()


def bring_weights(page: Page, name: str, data: bytes) -> None:
    """Upload one's own weights in the sidebar."""
    where = box_in_sidebar(page, "Your own weights")
    upload(page, name, "application/octet-stream", data, where)


def test_a_visitor_s_own_weights_answer(server, visitor):
    page = visitor()
    page.goto(f"{server.url}/occlude")
    wait_for_map(page)
    choose(page, TITLE)
    # The public weights are not needed for that.
    expect(page.get_by_role("button", name=f"Download {TITLE}")).to_be_visible()
    bring_weights(page, "mine.safetensors", save_safetensors(random_state(NAME, classes=7)))
    expect(page.get_by_text(f"{TITLE} (your weights): 7 classes")).to_be_visible()
    wait_for_map(page)
    expect(page.get_by_role("heading", name=re.compile(r"What carries “class \d”"))).to_be_visible()
    expect(page.locator(MAP)).to_be_visible()
    # They live on when one turns to another page and back.
    page.get_by_role("link", name="Models").first.click()
    expect(page.get_by_role("heading", name=f"{TITLE} (your weights)")).to_be_visible()
    nothing_broke(page)


def test_weights_that_would_run_code_are_refused_and_lose_nothing(server, visitor, tmp_path):
    proof = tmp_path / "executed"
    page = visitor()
    page.goto(f"{server.url}/occlude")
    wait_for_map(page)
    heading = page.get_by_role("heading", name=re.compile("What carries")).inner_text()
    bring_weights(page, "evil.pth", torch_file({"extra": Payload(proof)}))
    expect(page.get_by_text(re.compile("could run code"))).to_be_visible()
    wait_for_map(page)
    expect(page.get_by_role("heading", name=heading)).to_be_visible()
    assert not proof.exists()
    page.get_by_role("radio", name="Cat").click()
    expect(page.get_by_role("heading", name=heading)).to_have_count(0)
    wait_for_map(page)
    expect(page.locator(MAP)).to_be_visible()
    assert not proof.exists()
    nothing_broke(page)


def test_a_visitor_s_own_architecture_is_opened(server, visitor):
    page = visitor()
    page.goto(f"{server.url}/occlude")
    wait_for_map(page)
    where = box_in_sidebar(page, "Your own network")
    upload(page, "mine.pt2", "application/octet-stream", exported(network()), where)
    expect(page.get_by_text("Your network: 5 classes")).to_be_visible()
    box = page.get_by_role("textbox", name="Names of the classes, one a line")
    box.fill("apple\npear\nplum\nfig\nquince")
    box.press("Control+Enter")
    fruit = page.get_by_role("heading", name=re.compile("What carries “(apple|pear|plum|fig|quin)"))
    expect(fruit).to_be_visible()
    wait_for_map(page)
    expect(page.locator(MAP)).to_be_visible()
    nothing_broke(page)
    for title in ("Maximisation", "Orientation", "Kernels"):
        page.get_by_test_id("stSidebarNavLink").filter(has_text=title).click()
        expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
        settled(page)
        expect(page.get_by_text("Your network: 5 classes")).to_be_visible()
        nothing_broke(page)


def test_weights_may_be_larger_than_pictures(server, visitor):
    page = visitor()
    page.goto(f"{server.url}/models?model-image=ResNet18")
    state = random_state("resnet18")
    data = save_safetensors({k: v.half() for k, v in state.items() if v.is_floating_point()})
    assert len(data) > 20 * 2**20
    bring_weights(page, "large.safetensors", data)
    expect(page.get_by_role("heading", name="ResNet18 (your weights)")).to_be_visible()
    expect(page.locator("[data-testid=stDataFrame]").first).to_be_visible()
    nothing_broke(page)
    page.goto(f"{server.url}/occlude")
    wait_for_map(page)
    upload(page, "large.png", "image/png", bytes(20 * 2**20 + 1))
    expect(page.get_by_text(re.compile(r"20(\.0)?MB or smaller"))).to_be_visible()
    wait_for_map(page)
    nothing_broke(page)


@dataclass(frozen=True)
class Downloads:
    """A server whose public weights come from here: some halfway, some hardly, some not at all.

    Attributes
    ----------
    url : str
        Where the app is.
    kept : Path
        Where it keeps weights.
    slow : Site
        Has those of `TITLE`, as a file of this ``name``.
    """

    url: str
    kept: Path
    slow: Site
    name: str


DRAGGING, UNREACHABLE = "SqueezeNet 1.0", "ShuffleNet v2 x0.5"


@pytest.fixture(scope="module")
def downloads(tmp_path_factory) -> Iterator[Downloads]:
    folder = tmp_path_factory.mktemp("downloads")
    content = torch_file(random_state(NAME))
    name = f"squeezenet-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    # A port that is taken, and where nobody listens.
    with socket.socket() as taken, weight_site(content) as slow, weight_site(content) as dragging:
        taken.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{taken.getsockname()[1]}"
        slow.mode, dragging.mode = "waits", "drags on"
        weights = {
            NAME: slow.file(name, len(content)),
            "squeezenet1_0": dragging.file("dragging.pth", len(content)),
            "shufflenet_v2_x0_5": WeightFile(f"{nowhere}/shuffle.pth", 5_000_000),
        }
        with serve(folder, weights) as server:
            yield Downloads(server.url, folder / "torch" / "hub" / "checkpoints", slow, name)


def test_a_model_is_downloaded_while_one_looks_and_then_used(visitor, downloads):
    page = visitor()
    page.goto(f"{downloads.url}/occlude")
    wait_for_map(page)
    choose(page, TITLE)
    page.get_by_role("button", name=f"Download {TITLE}").click()
    expect(page.get_by_text(re.compile(r"Downloading .*: 2 MB of 5 MB"))).to_be_visible()
    downloads.slow.go_on.set()
    expect(page.get_by_role("button", name=f"Download {TITLE}")).to_have_count(0)
    wait_for_map(page)
    expect(page.get_by_text("1.2 million")).to_be_visible()
    expect(page.locator(MAP)).to_be_visible()
    nothing_broke(page)
    assert downloads.slow.asked == [f"/{downloads.name}"]
    assert downloads.name in [path.name for path in downloads.kept.iterdir()]


def test_a_download_can_be_cancelled(visitor, downloads):
    page = visitor()
    page.goto(f"{downloads.url}/models?model-image={DRAGGING}")
    page.get_by_role("button", name=f"Download {DRAGGING}").click()
    expect(page.get_by_text(re.compile("Downloading .*: 2 MB"))).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    expect(page.locator(IDLE)).to_be_visible()
    expect(page.get_by_role("button", name=f"Download {DRAGGING}")).to_be_visible()
    nothing_broke(page)
    # Neither the file nor a part of it.
    assert {path.name for path in downloads.kept.glob("*")} <= {downloads.name}


def test_without_a_connection_a_sentence_says_what_to_do(visitor, downloads):
    page = visitor()
    page.goto(f"{downloads.url}/occlude?model-image={UNREACHABLE}")
    page.get_by_role("button", name=f"Download {UNREACHABLE}").click()
    sentence = page.get_by_text(re.compile("There is no connection to download shuffle.pth"))
    expect(sentence).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    expect(page.get_by_role("button", name=f"Download {UNREACHABLE}")).to_be_visible()
    choose(page, "ResNet64 (Tiny ImageNet)")
    wait_for_map(page)
    expect(sentence).to_have_count(0)
    nothing_broke(page)
