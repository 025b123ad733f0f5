"""What tests share: real data, used when it lies beside the repository, and the surroundings of simulated devices."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def shared_data(name: str) -> Path:
    """The folder or file `name` of the real test data, or a skip that says what is missing."""
    path = ROOT.parent / "shared" / "data" / name
    if not path.exists():
        pytest.skip(f"real test data '{name}' is not beside this checkout")
    return path


def simulated(devices: int) -> dict[str, str]:
    """The environment of a process that has so many devices, all on this machine's processor."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}".strip()
    return os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
