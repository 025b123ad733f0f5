"""One request to a server of strangers, guarded: which addresses, how many bytes, how long.

The standard library's `http.client` is enough, and lets a connection go to the very address that was checked: a name
that resolves to a public address for the check and to a private one for the request gains nothing.
"""

import email.utils
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urljoin, urlsplit

PRIVATE = "private address"  # the reason of a `Failure`
PATIENCE = 10.0  # seconds for a server to do anything at all


class Failure(Exception):
    """Why something was not fetched: `reason` to count by, `detail` to read; `again` where another attempt may help."""

    def __init__(self, reason: str, detail: str = "", again: bool = False, wait: float = 0.0):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail, self.again, self.wait = reason, detail, again, wait


@dataclass(frozen=True)
class Request:
    """A wish to fetch. most: bytes; seconds: for the whole of it; private: whether addresses at home may be asked."""

    url: str
    agent: str
    most: int
    seconds: float
    private: bool = False


class Reply:
    """An answer, its body yet to be read."""

    def __init__(self, request: Request, response: http.client.HTTPResponse, late: threading.Event):
        self._request, self._response, self._late = request, response, late
        self.status, self.headers = response.status, response.headers

    @property
    def length(self) -> int | None:
        """Bytes that the server promises."""
        length = self.headers.get("Content-Length", "")
        return int(length) if length.isdigit() else None

    @property
    def wait(self) -> float:
        """Seconds after which the server wishes to be asked again, 0 where it says nothing."""
        after = self.headers.get("Retry-After", "").strip()
        if after.isdigit():
            return float(after)
        try:
            return max(email.utils.parsedate_to_datetime(after).timestamp() - time.time(), 0.0)
        except (ValueError, TypeError):
            return 0.0

    def parts(self) -> Iterator[bytes]:
        """The body. Raises `Failure` where it is too large, too slow, or breaks off."""
        got = 0
        if (self.length or 0) > self._request.most:
            raise Failure("too large", f"{self.length:,} bytes")
        self._unpacked()
        while part := self._read():
            got += len(part)
            if got > self._request.most:
                raise Failure("too large", f"more than {self._request.most:,} bytes")
            yield part
        if self.length is not None and got < self.length:
            raise Failure("broke off", f"after {got:,} of {self.length:,} bytes", again=True)

    def beginning(self) -> bytes:
        """The body, or as many of its first bytes as were wished for. Raises `Failure`."""
        self._unpacked()
        body = b""
        while len(body) < self._request.most and (part := self._read()):
            body += part
        return body[: self._request.most]

    def _unpacked(self) -> None:
        if (coding := self.headers.get("Content-Encoding", "identity").lower()) != "identity":
            raise Failure("packed", f"sent as {coding}, though that was not asked for")

    def _read(self) -> bytes:
        with _failing(self._request, self._late):
            part = self._response.read1(1 << 16)
            if self._late.is_set():
                raise TimeoutError
            return part


@contextmanager
def opened(request: Request) -> Iterator[Reply]:
    """The answer to a GET, no redirect followed. Raises `Failure`."""
    parts = address(request.url)
    late = threading.Event()
    connection = _Pinned(parts, _resolved(parts, request.private), min(PATIENCE, request.seconds))

    def stop() -> None:
        late.set()
        connection.stop()

    timer = threading.Timer(request.seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        path = quote(parts.path or "/", safe=_SAFE) + ("?" + quote(parts.query, safe=_SAFE) if parts.query else "")
        headers = {"User-Agent": request.agent, "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"}
        with _failing(request, late):
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
        yield Reply(request, response, late)
    finally:
        timer.cancel()
        connection.close()


@contextmanager
def _failing(request: Request, late: threading.Event) -> Iterator[None]:
    """What goes wrong on the way becomes `Failure`."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise Failure("bad certificate", error.verify_message) from None
    except (OSError, http.client.HTTPException) as error:
        if late.is_set() or isinstance(error, TimeoutError):
            raise Failure("too slow", f"no answer in {request.seconds:g} s", again=True) from None
        raise Failure("no connection", f"{type(error).__name__} {error}".strip(), again=True) from None


_SAFE = "/%:@!$&'()*+,;=~-._?"


def address(url: str) -> SplitResult:
    """A web address in its parts. Raises `Failure` for anything else."""
    try:
        parts = urlsplit(url.strip())
        host = (parts.hostname or "").encode("idna").decode()
        port = parts.port
    except ValueError:
        raise Failure("no web address", url[:200]) from None
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc:
        raise Failure("no web address", url[:200])
    shown = f"[{host}]" if ":" in host else host
    return parts._replace(netloc=shown + (f":{port}" if port else ""), fragment="")


def public(host: str) -> bool:
    """Whether an IP address is one of the open Internet, also where it wraps another one."""
    ip = ipaddress.ip_address(host.partition("%")[0])
    inner = [ip]
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        nat64 = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in ipaddress.ip_network("64:ff9b::/96") else None
        inner = [a for a in (*wrapped, nat64) if a is not None] or [ip]
    return all(a.is_global and not a.is_multicast for a in inner)


def _resolved(parts: SplitResult, private: bool) -> list[tuple[str, int]]:
    """The addresses of a host, every one of them checked. Raises `Failure`."""
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = [(str(info[4][0]), port) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        raise Failure("no such host", host) from None
    for ip, _ in found:
        if not private and not public(ip):
            raise Failure(PRIVATE, f"{host} is {ip}")
    return list(dict.fromkeys(found))


class _Pinned(http.client.HTTPConnection):
    """A connection to one of the addresses that were checked."""

    def __init__(self, parts: SplitResult, addresses: list[tuple[str, int]], timeout: float):
        self.default_port = 443 if parts.scheme == "https" else 80
        super().__init__(parts.hostname or "", addresses[0][1], timeout=timeout)
        self._addresses, self._tls, self._stopped = addresses, parts.scheme == "https", False

    def connect(self) -> None:
        for n, (ip, port) in enumerate(self._addresses):
            try:
                self.sock = socket.create_connection((ip, port), self.timeout)
                break
            except OSError:
                if n == len(self._addresses) - 1 or self._stopped:
                    raise
        if self._tls:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)

    def stop(self) -> None:
        """End it from another thread."""
        self._stopped = True
        if self.sock is not None:
            with suppress(OSError):  # it may have ended
                self.sock.shutdown(socket.SHUT_RDWR)


def jumped(url: str, reply: Reply) -> str:
    """Where a redirect leads. Raises `Failure` where it leads nowhere."""
    to = reply.headers.get("Location", "")
    if not to:
        raise Failure("bad redirect", f"status {reply.status} without a place")
    return urljoin(url, to)
