"""What a visitor sent is in their session alone, and goes with it."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import ROOT, Server, serve
from tests.browser.tell_tale import Visitor, striped, two
from tests.browser.visit import upload, wait_for_map


@pytest.fixture(scope="module")
def private(tmp_path_factory) -> Iterator[Server]:
    """A server that forgets who left after a second, with a home and a temp folder of its own."""
    folder = tmp_path_factory.mktemp("private")
    for name in ("home", "tmp"):
        (folder / name).mkdir()
    environment = {
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "STREAMLIT_SERVER_DISCONNECTED_SESSION_TTL": "1",
    }
    with serve(folder, environment=environment) as server:
        yield server


def test_what_a_visitor_sent_goes_when_they_have_left(private, visitor):
    anna, bert = two(visitor)
    for one in (anna, bert):
        look_at_own_picture(one, private.url)
    left, stays = anna.sources() - bert.sources(), bert.sources() - anna.sources()
    get = bert.page.request.get
    assert left
    assert {get(source).status for source in left} == {200}
    anna.page.context.close()
    # Nobody else comes or goes meanwhile.
    for _ in range(60):
        if {get(source).status for source in left} == {404}:
            break
        time.sleep(0.5)
    assert {get(source).status for source in left} == {404}
    assert {get(source).status for source in stays} == {200}


def look_at_own_picture(one: Visitor, url: str) -> None:
    one.page.goto(f"{url}/occlude?patch64=32&stride64=32&opacity=0")
    wait_for_map(one.page)
    upload(one.page, f"{one.name}-1.png", "image/png", one.picture())
    expect(one.page.get_by_role("radio", name="Your picture")).to_be_checked()
    wait_for_map(one.page)


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_file_of_what_a_visitor_sent_is_kept(private, visitor):
    folder = private.report.parent
    began = time.time()
    anna, _ = two(visitor)
    look_at_own_picture(anna, private.url)
    anna.bring_weights()
    expect(anna.page.get_by_text("(your weights): ")).to_be_visible()
    wait_for_map(anna.page)
    sent = (anna.name.encode(), anna.picture()[33:97], anna.weights()[-64:])
    kept = files(folder)
    # Its home and its folder for temporary files are in there, and its log.
    assert folder / "server.log" in kept
    kept |= beside(began)
    assert [path for path, data in kept.items() if any(part in data for part in sent)] == []
    assert [path for path in kept if anna.name in path.name] == []


def beside(since: float) -> dict[Path, bytes]:
    """Files of the folder that the server works in which were written since then."""
    found: dict[Path, bytes] = {}
    for part in ("", "assets", "cnnvis_core", "pages", ".streamlit"):
        for path in (ROOT / part).rglob("*") if part else ROOT.glob("*"):
            if path.is_file() and path.stat().st_mtime >= since:
                found[path] = path.read_bytes()
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are in /proc (Linux)")
def test_no_upload_passes_through_a_temporary_file(private, visitor):
    page = visitor()
    page.goto(f"{private.url}/occlude?patch64=32&stride64=32&opacity=0")
    wait_for_map(page)
    with page.expect_request(lambda request: request.method == "PUT") as asked:
        upload(page, "a.png", "image/png", striped((255, 0, 255), 1))
    place = urlsplit(asked.value.url)
    part = b'--X\r\nContent-Disposition: form-data; name="f"; filename="b.png"\r\n\r\n'
    begun = part + b"tell-tale" * 2**18
    cookies = "; ".join(f"{kept['name']}={kept['value']}" for kept in page.context.cookies())
    head = {
        "Host": place.netloc,
        "Cookie": cookies,
        "X-Xsrftoken": asked.value.all_headers()["x-xsrftoken"],
        "Content-Type": "multipart/form-data; boundary=X",
        "Content-Length": str(2 * len(begun)),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    with socket.create_connection((place.hostname, place.port)) as connection:
        connection.sendall(f"PUT {place.path} HTTP/1.1\r\n{lines}\r\n".encode() + begun)
        # Half of it has come, and the server holds it somewhere.
        for _ in range(20):
            time.sleep(0.1)
            assert not any(b"tell-tale" in data for data in open_files(private.process.pid))


def open_files(process: int) -> Iterator[bytes]:
    """The beginnings of the regular files that a process holds open."""
    for entry in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):
            if entry.is_file():
                with entry.open("rb") as file:
                    yield file.read(2**16)
