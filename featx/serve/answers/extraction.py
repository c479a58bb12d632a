"""Pictures that are in no store: decoded and extracted, as the runner would, on one thread."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featx.decode import Policy, decode
from featx.extractor import Picture
from featx.serve.answers.memory import Memory
from featx.serve.answers.models import Model, Models

if TYPE_CHECKING:
    from featx.extractor import Extractor
    from featx.record import Record
    from featx.schema import Schema


@dataclass(frozen=True, eq=False)
class Look:
    """A picture to be extracted for a model. data: its file. sha256: of the file, hexadecimal."""

    model: Model
    data: bytes
    sha256: str

    @property
    def identity(self) -> Hashable:
        """Equal for what gives the same record: the same bytes through the same extractor."""
        return self.sha256, self.model.eye


@dataclass(frozen=True, eq=False)
class Seen:
    """A record that was made, and what it was made by."""

    record: Record
    schema: Schema
    provenance: Mapping[str, Any]
    labels: Mapping[str, Any]

    @property
    def bytes(self) -> int:
        """Of its arrays."""
        record = self.record
        return sum(record.array(name).nbytes for name in record.names())


class Extraction:
    """The work of the extracting thread. What it makes goes into ``memory``, whether somebody still waits or not."""

    def __init__(self, models: Models, memory: Memory[Seen], policy: Policy) -> None:
        self.models, self.memory, self.policy = models, memory, policy

    def __call__(self, looks: Sequence[Look]) -> list[Seen | Exception]:
        """The records of pictures for models of one extractor, or why there is none."""
        with self.models.looking:
            extractor = self.models.live(looks[0].model).extractor
            found: list[Any] = [self._prepared(extractor, look) for look in looks]
            groups: dict[Hashable, list[int]] = {}
            for place, prepared in enumerate(found):
                if not isinstance(prepared, Exception):
                    groups.setdefault(extractor.group(prepared), []).append(place)
            for places in groups.values():
                records = extractor([found[place] for place in places])
                for place, record in zip(places, records, strict=True):
                    found[place] = self._seen(extractor, looks[place], record)
        return found

    def _prepared(self, extractor: Extractor, look: Look) -> Any:
        """Network input of a picture, or the error. Its pixels are let go of at once."""
        try:
            return extractor.prepare(Picture(look.sha256, decode(look.data, self.policy)))
        except Exception as error:
            return error

    def _seen(self, extractor: Extractor, look: Look, record: Record) -> Seen | Exception:
        try:
            record.check(extractor.schema)
        except Exception as error:
            return error
        seen = Seen(record, extractor.schema, extractor.provenance(), extractor.labels)
        self.memory.put(look.identity, seen, seen.bytes)
        return seen
