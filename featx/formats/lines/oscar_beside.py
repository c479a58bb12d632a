"""What lies beside Oscar's ``features.tsv``: ``hw.tsv`` with sizes, ``label.tsv`` with regions, row for row.

The names are those of the features with ``hw`` or ``label`` for ``features`` or ``feature``: ``train.feature.tsv`` has
``train.hw.tsv``. A row of hw.tsv is the key and JSON ``[{"height": h, "width": w}]``; one of label.tsv the key and JSON
``[{"class": name, "rect": [x0, y0, x1, y1], "conf": p}]`` in the order of the features (``oscar/run_captioning.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from featx.formats.identity import file_facts
from featx.formats.lines.index import index_of
from featx.formats.lines.tsv import parsed, rows
from featx.formats.lines.vinvl_objects import mappings, told
from featx.formats.naming import Sizes
from featx.formats.publish import published_file
from featx.formats.records import Records
from featx.schema import Array

_WIDEST = 1 << 30  # pixels


class Beside:
    """The files beside features while these are read; ``labelled`` when there are regions."""

    def __init__(self, path: Path | None = None) -> None:
        hw, label = beside(path) if path else (None, None)
        self._hw = hw if hw and hw.is_file() else None
        self._label = label if label and label.is_file() else None
        self.labelled = self._label is not None
        self._sizes = Sizes.of_lines(self._hw) if self._hw else Sizes({})
        self._rows: Iterator[tuple[int, int, bytes]] = rows(self._label) if self._label else iter(())
        self._number, self._line = -1, b""

    @property
    def sizes_told(self) -> bool:
        """Whether sizes need not be told."""
        return self.labelled or self._hw is not None

    def facts(self) -> dict[str, Any]:
        """What identifies them."""
        return {place.name: file_facts(place) for place in (self._hw, self._label) if place}

    def size(self, name: str) -> tuple[int, int] | None:
        """Height and width by hw.tsv, under the name that the picture has in the files."""
        return self._sizes.find(name)

    def regions(self, number: int, name: str, count: int) -> list[dict[str, Any]]:
        """The regions of row ``number``; numbers must rise. Raises ValueError for those of another row."""
        while self._number < number:
            self._number, _, self._line = next(self._rows, (number, 0, b""))
        found, _, column = self._line.rstrip(b"\r\n").partition(b"\t")
        objects = mappings(parsed(column)) if found.decode() == name else []
        if found.decode() != name or len(objects) != count:
            said = f"{len(objects)} regions of {found.decode()!r:.80}"
            raise ValueError(f"{self._label} has {said} in row {number}, not {count} of {name!r:.80}: move it away")
        return objects


def size_by(boxes: Array, shares: Array) -> tuple[int, int]:
    """Height and width of a picture from boxes in pixels and as shares of it. Raises ValueError where none tells."""
    far, part = boxes[:, 2:].max(0, initial=0), shares[:, 2:4].max(0, initial=0)
    if not ((part > 0) & (far > 0) & (far < _WIDEST * part)).all():
        raise ValueError("no region tells the size of the picture: --sizes FILE does")
    width, height = np.rint(far.astype(float) / part).astype(int).tolist()
    return height, width


def beside(path: Path) -> tuple[Path, Path] | tuple[None, None]:
    """Where sizes and regions are; None for features whose name has no ``feature`` in it."""
    word = next((word for word in ("features", "feature") if word in path.name), None)
    if word is None:
        return None, None
    return path.with_name(path.name.replace(word, "hw")), path.with_name(path.name.replace(word, "label"))


def write_beside(records: Records, path: Path) -> None:
    """Write sizes, and regions where the classes of the store have names, with their indexes."""
    hw, label = beside(path)
    if hw is None or label is None:
        return
    named = "object_ids" in records.fields and bool(records.labels.get("objects"))
    if not named:  # labels of an earlier export are not of these features
        label.unlink(missing_ok=True)
        index_of(label).unlink(missing_ok=True)
    with ExitStack() as stack:
        sizes = _Indexed(stack, hw)
        regions = _Indexed(stack, label) if named else None
        for key in records.keys():  # noqa: SIM118  iterating over them counts them as done
            record = records[key]
            sizes.add(key, [{"height": record.size[0], "width": record.size[1]}])
            if regions:
                regions.add(key, [told(record, row, records.labels) for row in range(len(record))])


class _Indexed:
    """A file of keys and JSON that is being written, with its index."""

    def __init__(self, stack: ExitStack, path: Path) -> None:
        self._rows, self._index = (stack.enter_context(published_file(place)) for place in (path, index_of(path)))
        self._end = 0

    def add(self, key: str, content: Any) -> None:
        self._index.write(b"%d\n" % self._end)
        self._end += self._rows.write(b"%s\t%s\n" % (key.encode(), json.dumps(content).encode()))
