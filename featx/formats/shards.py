"""A source of one file or of a folder of them, and a folder of files that takes its name whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from featx.errors import UsageError
from featx.formats.identity import file_facts
from featx.store import disk


def members(path: Path, suffix: str) -> list[Path]:
    """The files of a source: the file itself, or those in the folder that end in ``suffix``, by name."""
    if not path.is_dir():
        return [path]
    return sorted(place for place in path.iterdir() if place.name.endswith(suffix) and place.is_file())


def shard_facts(path: Path, suffix: str) -> dict[str, Any]:
    """What identifies the content of a source: as ``file_facts``, of all its files and their names."""
    if not path.is_dir():
        return file_facts(path)
    found = [(place.name, file_facts(place)) for place in members(path, suffix)]
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
    return {"sha256": digest, "files": len(found), "bytes": sum(facts["bytes"] for _, facts in found)}


@contextmanager
def published_folder(path: Path, ours: Callable[[str], bool]) -> Iterator[Path]:
    """An empty folder that gets the name ``path``, with every file in it synced, when the body is through.

    What had that name goes: a file, or a folder of nothing but files whose names are ``ours``. Raises UsageError for
    any other folder, before the body.
    """
    path = path.resolve()  # a link stays one: what it points to is replaced
    if path.is_dir() and (other := next((place for place in path.iterdir() if not ours(place.name)), None)):
        raise UsageError(f"{path} holds {other.name}, which is no part of such a folder", "choose another name")
    draft = disk.temporary(path)
    shutil.rmtree(draft, ignore_errors=True)  # what an export that was killed left
    try:
        with disk.room(path.parent):
            draft.mkdir()
            yield draft
            for place in draft.iterdir():
                disk.sync(place)
            disk.sync(draft)
            _remove(path)
            disk.move(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        for place in path.iterdir():
            disk.remove(place)
    else:
        disk.remove(path)
