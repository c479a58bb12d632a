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
    from featx.store.manifest import Manifest

Labels = str | Path | Sequence[str]

ATTRIBUTE_CONF = 0.1  # below it an attribute is not named, as in the demo of bottom-up attention


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


def region_name(record: Record, row: int, labels: Mapping[str, Any] | None) -> str:
    """What a region is called: ``red car``, or ``object 17`` without names, or ``region 3`` without ids.

    The attribute is named when its confidence is at least 0.1.
    """
    if "object_ids" not in record.extra:
        return f"region {row}"
    number = int(record.object_ids[row])
    name = _class_name(labels, "objects", number) or f"object {number}"
    if "attribute_ids" not in record.extra:
        return name
    confs = record.extra.get("attribute_confs")
    if confs is not None and confs[row] < ATTRIBUTE_CONF:
        return name
    return f"{_class_name(labels, 'attributes', int(record.attribute_ids[row]))} {name}".strip()


def untrained_note(manifest: Manifest) -> str:
    """What to say next to the labels, or features, of a store whose network was never trained; empty for any other."""
    weights = manifest.provenance.get("weights")
    untrained = isinstance(weights, Mapping) and weights.get("trained") is False
    named = any(field.name == "object_ids" for field in manifest.schema.fields)
    return f"untrained network: its {'labels' if named else 'features'} mean nothing" if untrained else ""


def _class_name(labels: Mapping[str, Any] | None, kind: str, number: int) -> str:
    """The first synonym of a class, empty when it has no name."""
    names = (labels or {}).get(kind) or ()
    return str(names[number]).split(",")[0] if 0 <= number < len(names) else ""
