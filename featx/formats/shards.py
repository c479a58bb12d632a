"""A source of one file or of a folder of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from featx.errors import UsageError
from featx.formats.identity import file_facts
from featx.formats.options import Options


def members(path: Path, suffix: str) -> list[Path]:
    """The files of a source: the file itself, or those in the folder that end in ``suffix``, by name."""
    if not path.is_dir():
        return [path]
    return sorted(place for place in path.iterdir() if place.name.endswith(suffix) and place.is_file())


def shard_size(path: Path, suffix: str, options: Options, usual: int) -> int:
    """Most bytes of a file of a folder; 0 where all is to be one file, by the end of its name. Raises UsageError."""
    if path.suffix != suffix:
        return options.shard_size or usual
    if options.shard_size:
        raise UsageError(
            f"--shard-size was given, and {path} is to be one file", f"leave out {suffix} to get a folder of files"
        )
    return 0


def shard_facts(path: Path, suffix: str) -> dict[str, Any]:
    """What identifies the content of a source: as ``file_facts``, of all its files and their names."""
    if not path.is_dir():
        return file_facts(path)
    found = [(place.name, file_facts(place)) for place in members(path, suffix)]
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
    return {"sha256": digest, "files": len(found), "bytes": sum(facts["bytes"] for _, facts in found)}
