"""What a process computes on."""

import os
import platform
from collections import Counter
from pathlib import Path
from typing import Any

import jax


def machine() -> dict[str, Any]:
    """The processor's name, the cores that this process may use, accelerators by kind, and how many processes."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [x.split(":", 1)[1].strip() for x in info.read_text().splitlines() if x.startswith("model name")]
        cpu = models[0] if models else cpu
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    devices = Counter(f"{d.device_kind} ({d.platform})" for d in jax.devices() if d.platform != "cpu")
    return {"cpu": cpu, "cores": cores, "devices": dict(devices), "processes": jax.process_count()}
