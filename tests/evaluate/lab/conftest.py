import jax
import pytest


@pytest.fixture
def x64():
    """Double precision, for truths that single precision would blur."""
    with jax.enable_x64(True):
        yield
