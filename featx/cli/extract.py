"""``featx extract SOURCE STORE``: the main job."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import replace
from typing import Any

from featx.cli.output import add_json, human_bytes, human_time, print_json
from featx.config import ExtractConfig, load_config, parse_part
from featx.errors import TooManyRefused

# Flags that are passed on to the extractor, with their help; None means: let the YAML file or the extractor decide.
OPTIONS = {
    "profile": "parity profile, for example lxmert-published, caffe-10-100, hf-demo",
    "weights": "weights file, folder or hub id; `seeded` is an untrained network of the real size",
    "boxes": "36 (exactly) or 10..100 (adaptive)",
    "dtype": "features in the store: float16 (default), float32 or bfloat16",
    "device": "cpu (default), cuda, cuda:1, ...",
    "precision": "convolutions in float32 (default) or bfloat16",
    "given-boxes": "take features at these boxes: a store, .json or .npz",
    "expect-sha256": "refuse weights with another hash",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("source", nargs="+", help="files, folders, globs, - (list on stdin), COCO/VQAv2 JSON, tar, URL")
    parser.add_argument("store", help="folder of the store; made if absent, resumed if present")
    parser.add_argument("--config", help="YAML file, see configs/; flags win over it")
    parser.add_argument("--extractor", help="name of the extractor (default frcnn); see `featx plugins`")
    for name, text in OPTIONS.items():
        parser.add_argument(f"--{name}", help=text)
    parser.add_argument("--boxes-only", action="store_true", default=None, help="store boxes and labels, no features")
    parser.add_argument("--backend", choices=("lmdb", "hdf5"), help="default lmdb")
    parser.add_argument("--part", default="1/1", help="do part i of n, for example 3/16")
    parser.add_argument("--batch", type=int, help="pictures per network call (default 1)")
    parser.add_argument("--workers", type=int, help="decoding threads (default 2)")
    parser.add_argument("--root", help="folder of the pictures that a JSON file or list names")
    parser.add_argument("--key-rule", help="path (default), stem, name, coco-id, id, shard or sha256")
    parser.add_argument("--image-name", help="template of file names for VQAv2 questions")
    parser.add_argument("--salvage", action="store_true", default=None, help="accept JPEGs that lack only their end")
    parser.add_argument("--max-pixels", type=int, help="refuse larger pictures")
    parser.add_argument("--max-refused", type=int, help="exit with 3 when more pictures are refused")
    parser.add_argument("--retry-refused", action="store_true", help="try the refused pictures of earlier runs again")
    parser.add_argument("--dry-run", action="store_true", help="list, try a few pictures, estimate size and time")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Extract, or estimate."""
    from featx import jobs

    job = jobs.plan(
        options.source if len(options.source) > 1 else options.source[0],
        options.store,
        settings(options),
        part_of=parse_part(options.part),
        stdin=sys.stdin,
        retry_refused=options.retry_refused,
    )
    if options.dry_run:
        return show_estimate(jobs.estimate(job), options)
    note = (lambda text: None) if options.quiet else (lambda text: print(f"featx: {text}", file=sys.stderr))
    outcome = jobs.run(
        job, quiet=options.quiet, json_lines=options.json, on_note=note, resume_hint=f"resume with: {command_line()}"
    )
    if not options.quiet and not options.json:
        print(outcome, file=sys.stderr)
    limit = job.config.max_refused
    if limit is not None and outcome.refused > limit:
        raise TooManyRefused(
            f"{outcome.refused} pictures were refused, --max-refused allows {limit}",
            f"`featx inspect {options.store}` lists the reasons; --retry-refused tries them again",
        )
    return 0


def settings(options: argparse.Namespace) -> ExtractConfig:
    """The configuration file with the flags on top."""
    flags: dict[str, Any] = {name.replace("-", "_"): getattr(options, name.replace("-", "_")) for name in OPTIONS}
    for name in ("boxes_only", "backend", "batch", "workers", "root", "key_rule", "image_name", "salvage", "max_pixels",
                 "max_refused", "extractor"):  # fmt: skip
        flags[name] = getattr(options, name)
    return replace(load_config(options.config, flags))


def command_line() -> str:
    """This very command, to be pasted."""
    return shlex.join(["featx", *sys.argv[1:]])


def show_estimate(estimate: Any, options: argparse.Namespace) -> int:
    """Print what a dry run found."""
    if options.json:
        print_json(estimate.to_dict())
        return 0
    print(f"{estimate.pictures} pictures, {estimate.done} of them already in {options.store}")
    print(f"size  about {human_bytes(estimate.bytes)}  ({human_bytes(estimate.bytes_per_record)} a record)")
    each = f"{estimate.seconds_per_picture:.2f} s a picture, {estimate.tried}"
    print(f"time  about {human_time(estimate.seconds)}  ({each})")
    if estimate.skipped:
        print(f"skipped files: {json.dumps(estimate.skipped)}")
    for line in estimate.refused:
        print(f"would refuse {line}")
    return 0
