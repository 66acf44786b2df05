"""What a visitor sent is in their session alone, and goes with it: nobody else ever sees it."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import ROOT, Server, serve
from tests.browser.tell_tale import Visitor, loudest, share, striped, two
from tests.browser.visit import cancel, done, settled, upload, wait_for_map


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


def apart(visitors: tuple[Visitor, Visitor], inputs: bool, plain: bool = True) -> None:
    """Each sees what is theirs, and nothing of the other's.

    Parameters
    ----------
    visitors : tuple of Visitor
        Both, on the same page.
    inputs : bool
        Whether the page shows what they sent.
    plain : bool
        Whether it shows it in its own colours.
    """
    drawn = [visitor.sources() for visitor in visitors]
    assert not inputs or (all(drawn) and not drawn[0] & drawn[1])
    for visitor, other, mine, theirs in zip(
        visitors, visitors[::-1], drawn, drawn[::-1], strict=True
    ):
        shown = visitor.page.content()
        received = b"".join(visitor.received)
        assert visitor.name in shown
        assert other.name not in shown
        assert other.name.encode() not in received
        assert not re.search("secret|png|wav|zip", visitor.page.url)
        for source in theirs - mine:
            assert urlsplit(source).path.encode() not in received
        if not inputs:
            continue
        media = visitor.media(mine)
        pictures = [data for kind, data in media if kind.startswith("image/")]
        sounds = [data for kind, data in media if kind.startswith("audio/")]
        # In the window as well, where charts hold pictures of their own.
        pictures.append(visitor.page.screenshot())
        if sounds:
            assert all(abs(loudest(data) - visitor.pitch) < 20 for data in sounds)
        elif plain:
            assert max(share(data, visitor.colour) for data in pictures) > 0.01
        assert max(share(data, other.colour) for data in pictures) < 0.0005


def test_two_visitors_at_once_never_see_anything_of_each_other(private, visitor):
    both = two(visitor)
    anna, bert = both
    for one in both:
        one.page.goto(f"{private.url}/occlude?patch64=32&stride64=32&opacity=0")
    for one in both:
        wait_for_map(one.page)
    for one in both:
        one.bring_weights()
    for one in both:
        expect(one.page.get_by_text("(your weights): ")).to_be_visible()
        upload(one.page, f"{one.name}-1.png", "image/png", one.picture())
    for one in both:
        expect(one.page.get_by_role("radio", name="Your picture")).to_be_checked()
        expect(one.page.get_by_role("heading", name=f"“{one.name}-class-")).to_be_visible()
        wait_for_map(one.page)
    apart(both, True)
    for title, inputs, stopped in (
        ("Feature maps", True, ()),
        ("Kernels", False, ()),
        ("Gradients", True, (anna,)),
        ("Models", False, ()),
        ("Maximisation", False, (bert,)),
        ("Orientation", False, (anna,)),
    ):
        for one in both:
            one.turn_to(title)
        for one in both:
            expect(one.page.get_by_role("heading", name=title, exact=True)).to_be_visible()
        for one in stopped:
            cancel(one.page)
        for one in both:
            done(one.page)
        apart(both, inputs, plain=title != "Feature maps")
    look_through_collections(both)
    addresses = [one.page.url for one in both]
    train(both)
    addresses += [one.page.url for one in both]
    for one in both:
        one.turn_to("Start")
        expect(one.page.get_by_role("heading", name="cnnvis")).to_be_visible()
    for one in both:
        done(one.page)
    apart(both, False)
    hear(both)
    addresses += [one.page.url for one in both]
    # The names would have been found, had they been sent: each got their own.
    for one in both:
        assert f"{one.name}-class-".encode() in b"".join(one.received)
    follow(addresses, Visitor(visitor(), "carl-secret", (0, 255, 255), 500.0, 3), both)


def look_through_collections(both: tuple[Visitor, Visitor]) -> None:
    for one in both:
        one.turn_to("Exemplars")
        one.page.get_by_text("Yours", exact=True).click()
        expect(one.page.get_by_text("Drop pictures here")).to_be_visible()
    for one in both:
        box = one.page.locator("[data-testid=stMain] [data-testid=stFileUploaderDropzoneInput]")
        name = f"{one.name}-pile.zip"
        box.set_input_files(
            {"name": name, "mimeType": "application/zip", "buffer": one.collection()}
        )
    for one in both:
        expect(one.page.get_by_text("The strongest of 8 items")).to_be_visible()
        done(one.page)
        expect(one.page.get_by_alt_text(re.compile(f"{one.name}-kind-")).first).to_be_visible()
    apart(both, True)


def train(both: tuple[Visitor, Visitor]) -> None:
    for one in both:
        one.turn_to("Transfer")
        one.page.get_by_text("Fine-tune", exact=True).click()
        one.page.get_by_text("Yours", exact=True).click()
    for one in both:
        expect(one.page.get_by_text(f"8 pictures of {one.name}-kind-0")).to_be_visible()
        one.page.get_by_role("button", name="Train").click()
    cancel(both[0].page)
    for one in both:
        done(one.page)
    expect(both[1].page.get_by_text("Best after epoch")).to_be_visible()
    apart(both, False)


def hear(both: tuple[Visitor, Visitor]) -> None:
    for one in both:
        one.turn_to("Occlusion")
        # A click on the way to another page leads back.
        expect(one.page.get_by_role("heading", name="Occlusion", exact=True)).to_be_visible()
        settled(one.page)
        one.page.get_by_test_id("stSidebar").get_by_text("Sound", exact=True).click()
        wait_for_map(one.page)
    for one in both:
        upload(one.page, f"{one.name}-2.wav", "audio/wav", one.sound())
    for one in both:
        expect(one.page.get_by_role("radio", name="Your sound")).to_be_checked()
        wait_for_map(one.page)
    apart(both, True)


def follow(addresses: list[str], guest: Visitor, both: tuple[Visitor, Visitor]) -> None:
    """Whoever opens a copied address sees nothing of who sent it."""
    theirs = set().union(*(one.sources() for one in both))
    for address in addresses:
        guest.page.goto(address)
        settled(guest.page)
        done(guest.page)
        received = b"".join(guest.received)
        mine = guest.sources()
        assert not mine & theirs
        pictures = [data for kind, data in guest.media(mine) if kind.startswith("image/")]
        for one in both:
            assert one.name not in guest.page.content()
            assert one.name.encode() not in received
            assert all(share(data, one.colour) < 0.0005 for data in pictures)


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
