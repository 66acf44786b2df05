"""Two servers behind nginx with the configuration that is shipped."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.browser.conftest import PATIENCE, ROOT, Server, free_port, serve

SHIPPED = ROOT / "deploy" / "nginx.conf"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
CONNECTED = "[data-testid=stApp][data-test-connection-state=CONNECTED]"
# A visitor is known by a cookie of the test's own, a replica by its address.
LOG = """
    log_format test escape=json '{"visitor": "$cookie_visitor", "method": "$request_method",'
        '"path": "$uri", "status": $status, "replica": "$upstream_addr"}';
    access_log requests.log test;
"""
KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True)
class Answer:
    """One line of nginx's log."""

    visitor: str
    method: str
    path: str
    status: int
    replica: str

    @property
    def kind(self) -> str:
        """What was asked for: the path's first part that is not Streamlit's own."""
        return self.path.removeprefix("/_stcore").split("/")[1]


@dataclass(frozen=True)
class House:
    """A running nginx and the servers behind it, the first of which is replica 1."""

    port: int
    servers: dict[str, Server]
    folder: Path

    @property
    def url(self) -> str:
        """Where browsers find it: a name that the app does not know, as a host's own would be."""
        return f"http://cnnvis.localhost:{self.port}"

    def answers(self) -> list[Answer]:
        """What was answered so far."""
        lines = (self.folder / "requests.log").read_text().splitlines()
        return [Answer(**json.loads(line)) for line in lines]

    def visit(self, name: str) -> list[Answer]:
        """All answers to a visitor who has left; the websocket's line is written last."""
        for _ in range(100):
            mine = [answer for answer in self.answers() if answer.visitor == name]
            if any(answer.kind == "stream" for answer in mine):
                return mine
            time.sleep(0.1)
        raise AssertionError(f"{name} opened no websocket")

    def replica(self, answer: Answer) -> str:
        """The replica that gave this answer in the end."""
        last = answer.replica.split(", ")[-1]
        return next(
            (n for n, s in self.servers.items() if s.url.split(":")[-1] == last.split(":")[-1]), ""
        )


def configuration(port: int, replicas: list[int], folder: Path) -> str:
    """The shipped configuration on other ports, with its logs in a folder, and a log to test by."""
    text = SHIPPED.read_text()
    temporary = "".join(f"    {kind}_temp_path temporary;\n" for kind in KINDS)
    for old, new in {
        "listen 80;": f"listen 127.0.0.1:{port};",
        ":8501": f":{replicas[0]}",
        ":8502": f":{replicas[1]}",
        "/var/log/nginx/": f"{folder}/",
        "http {\n": f"http {{\n{temporary}{LOG}",
    }.items():
        if old not in text:
            raise AssertionError(f"{SHIPPED} has no {old!r}")
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def nginx(folder: Path, replicas: list[int]) -> Iterator[int]:
    """Run nginx in front of servers on these ports; its own port."""
    if NGINX is None:
        pytest.fail("nginx is demanded (CNNVIS_REQUIRE_BROWSER) and not installed")
    port = free_port()
    (folder / "nginx.conf").write_text(configuration(port, replicas, folder))
    command = [
        *(NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"),
        *("-g", f"daemon off; pid {folder}/nginx.pid;"),
    ]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr, checked.stderr
    process = subprocess.Popen(command)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=10)
                break
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE / 1000)


@contextlib.contextmanager
def house(folder: Path) -> Iterator[House]:
    """Two fresh servers, started side by side, behind nginx."""
    with contextlib.ExitStack() as stack, ThreadPoolExecutor() as pool:
        places = [folder / name for name in "12"]
        for place in places:
            place.mkdir()
        started = [pool.submit(stack.enter_context, serve(place)) for place in places]
        servers = [future.result() for future in started]
        ports = [int(server.url.split(":")[-1]) for server in servers]
        port = stack.enter_context(nginx(folder, ports))
        yield House(port, dict(zip("12", servers, strict=True)), folder)
