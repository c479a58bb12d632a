"""Lookups by several replicas on a Ray cluster, each with a copy of the store of its own.

A server holds no state, and the parts of a store never change: so any number of replicas serve the same bytes. Each
pulls its copy from an object store by hash when it starts (``featx pull``: every file is checked against its part.json,
and what is there already is not fetched again), and Ray starts another where one dies.

    pip install 'ray[serve]' 'featx[serve]'
    featx push coco.featx s3://bucket/coco.featx
    python -m examples.ray_serve s3://bucket/coco.featx --replicas 4
    python -c "import featx; print(featx.open_store('http://127.0.0.1:8000/coco'))"

Where others can reach it, set FEATX_TOKEN where this is run: the replicas, on whatever machine, ask for it as ``featx
serve`` does.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ray import serve
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from featx.care.pull import pull
from featx.cli.serve import read_token
from featx.errors import FeatxError
from featx.serve.app import make_app
from featx.serve.mounted import Mounted, Mounts
from featx.serve.run import check
from featx.serve.settings import Settings
from featx.store.disk import Lock


def copy_of(url: str, folder: Path) -> Path:
    """The store at ``url`` in a folder below ``folder``, which the replicas of one machine share."""
    store = folder / url.rstrip("/").rpartition("/")[2]
    folder.mkdir(parents=True, exist_ok=True)
    with Lock(folder / f".{store.name}.lock", f"the copy in {store}", wait=True):  # one of them pulls, the others wait
        pull(url, store)
    return store


def lookups(url: str, folder: str, settings: Settings) -> ASGIApp:
    """The application of one replica. Every request is checked and answered as by ``featx serve``.

    The settings, with the token, come from whoever started it: a replica's own environment is that of its machine.
    """
    check(settings)
    store = copy_of(url, Path(folder))
    mounts = Mounts([Mounted(store.name.removesuffix(".featx"), str(store))])
    for name in mounts:
        len(mounts[name])  # a damaged copy is told now
    return copied(make_app(settings, mounts))


def copied(app: ASGIApp) -> ASGIApp:
    """The app for a server that pickles what it sends, as Ray does: records leave as views of the mapped file."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            await send({**message, "body": bytes(message["body"])} if message.get("body") else message)

        await app(scope, receive, sending)

    return call


def run(url: str, folder: str, *, replicas: int = 2, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Start the replicas; returns when they answer. Raises UsageError for an open address without a token."""
    settings = Settings(host=host, port=port, token=read_token(None))
    check(settings)
    replica = serve.deployment(
        serve.ingress(lambda: lookups(url, folder, settings))(),
        name="lookups", num_replicas=replicas, health_check_period_s=1, ray_actor_options={"num_cpus": 0.5},
        logging_config={"enable_access_log": False},
    )  # fmt: skip
    serve.start(http_options={"host": host, "port": port})
    serve.run(replica.bind(), name="lookups", route_prefix="/")


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of the store: s3://..., gs://..., file:///...")
    parser.add_argument("--folder", default="copies", help="on each machine, for its copy (default %(default)s)")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    try:
        run(options.url, options.folder, replicas=options.replicas, host=options.host, port=options.port)
    except FeatxError as error:
        parser.error(str(error))
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
