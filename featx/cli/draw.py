"""``featx draw STORE KEY --images ROOT -o PNG``: a record on its picture."""

from __future__ import annotations

import argparse

from featx.cli.output import check_png, deliver
from featx.cli.pictures import find_picture
from featx.cli.viewing import add_view, view_asked
from featx.draw import draw, encode_png
from featx.errors import UsageError
from featx.labels import untrained_note
from featx.store import open_store


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("store", help="folder or URL of the store")
    parser.add_argument("key", help="one picture")
    parser.add_argument("--images", required=True, help="the pictures: what was given to `featx extract`")
    parser.add_argument("-o", "--out", required=True, help="PNG file to write")
    parser.add_argument("--key-rule", help="if the store does not say how its keys were made")
    parser.add_argument("--root", help="as for `featx extract`")
    parser.add_argument("--image-name", help="as for `featx extract`")
    parser.add_argument("--which", default="boxes", choices=("boxes", "proposal", "regressed", "pooled"))
    parser.add_argument("--top", type=int, help="at most this many boxes (default 36, of a grid all)")
    parser.add_argument("--min-conf", type=float, default=0.0, help="only boxes at least this sure")
    add_view(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Find the picture of the key, draw, save."""
    if options.top is not None and options.top < 1:
        raise UsageError(f"--top is {options.top}", "give a whole number of 1 or more")
    check_png(options.out)
    with open_store(options.store, partial=True, view=view_asked(options)) as store:
        if store.manifest.provenance.get("key_rule") == "text":
            raise UsageError(
                f"{options.store} is a store of texts, which has no pictures", "draw a record of a store of pictures"
            )
        record, labels, manifest = store[options.key], store.labels, store.manifest
    pixels = find_picture(
        options.key, manifest, options.images,
        key_rule=options.key_rule, root=options.root, image_name=options.image_name,
    )  # fmt: skip
    canvas = draw(
        pixels, record, labels,
        top=options.top, min_conf=options.min_conf, which=options.which, note=untrained_note(manifest),
        key=options.key, schema=manifest.schema,
    )  # fmt: skip
    deliver(options.out, encode_png(canvas))
    print(options.out)
