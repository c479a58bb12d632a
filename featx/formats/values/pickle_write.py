"""Pickles for peers whose format is a pickle, such that Python and numpy of their time can read them."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

PROTOCOL = 3  # of Python 3.0 to 3.7, for which the peers were written


class _Pickler(pickle._Pickler):
    """Names numpy's constructor where numpy 1 has it; numpy 2 knows that name, too."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if obj is _RECONSTRUCT:
            self.write(b"cnumpy.core.multiarray\n_reconstruct\n")  # type: ignore[attr-defined]
            self.memoize(obj)  # type: ignore[attr-defined]
        else:
            super().save_global(obj, name)  # type: ignore[misc]


_RECONSTRUCT = np.empty(0).__reduce__()[0]


def dumps(value: Any, protocol: int = PROTOCOL) -> bytes:
    """The pickle of plain containers, texts, numbers and numpy arrays."""
    out = io.BytesIO()
    _Pickler(out, protocol).dump(value)
    return out.getvalue()
