"""Other networks than the embedded ones: a visitor's own weights, and public ones to download."""

from __future__ import annotations

import hashlib
import re
import socket

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
from tests.weight_site import weight_site

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


def test_a_model_is_downloaded_while_one_looks_and_then_used(visitor, tmp_path):
    content = torch_file(random_state(NAME))
    name = f"squeezenet-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    with weight_site(content) as site:
        site.mode = "waits"
        with serve(tmp_path, {NAME: site.file(name, len(content))}) as server:
            page = visitor()
            page.goto(f"{server.url}/occlude")
            wait_for_map(page)
            choose(page, TITLE)
            page.get_by_role("button", name=f"Download {TITLE}").click()
            expect(page.get_by_text(re.compile(r"Downloading .*: 2 MB of 5 MB"))).to_be_visible()
            site.go_on.set()
            expect(page.get_by_role("button", name=f"Download {TITLE}")).to_have_count(0)
            wait_for_map(page)
            expect(page.get_by_text("1.2 million")).to_be_visible()
            expect(page.locator(MAP)).to_be_visible()
            nothing_broke(page)
    assert site.asked == [f"/{name}"]
    assert [path.name for path in tmp_path.glob("torch/hub/checkpoints/*")] == [name]


def test_a_download_can_be_cancelled(visitor, tmp_path):
    content = torch_file(random_state(NAME))
    with weight_site(content) as site:
        site.mode = "drags on"
        with serve(tmp_path, {NAME: site.file("squeezenet.pth", len(content))}) as server:
            page = visitor()
            page.goto(f"{server.url}/models?model-image={TITLE}")
            page.get_by_role("button", name=f"Download {TITLE}").click()
            expect(page.get_by_text(re.compile("Downloading .*: 2 MB"))).to_be_visible()
            page.get_by_role("button", name="Cancel").click()
            expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
            expect(page.locator(IDLE)).to_be_visible()
            expect(page.get_by_role("button", name=f"Download {TITLE}")).to_be_visible()
            nothing_broke(page)
    assert list(tmp_path.glob("torch/hub/checkpoints/*")) == []


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_without_a_connection_a_sentence_says_what_to_do(visitor, tmp_path, closed_port):
    gone = WeightFile(f"http://127.0.0.1:{closed_port}/squeezenet.pth", 5_000_000)
    with serve(tmp_path, {NAME: gone}) as server:
        page = visitor()
        page.goto(f"{server.url}/occlude?model-image={TITLE}")
        page.get_by_role("button", name=f"Download {TITLE}").click()
        sentence = page.get_by_text(re.compile("There is no connection to download squeezenet.pth"))
        expect(sentence).to_be_visible()
        expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
        expect(page.get_by_role("button", name=f"Download {TITLE}")).to_be_visible()
        choose(page, "ResNet64 (Tiny ImageNet)")
        wait_for_map(page)
        expect(sentence).to_have_count(0)
        nothing_broke(page)
