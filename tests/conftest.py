"""Most of the tests' time would go into compiling: LLVM optimises little here, and all tests share what was compiled,
also those in processes of their own. What users run, optimised, CI runs as the demo.

Level 0 saves little more (docs/log.md), and there XLA 0.10 gives NaN for the training of `evaluate.classifier`.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# a machine with other work is no fault of what is tested
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=1".strip()
    if cache := getattr(config, "cache", None):
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache.mkdir("jax")))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")


@pytest.fixture
def x64():
    """Double precision, for truths that single precision would blur."""
    import jax  # here, so that the flags above are set before

    with jax.enable_x64(True):
        yield


FULL = 3 << 30  # bytes that a test process may hold before it lets go of what was compiled


@pytest.fixture(autouse=True, scope="module")
def _let_go() -> Iterator[None]:
    """Compiled programs stay in memory until told to go; some thousand tests fill a small machine with them."""
    yield
    held = Path("/proc/self/statm")  # on Linux; elsewhere memory is left to itself
    if held.exists() and int(held.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") > FULL:
        import jax

        jax.clear_caches()
