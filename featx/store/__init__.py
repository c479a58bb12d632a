"""Stores of records: a folder with a manifest and parts, behind one reader and one writer.

``open_store`` reads; ``create_store`` and ``open_part`` write; ``verify`` checks. FORMAT.md describes the folder.
Inside, imports go one way: disk, agree, rule < manifest, ledger < base, reader, completion < view, the backends <
folder, creation, writer < verify. ``remote`` reads stores behind URLs, and is imported when there is one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featx.errors import UsageError
from featx.store.creation import create_store
from featx.store.folder import FolderStore
from featx.store.ledger import Refusal
from featx.store.manifest import Manifest, PartManifest, Totals
from featx.store.reader import Checksums, Order, StoreReader
from featx.store.remote import NO_SCHEME, is_url, open_remote
from featx.store.verify import Problem, Report, verify
from featx.store.view import is_location, located, remote_options, view_manifest
from featx.store.writer import PartWriter, open_part

__all__ = [
    "Checksums", "Location", "Manifest", "Order", "PartManifest", "PartWriter", "Problem", "Refusal", "Report",
    "StoreReader", "Totals", "create_store", "is_location", "located", "open_part", "open_store", "read_manifest",
    "verify",
]  # fmt: skip


Location = str | os.PathLike[str] | Mapping[str, Any]


def open_store(
    path: Location, *, partial: bool = False, view: Mapping[str, Any] | None = None, checksums: Checksums = "once",
    token: str | None = None, cache: str | os.PathLike[str] | bool | None = None, cache_limit: str | int | None = None,
    timeout: float | None = None,
) -> StoreReader:  # fmt: skip
    """Open the store in the folder ``path``, or behind the URL ``path``, for reading.

    ``partial=True`` opens an unfinished store too, with every record committed so far. ``view`` are arguments of
    :meth:`StoreReader.view`, for a superset store; ``{"path": ..., "boxes": 36}`` says both at once. ``checksums``:
    when the bytes of a record are checked, "always", "once" (in a batch: the first time that this process reads it) or
    "never". Raises StoreError for what is not a store, is unfinished or newer than this featx; StoreDamaged for what
    is not as it was written; UsageError for a view that the store cannot give.

    A URL is ``http://HOST:PORT/NAME``, ``https://...``, ``grpc://...`` or ``grpc+tls://...`` (docs/serving.md), and
    these are for it alone. token: by default that of the environment, FEATX_TOKEN. cache: records that were read are
    kept in this folder (True: the user's own), up to ``cache_limit`` ("10GB"); a location may say both, too. timeout:
    seconds that an answer may take, further tries included.
    """
    where, stated = located(path)
    asked = {**stated, **{name: value for name, value in (view or {}).items() if value is not None}}
    remote = {"token": token, "cache": cache, "cache_limit": cache_limit, "timeout": timeout}
    store = _reader(where, partial, checksums, {**remote_options(path), **_given(remote)})
    try:
        return store.view(**asked) if asked else store
    except UsageError:
        store.close()
        raise


def read_manifest(path: Location) -> Manifest:
    """The manifest of the store in ``path``, or of the view that it names, without opening its records."""
    where, asked = located(path)
    if is_url(where):
        with _reader(where, True, "once", _given({"timeout": remote_options(path).get("timeout")})) as store:
            manifest = store.manifest
    else:
        manifest = Manifest.load(Path(where))
    return view_manifest(manifest, **asked) if asked else manifest


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _reader(where: str, partial: bool, checksums: Checksums, remote: Mapping[str, Any]) -> StoreReader:
    """The reader for a folder or a URL."""
    if is_url(where):
        return open_remote(where, partial, checksums, remote)
    if "://" in where and not Path(where).exists():
        raise UsageError(f"{where} is no place to read a store from", NO_SCHEME)
    if remote:
        raise UsageError(f"{sorted(remote)[0]} is for a store behind a URL, and {where} is a folder", "leave it out")
    return FolderStore(where, partial, checksums)
