"""A chat server is asked exactly as its API says, answers of every kind are told apart, and no bad one is a crash."""

import base64
import json
import socket
import time

import pytest

from diorama.core.errors import UserError
from diorama.data.captions import Caption, OpenAICompatible, server
from tests.data.captions.chat import Answer, Server, chat

CLIPS = [[b"\xff\xd8 one"], [b"\xff\xd8 two", b"\xff\xd8 two again"]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(server, "BACK_OFF", 0.01)


def ask(script, clips=CLIPS, **options):
    with Server(script).running() as there:
        model = OpenAICompatible("m", url=there.url, **{"concurrency": 1, "timeout": 5.0, "retries": 2} | options)
        return model(clips, "What is it?", 7), there


def image_of(request) -> bytes:
    return base64.b64decode(request.parts[0]["image_url"]["url"].split(",")[1])


def test_the_request_byte_by_byte():
    captions, there = ask(lambda request, n: chat(f" a cat {n}\n"), max_tokens=32, temperature=0.5)
    assert captions == [Caption("a cat 0", "success"), Caption("a cat 1", "success")]
    first, second = there.requests
    assert first.path == "/v1/chat/completions"
    assert first.headers["content-type"] == "application/json"
    assert "authorization" not in first.headers
    assert first.body == (
        b'{"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": '
        b'"data:image/jpeg;base64,'
        + base64.b64encode(CLIPS[0][0])
        + b'"}}, {"type": "text", "text": "What is it?"}]}], '
        b'"max_tokens": 32, "temperature": 0.5, "seed": 7, "stream": false}'
    )
    assert [part["type"] for part in second.parts] == ["image_url", "image_url", "text"]


def test_answers_keep_the_order_of_clips_and_requests_their_bound():
    clips = [[bytes([n])] for n in range(12)]

    def script(request, n):
        answer = chat(str(image_of(request)[0]))
        answer.hang = 0.02 * (n % 3)
        return answer

    captions, there = ask(script, clips, concurrency=3)
    assert [caption.text for caption in captions] == [str(n) for n in range(12)]
    assert 1 < there.most <= 3


@pytest.mark.parametrize("status", [429, 503, 500])
def test_it_is_asked_again_when_the_server_is_busy(status):
    script = lambda request, n: Answer(b"busy", status) if n < 2 else chat("a dog")  # noqa: E731
    captions, there = ask(script, CLIPS[:1])
    assert captions == [Caption("a dog", "success")]
    assert len(there.requests) == 3


def test_the_server_says_how_long_to_wait():
    began = time.monotonic()
    script = lambda request, n: chat("ok") if n else Answer(b"", 429, {"Retry-After": "1"})  # noqa: E731
    ask(script, CLIPS[:1])
    assert time.monotonic() - began >= 1


def test_no_more_attempts_than_said():
    captions, there = ask(lambda request, n: Answer(b'{"error": {"message": "too\\nbusy"}}', 503), CLIPS[:1])
    assert captions == [Caption(None, "error", "status 503: too busy")]
    assert len(there.requests) == 3


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        (chat("a red car and a", "length"), Caption("a red car and a", "truncated")),
        (chat("", "length"), Caption(None, "truncated")),
        (chat("I'm sorry, I cannot assist with that."), Caption("I'm sorry, I cannot assist with that.", "refused")),
        (chat(None, refusal="not this one"), Caption("not this one", "refused")),
        (chat("half of", "content_filter"), Caption("half of", "refused")),
        (chat("<think>is it a cat?\nyes</think>\na cat"), Caption("a cat", "success")),
        (chat("  "), Caption(None, "error", "the answer was empty")),
        (chat(None), Caption(None, "error", "the answer was empty")),
    ],
)
def test_kinds_of_answers(answer, caption):
    assert ask(lambda request, n: answer, CLIPS[:1])[0] == [caption]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"a cat"', b'{"choices": []}', b'{"choices": [{"message": {"content": 3}}]}', b"\xff"]
)
def test_one_malformed_answer_is_one_error(body):
    captions, _ = ask(lambda request, n: chat("a cat") if n else Answer(body))
    assert [caption.status for caption in captions] == ["error", "success"]
    assert captions[0].text is None
    assert "not an answer of a chat" in captions[0].why


def test_a_picture_that_the_server_cannot_take_is_one_error_and_not_sent_again():
    captions, there = ask(lambda request, n: chat("a cat") if n else Answer(b"image too large", 400))
    assert captions == [Caption(None, "error", "status 400: image too large"), Caption("a cat", "success")]
    assert len(there.requests) == 2


def test_a_hanging_request_is_one_error():
    hanging = chat("late")
    hanging.hang = 30.0
    script = lambda request, n: hanging if image_of(request) == CLIPS[0][0] else chat("a cat")  # noqa: E731
    captions, there = ask(script, timeout=0.2, retries=1)
    assert captions == [Caption(None, "error", "no answer within 0.2 s"), Caption("a cat", "success")]
    assert len(there.requests) == 3


def test_a_connection_that_breaks_off_is_one_error():
    broken = Answer(b"", headers={"Content-Length": "100"})
    captions, _ = ask(lambda request, n: chat("a cat") if image_of(request) != CLIPS[0][0] else broken, retries=0)
    assert [caption.status for caption in captions] == ["error", "success"]


def test_a_server_that_is_not_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(UserError, match=r"cannot be reached .* start the server"):
        OpenAICompatible("m", url=url, retries=1)(CLIPS, "?", 0)


@pytest.mark.parametrize("status", [401, 404])
def test_a_model_or_key_that_is_refused(status):
    with pytest.raises(UserError, match=r"refuses the model 'm' or the key, with status 40.: no such model"):
        ask(lambda request, n: Answer(b'{"error": "no such model"}', status))


def test_a_server_that_always_fails_is_not_asked_about_every_clip():
    with Server(lambda request, n: Answer(b"no vision", 400)).running() as there:
        with pytest.raises(UserError, match=r"no caption of 32 clips in a row, .* no vision; mend that"):
            OpenAICompatible("m", url=there.url, concurrency=2)(CLIPS[:1] * 500, "?", 0)
        assert len(there.requests) < 100


def test_the_key_comes_from_the_environment_and_is_shown_nowhere(monkeypatch):
    monkeypatch.setenv("CAPTION_KEY", "s3cret")
    captions, there = ask(lambda request, n: Answer(request.headers["authorization"].encode(), 400),
                          CLIPS[:1], api_key="CAPTION_KEY")  # fmt: skip
    assert there.requests[0].headers["authorization"] == "Bearer s3cret"
    assert "s3cret" not in repr(OpenAICompatible("m", api_key="CAPTION_KEY"))
    assert "s3cret" not in str(captions)
    monkeypatch.delenv("CAPTION_KEY")
    with pytest.raises(UserError, match="CAPTION_KEY, which should hold a key, is not set"):
        ask(lambda request, n: chat("a"), api_key="CAPTION_KEY")


@pytest.mark.parametrize("url", ["http://example.org/v1", "https://10.0.0.1/v1", "http://localhost.example.org/v1"])
def test_media_stay_on_this_machine(url):
    with pytest.raises(UserError, match="is not this machine"):
        OpenAICompatible("m", url=url)
    OpenAICompatible("m", url=url, allow_remote=True)


@pytest.mark.parametrize("url", ["http://localhost:8000/v1", "http://127.0.0.2/v1", "http://[::1]:11434/v1"])
def test_addresses_of_this_machine(url):
    assert OpenAICompatible("m", url=url).url == url


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost/v1", "http://me:word@localhost/v1", ""])
def test_addresses_that_are_none(url):
    with pytest.raises(UserError, match="is no address of a server"):
        OpenAICompatible("m", url=url)


def test_a_key_does_not_travel_in_the_clear():
    with pytest.raises(UserError, match="use https"):
        OpenAICompatible("m", url="http://example.org/v1", allow_remote=True, api_key="KEY")


def test_a_redirect_takes_pictures_nowhere():
    with Server(lambda request, n: chat("stolen")).running() as other:
        away = Answer(b"", 307, {"Location": other.url + "/chat/completions"})
        captions, _ = ask(lambda request, n: away, CLIPS[:1])
        assert captions[0].status == "error"
        assert not other.requests


def test_what_changes_no_answer_is_not_compared():
    assert OpenAICompatible("m", concurrency=2, timeout=1.0) == OpenAICompatible("m", url="http://127.0.0.1:1/v1")
    assert OpenAICompatible("m", max_tokens=3) != OpenAICompatible("m")


def test_an_answer_without_end_is_cut(monkeypatch):
    monkeypatch.setattr(server, "MOST", 1000)
    captions, _ = ask(lambda request, n: Answer(json.dumps({"choices": "x" * 300_000}).encode()), CLIPS[:1])
    assert captions[0].status == "error"
