"""Stores of texts, one for both splits or one for each: the embeddings of the questions, by what they ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from featx.errors import UsageError
from featx.store import StoreReader, is_location, open_store
from featx.task import Split
from featx.text_sources import check_embeddings, text_key
from featx.wants import Wants, hashes, mismatches

_SHOWN = 3


class Texts:
    """The opened stores. Raises UsageError when they hold something else, or differ in how they were made."""

    def __init__(self, where: Any) -> None:
        named = where if isinstance(where, Mapping) and not is_location(where) else {"train": where, "val": where}
        if not named or set(named) - {"train", "val"} or not all(map(_is_place, named.values())):
            raise UsageError(f"texts is {where!r}", "give the path of a store, or {train: PATH, val: PATH}")
        readers = {str(place): open_store(place) for place in named.values()}
        self._stores: dict[str, StoreReader] = {split: readers[str(place)] for split, place in named.items()}
        first = next(iter(readers.values()))
        self.dim, self.provenance = first.schema.dim, dict(first.manifest.provenance)
        profile, self.weights = hashes(self.provenance)
        for name, store in readers.items():
            self._check(name, store, Wants(("features",), self.dim, profile, self.weights))

    def _check(self, name: str, store: StoreReader, wants: Wants) -> None:
        check_embeddings(name, store)
        if amiss := [str(one) for one in mismatches(wants, store.schema, store.manifest.provenance)]:
            raise UsageError("\n  ".join([f"{name} is not as the other store of texts:", *amiss]), "make both alike")

    def check_same(self, weights: str | None) -> None:
        """Raise UsageError when the texts were embedded by another CLIP than the one of ``weights``, as far as both
        are known.
        """
        if None not in (weights, self.weights) and weights != self.weights:
            raise UsageError(
                f"weights: the texts were embedded by the CLIP of the tower {self.weights}, the model was trained with "
                f"{weights}",
                "embed the questions with the CLIP the model was trained with",
            )

    def check_hold(self, split: Split, texts: Iterable[str]) -> None:
        """Raise UsageError, with counts and some texts, unless all of a split are there."""
        wanted = dict.fromkeys(map(text_key, texts))
        if not wanted:
            return
        store = self._store(split)
        have = set(store.keys())
        missing = [text for text in wanted if text not in have]
        if missing:
            some = ", ".join(map(repr, missing[:_SHOWN])) + ", ..." * (len(missing) > _SHOWN)
            raise UsageError(
                f"the store of texts lacks {len(missing):,} of {len(wanted):,} {split} questions: {some}",
                "embed the questions of every split: `featx extract QUESTIONS.json STORE --extractor clip-text`",
            )

    def gather(self, split: Split, texts: Sequence[str]) -> torch.Tensor:
        """Embeddings ``[B, P]`` float32. Raises KeyNotFound."""
        return self._store(split).get_batch([text_key(text) for text in texts]).features[:, 0]

    def close(self) -> None:
        """Let go of the files; they are opened again when they are used."""
        for store in self._stores.values():
            store.close()

    def _store(self, split: Split) -> StoreReader:
        if split not in self._stores:
            raise UsageError(f"texts names no store for {split}", "give texts: {train: PATH, val: PATH}")
        return self._stores[split]


def _is_place(value: Any) -> bool:
    return isinstance(value, str) or hasattr(value, "__fspath__")
