"""Records on their way to a model: batches made ahead, in memory that is used again. For any training loop.

``FeatureLoader`` is the whole of it; ``featx.train`` is fed by the same parts. ``FeatureDataset`` is for people who
bring a DataLoader of their own. One noun per module:

===========  =========================================================================================
``chance``   generators that depend on a seed, a purpose and a place, and on nothing else
``order``    which examples are in which batch: shuffled, of similar length, shared out over processes
``feed``     anything, made ahead in threads
``ring``     batch buffers, and when each may be used again
``loader``   all of it, put together
``dataset``  a store as torch's DataLoader wants it
===========  =========================================================================================
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featx.loading.dataset import FeatureDataset
    from featx.loading.loader import FeatureLoader

_HOME = {"FeatureLoader": "loader", "FeatureDataset": "dataset"}

__all__ = ["FeatureDataset", "FeatureLoader"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"featx.loading.{_HOME[name]}"), name)
    raise AttributeError(f"module 'featx.loading' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
