"""The contract of a foreign format: what a module beside this one brings, and nothing else.

A format turns a path into :class:`Item` after :class:`Item`, and :class:`Records` into a path. It knows nothing of
ledgers, resuming, duplicates, provenance or progress: ``importer`` and ``records`` do that for all formats alike. To
add one, derive from :class:`Format` and name it in ``featx.formats.FORMATS``; another package declares it as an entry
point of the group ``featx.formats``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np

from featx.errors import FeatxError, UsageError
from featx.formats.options import Options
from featx.record import Record
from featx.schema import MEMORY_DTYPE, BoxKind, Field, Schema

if TYPE_CHECKING:
    from featx.formats.records import Records

FLOAT32 = "features are float32; of int8 and bfloat16 that is exact"  # a loss of most formats


class Item(NamedTuple):
    """One picture of a foreign file, or what is wrong with it.

    number: from 0, the same whenever the same source is read. place: where it is, as ``byte 1234``, ``file a.npz`` or
    ``key '17'``. key: the key of the picture, '' while it is unknown. record: features in float16 or float32, boxes in
    pixels; None when there is a ``problem``.
    """

    number: int
    place: str
    key: str
    record: Record | None
    problem: str = ""


@dataclass(frozen=True)
class Survey:
    """What a source is, found without understanding its items.

    total: how many items :meth:`Format.read` gives, broken ones among them; None when only reading can tell.
    facts: go to the provenance, and decide whether an import may be resumed; so the same for the same content,
    wherever it lies: ``{"sha256": ..., "bytes": ...}`` of a file, the digest of the listing of a folder.
    """

    total: int | None
    facts: Mapping[str, Any] = field(default_factory=dict)


class Format(ABC):
    """A foreign format. Instances have no state; importing the module imports no optional package.

    name: as in ``--from NAME``. title: one line for people. source: whose format, and the file that defines it.
    losses: sentences, what reading or writing cannot keep. reads, writes: whether it can. pickled: whether reading
    needs ``allow_pickle``: for ``all`` of it, for ``part`` (without trust that part is left out, and the losses say
    so), ``no``. takes, gives: the options that reading uses besides ``dtype``, ``labels`` and ``box_kind``, and that
    writing uses besides ``keys`` and ``first``. boxes: which boxes such files hold. suffix: the end of a path that
    is written in this format when no format is named; one format at most has it. resumes: whether an export that was
    killed goes on. lossless: whether files say which boxes they hold, how they were made and what ids stand for. Boxes
    are never shifted.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    losses: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[bool] = True
    writes: ClassVar[bool] = True
    pickled: ClassVar[Literal["no", "part", "all"]] = "no"
    takes: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    boxes: ClassVar[BoxKind] = "proposal"
    suffix: ClassVar[str] = ""
    resumes: ClassVar[bool] = False
    lossless: ClassVar[bool] = False

    @property
    def declared(self) -> tuple[str, ...]:
        """All that is lost."""
        if self.lossless:
            return self.losses
        return (
            *self.losses,
            "how features were made and what ids stand for is not told (--objects, --attributes), nor which boxes "
            f"these are: they are taken for {self.boxes} ones unless --box-kind says otherwise",
        )

    @abstractmethod
    def detect(self, path: Path) -> bool:
        """Whether ``path`` has the structure of this format. Cheap, never by unpickling, never raises for content."""

    @abstractmethod
    def survey(self, path: Path, options: Options) -> Survey:
        """How many items there are, and what identifies the content. Raises UsageError, MissingDependency."""

    @abstractmethod
    def read(self, path: Path, options: Options, start: int = 0) -> Iterator[Item]:
        """The items from number ``start`` on, one in memory at a time; what is before ``start`` is passed over cheaply.

        A broken item is an item with a ``problem``, and reading goes on behind it. Raises UsageError for what is
        no such source at all, or when an option is missing that every item needs.
        """

    def schema(self, path: Path, options: Options) -> Schema:
        """What the records are: from the first usable one with a region. Raises UsageError when there is none."""
        problem = ""
        for item in self.read(path, options):
            if item.record is not None and len(item.record):
                return schema_of(item.record, options, self.boxes)
            problem = problem or (f"; the first of them, {item.place}: {item.problem}" if item.problem else "")
        raise UsageError(
            f"{path} has no {unit(self)} that can be read as {self.title}{problem}",
            "check the format of the file; `featx formats` lists the formats, --from names one",
        )

    def labels(self, path: Path, options: Options) -> Mapping[str, Any]:
        """Names of the classes, for a format that brings its own; else those that were told."""
        return options.labels

    def beside(self, path: Path) -> list[Path]:
        """The files that :meth:`write` makes besides ``path``."""
        return []

    def write(self, records: Records, path: Path, options: Options) -> int:
        """Write ``records`` to ``path`` and return their number. What has the name ``path`` appears whole or not
        at all.

        Raises UsageError, before anything is written, for what the format cannot hold.
        """
        raise UsageError(f"featx does not write {self.title}", "`featx formats` lists those that it writes")


def item_of(
    number: int, place: str, key: Callable[[], str], record: Callable[[str], Record],
    faults: tuple[type[Exception], ...] = (),
) -> Item:  # fmt: skip
    """The item of what ``key``, and ``record`` of that key, make; or with the problem that one of them raises.

    FeatxError, ValueError and ``faults`` are problems of the item. What is too large for a dtype becomes infinity
    without a warning: the record's own check tells it.
    """
    found = ""
    told: tuple[type[Exception], ...] = (FeatxError, ValueError, *faults)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            found = key()
            return Item(number, place, found, record(found))
    except told as error:
        problem = error.message if isinstance(error, FeatxError) else str(error)
        return Item(number, place, found, None, problem or type(error).__name__)


def schema_of(record: Record, options: Options, boxes: BoxKind) -> Schema:
    """The schema that ``record`` fits: its extra fields as they are, its features as ``options.dtype``, else float32.

    An extra array is per region when its first axis is that of the features, which must then have rows.
    """
    rows = len(record.features)
    fields = [Field("features", options.dtype or "float32", record.features.shape[1:]), Field("boxes", "float32", (4,))]
    for name, array in record.extra.items():
        stored = next((known for known, dtype in MEMORY_DTYPE.items() if dtype == array.dtype), str(array.dtype))
        region = array.ndim > 0 and len(array) == rows
        fields.append(
            Field(name, stored, array.shape[1:] if region else array.shape, "region" if region else "picture")
        )
    kind = options.box_kind or boxes
    return Schema(tuple(fields), kind, kind)


def unit(form: Format) -> str:
    """What an item of the format is called."""
    return "row" if form.suffix == ".tsv" else "record"
