"""The dimension of the features that a fresh network is to read."""

from __future__ import annotations

from typing import Any

from featx.errors import UsageError
from featx.tasks.stores import manifests


def dimension(stated: int | None, store: Any) -> int:
    """As ``model.dim`` states it, else as the first of the stores that a configuration names has it.

    Raises UsageError when neither says it.
    """
    first = None if stated else next(iter(manifests(store).values()), None)
    dim = first.schema.dim if first else stated
    if dim is None:
        raise UsageError("the dimension of the features is not known", "set model.dim, or a store that exists")
    return int(dim)
