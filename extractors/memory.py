"""Keep the memory of large activations between operators, instead of handing it back to the system each time."""

from __future__ import annotations

import ctypes
import functools

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # parameters of mallopt(3)


@functools.cache
def keep_freed_memory() -> bool:
    """Tell glibc to serve large tensors from its heap and to keep that heap; True where that was possible.

    By default every tensor above some 32 MB is mapped anew and its pages are zeroed at first touch, which costs as much
    as writing it: 3 % of a picture, and the reason why larger chunks did not pay. What is kept is the process's own
    high-water mark, reused rather than added to. Applies to the whole process; elsewhere than on glibc nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1))
