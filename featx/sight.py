"""Sight: what a model is shown pictures with, a store, an extractor, or both, each compared with what it wants."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from featx.consumer import Consumer, TextEmbeddings
from featx.device import usable_device
from featx.errors import UsageError, WeightsError
from featx.extractor import Extractor
from featx.live import Live, pixels_of
from featx.models import load_consumer
from featx.record import Record, RecordBatch
from featx.schema import Array, Field, Schema
from featx.store import StoreReader, open_store
from featx.store.batch import collate
from featx.text_sources import check_embeddings, text_key
from featx.wants import FIELDS, Wants, mismatches

Stored = str | os.PathLike[str] | StoreReader
C = TypeVar("C", bound=Consumer)


class Sight:
    """Records for a model: by key from a store, and of photos by an extractor.

    store: a path or reader. extractor: by default the one the model was trained with, built when a photo is first
    shown; a mapping changes options of that. texts: a store of text embeddings, whose keys are the texts; what it does
    not hold is embedded by the extractor. location: what messages call the model. allow_mismatch: accept features of
    another profile or weights than those it was trained on, and keep the differences in ``notes``.

    Raises UsageError, naming every difference, for a store or extractor of another profile, weights or dimension, and
    for texts that are no embeddings of texts, or given to a model that reads words.
    """

    def __init__(
        self,
        model: Consumer,
        store: Stored | None = None,
        extractor: Extractor | Mapping[str, Any] | None = None,
        *,
        texts: Stored | None = None,
        location: str = "",
        allow_mismatch: bool = False,
    ) -> None:
        if not isinstance(extractor, Extractor | Mapping | None):
            raise UsageError(
                f"extractor is {extractor!r}", 'give an Extractor, or options of the model\'s own: {"weights": "tiny"}'
            )
        self.wants, self.recipe = model.wants, (model.about.get("wants") or {}).get("extractor")
        self.location, self.allow_mismatch = location, allow_mismatch
        self.notes: list[str] = []
        self.store, self.texts = _opened(store), _opened(texts)
        if self.store is not None:
            self.check(self.store.schema, self.store.manifest.provenance, "the store")
        if self.texts is not None:  # of the checkpoint whose vision tower made the features
            if not isinstance(model, TextEmbeddings):
                raise UsageError(
                    f"the model {location} reads texts as words, not as embeddings of a store", "leave texts out"
                )
            check_embeddings("the store of texts", self.texts)
            same = Wants(("features",), weights=self.wants.weights)
            self.check(self.texts.schema, self.texts.manifest.provenance, "the store of texts", same)
        self._extractor = extractor
        self._live: Live | None = None
        if isinstance(model, TextEmbeddings):
            model.embed, model.cut = self.embed, self.is_cut

    @classmethod
    def of(
        cls,
        location: str,
        ability: Callable[..., C],
        store: Stored | None = None,
        extractor: Extractor | Mapping[str, Any] | None = None,
        *,
        texts: Stored | None = None,
        device: str = "cpu",
        allow_mismatch: bool = False,
        **options: Any,
    ) -> tuple[C, Sight]:
        """A model of a location on a device, and its sight; see :func:`featx.models.load_consumer` for the others."""
        place = usable_device(device)
        model = load_consumer(location, ability, **options)
        model.network.to(place)
        return model, cls(model, store, extractor, texts=texts, location=location, allow_mismatch=allow_mismatch)

    def check(self, schema: Schema, provenance: Mapping[str, Any], what: str, wants: Wants | None = None) -> None:
        """Raise UsageError when such records are not what the model was trained on, unless it can and may read them."""
        amiss = list(mismatches(wants or self.wants, schema, provenance))
        readable = all(one.allowable for one in amiss)
        if amiss and not (readable and self.allow_mismatch):
            advice = "use the features it was trained on"
            raise UsageError(
                "\n  ".join([f"{what} does not fit the model {self.location}:", *map(str, amiss)]),
                f"{advice}, or accept others with allow_mismatch (--allow-mismatch)" if readable else advice,
            )
        self.notes += [f"{what}: {one}" for one in amiss]

    def record(self, image: Any) -> Record:
        """The regions of an image: from the store if it is a key there, otherwise extracted.

        image: a key, a path, a URL, a PIL image, uint8 RGB ``[H, W, 3]``, or a Record, which is returned if its
        dimension fits. Raises KeyNotFound, PictureRefused, UsageError.
        """
        if isinstance(image, Record):
            return self._fitting(image)
        if self.store is not None and self.is_key(image):
            return self.store[image]
        pixels = pixels_of(image)  # before the extractor is built, which takes its time
        return self.live.record(pixels)

    def is_key(self, image: Any) -> bool:
        """Whether this is taken for a key of the store, not for a picture."""
        return self.store is not None and isinstance(image, str) and (image in self.store or not _is_place(image))

    def records(self, images: Sequence[Any]) -> list[Record]:
        """The records of images; one that is named twice is looked at once."""
        seen: dict[Any, Record] = {}
        for one in images:
            if _identity(one) not in seen:
                seen[_identity(one)] = self.record(one)
        return [seen[_identity(one)] for one in images]

    def collate(self, records: Sequence[Record]) -> RecordBatch:
        """Records as one batch of what the model wants, whatever else they hold."""
        first = records[0]
        fields = [Field("features", "float32", first.features.shape[1:]), Field("boxes", "float32", (4,))]
        fields += [_field(name, first) for name in self.wants.fields if name not in FIELDS]
        return collate([""] * len(records), records, Schema(tuple(fields)))

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """Vectors ``[B, P]`` float32 of texts: those of the store of texts, the others by the extractor."""
        keys = {text: text_key(text) for text in texts}
        found: dict[str, Array] = {}
        if self.texts is not None:
            held = {text: key for text, key in keys.items() if key in self.texts}
            found = {text: np.asarray(self.texts[key].features[0], np.float32) for text, key in held.items()}
        if others := [text for text in keys if text not in found]:
            found |= zip(others, np.asarray(self.live.extractor.texts(others), np.float32), strict=True)
        return torch.from_numpy(np.stack([found[text] for text in texts]))

    def is_cut(self, text: str) -> bool:
        """Whether a text to embed is longer than the extractor reads; not of one that is held as an embedding."""
        held = self.texts is not None and text_key(text) in self.texts
        return not held and self.live.extractor.is_cut(text)

    @property
    def live(self) -> Live:
        """The extractor for photos, checked against what the model wants."""
        if self._live is None:
            given = self._extractor
            self._see(Live(given) if isinstance(given, Extractor) else self._own_extractor(dict(given or {})))
        assert self._live is not None
        return self._live

    def share(self, other: Sight) -> None:
        """Take over the extractor that another has built, if any. Raises UsageError when it does not fit."""
        if other is not self and other._live is not None and other._live is not self._live:
            self._see(other._live)

    def _fitting(self, record: Record) -> Record:
        dim = record.features.shape[1]
        if self.wants.dim not in (None, dim):
            raise UsageError(
                f"the record's features have the dimension {dim}, the model reads {self.wants.dim}",
                "extract with the network the model was made for",
            )
        return record

    def _own_extractor(self, changes: dict[str, Any]) -> Live:
        """The extractor the model was trained with. Of weights a store keeps the name and the sum, not the place."""
        stated = ((self.recipe or {}).get("options") or {}).get("weights")
        try:
            return Live.of(self.recipe, **changes)
        except WeightsError as error:
            if "weights" in changes or not stated:
                raise
            raise WeightsError(
                f"the model reads features that were made with the weights {stated} "
                f"(sha256 {self.wants.weights}), and they are not found: {error.message}",
                'say where they are: --weights FILE, in Python extractor={"weights": FILE}',
            ) from None

    def _see(self, live: Live) -> None:
        self.check(live.extractor.schema, live.extractor.provenance(), "the extractor")
        self._live = live


def _opened(store: Stored | None) -> StoreReader | None:
    return store if isinstance(store, StoreReader | None) else open_store(store)


def _field(name: str, record: Record) -> Field:
    """A field as a record has it: of each region where it has as many rows, else of the picture."""
    array = record.array(name)
    per_region = array.ndim > 0 and len(array) == len(record.features)
    return Field(name, str(array.dtype), array.shape[1:] if per_region else array.shape,
                 "region" if per_region else "picture")  # fmt: skip


def _identity(image: Any) -> Any:
    """Equal for images that need be looked at but once."""
    return image if isinstance(image, str) else id(image)


def _is_place(text: str) -> bool:
    """Whether this names a file or a URL rather than a key."""
    return "://" in text or Path(text).is_file()
