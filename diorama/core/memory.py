"""How the C library hands out memory."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # <malloc.h>


def keep_memory() -> None:
    """Ask glibc to keep freed memory instead of giving it back and fetching it anew, page by page, each step.

    XLA takes its buffers from malloc. On two CPU cores the gradient of a step of the demo met 13,500 page faults and
    1,000 after this, and took 42.5 ms instead of 48.4 (docs/log.md). No effect without glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 32 << 20)  # the largest that glibc takes
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        mallopt(M_TOP_PAD, 256 << 20)
