"""A store behind a URL, read as if it were a folder. Importing this loads none of its modules but ``address``.

One noun per module:

==============  ======================================================================================
``framing``     the body of an answer of many records: frames to bytes and back, for server and client
``address``     what a URL says, and where the token comes from
``buffers``     memory that bodies are received into, to be used again
``wire``        HTTP/1.1 on one connection
``connection``  the connections that one process keeps, and bodies read where they are wanted
``retry``       which failures deserve another try, and when
``local``       records that were read once, kept on disk up to a limit
``service``     the routes of one store of a server, and what their answers mean
``posted``      many records by one request each, or from what is kept
``fetched``     records in memory, whatever fetches them, portion by portion ahead of who uses them
``gathered``    batches out of records that were fetched
``remote_store``  what both readers have in common
``http_store``  the reader behind ``http://`` and ``https://``
``flight_store``  the reader behind ``grpc://`` and ``grpc+tls://``; ``flight_calls`` what it asks, ``flight_rows``
                what comes, ``flight_faults`` what goes wrong, ``flight_forks`` what a fork asks of gRPC
==============  ======================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from featx.errors import UsageError
from featx.store.remote.address import PORTS, is_url, scheme_of

if TYPE_CHECKING:
    from featx.store.reader import Checksums, StoreReader

__all__ = ["NO_SCHEME", "is_url", "open_remote"]

NO_SCHEME = "stores are read from folders, http:// and grpc:// (`featx serve`); `featx pull URL` copies one to a folder"


def open_remote(url: str, partial: bool, checksums: Checksums, options: Mapping[str, Any]) -> StoreReader:
    """The store behind a URL; ``options`` are those of :func:`featx.store.open_store` that were given."""
    if scheme_of(url) in PORTS:
        from featx.store.remote.http_store import HttpStore

        return HttpStore(url, partial, checksums, **options)
    if strange := sorted({"cache", "cache_limit"} & set(options)):
        raise UsageError(f"{strange[0]} is not for a store behind {scheme_of(url)}://", "read it through http://")
    reader: StoreReader = import_module("featx.store.remote.flight_store").FlightStore(
        url, partial, checksums, **options
    )
    return reader
