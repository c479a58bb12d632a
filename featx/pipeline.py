"""Pipeline: a model, and where the records come from that it is shown; what a person calls derives from it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from featx import pairing
from featx.consumer import Consumer
from featx.extractor import Extractor
from featx.sight import Sight, Stored

C = TypeVar("C", bound=Consumer)


class Pipeline(Generic[C]):
    """model: folder, weights file or hub id. store, extractor: see :class:`featx.sight.Sight`. options: those of the
    kind of model (tokenizer, ...). batch: records per call of the network, by default ``usual_batch``.

    Raises UsageError for a model that lacks the ``ability``, naming what it does.
    """

    ability: ClassVar[type[Consumer]]
    usual_batch: ClassVar[int] = 32
    model: C

    def __init__(
        self,
        model: str | os.PathLike[str],
        store: Stored | None = None,
        extractor: Extractor | Mapping[str, Any] | None = None,
        *,
        device: str = "cpu",
        batch: int | None = None,
        allow_mismatch: bool = False,
        **options: Any,
    ) -> None:
        self.batch = pairing.count("batch", self.usual_batch if batch is None else batch)
        found, self.sight = Sight.of(
            os.fspath(model), self.ability, store, extractor, device=device, allow_mismatch=allow_mismatch, **options
        )
        self.model = found  # type: ignore[assignment]  # of the ability, which Sight.of has made sure of
