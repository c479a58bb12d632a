"""What a store is to those who read it: a mapping from picture to record, whole batches, and views.

:class:`featx.store.folder.FolderStore` reads a folder, :class:`featx.store.view.View` a superset store as if
it had been extracted with fewer boxes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from featx.codec import decode, peek, store_key
from featx.errors import FeatxError, KeyNotFound, UsageError
from featx.record import Record, RecordBatch
from featx.schema import Array, Schema

if TYPE_CHECKING:
    from featx.store.gather import Gather
    from featx.store.ledger import Refusal
    from featx.store.manifest import Manifest, PartManifest

Order = Literal["key", "source"]
Checksums = Literal["always", "once", "never"]


class StoreReader(ABC):
    """A mapping from picture to :class:`Record`. Handles survive fork and pickling.

    checksums: when the bytes of a record are checked against its checksum. "always"; "once": a single record always,
    one of a batch the first time that this process reads it; "never": damage goes unnoticed, behind a
    header and in what says where a record is.
    """

    manifest: Manifest
    checksums: Checksums = "always"

    @abstractmethod
    def __len__(self) -> int:
        """Number of records."""

    def __contains__(self, key: object) -> bool:
        """Whether the store holds a record for the picture ``key``; what can be no key is in no store."""
        if not isinstance(key, str):
            return False
        try:
            stored = store_key(key)
        except UsageError:
            return False
        return self.holds(stored)

    @abstractmethod
    def holds(self, key: bytes) -> bool:
        """Whether there is a record under a stored key."""

    @abstractmethod
    def keys(self, order: Order = "key") -> Iterator[str]:
        """All keys, sorted by their stored UTF-8 bytes, or in the order of the source list."""

    def keys_after(self, key: str) -> Iterator[str]:
        """The keys whose stored bytes are behind those of ``key``, which need not be one of them, in that order."""
        stored = store_key(key)
        return (own for own in self.keys() if store_key(own) > stored)

    @abstractmethod
    def find(self, key: bytes) -> bytes | None:
        """The stored bytes under a stored key, None when there are none."""

    @abstractmethod
    def failures(self) -> Iterator[Refusal]:
        """The pictures that were refused, part by part."""

    @property
    @abstractmethod
    def parts(self) -> list[PartManifest]:
        """What every finished part says about itself, libraries and dates (``about``) among it."""

    @abstractmethod
    def close(self) -> None:
        """Let go of all files. A closed reader opens them again when it is used."""

    @property
    def schema(self) -> Schema:
        """What every record holds."""
        return self.manifest.schema

    @property
    def labels(self) -> Mapping[str, Any]:
        """Names of the classes: ``{"objects": [...], "attributes": [...]}``."""
        return self.manifest.labels

    def stored_bytes(self, key: str) -> bytes:
        """The record of ``key`` as stored (FORMAT.md), not verified. Raises KeyNotFound."""
        found = self.find(store_key(key))
        if found is None:
            raise self._not_found(key)
        return found

    def __getitem__(self, key: str) -> Record:
        """The record of ``key``; its arrays are read-only. Raises KeyNotFound, StoreDamaged."""
        return decode(self.stored_bytes(key), self.schema, store_key(key), verify=self.checksums != "never")

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def get_batch(
        self, keys: Sequence[str], out: RecordBatch | None = None, *, dtype: str = "float32", boxes: str = "pixels",
        fields: Sequence[str] | None = None,
    ) -> RecordBatch:  # fmt: skip
        """The records of ``keys`` as one batch of torch tensors, padded with zeros to the longest.

        features ``[B, N, D]`` float32, boxes ``[B, N, 4]`` float32 pixels, mask ``[B, N]`` bool, sizes
        ``[B, 2]`` float32 (height, width), extra: the other ``fields`` (default: all).
        dtype: "stored" leaves features in the dtype of the store (int8 is always read as float32). boxes: "unit"
        divides by width and height. out: a batch from :meth:`buffer` to read into; views of its first B places are
        returned, and its own dtype, fields and N count. Raises KeyNotFound, StoreDamaged, UsageError for what does not
        fit, and MissingDependency without torch.
        """
        from featx.store.batch import gather

        return gather(keys, (self[key] for key in keys), self.schema, out, dtype, boxes, fields)

    def buffer(
        self, size: int, rows: int | None = None, *, dtype: str = "float32", fields: Sequence[str] | None = None,
        pin: bool = False,
    ) -> RecordBatch:  # fmt: skip
        """Memory for batches of up to ``size`` records, to be used again and again as ``out`` of :meth:`get_batch`.

        rows: N; needed where records differ in it. pin: page-locked, from which copies to a GPU can overlap with its
        work. Raises UsageError.
        """
        from featx.store.batch import allocate

        rows = self.schema.rows if rows is None else rows
        if rows is None:
            raise UsageError("records of this store differ in their rows", "say for how many rows the buffer is")
        return allocate(self.schema, size, rows, dtype, fields, pin)

    def row_counts(self, keys: Sequence[str]) -> Array:
        """Rows, and real rows among them, of the record of each key: ``[B, 2]`` int64. Raises KeyNotFound."""
        heads = [peek(self.stored_bytes(key), store_key(key)) for key in keys]
        return np.array([(head.rows, head.count) for head in heads], np.int64).reshape(-1, 2)

    def view(self, boxes: str | int | None = None, score_threshold: str | float | None = None) -> StoreReader:
        """This superset store as if it had been extracted with ``boxes`` (36, "10..100") and ``score_threshold``.

        None is what its profile says. Records, schema and provenance are, bit for bit, those of that extraction. A
        plain store has no view but itself. Raises UsageError for more than was kept or another rule.
        """
        from featx.store.view import view_of

        return view_of(self, boxes, score_threshold)

    def __enter__(self) -> StoreReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def gathering(self) -> Gather | None:
        """What reads batches natively; None where they are read in plain Python."""
        return None

    def missing(self, key: str) -> FeatxError:
        """The error for a key that was not found."""
        return self._not_found(key)

    def _not_found(self, key: str) -> KeyNotFound:
        refusal = next((r for r in self.failures() if r.key == key), None)
        if refusal:
            return KeyNotFound(
                f"{key!r} is not in the store: it was refused ({refusal.reason}: {refusal.message})",
                "mend the picture and extract again with --retry-refused",
            )
        some = list(islice(self.keys(), 2000))
        close = get_close_matches(key, some, 3) or [k for k in some if key in k or k in key][:3]
        near = f"did you mean {', '.join(map(repr, close))}? " if close else ""
        return KeyNotFound(
            f"{key!r} is not among the {len(self)} records of the store",
            f"{near}`featx inspect STORE --keys` and `store.keys()` list what there is",
        )
