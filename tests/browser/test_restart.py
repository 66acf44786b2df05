"""A server that is killed at work and started again."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Iterator

from playwright.sync_api import expect
from streamlit.proto.BackMsg_pb2 import BackMsg
from websockets import ConnectionClosed, Origin, Subprotocol
from websockets.sync.client import ClientConnection, connect

from tests.browser.conftest import Server, serve
from tests.browser.replicas import CONNECTED
from tests.browser.visit import MAP, nothing_broke, wait_for_map

JOBS = 10
FORMING = "img[alt='The picture as it forms']"
LONG = "steps-lucid=2048&layer=stages.1.0.conv1"


@contextlib.contextmanager
def at_work(server: Server, count: int) -> Iterator[list[ClientConnection]]:
    """Visitors who each watch a long job of their own, by websockets as browsers do."""
    with contextlib.ExitStack() as stack:
        sockets = []
        for unit in range(count):
            socket = stack.enter_context(
                connect(
                    server.url.replace("http", "ws") + "/_stcore/stream",
                    subprotocols=[Subprotocol("streamlit")],
                    origin=Origin(server.url),
                    max_size=2**28,
                    max_queue=None,  # else what nobody reads would hold the job up
                    proxy=None,
                )
            )
            asked = BackMsg()
            asked.rerun_script.page_name = "maximize"
            asked.rerun_script.query_string = f"{LONG}&unit={unit}"
            socket.send(asked.SerializeToString())
            sockets.append(socket)
        yield sockets


def jobs(server: Server, least: int) -> int:
    """How many jobs there are, once there are so many or a minute has passed."""
    for _ in range(60):
        found = server.left_behind()["jobs"]
        if found >= least:
            break
        time.sleep(1)
    return found


def is_cut(socket: ClientConnection) -> bool:
    """Whether the connection ends without a goodbye."""
    try:
        for _ in socket:
            pass
    except ConnectionClosed:
        return True
    return False


def test_ten_jobs_die_with_the_server_and_open_pages_come_back(tmp_path, visitor):
    idle, busy = visitor(), visitor()
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    with serve(before) as server:
        idle.goto(f"{server.url}/occlude?patch64=20&score=Logit")
        wait_for_map(idle)
        busy.goto(f"{server.url}/maximize?{LONG}&unit=40")
        expect(busy.locator(FORMING)).to_be_visible()
        with at_work(server, JOBS - 1) as sockets:
            assert jobs(server, JOBS) == JOBS
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
            assert all(is_cut(socket) for socket in sockets)
    for page in (idle, busy):
        expect(page.locator(CONNECTED)).to_have_count(0)
    formed = busy.locator(FORMING).get_attribute("src")

    with serve(after, port=int(server.url.split(":")[-1])) as again:
        assert again.url == server.url
        for page in (idle, busy):
            expect(page.locator(CONNECTED)).to_be_visible()
        # Who watched a job sees it begin anew.
        expect(busy.locator(FORMING)).not_to_have_attribute("src", formed)
        assert jobs(again, 1) == 1
        expect(busy).to_have_url(re.compile("steps-lucid=2048.*unit=40"))
        nothing_broke(busy)
        busy.get_by_role("button", name="Cancel").click()
        expect(busy.get_by_text(re.compile("Cancelled after"))).to_be_visible()
        expect(busy.locator("img[alt*='The input that drives unit 40']")).to_be_visible()
        nothing_broke(busy)
        # Who read sees what was there; a change is computed with the other settings of before.
        shown = idle.locator(MAP).get_attribute("src")
        assert idle.locator(MAP).evaluate("picture => picture.naturalWidth") > 0
        idle.get_by_role("slider", name="Patch (input px)").press("ArrowRight")
        expect(idle.locator(MAP)).not_to_have_attribute("src", shown)
        wait_for_map(idle)
        expect(idle).to_have_url(re.compile("patch64=21"))
        expect(idle).to_have_url(re.compile("score=Logit"))
        expect(idle.get_by_text(re.compile("Drop of the logit"))).to_be_visible()
        nothing_broke(idle)
    assert "Traceback" not in (after / "server.log").read_text()
