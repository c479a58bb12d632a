"""Where the bytes of one picture lie, and how they are fetched: a file, a span of a tar, a URL."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Any

from featx.errors import MissingDependency, PictureRefused, UsageError

MAX_BYTES = 1 << 30  # no photo is a gigabyte; a file that large would fill the memory of every worker


@dataclass(frozen=True)
class Blob:
    """Bytes that can be read again at any time, in any process.

    ``file`` is a local path or a URL; ``span`` is (offset, length) inside it, None for all of it;
    ``member`` is the name of that span, for people. Holds no open file, so it pickles and forks.
    """

    file: str
    span: tuple[int, int] | None = None
    member: str = ""

    @property
    def location(self) -> str:
        """What a person recognises: the path or URL, and the member of a tar behind a colon."""
        return f"{self.file}:{self.member}" if self.member else self.file

    def read(self) -> bytes:
        """The bytes. Raises PictureRefused: ``missing``, ``unreadable`` or ``too-large``."""
        try:
            data = _read_url(self.file, self.span) if "://" in self.file else _read_file(self.file, self.span)
        except FileNotFoundError:
            raise PictureRefused("missing", f"{self.location} does not exist", "check the list and --root") from None
        except OSError as error:
            raise PictureRefused(
                "unreadable",
                f"{self.location} cannot be read: {error.strerror or error}",
                "check permissions and the disk or network, then run again",
            ) from None
        if self.span and len(data) != self.span[1]:
            raise PictureRefused(
                "unreadable",
                f"{self.location} gave {len(data)} bytes where the listing found {self.span[1]}",
                "the tar changed since it was listed: list it again",
            )
        return data


@dataclass(frozen=True)
class Source:
    """One picture to be read: its key, where it is, and its position in the listing."""

    key: str
    location: str
    ordinal: int
    blob: Blob

    def read(self) -> bytes:
        """The bytes of the picture file. Raises PictureRefused: ``missing``, ``unreadable``, ``too-large``."""
        return self.blob.read()


def _read_file(path: str, span: tuple[int, int] | None) -> bytes:
    # Non-blocking: opening a named pipe must be refused below, not waited for.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise PictureRefused("unreadable", f"{path} is not a regular file", "name picture files only")
        offset, length = span or (0, status.st_size)
        _limit(path, length)
        file.seek(offset)
        return file.read(length)


def _read_url(url: str, span: tuple[int, int] | None) -> bytes:
    files, path = filesystem(url)
    if span:
        _limit(url, span[1])
        data: bytes = files.cat_file(path, start=span[0], end=span[0] + span[1])
    else:
        _limit(url, files.size(path) or 0)
        data = files.cat_file(path)
    return data


def _limit(name: str, length: int) -> None:
    if length > MAX_BYTES:
        raise PictureRefused(
            "too-large", f"{name} has {length} bytes, the limit is {MAX_BYTES}", "is it a picture? convert it first"
        )


def filesystem(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path inside it.

    Raises MissingDependency when fsspec or the driver of this kind of URL is absent, UsageError for a
    kind of URL that nobody knows.
    """
    if "::" in url:
        raise UsageError(f"{url} is a chained URL, which is not supported", "name the inner file or folder directly")
    try:
        import fsspec.core

        files, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingDependency(
            f"reading {url} needs a package that is not installed: {error}", "pip install fsspec and that package"
        ) from None
    except ValueError as error:
        raise UsageError(
            f"{url} cannot be opened: {error}", "use a local path or a URL that fsspec understands"
        ) from None
    return files, str(path)
