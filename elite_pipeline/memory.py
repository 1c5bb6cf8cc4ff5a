"""How the C library hands memory to a stage."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for later, in place of returning each large block to the kernel.

    The kernel clears every page that it hands out again. A scan through the student touches 40,000 such pages, which
    takes a sixth of its time on a CPU (`benchmarks/bench.py`). Does nothing with another C library.
    """
    if sys.platform != "linux" or not hasattr(library := ctypes.CDLL(None), "gnu_get_libc_version"):
        return
    library.mallopt(M_TRIM_THRESHOLD, -1)
    library.mallopt(M_MMAP_MAX, 0)
