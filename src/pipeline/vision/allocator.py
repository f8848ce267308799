"""The memory of one batch serves the next."""

from __future__ import annotations

import ctypes
import functools

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Names of mallopt(3) in glibc's ``malloc.h``."""


@functools.cache
def keep_freed_memory() -> None:
    """Let this process keep what it frees, from now on.

    glibc takes the memory of each large tensor from the kernel, which clears it page by page, and
    gives it back right after. In a training step on two cores that takes a tenth to a quarter of
    the time. A process that keeps it has the size of its largest moment until it ends. Nothing
    happens where the C library is another.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**26)):
            mallopt(name, value)
