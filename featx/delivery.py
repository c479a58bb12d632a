"""A file that a person asked for: it takes its name whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from featx.errors import UsageError


@contextmanager
def delivery(path: str) -> Iterator[BinaryIO]:
    """A file to write to that gets the name ``path`` when the body is through: whole or not at all.

    What is there and is no regular file, a pipe or /dev/null, is written to directly. Raises UsageError for a folder,
    for a missing one around the file, and for what cannot be written.
    """
    target = Path(path)
    if target.is_dir():
        raise UsageError(f"{path} is a folder", "give the name of a file to write")
    if target.exists() and not target.is_file():
        with _writable(path), target.open("wb") as file:
            yield file
        return
    target = target.resolve()  # a link stays one: what it points to is replaced
    if not target.parent.is_dir():
        raise UsageError(f"{path} cannot be written: there is no folder {target.parent}", "make the folder first")
    draft = target.with_name(f".featx-{secrets.token_hex(4)}")
    try:
        with _writable(path, draft):
            with draft.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _writable(path: str, draft: Path | None = None) -> Iterator[None]:
    """Errors of writing name the file that was asked for; those about other files, and a closed pipe, pass."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename not in (None, path, str(draft)):
            raise
        raise UsageError(f"{path} cannot be written: {error.strerror or error}", "choose another file") from None
