"""What the URL of a store says, and where the token that goes with it comes from."""

from __future__ import annotations

import os
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from featx.errors import UsageError

SCHEMES = ("http", "https", "grpc", "grpc+tls")
PORTS = {"http": 80, "https": 443}
TOKEN = "FEATX_TOKEN"  # the environment variable
STORES = "/v1/stores"
_FORM = "write http://HOST:PORT/NAME; NAME is what `featx serve` calls the store"


class Address(NamedTuple):
    """url: as it is told to people. prefix: the path before ``/v1/stores``. store: its name, '' where none is said."""

    url: str
    scheme: str
    host: str
    port: int
    prefix: str
    store: str

    @property
    def listing(self) -> str:
        """The path that lists all stores."""
        return self.prefix + STORES

    @property
    def path(self) -> str:
        """The path of the store."""
        return f"{self.listing}/{quote(self.store, safe='')}"

    def named(self, store: str) -> Address:
        """The same place, and a store of it."""
        url = self.url.rstrip("/")
        return self._replace(store=store, url=f"{url}/{quote(store, safe='')}")


def is_url(where: Any) -> bool:
    """Whether the location of a store is a URL that is read over the network, and not a folder."""
    return isinstance(where, str) and where.partition("://")[0].lower() in SCHEMES and "://" in where


def names_store(where: str) -> bool:
    """Whether a URL can only be that of a store, where one of a photo may stand, too."""
    return is_url(where) and (scheme_of(where) not in PORTS or f"{STORES}/" in where)


def scheme_of(url: str) -> str:
    """The scheme of a URL, in small letters."""
    return url.partition("://")[0].lower()


def read_address(url: str) -> Address:
    """The parts of an ``http://`` or ``https://`` URL.

    Known forms are ``http://HOST:PORT/NAME``, ``http://HOST:PORT/v1/stores/NAME`` and, of a server that has one store,
    ``http://HOST:PORT``; a path before these stays before them. Raises UsageError for others, and for one that holds
    a password, a query or a fragment: what is secret would stand in every log.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        bare = scheme_of(url) + "://" + url.partition("://")[2].rpartition("@")[2]  # no password is repeated
        raise UsageError(f"{bare!r} is no URL of a store: {error}", _FORM) from None
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            f"the URL {shown} holds a user name or a password before the host",
            f"leave it out: a token comes from the environment ({TOKEN}) or from open_store(..., token=...)",
        )
    if parts.query or parts.fragment:
        raise UsageError(
            f"the URL {shown} has a query or a fragment behind it",
            f"leave it out: a token comes from {TOKEN}, and a view from the location {{path: URL, boxes: 36}}",
        )
    if parts.scheme not in PORTS or not host or not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError(f"{url!r} is no URL of a store", _FORM)
    before, found, behind = parts.path.rstrip("/").rpartition(STORES)
    if not found:
        before, _, behind = parts.path.rstrip("/").rpartition("/")
    name = unquote(behind.removeprefix("/"))
    if "/" in name:
        raise UsageError(f"the URL {shown} goes on behind the name of a store", _FORM)
    return Address(shown, parts.scheme, host, port or PORTS[parts.scheme], before, name)


def token_from(argument: str | None) -> str | None:
    """The token to send: the argument, else that of the environment. Raises UsageError for what no header can hold."""
    token = argument if argument is not None else os.environ.get(TOKEN)
    token = token.strip() if token else None
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise UsageError("the token holds blanks or characters that no header can hold", f"check {TOKEN}")
    return token or None
