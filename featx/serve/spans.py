"""Where the stored bytes of a store's records lie: parts of the mapped files, read-only, never copied.

The compiled reader finds the records of all keys in one call. What does not lie whole in a mapped file (an open part, a
file of arrays, a view) is read by :meth:`featx.store.StoreReader.find`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from featx.codec import store_key
from featx.errors import FeatxError, UsageError
from featx.store.ledger import Refusal
from featx.store.reader import StoreReader

Bytes = bytes | memoryview


class Spans:
    """The stored bytes of one opened store."""

    def __init__(self, reader: StoreReader) -> None:
        self.reader = reader

    def find(self, key: str) -> Bytes | None:
        """The stored bytes of ``key``, their structure checked and not their checksum; None when there are none.

        Raises UsageError for what is no key, StoreDamaged.
        """
        gather = self.reader.gathering
        found = gather.spans((key,))[0] if gather is not None else None
        return self.reader.find(store_key(key)) if found is None else found

    def find_all(self, keys: Sequence[str]) -> list[Bytes | FeatxError | None]:
        """For each key what :meth:`find` returns, or the error that it raises."""
        gather = self.reader.gathering
        if gather is None:
            return [self._one(key) for key in keys]
        try:
            spans = gather.spans(keys)
        except UsageError:  # one of them is no key
            spans = [None] * len(keys)
        return [self._one(key) if span is None else span for key, span in zip(keys, spans, strict=True)]

    def _one(self, key: str) -> Bytes | FeatxError | None:
        try:
            return self.reader.find(store_key(key))
        except FeatxError as error:
            return error

    @cached_property
    def refusals(self) -> dict[str, Refusal]:
        """The pictures that were refused, by key. Raises StoreError when the ledger cannot be read."""
        return {refusal.key: refusal for refusal in self.reader.failures()}
