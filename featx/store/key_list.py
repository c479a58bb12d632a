"""A text file that chooses records by their keys."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from featx.errors import UsageError


def read_keys(path: str | os.PathLike[str]) -> list[str]:
    """The keys in a UTF-8 file, one on a line, in its order, each once and in the NFC form that stores hold.

    Blank lines, a byte order mark and carriage returns do not count; blanks around a key belong to it. Raises
    UsageError for a file that cannot be read or has no keys.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"the list of keys {path} cannot be read: {reason}", "give a UTF-8 text file, one key on a line"
        ) from None
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    keys = list(dict.fromkeys(unicodedata.normalize("NFC", line) for line in lines if line.strip()))
    if not keys:
        raise UsageError(
            f"the list of keys {path} is empty", "write one key on a line; `featx inspect STORE --keys` lists them"
        )
    return keys
