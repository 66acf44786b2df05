"""A server of weights of our own that misbehaves in every way we know."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cnnvis_core.models.download import WeightFile


@dataclass
class Site:
    """What the server sends, how, and what it was asked for."""

    address: str
    content: bytes
    mode: str = "good"
    asked: list[str] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)

    def file(self, name: str, size: int = 0) -> WeightFile:
        return WeightFile(f"{self.address}/{name}", size)


def handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            if site.mode == "missing":
                self.send_error(404)
                return
            if site.mode == "silent":
                time.sleep(1.5)
                return
            if site.mode == "moved" and "moved" not in self.path:
                self.send_response(302)
                self.send_header("Location", f"/moved/{self.path.lstrip('/')}")
                self.end_headers()
                return
            if site.mode == "garbage":
                self.wfile.write(b"what? this is no HTTP\r\n\r\n")
                return
            self.send_response(200)
            if site.mode != "unsized":
                self.send_header("Content-Length", str(len(site.content)))
            self.end_headers()
            try:
                if site.mode == "cut off":
                    self.wfile.write(site.content[:-1000])
                elif site.mode == "stalls":
                    self.wfile.write(site.content[:1000])
                    self.wfile.flush()
                    time.sleep(1.5)
                elif site.mode == "waits":
                    half = len(site.content) // 2
                    self.wfile.write(site.content[:half])
                    site.go_on.wait(60)
                    self.wfile.write(site.content[half:])
                elif site.mode == "drags on":
                    half = len(site.content) // 2
                    self.wfile.write(site.content[:half])
                    for start in range(half, len(site.content), half // 1000):
                        self.wfile.write(site.content[start : start + half // 1000])
                        if site.go_on.wait(0.05):
                            return
                elif site.mode == "trickles":
                    for index in range(200):
                        self.wfile.write(site.content[index : index + 1])
                        time.sleep(0.02)
                elif site.mode == "reset":
                    self.wfile.write(site.content[:100_000])
                    linger = b"\1\0\0\0\0\0\0\0"  # close with RST
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.connection.close()
                else:
                    self.wfile.write(site.content)
            except OSError:
                return

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextlib.contextmanager
def weight_site(content: bytes) -> Iterator[Site]:
    """Serve the content under every name, on a free port."""
    site = Site("", content)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(site))
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    site.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield site
    finally:
        site.go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()
