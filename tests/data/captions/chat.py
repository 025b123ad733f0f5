"""A chat server on this machine for tests, which answers by a script and keeps every request."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """What is answered; `hang` seconds go by before."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang: float = 0.0


@dataclass
class Request:
    """What was asked."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def parts(self) -> list[dict[str, Any]]:
        return json.loads(self.body)["messages"][0]["content"]


def chat(text: str | None, reason: str = "stop", **message: Any) -> Answer:
    """An answer as chat servers give it."""
    said = {"role": "assistant", "content": text, **message}
    return Answer(json.dumps({"choices": [{"index": 0, "message": said, "finish_reason": reason}]}).encode())


class Server:
    """Answers by `script`, a function of the request and its number."""

    def __init__(self, script: Callable[[Request, int], Answer]):
        self.script, self.requests, self.at_once, self.most = script, [], 0, 0  # type: ignore[var-annotated]
        self.over = threading.Event()
        lock, server = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = Request(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                with lock:
                    number = len(server.requests)
                    server.requests.append(request)
                    server.at_once += 1
                    server.most = max(server.most, server.at_once)
                answer = server.script(request, number)
                server.over.wait(answer.hang)
                with lock:
                    server.at_once -= 1
                try:
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(answer.body)))
                    self.end_headers()
                    self.wfile.write(answer.body)
                except OSError:
                    pass  # who asked has gone

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    @contextmanager
    def running(self) -> Iterator["Server"]:
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.over.set()
            self._http.shutdown()
            self._http.server_close()
            thread.join()
