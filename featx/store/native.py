"""The compiled reader of stores (``csrc/store``), where it was built. Plain Python gives the same, slower."""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

HOW_TO_BUILD = "run `FEATX_NATIVE=1 python setup.py build_ext --inplace` with a C++17 compiler installed"


class Reader(NamedTuple):
    """The module ``featx._store``, None where plain Python runs instead, for this reason."""

    module: Any
    reason: str

    @property
    def level(self) -> str:
        """The instruction set in use: plain, avx2 or avx512; empty without the module."""
        return str(self.module.level()) if self.module else ""


@lru_cache(maxsize=1)
def reader() -> Reader:
    """Load the compiled reader, once."""
    if os.environ.get("FEATX_NATIVE") == "0":
        return Reader(None, "switched off by FEATX_NATIVE=0")
    try:
        return Reader(import_module("featx._store"), "")
    except ModuleNotFoundError:
        return Reader(None, "featx was installed without it")
    except ImportError as error:  # built for another platform
        return Reader(None, f"it cannot be loaded: {error}")


def usable_cores() -> int:
    """Cores that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
