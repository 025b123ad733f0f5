import contextlib
from collections.abc import Iterator

import pytest

from diorama.data import observe
from diorama.media import Reader


@pytest.fixture(scope="session")
def reader() -> Iterator[Reader]:
    with Reader(2) as reader:
        yield reader


@pytest.fixture(scope="session", autouse=True)
def _one_pool_of_decoders(reader: Reader) -> Iterator[None]:
    """Starting decoding processes takes longer than most tests here: they share two."""
    with pytest.MonkeyPatch.context() as patch:
        own = observe.Reader
        patch.setattr(observe, "Reader", lambda n, *rest: contextlib.nullcontext(reader) if n > 1 else own(n, *rest))
        yield
