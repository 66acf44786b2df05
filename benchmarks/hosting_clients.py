"""A server in a process of its own, and visitors who speak to it as browsers do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState

ROOT = Path(__file__).resolve().parent.parent
STREAMLIT = (sys.executable, "-m", "streamlit", "run", "app.py", "--server.address=localhost")
PATIENCE = 300.0  # seconds without a word from the server
XSRF = "_streamlit_xsrf"
LARGEST = 2**28  # bytes that are said at once


@dataclass(frozen=True)
class Server:
    """A running app.

    Attributes
    ----------
    address : str
        Host and port.
    process : int
        Its number.
    log : Path
        What it writes to its outputs.
    """

    address: str
    process: int
    log: Path


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def served(
    folder: Path,
    command: Callable[[int], Sequence[str]] = lambda port: (*STREAMLIT, f"--server.port={port}"),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Start a fresh server and wait until it is healthy.

    Parameters
    ----------
    folder : Path
        For its log.
    command : callable, optional
        What starts it on a port.
    environment : mapping, optional
        Further variables of its environment.

    Raises
    ------
    RuntimeError
        If it ends at once.
    """
    port, path = free_port(), folder / "server.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            command(port),
            cwd=ROOT,
            stdout=log,
            stderr=log,
            env={**os.environ, "no_proxy": "*", **(environment or {})},
        )
    try:
        _await_health(f"localhost:{port}", process, path)
        yield Server(f"localhost:{port}", process.pid, path)
    finally:
        process.terminate()
        process.wait(60)


def _await_health(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(600):
        with contextlib.suppress(OSError):
            opener.open(f"http://{address}/_stcore/health", timeout=2)
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"the server did not start:\n{log.read_text(errors='replace')}")


class Visitor:
    """A browser's tab: it asks for a page, sees what is drawn, and works its widgets.

    Attributes
    ----------
    broke : int
        Scripts that raised so far, and tracebacks that were shown.
    said : list of str
        Sentences in boxes (errors, warnings) of the run that was seen last.
    bar : float
        Where the progress bar of the run stands that was seen last, 0 to 1; -1 without one.
    """

    def __init__(self, address: str, stream: websockets.ClientConnection) -> None:
        self.broke, self.bar = 0, -1.0
        self.said: list[str] = []
        self._address, self._stream = address, stream
        self._session = self._page = self._query = ""
        self._drawn: dict[str, tuple[str, str]] = {}  # kind and label of a widget, by its id
        self._states: dict[str, WidgetState] = {}
        self._files: dict[str, str] = {}  # address of what an uploader holds, by its id
        self._awaited = False  # whether what was asked for last has not begun

    async def open(self, page: str, query: str = "") -> None:
        """Turn to a page and see it through to the end of its script."""
        await self.ask(page, query)
        await self.finish()

    async def ask(self, page: str, query: str = "") -> None:
        """Ask for a page without waiting for it."""
        self._query = query
        await self._rerun(page=page)

    async def press(self, label: str) -> None:
        """Click on a button without waiting for what it does."""
        state = WidgetState(id=self._named("button", label), trigger_value=True)
        await self._rerun([state])

    async def set_number(self, label: str, value: float) -> None:
        """Write a number into its box without waiting for what it does."""
        await self._keep(WidgetState(id=self._named("number_input", label), double_value=value))

    async def slide(self, label: str, value: float) -> None:
        """Move a slider of numbers without waiting for what it does."""
        state = WidgetState(id=self._named("slider", label))
        state.double_array_value.data.append(value)
        await self._keep(state)

    async def send(self, label: str, name: str, data: bytes) -> None:
        """Put a file into a box without waiting for what comes of it; the one before goes.

        Raises
        ------
        RuntimeError
            If the server does not take it.
        """
        box = self._named("file_uploader", label)
        asked = BackMsg()
        asked.file_urls_request.request_id = uuid.uuid4().hex
        asked.file_urls_request.session_id = self._session
        asked.file_urls_request.file_names.append(name)
        await self._stream.send(asked.SerializeToString())
        while (told := await self._read()).WhichOneof("type") != "file_urls_response":
            pass
        (where,) = told.file_urls_response.file_urls
        if box in self._files:  # browsers see to that, too
            await asyncio.to_thread(self._exchange, "DELETE", self._files[box])
        await asyncio.to_thread(self._exchange, "PUT", where.upload_url, name, data)
        self._files[box] = where.delete_url
        state = WidgetState(id=box)
        info = state.file_uploader_state_value.uploaded_file_info.add()
        info.file_id, info.name, info.size = where.file_id, name, len(data)
        info.file_urls.CopyFrom(where)
        await self._keep(state)

    async def finish(self) -> None:
        """See what was asked for last through to the end of its script."""
        await self.until(lambda: False)

    async def until(self, seen: Callable[[], bool]) -> bool:
        """Watch until something is seen or the script ends; returns whether it was seen."""
        while self._awaited or not seen():
            told = await self._read()
            if (
                not self._awaited
                and told.WhichOneof("type") == "script_finished"
                and told.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN
            ):
                return seen()
        return True

    def shows(self, kind: str, label: str) -> bool:
        """Whether there is a widget of a kind whose label begins like this."""
        return any(k == kind and text.startswith(label) for k, text in self._drawn.values())

    def _named(self, kind: str, label: str) -> str:
        for name, (own, text) in self._drawn.items():
            if own == kind and text.startswith(label):
                return name
        raise RuntimeError(f"there is no {kind} {label!r} among {sorted(self._drawn.values())}")

    async def _keep(self, state: WidgetState) -> None:
        self._states[state.id] = state
        await self._rerun()

    async def _rerun(self, clicks: Sequence[WidgetState] = (), page: str = "") -> None:
        asked = BackMsg()
        run = asked.rerun_script
        run.query_string = self._query
        if page:
            run.page_name = page
        else:
            run.page_script_hash = self._page
        run.widget_states.widgets.extend([*self._states.values(), *clicks])
        await self._stream.send(asked.SerializeToString())
        self._awaited = True

    async def _read(self) -> ForwardMsg:
        """The server's next word, noted."""
        told = ForwardMsg()
        async with asyncio.timeout(PATIENCE):
            told.ParseFromString(bytes(await self._stream.recv()))  # type: ignore[arg-type]
        kind = told.WhichOneof("type")
        if kind == "new_session":
            self._session = told.new_session.initialize.session_id
            self._drawn, self.said, self.bar, self._awaited = {}, [], -1.0, False
        elif kind == "navigation":
            self._page = told.navigation.page_script_hash
        elif kind == "page_info_changed":
            self._query = told.page_info_changed.query_string
        elif kind == "script_finished":
            self.broke += told.script_finished == ForwardMsg.FINISHED_WITH_COMPILE_ERROR
        elif kind == "delta":
            self._note(told)
        return told

    def _note(self, told: ForwardMsg) -> None:
        element = told.delta.new_element
        kind = element.WhichOneof("type")
        if kind in ("button", "file_uploader", "number_input", "slider"):
            widget = getattr(element, kind)
            self._drawn[widget.id] = kind, widget.label
        elif kind == "progress":
            self.bar = element.progress.value / 100
        elif kind == "alert":
            self.said.append(element.alert.body)
        elif kind == "exception":
            self.broke += 1

    def _exchange(self, method: str, where: str, name: str = "", data: bytes = b"") -> None:
        """Send a file, or take it away; a token in a cookie and in a header says who asks."""
        connection = HTTPConnection(self._address, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", "/_stcore/health")
            answer = connection.getresponse()
            answer.read()
            cookies = answer.headers.get_all("Set-Cookie") or []
            cookie = next((c.split(";")[0] for c in cookies if c.startswith(XSRF)), "=")
            headers = {"Cookie": cookie, "X-Xsrftoken": cookie.split("=", 1)[1]}
            body = b""
            if method == "PUT":
                edge = uuid.uuid4().hex
                headers["Content-Type"] = f"multipart/form-data; boundary={edge}"
                about = f'Content-Disposition: form-data; name="file"; filename="{name}"'
                kind = "Content-Type: application/octet-stream"
                body = f"--{edge}\r\n{about}\r\n{kind}\r\n\r\n".encode()
                body += data + f"\r\n--{edge}--\r\n".encode()
            connection.request(method, where, body, headers)
            answer = connection.getresponse()
            said = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {where}: {answer.status} {said!r}")


@contextlib.asynccontextmanager
async def arrived(address: str) -> AsyncIterator[Visitor]:
    """A visitor who opens a tab, and closes it at the end of the block whatever goes on there."""
    async with websockets.connect(
        f"ws://{address}/_stcore/stream",
        subprotocols=[websockets.Subprotocol("streamlit")],
        max_size=LARGEST,
        origin=websockets.Origin(f"http://{address}"),
        proxy=None,
        ping_interval=None,  # a server that computes may answer late
    ) as stream:
        yield Visitor(address, stream)
