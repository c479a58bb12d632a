"""What another part of the server brings to the application: routes, and what goes with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.routing import BaseRoute


@dataclass(frozen=True)
class Extension:
    """Routes that are served beside those of the stores.

    lifespan: entered when a process begins to serve, left when it ends. paths: the routes as the OpenAPI document has
    them. schemas: what its ``components`` need for that. open: paths that need no token, as they hold nothing of a
    store. ready: None, or why requests cannot be answered yet. figures: numbers for ``/metrics`` by name; one that ends
    in ``_total`` only grows.
    """

    routes: Sequence[BaseRoute] = ()
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]] | None = None
    paths: Mapping[str, Any] = field(default_factory=dict)
    schemas: Mapping[str, Any] = field(default_factory=dict)
    open: frozenset[str] = frozenset()
    ready: Callable[[], str | None] = lambda: None
    figures: Callable[[], Mapping[str, float]] = dict
