"""A vision-language model behind the OpenAI chat API: what vLLM, llama.cpp's server, Ollama and LM Studio speak.

`http.client` is enough for it, and it does what is wanted here by doing little: no proxy of the environment and no
redirect can carry pictures to another machine.
"""

import base64
import http.client
import ipaddress
import json
import os
import random
import re
import ssl
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from diorama.core.errors import UserError
from diorama.data.captions.checks import refuses
from diorama.data.captions.vlm import Caption, give_up

AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}  # answers after which the same request may succeed
BACK_OFF = 0.5  # seconds before the second attempt; doubled before each further one
LONGEST_WAIT = 60.0  # seconds before any
MOST = 4 << 20  # bytes of an answer


@dataclass(frozen=True)
class OpenAICompatible:
    """A server that answers `url`/chat/completions. Media leave this machine only with `allow_remote`.

    Args:
        model: by the name that the server knows.
        max_tokens: of an answer; a longer one is cut off and has the status "truncated".
        temperature: 0 always takes the likeliest word.
        url: the server's address with its path, as in http://localhost:8000/v1.
        api_key: the name of the environment variable that holds the key, if one is needed.
        concurrency: requests at once.
        timeout: seconds that one request may take.
        retries: further attempts after too many requests, a failing server or a timeout, each after a longer wait.

    Raises `UserError` for an address that is none, or not on this machine.
    """

    model: str
    max_tokens: int = 256
    temperature: float = 0.0
    url: str = field(default="http://localhost:8000/v1", compare=False)
    api_key: str | None = field(default=None, compare=False)
    allow_remote: bool = field(default=False, compare=False)
    concurrency: int = field(default=8, compare=False)
    timeout: float = field(default=120.0, compare=False)
    retries: int = field(default=4, compare=False)
    weights: ClassVar[tuple[Path, ...]] = ()

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise UserError(f"'{self.url}' is no address of a server: write it as http://localhost:8000/v1")
        if _local(parts.hostname):
            return
        if not self.allow_remote:
            raise UserError(
                f"{self.url} is not this machine, and pictures of your media would be sent there: say "
                "allow_remote=True if they may leave"
            )
        if self.api_key and parts.scheme != "https":
            raise UserError(f"{self.url} would send the key of {self.api_key} in the clear: use https")

    def __call__(self, clips: Sequence[Sequence[bytes]], prompt: str, seed: int) -> list[Caption]:
        """As `Captioner.__call__`."""
        headers = {"Content-Type": "application/json", **self._key()}
        captions: list[Caption] = []
        stop = threading.Event()
        with ThreadPoolExecutor(self.concurrency) as pool:
            answers = [pool.submit(self._caption, images, prompt, seed, headers, stop) for images in clips]
            try:
                for answer in answers:
                    captions.append(answer.result())
                    give_up(captions, len(clips), self.url)
            except BaseException:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return captions

    def request(self, images: Sequence[bytes], prompt: str, seed: int) -> dict[str, Any]:
        """The body of a request about the JPEG files `images`."""
        urls = [f"data:image/jpeg;base64,{base64.b64encode(image).decode()}" for image in images]
        parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        message = {"role": "user", "content": [*parts, {"type": "text", "text": prompt}]}
        return {
            "model": self.model, "messages": [message], "max_tokens": self.max_tokens,
            "temperature": self.temperature, "seed": seed, "stream": False,
        }  # fmt: skip

    def _key(self) -> dict[str, str]:
        if self.api_key is None:
            return {}
        if not os.environ.get(self.api_key):
            raise UserError(f"the environment variable {self.api_key}, which should hold a key, is not set")
        return {"Authorization": f"Bearer {os.environ[self.api_key]}"}

    def _caption(
        self, images: Sequence[bytes], prompt: str, seed: int, headers: dict[str, str], stop: threading.Event
    ) -> Caption:
        """One clip's caption, after as many attempts as it takes; fewer once `stop` is set."""
        body = json.dumps(self.request(images, prompt, seed)).encode()
        why = ""
        for attempt in range(self.retries + 1):
            wait = BACK_OFF * 2**attempt * random.uniform(1, 1.5)  # not all at the same time
            try:
                status, after, answer = self._post(body, headers)
            except TimeoutError:
                why = f"no answer within {self.timeout:g} s"
            except (ConnectionResetError, BrokenPipeError, http.client.HTTPException) as error:
                why = f"the server broke off: {error}"
            except OSError as error:
                if attempt == self.retries or stop.is_set():
                    raise UserError(
                        f"{self.url} cannot be reached ({error}): start the server or name another url, and run the "
                        "same again: it goes on from what is captioned"
                    ) from None
            else:
                if status == 200:
                    return spoken(answer)
                key = headers.get("Authorization", "\0").removeprefix("Bearer ")
                why = f"status {status}: {_complaint(answer).replace(key, '***')}"  # some servers repeat it
                if status in (401, 403, 404):
                    raise UserError(f"{self.url} refuses the model '{self.model}' or the key, with {why}")
                if status not in AGAIN:
                    break
                wait = max(wait, after)
            if attempt == self.retries or stop.wait(min(wait, LONGEST_WAIT)):
                break
        return Caption(None, "error", why)

    def _post(self, body: bytes, headers: dict[str, str]) -> tuple[int, float, bytes]:
        """Status, seconds to wait before another attempt, and what was answered."""
        end = time.monotonic() + self.timeout
        parts = urlsplit(self.url.rstrip("/") + "/chat/completions")
        assert parts.hostname is not None
        connection = (
            http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=self.timeout, context=ssl.create_default_context()
            )
            if parts.scheme == "https"
            else http.client.HTTPConnection(parts.hostname, parts.port, timeout=self.timeout)
        )
        try:
            connection.request("POST", parts.path, body, headers)
            response = connection.getresponse()
            answer = b""
            while len(answer) <= MOST and (part := response.read1(1 << 16)):
                answer += part
                if time.monotonic() > end:
                    raise TimeoutError
            after = response.headers.get("Retry-After", "")
            return response.status, float(after) if after.isdigit() else 0.0, answer
        finally:
            connection.close()


def spoken(answer: bytes) -> Caption:
    """The caption in the JSON `answer` of a chat server; an error where it is none."""
    try:
        choice = json.loads(answer)["choices"][0]
        text, refusal = choice["message"].get("content"), choice["message"].get("refusal")
        reason = choice.get("finish_reason")
        text = text if text is None else re.sub(r"^.*</think>", "", text, flags=re.DOTALL).strip()
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        return Caption(None, "error", f"not an answer of a chat: {type(error).__name__} in {answer[:80]!r}")
    if refusal or reason == "content_filter" or (text and refuses(text)):
        return Caption(refusal or text, "refused")
    if reason == "length":
        return Caption(text or None, "truncated")
    return Caption(text, "success") if text else Caption(None, "error", "the answer was empty")


def _complaint(answer: bytes) -> str:
    """What a server says went wrong, in one line."""
    try:
        error = json.loads(answer)["error"]
        text = error["message"] if isinstance(error, dict) else str(error)
    except (ValueError, KeyError, TypeError):
        text = answer.decode(errors="replace")
    return " ".join(str(text).split())[:200]


def _local(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
