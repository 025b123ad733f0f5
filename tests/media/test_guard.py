"""Whatever a file does, its reader goes on."""

import ctypes
import io
import os
import platform
import resource
import signal
import sys
import time

import numpy as np
import pytest
from PIL import Image

from diorama.media import BadMedia, Limits, Overrun, Part, Reader, guard, read, read_guarded
from diorama.media import image as image_module
from diorama.media.worker import send


def png(i: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (i % 256, 0, 0)).save(out, "PNG")
    return out.getvalue()


# Run in the worker instead of a decoder that goes wrong:
def red(media):
    return int(media.frames[0, 0, 0, 0])


def hang(media):
    while True:
        pass


def crash(media):
    return ctypes.string_at(0)


def devour(media):
    return np.ones(4_000_000_000, np.uint8)


def unlucky(media):
    """Red, but for three accidents."""
    accident = {13: crash, 30: hang, 31: devour}.get(red(media), red)
    return accident(media)


hoarded = []


def hoard(media):
    hoarded.append(np.empty(300_000_000, np.uint8))  # as decoders leave memory in pieces
    return os.getpid()


def need(media):
    return len(np.empty(300_000_000, np.uint8)), os.getpid()


def mistake(media):
    raise ZeroDivisionError("mine")


def threads(media):
    import cv2

    return cv2.getNumThreads()


def faults(media):
    """Pages that the system gave this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def has_jax(media):
    return "jax" in sys.modules


@pytest.fixture(scope="module")
def reader():
    with Reader(2) as pool:
        yield pool


def test_same_as_unguarded(reader, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(7))
    for source in (path, str(path), png(7)):
        np.testing.assert_array_equal(reader.read(source).frames, read(path).frames)
        np.testing.assert_array_equal(read_guarded(source).frames, read(path).frames)
    with pytest.raises(BadMedia, match="text"):
        reader.read(b"hello there, this is text")
    with pytest.raises(BadMedia, match="text"):
        read_guarded(b"hello there, this is text")


def test_order_is_kept_and_bad_files_are_returned(reader):
    sources = [png(i) if i % 3 else b"" for i in range(60)]
    results = list(reader.map(iter(sources)))
    assert [isinstance(r, BadMedia) for r in results] == [i % 3 == 0 for i in range(60)]
    assert [red(r) for r in results if not isinstance(r, BadMedia)] == [i for i in range(60) if i % 3]
    assert list(reader.map([png(3)], apply=red)) == [3]
    assert list(reader.map([])) == []


@pytest.mark.parametrize(
    ("accident", "reason"), [(hang, "longer than 0.2 seconds"), (crash, "crashed"), (devour, "memory")]
)
def test_accidents_are_reasons_and_the_next_file_is_fine(reader, accident, reason):
    start = time.monotonic()
    (result,) = reader.map([png()], apply=accident, limits=Limits(timeout=0.2))
    assert isinstance(result, BadMedia)
    assert reason in result.reason
    assert time.monotonic() - start < 10
    assert [red(r) for r in reader.map([png(1), png(2), png(3)])] == [1, 2, 3]


def test_no_file_is_refused_for_memory_that_earlier_ones_took():
    with Reader(1, memory=500_000_000) as pool:
        (first,) = pool.map([png()], apply=hoard)
        ((size, second),) = pool.map([png()], apply=need)
        assert (size, second != first) == (300_000_000, True)
        (refused,) = pool.map([png()], apply=devour)  # it had a worker of its own in the end
        assert isinstance(refused, Overrun)
        assert [red(r) for r in pool.map([png(1), png(2)])] == [1, 2]


def test_order_is_kept_where_memory_runs_out():
    with Reader(2, memory=500_000_000) as pool:
        results = list(pool.map([png()] * 6, apply=hoard))
    assert len(set(results)) > 2  # all are answered, by more workers than there are at a time


def test_files_sent_together_fail_each_by_itself(reader):
    results = list(
        reader.map([png(i) if i != 5 else b"" for i in range(50)], apply=unlucky, limits=Limits(timeout=0.5))
    )
    failed = {i: result.reason for i, result in enumerate(results) if isinstance(result, BadMedia)}
    assert sorted(failed) == [5, 13, 30, 31]
    assert all(word in failed[i] for i, word in ((5, "empty"), (13, "crashed"), (30, "longer"), (31, "memory")))
    assert [result for i, result in enumerate(results) if i not in failed] == [i for i in range(50) if i not in failed]


def test_small_files_share_a_message_and_large_ones_do_not(tmp_path, monkeypatch):
    messages: list[int] = []
    monkeypatch.setattr(guard, "send", lambda channel, job: messages.append(len(job[0])) or send(channel, job))
    path = tmp_path / "a.png"
    path.write_bytes(png())
    large = png() + bytes(guard.SMALL)
    sources = [*[png(i) for i in range(20)], large, path, png(), Part(png(), 0.0, None), png()]
    with Reader(1) as pool:
        assert list(pool.map(sources, apply=red)) == [*range(20), 0, 0, 0, 0, 0]
        assert messages == [8, 8, 4, 1, 1, 1, 1, 1]
        messages.clear()
        assert [red(media) for media in pool.map(sources[:3])] == [0, 1, 2]  # frames are not small
        assert messages == [1, 1, 1]


def test_few_sources_are_taken_ahead(monkeypatch):
    taken: list[int] = []

    def sources(size):
        for i in range(200):
            taken.append(i)
            yield png(i) + bytes(size)

    with Reader(1) as pool:
        results = pool.map(sources(0), apply=red)
        assert next(results) == 0
        assert len(taken) <= 5 * guard.TOGETHER + 1
        results.close()
        taken.clear()
        monkeypatch.setattr(guard, "HELD", 3 << 20)
        results = pool.map(sources(1 << 20), apply=red)
        assert next(results) == 0
        assert len(taken) <= 5
        results.close()


def test_too_little_memory_is_no_damage(monkeypatch):
    def decode(*_):
        raise MemoryError

    monkeypatch.setattr(image_module, "decode", decode)
    with pytest.raises(Overrun, match="memory"):
        read(png())


def test_a_worker_killed_between_files_is_replaced():
    with Reader(1) as pool:
        assert red(pool.read(png(1))) == 1
        os.kill(pool._workers[0].process.pid, signal.SIGKILL)
        pool._workers[0].process.wait()
        assert red(pool.read(png(2))) == 2


def test_mistakes_of_the_caller_are_raised(reader):
    with pytest.raises(RuntimeError, match="ZeroDivisionError: mine"):
        list(reader.map([png()] * 3, apply=mistake))
    assert red(reader.read(png(5))) == 5


def test_leaving_early_leaves_no_stale_answers(reader):
    for result in reader.map(png(i) for i in range(100)):
        assert red(result) == 0
        break
    assert red(reader.read(png(9))) == 9


def test_workers_use_a_thread_each(reader):
    assert list(reader.map([png()], threads)) == [1]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators keep memory by other settings")
def test_workers_keep_their_memory_from_file_to_file():
    out = io.BytesIO()
    Image.new("RGB", (512, 512)).save(out, "JPEG")  # 256 pages of 4 KB, and as many again as an array
    with Reader(1) as reader:
        counts = list(reader.map([out.getvalue()] * 40, faults))
    assert counts[-1] - counts[20] < 20 * 100


def test_workers_do_not_import_jax(reader):
    import jax  # noqa: F401 - even when the parent has it

    assert list(reader.map([png()], apply=has_jax)) == [False]
