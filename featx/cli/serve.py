"""``featx serve STORE...``: stores over HTTP, and over Arrow Flight when asked."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.cli.output import describe, many
from featx.errors import MissingDependency, UsageError

if TYPE_CHECKING:
    from featx.serve.mounted import Mounted
    from featx.serve.plan import Plan
    from featx.serve.run import Running

TOKEN = "FEATX_TOKEN"
_NAMED = re.compile(r"([A-Za-z0-9._-]+)=(.+)", re.DOTALL)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_LEAST = 16  # characters of a token

TEXT = """\
A store is served under the name of its folder without .featx, or as NAME=STORE says. Open http://127.0.0.1:8000/ in a
browser, or featx.open_store("http://127.0.0.1:8000/NAME") in a program.

Only this machine can reach the server, unless --host says otherwise; then every request must bring a token, as
"Authorization: Bearer TOKEN". SIGTERM and Ctrl-C end it: it takes nothing new, and finishes what is under way.

Exit codes: 0 ended as it was told; 2 an address, name, file or number that cannot be used; 4 no store, or a damaged
one; 5 a package is missing; 1 its processes died."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("stores", nargs="+", metavar="[NAME=]STORE", help="folders of stores, unfinished ones too")
    where = parser.add_argument_group("where")
    where.add_argument("--host", default="127.0.0.1", help="address to listen at (default %(default)s: this machine)")
    where.add_argument("--port", type=int, default=8000, help="0 is any that is free (default %(default)s)")
    where.add_argument("--flight", action="store_true", help="serve the same stores by Arrow Flight, too")
    where.add_argument("--flight-port", type=int, default=0, metavar="PORT", help="default: any that is free")
    who = parser.add_argument_group("who may ask, and how much")
    who.add_argument("--token-file", metavar="FILE", help=f"file with the token (default: the variable {TOKEN})")
    who.add_argument("--cors", action="append", default=[], metavar="ORIGIN",
                     help="let pages of this origin (https://example.org) read answers; may be repeated")  # fmt: skip
    who.add_argument("--max-body", default="32M", metavar="BYTES", help="of one request (default %(default)s)")
    who.add_argument("--max-keys", type=int, default=1024, help="of one request (default %(default)s)")
    who.add_argument(
        "--max-pixels", default="100M", metavar="N", help="of a picture that is sent (default %(default)s)"
    )
    who.add_argument(
        "--timeout", type=float, default=60.0, metavar="SECONDS", help="for a request (default %(default)g)"
    )
    more = parser.add_argument_group("answers and pictures")
    more.add_argument("--model", action="append", default=[], metavar="[NAME=]DIR",
                      help="a model that answers questions, or `default`; may be repeated")  # fmt: skip
    more.add_argument("--weights", metavar="FILE", help="of what extracts pictures (default: those a model states)")
    more.add_argument("--device", default="cpu", help="where models compute (default %(default)s)")
    more.add_argument("--pictures", action="append", default=[], metavar="[NAME=]FOLDER",
                      help="the pictures of a store, for the page; may be repeated")  # fmt: skip
    more.add_argument("--write", action="store_true", help="keep what was extracted for an answer in the store")
    how = parser.add_argument_group("how it runs")
    how.add_argument("--server", choices=("uvicorn", "granian"), default="uvicorn", help="default %(default)s")
    how.add_argument("--workers", type=int, default=1, metavar="N", help="processes that share the page cache")
    how.add_argument("--drain", type=float, default=10.0, metavar="SECONDS",
                     help="what is under way gets when the server is to end (default %(default)g)")  # fmt: skip
    how.add_argument("--json", action="store_true", help="say where it is as one line of JSON on stdout")
    how.add_argument("--quiet", action="store_true", help="say nothing but warnings and errors")
    describe(parser, TEXT)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Serve until told to end."""
    granian = ["granian"] if options.server == "granian" else []
    need("uvicorn", "httptools", "starlette", "python_multipart", "prometheus_client", *granian)
    from featx.serve.plan import extensions
    from featx.serve.run import serve

    plan = plan_of(options)
    mounts = plan.mounts()  # now: a mistake is told before it listens
    records = {name: records_of(mounted) for name, mounted in mounts.stores.items()}
    extensions(plan, mounts)
    if plan.models and plan.device != "cpu":
        from featx.device import usable_device

        usable_device(plan.device)
    serve(plan, lambda running: tell(options, running, records))


def records_of(mounted: Mounted) -> int:
    """How many records a store has. Raises StoreError for what is none, StoreDamaged."""
    with mounted.opened() as reader:
        return len(reader)


def plan_of(options: argparse.Namespace) -> Plan:
    """What is to be served, and how. Raises UsageError."""
    from featx.serve.plan import Plan
    from featx.serve.run import check
    from featx.serve.settings import Settings

    settings = Settings(
        host=options.host, port=options.port, token=read_token(options.token_file), server=options.server,
        workers=options.workers, flight=options.flight, flight_port=options.flight_port,
        origins=tuple(map(origin, options.cors)), write=options.write, max_body=size(options.max_body, "max-body"),
        max_keys=options.max_keys, max_pixels=size(options.max_pixels, "max-pixels"), timeout=options.timeout,
        drain=options.drain, quiet=options.quiet or options.json,
    )  # fmt: skip
    check(settings)
    stores = tuple(map(named, options.stores))
    pictures = tuple(map(named, options.pictures))
    if len(stores) == 1 and len(pictures) == 1 and "=" not in options.pictures[0]:
        pictures = ((stores[0][0], pictures[0][1]),)
    known = {name for name, _ in stores}
    for name, folder in pictures:
        if name not in known:
            raise UsageError(
                f"the pictures in {folder} are for a store {name!r}, and there is none of that name",
                f"write NAME=FOLDER with one of {', '.join(sorted(known))}",
            )
    return Plan(settings, stores, tuple(options.model), pictures, options.weights, options.device)


def named(text: str) -> tuple[str, str]:
    """``NAME=PATH``, or the name that the folder has."""
    found = _NAMED.fullmatch(text)
    if found and not Path(text).exists():
        return found.group(1), found.group(2)
    return Path(text).absolute().name.removesuffix(".featx"), text


def read_token(file: str | None) -> str | None:
    """The token in a file, or in the environment; None when there is none. Raises UsageError."""
    if file is None:
        token, where = os.environ.get(TOKEN), f"the variable {TOKEN}"
        if token is None:
            return None
    else:
        where = file
        try:
            token = Path(file).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise UsageError(f"cannot read the token in {file}: {why}", "give a file that holds nothing else") from None
    token = token.strip()
    if len(token) < _LEAST or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            f"the token in {where} is no token: it has {len(token)} characters"
            + ("" if len(token) < _LEAST else ", some of them no letters, digits or signs"),
            f"make one of at least {_LEAST}: python -c 'import secrets; print(secrets.token_urlsafe())' > FILE",
        )
    return token


def origin(text: str) -> str:
    """An origin as browsers say it. Raises UsageError."""
    if not re.fullmatch(r"https?://[^/\s?#@*]+", text):
        raise UsageError(f"--cors {text} is no origin", "give scheme and host: https://example.org")
    return text.lower()


def size(text: str, name: str) -> int:
    """``32M`` -> 32,000,000. Raises UsageError."""
    found = re.fullmatch(r"(\d{1,12})([kKmMgG]?)B?", text)
    if found is None:
        raise UsageError(f"--{name} is {text!r}", "give a number, or one like 32M")
    return int(found.group(1)) * _UNITS[found.group(2).lower()]


def tell(options: argparse.Namespace, running: Running, records: dict[str, int]) -> None:
    """Where the server is and what it serves."""
    if options.json:
        facts: dict[str, Any] = {"url": running.url, "flight": running.flight, "pid": os.getpid(), "stores": records}
        print(json.dumps(facts), flush=True)
    elif not options.quiet:
        served = ", ".join(f"{name} ({many(count, 'record')})" for name, count in records.items())
        print(f"{running.url} serves {served}", flush=True)
        if running.flight:
            print(f"{running.flight} serves the same by Arrow Flight", flush=True)
        print("Ctrl-C ends it", file=sys.stderr, flush=True)


def need(*packages: str) -> None:
    """Raise MissingDependency unless the packages of the server are installed."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingDependency(f"the server needs the package {package}", "pip install 'featx[serve]'")
