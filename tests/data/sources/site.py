"""A web site on this machine for tests: pages by path, and the time and headers of every request."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Page:
    """What a path answers. pause: seconds before each tenth of the body. length: promised instead of the true one."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0
    length: int | None = None


@dataclass
class Visit:
    path: str
    headers: dict[str, str]
    at: float


Script = Callable[[str, int], Page]  # of a path, and of how often it was asked for before


class Site:
    """Answers by `pages`, a dictionary or a function; what it does not know is 404."""

    def __init__(self, pages: dict[str, Page] | Script):
        self.pages, self.visits, self.at_once, self.most = pages, list[Visit](), 0, 0
        self._over, lock, site = threading.Event(), threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with lock:
                    before = site.paths.count(self.path)
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    site.visits.append(Visit(self.path, headers, time.monotonic()))
                    site.at_once += 1
                    site.most = max(site.most, site.at_once)
                try:
                    self._send(site.pages(self.path, before) if callable(site.pages) else
                               site.pages.get(self.path, Page(status=404)))  # fmt: skip
                except OSError:
                    pass  # who asked has gone
                finally:
                    with lock:
                        site.at_once -= 1

            def _send(self, page: Page) -> None:
                self.send_response(page.status)
                for name, value in ({"Content-Type": "image/png"} | page.headers).items():
                    self.send_header(name, value)
                if page.length is None or page.length >= 0:
                    self.send_header("Content-Length", str(len(page.body) if page.length is None else page.length))
                self.end_headers()
                step = max(len(page.body) // 10, 1)
                for start in range(0, len(page.body), step):
                    if page.pause:
                        site._over.wait(page.pause)
                    self.wfile.write(page.body[start : start + step])

            def log_message(self, *args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *args: object) -> None:
                pass

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def secure(self, certificate: Path, key: Path) -> None:
        """Speak TLS from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.url = self.url.replace("http:", "https:")

    @property
    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [visit.path for visit in self.visits]

    @contextmanager
    def open(self) -> Iterator["Site"]:
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._http.shutdown()
            self._http.server_close()
            thread.join()
