"""Label lists: one class per line, comma-separated synonyms, the first of which is the name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from featx.errors import WeightsError

Labels = str | Path | Sequence[str]


def read_labels(source: Labels, count: int, what: str) -> tuple[str, ...]:
    """The ``count`` names of a vocabulary file (UTF-8, a byte order mark and CRLF are fine) or of a sequence.

    Raises WeightsError when the file cannot be read, has an empty line, or has another number of entries.
    """
    given = not isinstance(source, str | Path)
    lines = list(source) if given else _lines(Path(source))  # type: ignore[arg-type]
    names = tuple(line.split(",")[0].strip() for line in lines)
    where = f"the list of {what}" if given else str(source)
    if len(names) != count:
        raise WeightsError(
            f"{where} has {len(names)} entries, but the weights know {count} {what}",
            f"give the vocabulary these weights were trained with, one of the {what} per line, without the background",
        )
    if "" in names:
        raise WeightsError(f"{where} has no name in line {names.index('') + 1}", "every line names one class")
    return names


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"the vocabulary {path} cannot be read: {error}", "give a UTF-8 text file") from None
    lines = re.split(r"\r\n|\n|\r", text)
    return lines[:-1] if lines[-1] == "" else lines
