"""Where the stored bytes of a store's records lie: parts of the mapped files, read-only, never copied.

The compiled reader finds the records of all keys in one call. What does not lie whole in a mapped file (an open part, a
file of arrays, a view) is read by :meth:`featx.store.StoreReader.find`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

from featx.codec import KEY_LIMIT, peek, store_key
from featx.errors import FeatxError, UsageError
from featx.store.ledger import Refusal
from featx.store.reader import StoreReader

Bytes = bytes | memoryview
_SHORTENED = re.compile(rb"(?s).*~[0-9a-f]{64}")


class Spans:
    """The stored bytes of one opened store."""

    def __init__(self, reader: StoreReader) -> None:
        self.reader = reader

    def find(self, key: str) -> Bytes | None:
        """The stored bytes of ``key``, their structure checked and not their checksum; None when there are none.

        Raises UsageError for what is no key, StoreDamaged.
        """
        found = self.mapped(key)
        return self.reader.find(stored_key(key)) if found is None else found

    def mapped(self, key: str) -> memoryview | None:
        """The same where it lies whole in a mapped file, and else None."""
        gather = self.reader.gathering
        return None if gather is None else gather.span(key)

    def find_all(self, keys: Sequence[str]) -> list[Bytes | FeatxError | None]:
        """For each key what :meth:`find` returns, or the error that it raises."""
        return [self._one(key) if isinstance(one, int) else one for key, one in zip(keys, self.look(keys), strict=True)]

    def look(self, keys: Sequence[str]) -> list[Bytes | int | FeatxError | None]:
        """The same, but of a record that has to be put together the length: :meth:`find` does it in its turn."""
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
            return self.reader.find(stored_key(key))
        except FeatxError as error:
            return error

    @property
    def maps(self) -> list[memoryview]:
        """The files that are mapped."""
        gather = self.reader.gathering
        return [] if gather is None else gather.maps

    @cached_property
    def failures(self) -> list[Refusal]:
        """The pictures that were refused, part by part. Raises StoreError when the ledger cannot be read."""
        return list(self.reader.failures())

    @cached_property
    def refusals(self) -> dict[str, Refusal]:
        """The same by key."""
        return {refusal.key: refusal for refusal in self.failures}

    @cached_property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """What every answer from this store says of it: the digest by which one that was replaced is known."""
        totals = self.reader.manifest.totals
        return () if totals is None else ((b"featx-digest", totals.digest.encode()),)

    @cached_property
    def ordinals(self) -> tuple[list[int], list[str]]:
        """The position of every record in the source list, ascending, and its key."""
        keys = list(self.reader.keys("source"))
        found = [peek(self.find(key) or b"", stored_key(key)).ordinal for key in keys]
        return found, keys


def stored_key(name: str) -> bytes:
    """The key under which ``name`` is stored; one that was shortened already stays what it is. Raises UsageError."""
    if (
        len(name) > KEY_LIMIT // 4
        and len(key := name.encode(errors="replace")) > KEY_LIMIT
        and _SHORTENED.fullmatch(key)
    ):
        return key
    return store_key(name)
