"""What identifies the content of a foreign file, for the provenance and for resuming."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

_WHOLE = 256 << 20  # bytes; longer files are hashed in blocks
_BLOCK, _BLOCKS = 1 << 20, 64


def file_facts(path: Path) -> dict[str, Any]:
    """Length and sha256 of a file; of a long one, of its first and last MiB and of 64 spread over it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _WHOLE:
            return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": size}
        digest = hashlib.sha256()
        for block in range(_BLOCKS + 1):
            file.seek((size - _BLOCK) * block // _BLOCKS)
            digest.update(file.read(_BLOCK))
    return {"sha256": digest.hexdigest(), "of": f"{_BLOCKS + 1} blocks of 1 MiB", "bytes": size}
