"""How the C library hands out memory, for long work with large blocks."""

from __future__ import annotations

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8


def keep_freed_memory() -> None:
    """Let glibc keep large blocks for the next step: giving them back costs system time.

    One arena for all threads, as the others cannot grow to such blocks and would get each anew from the system. To be
    called before there are threads, which may have an arena already. Does nothing where the C library is another.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            libc.mallopt(parameter, 1 << 30)
        libc.mallopt(M_ARENA_MAX, 1)
