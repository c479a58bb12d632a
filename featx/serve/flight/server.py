"""The server of Arrow Flight: who may ask, what there is, and streams of records."""

from __future__ import annotations

import hmac
import weakref
from collections.abc import Iterator, Mapping, Sequence
from threading import BoundedSemaphore
from typing import Any

import pyarrow.flight as flight

from featx.errors import FeatxError, StoreError, UsageError
from featx.schema import Schema
from featx.serve.flight.actions import ACTIONS, act
from featx.serve.flight.columns import Row, arrow_schema, batch_of
from featx.serve.flight.faults import UnknownStore, telling, telling_all
from featx.serve.flight.rows import batches, keys_of, rows_of
from featx.serve.flight.tickets import FORMS, Form, Limits, Ticket, read_ticket
from featx.serve.mounted import Mounts
from featx.serve.problems import log
from featx.serve.spans import Spans
from featx.store.remote.flight_faults import Fault, raised

STREAMS = 256  # under way at a time; each holds a megabyte or two
_PATH = "a path is [NAME] or [NAME, FORM], a command the JSON of a ticket"


class Bearer(flight.ServerMiddlewareFactory):  # type: ignore[misc]
    """Lets calls in that bring ``authorization: Bearer TOKEN``."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    def start_call(self, info: Any, headers: Mapping[str, Sequence[Any]]) -> None:
        brought = [value for name, values in headers.items() if name.lower() == "authorization" for value in values]
        one = brought[0] if len(brought) == 1 else b""
        if not hmac.compare_digest(one.encode() if isinstance(one, str) else one, self._expected):
            hint = "give the token of the server, in FEATX_TOKEN or as token="
            raise raised(
                Fault("unauthenticated", "the server wants a token, and this call brings none that fits", hint)
            )


class Server(flight.FlightServerBase):  # type: ignore[misc]
    """Serves stores by name. It listens from the moment it is made."""

    def __init__(self, location: str, mounts: Mounts, limits: Limits, streams: int = STREAMS, **options: Any) -> None:
        super().__init__(location, **options)
        self._mounts, self._limits = mounts, limits
        self._free = BoundedSemaphore(streams)
        self.ending = False  # streams under way break off

    @telling
    def list_flights(self, context: Any, criteria: bytes) -> Iterator[Any]:
        wanted = bytes(criteria).decode(errors="replace")
        found = []
        for name in self._mounts:
            if name.startswith(wanted):
                try:
                    found.append(self._info(flight.FlightDescriptor.for_path(name), Ticket(name)))
                except FeatxError as error:  # it is being replaced, say; the others are there
                    log.error("%s", error)
        return iter(found)

    @telling
    def get_flight_info(self, context: Any, descriptor: Any) -> Any:
        return self._info(descriptor, self._asked(descriptor))

    @telling
    def get_schema(self, context: Any, descriptor: Any) -> Any:
        ticket = self._asked(descriptor)
        return flight.SchemaResult(self._schema(ticket, self._spans(ticket.store)))

    @telling
    def do_get(self, context: Any, ticket: Any) -> Any:
        asked = read_ticket(ticket.ticket, self._limits)
        spans = self._spans(asked.store)
        arrow = self._schema(asked, spans)
        rows = rows_of(spans, keys_of(spans.reader, asked), asked.form)
        stream = telling_all(self._stream(rows, asked.form, spans.reader.schema, arrow))
        if not self._free.acquire(blocking=False):
            raise raised(Fault("unavailable", "as many streams are under way as the server has room for", "ask again"))
        weakref.finalize(stream, self._free.release)  # whether it was read or not
        return flight.GeneratorStream(arrow, stream)

    @telling
    def list_actions(self, context: Any) -> Any:
        return [(name, action.__doc__ or "") for name, action in ACTIONS.items()]

    @telling
    def do_action(self, context: Any, action: Any) -> Iterator[Any]:
        return iter([flight.Result(act(action.type, action.body.to_pybytes(), self._spans, self._limits))])

    def do_put(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        raise _not_offered("do_put")

    def do_exchange(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        raise _not_offered("do_exchange")

    def _stream(self, rows: Iterator[Row], form: Form, schema: Schema, arrow: Any) -> Iterator[Any]:
        for batch in batches(rows, form):
            if self.ending:
                raise raised(Fault("unavailable", "the server ends", "ask another, or again"))
            yield batch_of(batch, form, schema, arrow)

    def _spans(self, name: str) -> Spans:
        store = self._mounts.stores.get(name)
        if store is None:
            raise UnknownStore(name)
        return store.spans

    def _schema(self, ticket: Ticket, spans: Spans) -> Any:
        manifest = spans.reader.manifest
        about = {"featx.store": ticket.store, "featx.form": ticket.form}
        if manifest.totals is not None:
            about["featx.digest"] = manifest.totals.digest
        return arrow_schema(ticket.form, manifest.schema, about)

    def _asked(self, descriptor: Any) -> Ticket:
        """What a descriptor asks for. Raises UsageError."""
        if descriptor.descriptor_type == flight.DescriptorType.CMD:
            return read_ticket(descriptor.command, self._limits)
        path = [part.decode(errors="replace") for part in descriptor.path or ()]
        form = next((form for form in FORMS if path[1:] in ([], [form])), None)
        if form is None or not path:
            raise UsageError(f"the descriptor is {repr(path)[:200]}", _PATH)
        return Ticket(path[0], form)

    def _info(self, descriptor: Any, ticket: Ticket) -> Any:
        """What there is to get: an endpoint for each part where all of a finished store is asked for."""
        spans = self._spans(ticket.store)
        manifest, count = spans.reader.manifest, -1
        tickets = [ticket]
        if ticket.keys is not None:
            count = len(ticket.keys)
        elif ticket.part is None:
            count = len(spans.reader)
            if manifest.complete:
                tickets = [Ticket(ticket.store, ticket.form, part=part) for part in range(manifest.parts)]
        endpoints = [flight.FlightEndpoint(ticket.to_bytes(), []) for ticket in tickets]
        return flight.FlightInfo(self._schema(ticket, spans), descriptor, endpoints, count, -1)


def _not_offered(what: str) -> Exception:
    return raised(Fault("not_offered", f"{what} is not offered", "stores are read here; `featx` writes them"))


def listen(location: str, mounts: Mounts, limits: Limits, token: str | None, tls: tuple[bytes, bytes] | None) -> Server:
    """A server at ``location``. tls: certificate and key, PEM. Raises StoreError when it cannot listen there."""
    options: dict[str, Any] = {"tls_certificates": [tls]} if tls else {}
    if token is not None:
        options["middleware"] = {"token": Bearer(token)}
    try:
        return Server(location, mounts, limits, **options)
    except (OSError, flight.FlightError, RuntimeError, ValueError) as error:
        raise StoreError(f"nothing can listen at {location}: {error}", "choose another --flight-port") from None
