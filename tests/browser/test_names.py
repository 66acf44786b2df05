"""Whatever a visitor calls a file, a folder or a class is text, and nothing else."""

from __future__ import annotations

import io
import re
import zipfile

import pytest
from playwright.sync_api import Page, expect

from tests.browser.tell_tale import send_weights, striped, weights_of
from tests.browser.visit import cancel, done, nothing_broke, settled, upload, wait_for_map

SCRIPT = "<img src=x onerror=window.ran=1><script>window.ran=1</script>"
WORDS = (
    SCRIPT,
    "![leak](http://127.0.0.1:9/leak.png)",
    "[go](http://127.0.0.1:9/)",
    "**bold** $x^2$ :material/bug_report: :red[red]",
    "../../../etc/passwd",
)


def as_text(page: Page, asked: list[str]) -> None:
    """Nothing that a visitor wrote was taken for more than text."""
    settled(page)
    assert page.evaluate("window.ran") is None
    assert not [url for url in asked if "127.0.0.1:9" in url]
    main = page.get_by_test_id("stMain")
    assert main.locator("a[href*=':9'], img[src*=':9'], script, .katex").count() == 0
    nothing_broke(page)


@pytest.fixture
def hostile(visitor) -> tuple[Page, list[str]]:
    page, asked = visitor(), []
    page.on("request", lambda request: asked.append(request.url))
    return page, asked


def test_names_of_files_are_text(server, hostile):
    page, asked = hostile
    page.goto(f"{server.url}/occlude?patch64=32&stride64=32&opacity=0")
    wait_for_map(page)
    for name in (f"{SCRIPT}.png", "..\\![leak](http:127.0.0.1:9).png"):
        upload(page, name, "image/png", striped((255, 0, 255), len(name)))
        expect(page.get_by_role("radio", name="Your picture")).to_be_checked()
        wait_for_map(page)
        as_text(page, asked)
        upload(page, name, "image/png", b"no picture")
        expect(page.get_by_text(re.compile("not a supported"))).to_be_visible()
        as_text(page, asked)


def send_pile(page: Page) -> None:
    """Send a zip whose folders have names that could be taken for more than text."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, word in enumerate(WORDS * 2):
            # The last folder is the class; a slash would begin another one.
            name = word if ".." in word else word.replace("/", "")
            archive.writestr(f"{name}/{number}.png", striped((255, 0, 255), number))
    box = page.locator("[data-testid=stMain] [data-testid=stFileUploaderDropzoneInput]")
    file = {"name": "a.zip", "mimeType": "application/zip", "buffer": buffer.getvalue()}
    box.set_input_files(file)


def test_names_of_folders_in_a_zip_are_text(server, hostile):
    page, asked = hostile
    page.goto(f"{server.url}/exemplars?collection=Yours&layer=stem.0")
    send_pile(page)
    expect(page.get_by_text("The strongest of 10 items")).to_be_visible()
    done(page)
    as_text(page, asked)


def test_names_of_folders_are_text_where_one_trains_on_them(server, hostile):
    page, asked = hostile
    page.goto(f"{server.url}/transfer?transfer-view=Fine-tune&collection=Yours")
    send_pile(page)
    expect(page.get_by_text("10 pictures of")).to_be_visible()
    as_text(page, asked)


def test_names_of_classes_are_text(server, hostile):
    page, asked = hostile
    page.goto(f"{server.url}/models")
    settled(page)
    classes = ["".join(WORDS)[:100]] * 3 + list(WORDS) + ["one more"]
    send_weights(page, "a.safetensors", weights_of(classes, 1))
    expect(page.get_by_text("(your weights): ")).to_be_visible()
    for title in ("Gradients", "Occlusion"):
        page.locator("[data-testid=stSidebarNavLink]").filter(has_text=title).click()
        expect(page.get_by_role("heading", name=re.compile("^What carries"))).to_be_visible()
        cancel(page)
        done(page)
        as_text(page, asked)
