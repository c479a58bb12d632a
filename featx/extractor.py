"""The contract of an extractor: pictures, or texts, in, records out.

An extractor is found by entry point (group ``featx.extractors``), built from its own configuration, and driven by the
runner: :meth:`prepare` in decoding threads, one call per batch of pictures that :meth:`group` says may share one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, TypeVar

from featx.errors import UsageError
from featx.record import Record
from featx.schema import Array, Schema

T = TypeVar("T")
Reads = Literal["pictures", "texts"]


@dataclass(frozen=True, eq=False)
class Picture:
    """One decoded picture: its key and its pixels, uint8 ``[H, W, 3]`` RGB, upright."""

    key: str
    pixels: Array

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])


@dataclass(frozen=True, eq=False)
class Text:
    """One text; it is its own key, in the form of ``featx.text_sources.text_key``."""

    key: str

    @property
    def text(self) -> str:
        """What it says."""
        return self.key


def read_options(kind: type[T], options: Mapping[str, Any]) -> T:
    """An extractor's configuration dataclass from plain options; None means "not given".

    Raises UsageError that names an option the dataclass does not have.
    """
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    given = {name: value for name, value in options.items() if value is not None}
    unknown = sorted(set(given) - known)
    if unknown:
        raise UsageError(
            f"this extractor has no option {', '.join(map(repr, unknown))}", f"it has {', '.join(sorted(known))}"
        )
    return kind(**given)


class Extractor(ABC):
    """Turns what it ``reads`` into records. Construction may load weights; nothing is loaded on import."""

    name: str
    reads: ClassVar[Reads] = "pictures"
    schema: Schema

    @classmethod
    @abstractmethod
    def from_options(cls, options: Mapping[str, Any]) -> Extractor:
        """Build from the options of a configuration (file and flags merged). Raises UsageError for an unknown one."""

    @property
    def labels(self) -> Mapping[str, Sequence[str] | None]:
        """Names of the ids: ``{"objects": [...], "attributes": [...]}``; None where they are unknown."""
        return {}

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Plain JSON that decides the features: profile, weights hash, precision. Equal provenance, equal features."""

    def notes(self) -> list[str]:
        """Sentences the person who starts a run should read."""
        return []

    @abstractmethod
    def prepare(self, picture: Any) -> Any:
        """Network input of one :class:`Picture`, or :class:`Text` if it reads texts.

        Runs in several threads at once. Raises PictureRefused.
        """

    def group(self, prepared: Any) -> Hashable:
        """Only inputs of the same group are put into one batch."""
        return None

    @abstractmethod
    def __call__(self, batch: Sequence[Any]) -> list[Record]:
        """Records of prepared inputs of one group, in their order."""

    def begin(self, batch: Sequence[Any]) -> Callable[[], list[Record]]:
        """Begin a batch; a call of what is returned waits for its records.

        One that computes on a device may do so while the next batch is begun; the others have finished by then.
        """
        records = self(batch)
        return lambda: records

    def measured(self, first: Callable[[], Any]) -> dict[str, Any]:
        """Plain JSON that is worth knowing of how this computes, measured on a prepared input: what ``first`` gives.

        It is kept with a part and compared by nobody: another machine may measure something else.
        """
        return {}

    def texts(self, texts: Sequence[str]) -> Array:
        """Vectors ``[B, P]`` float32 of texts, for a model that compares them with the features. Raises UsageError."""
        raise UsageError(
            f"the extractor {self.name} reads pictures only", "use one with a text network, or a store of texts"
        )

    def is_cut(self, text: str) -> bool:
        """Whether a text is longer than what :meth:`texts` reads of it."""
        return False
