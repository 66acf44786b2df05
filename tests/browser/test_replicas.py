"""Visitors of two replicas behind nginx, with the configuration that is shipped."""

from __future__ import annotations

import os
import re
import signal
import urllib.error
import urllib.request

import pytest
from playwright.sync_api import Page, expect
from websockets import Origin, Subprotocol
from websockets.sync.client import connect

from tests.browser.conftest import serve
from tests.browser.replicas import CONNECTED, NGINX, House, house
from tests.browser.visit import MAP, nothing_broke, photo, upload, wait_for_map

pytestmark = pytest.mark.skipif(
    NGINX is None and not os.environ.get("CNNVIS_REQUIRE_BROWSER"), reason="nginx is not installed"
)
COOKIE = "cnnvis_replica"


@pytest.fixture(scope="module")
def replicas(tmp_path_factory):
    with house(tmp_path_factory.mktemp("house")) as running:
        yield running


def cookie(page: Page, name: str = COOKIE) -> dict:
    """What the browser holds under this name."""
    return next((c for c in page.context.cookies() if c["name"] == name), {})


def enter(house: House, visitor, name: str, replica: str) -> Page:
    """A new visitor whom chance has given this replica."""
    for _ in range(40):
        page = visitor()
        page.goto(f"{house.url}/favicon.png")
        if cookie(page)["value"] == replica:
            page.context.add_cookies([{"name": "visitor", "value": name, "url": house.url}])
            return page
        page.context.close()
    raise AssertionError(f"none of forty visitors came to replica {replica}")


def every_picture_is_served(page: Page) -> None:
    """What is drawn can be fetched anew, so that it is not only what the browser has kept."""
    for _ in range(60):
        missing = page.evaluate(
            """async () => {
                const pictures = [...document.images];
                const answers = await Promise.all(
                    pictures.map(i => fetch(i.src, {cache: "no-store"})));
                return pictures.filter((i, n) => !(answers[n].ok && i.naturalWidth))
                    .map(i => i.alt);
            }"""
        )
        if not missing:
            return
        page.wait_for_timeout(500)
    raise AssertionError(f"not served: {missing}")


def send_photo(page: Page) -> None:
    """Upload a picture on the occlusion page and see its map."""
    upload(page, "holiday.jpg", "image/jpeg", photo())
    expect(page.get_by_text(re.compile("turned|rotated|upright"))).to_be_visible()
    wait_for_map(page)
    expect(page.locator(MAP)).to_be_visible()
    every_picture_is_served(page)
    nothing_broke(page)


def ask(house: House, path: str, **headers: str):
    """One request without a browser."""
    url = f"http://127.0.0.1:{house.port}{path}"
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30)


def given(answer) -> str:
    """The replica that a cookie of this answer names."""
    line = answer.headers["Set-Cookie"]
    found = re.fullmatch(rf"{COOKIE}=([12]); Path=/; HttpOnly; SameSite=Lax", line)
    assert found, line
    return found[1]


def test_a_lecture_hall_with_one_address_is_shared_out(replicas):
    homes = [given(ask(replicas, "/occlude")) for _ in range(40)]
    # Forty coins: fewer than six of a kind come once in a million times.
    assert min(homes.count(replica) for replica in "12") >= 6
    address = f"127.0.0.1:{replicas.port}"
    for home in homes:
        with connect(
            f"ws://{address}/_stcore/stream",
            subprotocols=[Subprotocol("streamlit")],
            origin=Origin(f"http://{address}"),
            additional_headers={"Cookie": f"{COOKIE}={home}"},
            proxy=None,
        ) as socket:
            assert given(socket.response) == home


def test_a_cookie_decides_and_a_hostile_one_does_no_harm(replicas):
    for replica in ("1", "2") * 3:
        assert given(ask(replicas, "/", Cookie=f"{COOKIE}={replica}")) == replica
    for value in ("3", "", "newcomers", "127.0.0.1:22", "replica_1", "1" * 7000, "%0d%0aX: 1"):
        answer = ask(replicas, "/", Cookie=f"{COOKIE}={value}")
        assert answer.status == 200
        assert given(answer) in "12"
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(replicas, "/", Cookie=f"{COOKIE}={'1' * 40_000}")
    assert refused.value.code == 400


def test_a_browser_without_cookies_stays_where_it_is(replicas):
    found: dict[str, set[str]] = {}
    for agent in [f"browser-{n}" for n in range(20)] * 3:
        ask(replicas, f"/_stcore/health/{agent}", **{"User-Agent": agent})
    for answer in replicas.answers():
        if answer.path.startswith("/_stcore/health/"):
            found.setdefault(answer.path, set()).add(replicas.replica(answer))
    assert len(found) == 20
    assert all(len(where) == 1 for where in found.values())
    assert set.union(*found.values()) == {"1", "2"}


def test_all_of_a_visit_goes_to_one_replica(replicas, visitor):
    homes = {"ann": "1", "bob": "2"}
    pages = {name: enter(replicas, visitor, name, home) for name, home in homes.items()}
    for page in pages.values():
        page.goto(f"{replicas.url}/occlude")
    for page in pages.values():
        wait_for_map(page)
    for name, page in pages.items():
        send_photo(page)
        assert cookie(page)["value"] == homes[name]
        assert cookie(page)["httpOnly"]
        with page.expect_download() as download:
            page.get_by_role("button", name="CSV").click()
        assert len(download.value.path().read_text().splitlines()) == 1 + 14 * 14
        page.context.close()
    for name, home in homes.items():
        mine = replicas.visit(name)
        assert {replicas.replica(answer) for answer in mine} == {home}
        assert {
            *(("GET", "occlude", 200), ("GET", "media", 200), ("GET", "stream", 101)),
            ("PUT", "upload_file", 204),
        } <= {(a.method, a.kind, a.status) for a in mine}
        # A preview that was replaced while it was on its way may be gone; an upload may not.
        assert {a.status for a in mine if a.kind in ("stream", "upload_file")} == {101, 204}


def test_a_dead_replica_s_visitor_moves_and_nobody_else_notices(replicas, visitor):
    moved, other = (enter(replicas, visitor, *who) for who in (("kim", "1"), ("lee", "2")))
    lost = {moved: 0, other: 0}

    def count(page: Page):
        def closed(_: object) -> None:
            lost[page] += 1

        return lambda socket: socket.on("close", closed)

    # Of different settings: neither sees what the other's replica holds by chance.
    for page, patch in ((moved, 20), (other, 30)):
        page.on("websocket", count(page))
        page.goto(f"{replicas.url}/occlude?patch64={patch}")
    for page in (moved, other):
        wait_for_map(page)
    send_photo(moved)
    first = replicas.servers["1"]
    with moved.expect_websocket(lambda socket: "_stcore/stream" in socket.url):
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    expect(moved.locator(CONNECTED)).to_be_visible()
    wait_for_map(moved)
    assert moved.locator(MAP).evaluate("picture => picture.naturalWidth") > 0
    nothing_broke(moved)
    assert lost == {moved: 1, other: 0}
    assert cookie(moved)["value"] == cookie(other)["value"] == "2"

    def works(page: Page, patch: int) -> None:
        shown = page.locator(MAP).get_attribute("src")
        page.get_by_role("slider", name="Patch (input px)").press("ArrowRight")
        expect(page).to_have_url(re.compile(f"patch64={patch}"))
        expect(page.locator(MAP)).not_to_have_attribute("src", shown)
        wait_for_map(page)
        every_picture_is_served(page)
        nothing_broke(page)

    works(moved, 21)
    works(other, 31)
    # When it is back, who has moved does not fall between two replicas.
    folder = replicas.folder / "again"
    folder.mkdir()
    with serve(folder, port=int(first.url.split(":")[-1])):
        for _ in range(60):
            if given(ask(replicas, "/", Cookie=f"{COOKIE}=1")) == "1":
                break
            moved.wait_for_timeout(500)
        else:
            raise AssertionError("replica 1 did not come back")
        works(moved, 22)
        send_photo(moved)
        works(other, 32)
    assert lost == {moved: 1, other: 0}
