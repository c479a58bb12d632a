"""A folder in any store of objects that fsspec knows, with errors that say what to do, and a second try."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from featx.care.hashing import BLOCK, Hashing
from featx.errors import FeatxError, MissingDependency, StoreDamaged, StoreError, UsageError

T = TypeVar("T")
TRIES = 5
_DRAFT = ".draft.tmp"  # how the name of a file in a folder ends until it is whole
_FIRST_PAUSE = 0.2  # seconds before the second try; each further pause is twice as long


class Remote:
    """A folder at a URL: ``s3://bucket/store``, ``gs://...``, ``hf://...``, ``file:///...``, ``memory://...``."""

    def __init__(self, url: str, *, pause: float = _FIRST_PAUSE, tries: int = TRIES) -> None:
        self.url, self._pause, self._tries = url.rstrip("/"), pause, tries
        self._fs, root = _open(url)
        self._root = root.rstrip("/")

    @property
    def folder(self) -> str | None:
        """The path of a folder of this machine, None of what is elsewhere."""
        return self._root or "/" if "file" in _names(self._fs.protocol) else None

    def path(self, name: str) -> str:
        """How the file system calls the file ``name`` of the folder."""
        return f"{self._root}/{name}"

    def size(self, name: str) -> int | None:
        """Length of a file in bytes, None when there is none. A folder counts as none."""

        def look() -> int | None:
            self._fs.invalidate_cache()
            try:
                facts = self._fs.info(self.path(name))
            except FileNotFoundError:
                return None
            return None if facts.get("type") == "directory" or facts.get("size") is None else int(facts["size"])

        return self._again(name, look)

    def read(self, name: str) -> bytes | None:
        """A small file, None when there is none."""

        def take() -> bytes | None:
            try:
                return bytes(self._fs.cat_file(self.path(name)))
            except FileNotFoundError:
                return None

        return self._again(name, take)

    def blocks(self, name: str, begin: int, end: int) -> Iterator[bytes]:
        """Bytes ``begin`` to ``end`` of a file, as they come. A read that fails is tried again from where it was.

        A file system that cannot read a range gives the whole file once more, of which the beginning is passed over.
        """
        while begin < end:
            block = self._again(name, lambda at=begin: self._range(name, at, min(at + BLOCK, end)))  # type: ignore[misc]
            begin += len(block)
            yield block

    def write(self, name: str, blocks: Callable[[], Iterator[bytes]], size: int) -> None:
        """Make a file of ``blocks``, which is asked again for another try. Its length is looked at afterwards."""

        def put() -> None:
            folder = self.path(name).rpartition("/")[0]
            with contextlib.suppress(FileExistsError):
                self._fs.makedirs(folder, exist_ok=True)
            place = self.path(name)
            if self.folder is not None:  # where a file can be seen, and another begun, before it is whole
                place = f"{folder}/.{name.rpartition('/')[2]}.{secrets.token_hex(4)}{_DRAFT}"
            try:
                with self._fs.open(place, "wb") as file:
                    for block in blocks():
                        file.write(block)
                if self.folder is not None:
                    Path(place).replace(self.path(name))
            except BaseException:
                if self.folder is not None:
                    Path(place).unlink(missing_ok=True)
                raise
            found = self.size(name)
            if found != size:
                raise OSError(f"{size} bytes were written, {found} arrived")

        self._again(name, put)

    def version(self, name: str) -> str:
        """What is another once the file was written anew, as far as its file system knows."""

        def look() -> str:
            self._fs.invalidate_cache()
            return str(self._fs.ukey(self.path(name)))

        return self._again(name, look)

    def remove(self, name: str) -> None:
        """Remove a file that is of no more use; where that is not allowed it stays."""
        with contextlib.suppress(Exception):
            self._fs.rm_file(self.path(name))

    def is_empty(self) -> bool:
        """Whether nothing is in the folder, but for what somebody is writing."""

        def look() -> bool:
            self._fs.invalidate_cache()
            try:
                found = self._fs.ls(self._root or "/", detail=False)
                return all(str(path).endswith(_DRAFT) for path in found)
            except FileNotFoundError:
                return True

        return self._again("", look)

    def files(self, name: str) -> set[str] | None:
        """The files in the folder ``name`` and those below, called as for :meth:`read`; None: nobody here can list."""

        def look() -> set[str] | None:
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(self.path(name))
            except FileNotFoundError:
                return set()
            except NotImplementedError:
                return None
            return {str(path)[len(self._root) :].lstrip("/") for path in found}

        listed = {"http", "https"}.isdisjoint(_names(self._fs.protocol))  # of which a listing is a page for people
        return self._again(name, look) if listed else None

    def hash(self, name: str, size: int, like: str) -> str:
        """The hash of a file, spelled as ``like``."""
        state = Hashing(like)
        for block in self.blocks(name, 0, size):
            state.update(block)
        return state.hexdigest()

    def _range(self, name: str, begin: int, end: int) -> bytes:
        try:
            block = bytes(self._fs.cat_file(self.path(name), start=begin, end=end))
        except (NotImplementedError, TypeError, ValueError):
            block = bytes(self._fs.cat_file(self.path(name)))[begin:end]
        if not block or len(block) > end - begin:
            raise OSError(f"{end - begin} bytes were asked for, {len(block)} came")
        return block

    def _again(self, name: str, work: Callable[[], T]) -> T:
        """The result of ``work``, tried a few times; what will not change is told at once."""
        for attempt in range(self._tries):
            try:
                return work()
            except FeatxError:
                raise
            except PermissionError as error:
                raise StoreError(
                    f"{self._called(name)} may not be used: {error}", "check the permissions and the credentials"
                ) from error
            except FileNotFoundError as error:
                raise StoreDamaged(f"{self._called(name)} is missing", "the copy there is not whole") from error
            except (IsADirectoryError, NotADirectoryError) as error:
                raise UsageError(f"{self._called(name)} cannot be used: {error}", "give the URL of a folder") from error
            except Exception as error:  # every protocol brings errors of its own
                if attempt == self._tries - 1:
                    raise StoreError(
                        f"{self._called(name)} failed {self._tries} times: {type(error).__name__}: {error}",
                        "what was copied is kept: run the same command again; check the URL and the credentials",
                    ) from error
                time.sleep(self._pause * 2**attempt)
        raise AssertionError

    def _called(self, name: str) -> str:
        return f"{self.url}/{name}" if name else self.url


def _names(protocol: Any) -> tuple[str, ...]:
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _open(url: str) -> tuple[Any, str]:
    import fsspec

    protocol = url.partition("://")[0] if "://" in url else "file"
    try:
        return fsspec.core.url_to_fs(url)  # type: ignore[no-any-return]
    except ImportError as error:
        missing = _package(protocol) or getattr(error, "name", None) or protocol
        raise MissingDependency(f"{protocol}:// needs an optional package: {error}", f"pip install {missing}") from None
    except ValueError as error:
        raise UsageError(
            f"{url} cannot be used: {error}", "give a URL such as s3://bucket/store or file:///data/store"
        ) from None
    except Exception as error:  # a client that finds no credentials, say
        raise StoreError(f"{url} cannot be opened: {error}", "check the URL and the credentials") from error


def _package(protocol: str) -> str | None:
    """The package that brings a protocol, as far as fsspec knows."""
    from fsspec.registry import known_implementations

    place = str(known_implementations.get(protocol, {}).get("class", "")).split(".")[0]
    special = {"fsspec": {"http": "aiohttp", "https": "aiohttp", "sftp": "paramiko", "ssh": "paramiko"}.get(protocol)}
    return special.get(place, place) or None
