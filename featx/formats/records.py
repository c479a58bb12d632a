"""The records of a store that an export writes: which, in which order, without padding, counted as they pass."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import UsageError
from featx.formats.options import Options
from featx.record import Record
from featx.schema import Schema
from featx.store import StoreReader
from featx.store.key_list import read_keys


class Records:
    """An iterable of (key, record) over a store: ``options.keys`` or all, ``options.first`` first, else source order.

    Records have no padding rows (``count == len(features)``). tick: is told of each that was iterated over; ``keys``
    and ``[key]`` do not count.
    """

    def __init__(
        self, store: StoreReader, options: Options | None = None, tick: Callable[[int], object] = lambda count: None
    ) -> None:
        self.store, self.options, self._tick = store, options or Options(), tick
        self._passed, self._padding = 0, False
        self._listed = read_keys(self.options.keys) if self.options.keys else None
        if self._listed is not None and self.options.first:
            raise UsageError("--keys and --first were given", "--keys is written in its order: put those first there")
        self._first = read_keys(self.options.first) if self.options.first else []
        if missing := next((key for key in [*(self._listed or ()), *self._first] if key not in store), None):
            raise UsageError(f"{missing!r} of {self.options.keys or self.options.first} is not in the store",
                             "`featx inspect STORE --keys` lists what there is")  # fmt: skip

    @property
    def schema(self) -> Schema:
        """What every record holds; with ``rows`` None, as padding is gone."""
        return self.store.schema

    @property
    def labels(self) -> Mapping[str, Any]:
        """Names of the classes: ``{"objects": [...], "attributes": [...]}``."""
        return self.store.labels

    @property
    def fields(self) -> set[str]:
        """Names of the fields besides features and boxes."""
        return {field.name for field in self.schema.extras}

    def __len__(self) -> int:
        return len(self.store) if self._listed is None else len(self._listed)

    def keys(self) -> Iterator[str]:
        """The keys in the order of writing."""
        if self._listed is not None:
            yield from self._listed
            return
        yield from self._first
        first = set(self._first)
        yield from (key for key in self.store.keys("source") if key not in first)

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        self._tick(self._passed)
        for key in islice(self.keys(), self._passed, None):
            yield key, self[key]
            self._tick(1)

    def after(self, count: int) -> Records:
        """The same records, but iterating passes over the first ``count``, which then count as done."""
        made = copy(self)
        made._passed = count
        return made

    def padded(self) -> Records:
        """The same records with their padding rows, for a format that loses nothing."""
        made = copy(self)
        made._padding = True
        return made

    def __getitem__(self, key: str) -> Record:
        """The record of a key, without padding. Raises KeyNotFound, StoreDamaged."""
        record, rows = self.store[key], {field.name for field in self.schema.extras if field.per == "region"}
        if self._padding or len(record) == len(record.features):
            return record
        extra = {name: array[: len(record)] if name in rows else array for name, array in record.extra.items()}
        return Record(record.features[: len(record)], record.boxes[: len(record)], record.size, extra=extra)

    def need(self, *names: str, what: str) -> None:
        """Raise UsageError unless the records have the fields ``names``; ``what`` is the format."""
        if missing := [name for name in names if name not in self.fields]:
            raise UsageError(f"the store has no {', '.join(missing)}; {what} needs them", "export another format")

    def number(self, key: str) -> int:
        """The whole number that stands for ``key`` by the rule ``options.ids``. Raises UsageError for none."""
        rule = self.options.ids
        if rule == "digits":
            digits = key[len(key.rstrip("0123456789")) :]
        else:
            digits = key if rule == "key" else str(self._numbers.get(key, ""))
        if not (digits.isascii() and digits.isdigit()):
            raise UsageError(f"the key {key!r} is no number by the rule --ids {rule}",
                             "--ids digits takes the last digits of a key, --ids FILE reads JSON")  # fmt: skip
        return int(digits)

    def check_numbers(self) -> None:
        """Raise UsageError for a key that stands for no number, and for two that stand for the same one.

        Needs 16 bytes for each key.
        """
        # the hash of a number is itself below 2**61 - 1, and fits an int64 beyond
        numbers = np.fromiter((hash(self.number(key)) for key in self.keys()), np.int64, len(self))
        numbers.sort()
        twice = set(numbers[1:][numbers[1:] == numbers[:-1]][:1].tolist())
        if twice:
            one, other = islice((key for key in self.keys() if hash(self.number(key)) in twice), 2)
            raise UsageError(f"{one!r} and {other!r} both become {self.number(other)}", "--ids FILE tells them apart")

    @cached_property
    def _numbers(self) -> dict[str, Any]:
        try:
            return dict(json.loads(Path(self.options.ids).read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(f"--ids {self.options.ids} cannot be read: {error}",
                             "give `key`, `digits`, or a JSON file {key: number}") from None  # fmt: skip
