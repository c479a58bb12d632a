"""Label lists: one class per line, comma-separated synonyms, the first of which is the name.

The Visual Genome lists of bottom-up attention (1600 objects, 400 attributes) have this form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.errors import UsageError

if TYPE_CHECKING:
    from featx.record import Record

Labels = str | Path | Sequence[str]


def read_labels(source: Labels, what: str, count: int | None = None) -> tuple[str, ...]:
    """The names of a vocabulary file (UTF-8, a byte order mark and CRLF are fine) or of a sequence of lines.

    ``what`` is what they name (objects, attributes); ``count`` how many are expected, without the background. Raises
    UsageError when the file cannot be read, has an empty line, or has another number of entries.
    """
    lines = _lines(Path(source)) if isinstance(source, str | Path) else list(source)
    where = str(source) if isinstance(source, str | Path) else f"the list of {what}"
    names = tuple(line.split(",")[0].strip() for line in lines)
    if count is not None and len(names) != count:
        raise UsageError(
            f"{where} has {len(names)} entries, but {count} {what} are known",
            f"give the vocabulary of these weights, one of the {what} per line, without the background",
        )
    if "" in names:
        raise UsageError(f"{where} has no name in line {names.index('') + 1}", "every line names one class")
    return names


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the vocabulary {path} cannot be read: {error}", "give a UTF-8 text file") from None
    lines = re.split(r"\r\n|\n|\r", text)
    return lines[:-1] if lines[-1] == "" else lines


def class_name(labels: Mapping[str, Any], kind: str, number: int) -> str:
    """Name of a class of ``objects`` or ``attributes``, or "object 17" where no names are known."""
    names = labels.get(kind)
    return str(names[number]) if names and 0 <= number < len(names) else f"{kind.removesuffix('s')} {number}"


def region_name(record: Record, row: int, labels: Mapping[str, Any]) -> str:
    """Attribute and object name of one region, as far as the record has them: ``red car``."""
    words = []
    for field, kind in (("attribute_ids", "attributes"), ("object_ids", "objects")):
        if field in record.extra:
            words.append(class_name(labels, kind, int(record.extra[field][row])))
    return " ".join(words) or f"region {row}"
