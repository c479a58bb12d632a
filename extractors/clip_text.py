"""Text towers of the CLIP family as an extractor: a text is a record of one row, and its own key."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, ClassVar

import torch

from featx import settings
from featx.errors import UsageError
from featx.extractor import Extractor, Reads, Text
from featx.record import Record
from featx.schema import Field, Schema
from featx.store.rule import fingerprint
from featx_extractors.clip import Dtype
from featx_extractors.records import record_of
from featx_extractors.towers.texts import load_texts

_SIZE = (1, 1)  # of a picture that is not there


@dataclass(frozen=True)
class CLIPTextOptions:
    """weights: as of ``clip``, with both towers and a tokenizer beside them, or ``seeded-clip-tiny``."""

    weights: str | None = None
    dtype: Dtype = "float32"
    device: str = "cpu"


@dataclass(frozen=True, eq=False)
class Prepared:
    """A text as numbers."""

    key: str
    ids: tuple[int, ...]


class CLIPText(Extractor):
    """Projected embeddings of texts, not normalised: what transformers' ``get_text_features`` gives."""

    name = "clip-text"
    reads: ClassVar[Reads] = "texts"

    def __init__(self, options: CLIPTextOptions | None = None, **changes: Any) -> None:
        self.options = options or CLIPTextOptions(**changes)
        if self.options.weights is None:
            raise UsageError("no weights were given", "give --weights FOLDER of a whole CLIP, with its tokenizer")
        self.tower = load_texts(self.options.weights, self.options.device)
        features = Field("features", self.options.dtype, (self.tower.dim,))
        self._cut, self._lock = 0, Lock()
        self.schema = Schema((features, Field("boxes", "float32", (4,))), "grid", "grid", 1)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> CLIPText:
        given = {name: value for name, value in options.items() if value is not None}
        return cls(settings.read(CLIPTextOptions, "", given))

    def provenance(self) -> dict[str, Any]:
        tower = self.tower
        switches = {
            "name": f"{self.name} projected",
            "tensor": "text",
            "cls": False,
            "longest": tower.longest,
            "padded": tower.family.padded,
        }
        return {
            "extractor": self.name,
            "profile": {"hash": fingerprint(switches), **switches},
            "weights": {
                "sha256": tower.vision,
                "text_sha256": tower.text,
                "words_sha256": tower.words,
                "source": tower.source,
                "trained": tower.trained,
                "family": tower.family.name,
            },
        }

    def notes(self) -> list[str]:
        notes = []
        if not self.tower.trained:
            notes.append("these weights are seeded, not trained: the features mean nothing (give --weights)")
        if self._cut:
            texts = "1 text was" if self._cut == 1 else f"{self._cut} texts were"
            notes.append(f"{texts} longer than the {self.tower.longest} tokens that the tower reads, and cut off there")
        return notes

    def prepare(self, given: Text) -> Prepared:
        ids = self.tower.ids(given.text)
        if len(ids) == self.tower.longest and self.tower.is_cut(given.text):
            with self._lock:
                self._cut += 1
        return Prepared(given.key, ids)

    def group(self, prepared: Prepared) -> Hashable:
        """Only texts of the same number of tokens share a batch, so nothing is ever padded."""
        return len(prepared.ids)

    def __call__(self, batch: Sequence[Prepared]) -> list[Record]:
        rows = self.tower([one.ids for one in batch])
        nowhere = torch.zeros(1, 4)
        return [record_of({"features": row[None], "boxes": nowhere}, self.schema, _SIZE, 1) for row in rows]
