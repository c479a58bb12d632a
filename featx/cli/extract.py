"""``featx extract SOURCE STORE``: the main job."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from featx.cli.output import CHOICES, add_json, human_bytes, human_time, print_json
from featx.codec import store_key
from featx.config import ExtractConfig, load_config, parse_part
from featx.errors import Interrupted, TooManyRefused, UsageError
from featx.store import open_store

if TYPE_CHECKING:
    from featx.images import Source
    from featx.progress import Summary

# Flags that are passed on to the extractor, with their help; None means: let the YAML file or the extractor decide.
OPTIONS = {
    "profile": "parity profile, for example lxmert-published, caffe-10-100, hf-demo",
    "weights": "weights file, folder or hub id; `seeded` is an untrained network of the real size",
    "boxes": "36 (exactly) or 10..100 (adaptive)",
    "score-threshold": "regions above it are kept, within --boxes (default: the profile's)",
    "superset": "keep what any choice of up to so many boxes needs (100); readers choose --boxes and threshold",
    "dtype": "features in the store: float16 (default), float32, bfloat16 or int8",
    "device": "cpu (default), cuda, cuda:1, ...",
    "precision": "convolutions in float32 (default, exact), tf32, bf16 or fp16; their error is written into the store",
    "given-boxes": "take features at these boxes: a store, .json or .npz",
    "expect-sha256": "refuse weights with another hash",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("source", nargs="+", help="files, folders, globs, - (list on stdin), COCO/VQAv2 JSON, tar, URL")
    parser.add_argument("store", help="folder of the store; made if absent, resumed if present")
    add_settings(parser)
    parser.add_argument("--part", help="do part i of n in this process, for example 3/16")
    add_workers(parser)
    parser.add_argument("--publish", metavar="URL", help="send each finished part there: s3://, gs://, file://, ...")
    parser.add_argument("--retry-refused", action="store_true", help="try the refused pictures of earlier runs again")
    parser.add_argument("--dry-run", action="store_true", help="list, try a few pictures, estimate size and time")
    parser.add_argument("--quiet", action="store_true", help="no progress; notes and errors stay")
    add_json(parser)
    parser.set_defaults(run=run)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """The flags that :func:`settings` reads: what is extracted, and how."""
    parser.add_argument("--config", help="YAML file, see configs/; flags win over it")
    parser.add_argument("--extractor", help="name of the extractor (default frcnn); see `featx plugins`")
    for name, text in OPTIONS.items():
        parser.add_argument(f"--{name}", help=text, choices=CHOICES.get(name))
    parser.add_argument(
        "--set", action="append", default=[], metavar="OPTION=VALUE",
        help="any option of the extractor, its value in YAML: tensor=projected, also=[pooled]",
    )  # fmt: skip
    parser.add_argument("--boxes-only", action="store_true", default=None, help="store boxes and labels, no features")
    parser.add_argument("--backend", choices=("lmdb", "hdf5"), help="default lmdb")
    parser.add_argument("--batch", type=int, help="pictures per network call (default 1)")
    parser.add_argument("--workers", type=int, help="decoding threads (default 2)")
    parser.add_argument("--root", help="folder of the pictures that a JSON file or list names")
    parser.add_argument("--key-rule", help="path (default), stem, name, coco-id, id, shard or sha256")
    parser.add_argument("--image-name", help="template of file names for VQAv2 questions")
    parser.add_argument("--salvage", action="store_true", default=None, help="accept JPEGs that lack only their end")
    parser.add_argument("--max-pixels", type=int, help="refuse larger pictures")
    parser.add_argument("--max-refused", type=int, help="exit with 3 when more pictures are refused")


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Arguments that say who does all the parts."""
    group = parser.add_argument_group("all parts at once, by other processes")
    group.add_argument("--jobs", type=jobs_number, metavar="N", help="processes; `all` is one for each core")
    group.add_argument("--gpus", type=gpus_listed, metavar="0,1", help="a process for each of these GPUs, or for `all`")
    group.add_argument("--parts", type=int, metavar="N", help="parts of a new store (default: by its pictures, <= 256)")
    group.add_argument("--executor", choices=("joblib", "ray"), help="this machine (default), or a Ray cluster")
    group.add_argument("--ray-address", metavar="HOST:PORT", help="of the cluster (default: this machine's)")


def jobs_number(text: str) -> int:
    """``--jobs``: 0 stands for all."""
    if text == "all":
        return 0
    if text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither a number of processes nor `all`")


def gpus_listed(text: str) -> list[int] | str:
    """``--gpus``."""
    if text == "all":
        return text
    numbers = text.split(",")
    if all(number.isdigit() for number in numbers) and len(set(numbers)) == len(numbers):
        return [int(number) for number in numbers]
    raise argparse.ArgumentTypeError(f"{text!r} is neither different numbers, such as 0,1, nor `all`")


def run(options: argparse.Namespace) -> int:
    """Extract, or estimate. An interrupt that nobody waited for (start-up, the second one) also says how to resume."""
    try:
        return extract(options)
    except KeyboardInterrupt:
        raise Interrupted("stopped at once; everything committed is kept", f"resume with: {command_line()}") from None


def extract(options: argparse.Namespace) -> int:
    """The command itself."""
    if Path(options.store).is_file():
        raise UsageError(f"{options.store} is a file, not the folder of a store", "the last word is the store")
    source = options.source if len(options.source) > 1 else options.source[0]
    many = any(value is not None for value in (options.jobs, options.gpus, options.parts, options.executor))
    if many and options.part is not None:
        raise UsageError(
            "--part is for one process, and --jobs and the like are for all parts", "leave one of them out"
        )
    if options.ray_address and options.executor != "ray":
        raise UsageError("--ray-address without a Ray cluster", "add --executor ray")
    if many and not options.dry_run:
        return spread(source, options)
    return alone(source, options)


def alone(source: str | list[str], options: argparse.Namespace) -> int:
    """One part, in this process."""
    from featx import jobs

    job = jobs.plan(
        source, options.store, settings(options), part_of=parse_part(options.part or "1/1"), stdin=sys.stdin,
        retry_refused=options.retry_refused, publish=options.publish,
    )  # fmt: skip
    if options.dry_run:
        return show_estimate(jobs.estimate(job), options, job.extractor.reads)
    outcome = jobs.run(job, **talk(options))
    return told(outcome, job.store, job.sources, job.extractor.reads, job.config.max_refused, options)


def spread(source: str | list[str], options: argparse.Namespace) -> int:
    """All parts, by other processes."""
    from featx.spread import Workers, plan

    config = settings(options)
    if options.gpus and "device" in config.options:
        raise UsageError("--device and --gpus", "leave out --device: every process has a GPU of its own")
    todo = plan(
        source, options.store, config, parts=options.parts, stdin=sys.stdin,
        retry_refused=options.retry_refused, publish=options.publish,
    )  # fmt: skip
    workers = Workers(options.jobs or None, options.gpus or (), options.executor or "joblib", options.ray_address)
    outcome = todo.run(workers, **talk(options))
    return told(outcome, todo.store, todo.sources, todo.reads, config.max_refused, options)


def talk(options: argparse.Namespace) -> dict[str, Any]:
    """How a run speaks with whoever started it."""
    return {
        "quiet": options.quiet, "json_lines": options.json, "resume_hint": f"resume with: {command_line()}",
        "on_note": lambda text: print(f"featx: {text}", file=sys.stderr),
    }  # fmt: skip


def told(
    outcome: Summary, store: str, sources: Sequence[Source], reads: str, limit: int | None, options: argparse.Namespace
) -> int:
    """Say what was done. Raises TooManyRefused."""
    refused = refusals(store, sources)
    if not options.quiet and not options.json:
        idle = not outcome.pictures and not outcome.refused
        said = idle_line(len(sources), refused) if idle else str(outcome)
        print(said if reads == "pictures" else said.replace("picture", "text"), file=sys.stderr)
    if limit is not None and refused > limit:
        raise TooManyRefused(
            f"{refused} {reads} were refused, --max-refused allows {limit}",
            f"`featx inspect {shlex.quote(options.store)} --failures` lists the reasons; --retry-refused tries again",
        )
    return 0


def refusals(path: str, sources: Sequence[Source]) -> int:
    """How many of these pictures the store's ledgers name, whichever run refused them."""
    ours = {store_key(source.key) for source in sources}
    with open_store(path, partial=True) as store:
        return sum(store_key(r.key) in ours and r.key not in store for r in store.failures())


def idle_line(pictures: int, refused: int) -> str:
    """The summary of a run that found everything done."""
    if not refused:
        return f"nothing to do: all {pictures} pictures are in the store"
    return f"nothing to do: of {pictures} pictures {pictures - refused} are in the store and {refused} were refused"


def settings(options: argparse.Namespace) -> ExtractConfig:
    """The configuration file with the flags on top."""
    flags: dict[str, Any] = {name.replace("-", "_"): getattr(options, name.replace("-", "_")) for name in OPTIONS}
    for name in ("boxes_only", "backend", "batch", "workers", "root", "key_rule", "image_name", "salvage", "max_pixels",
                 "max_refused", "extractor"):  # fmt: skip
        flags[name] = getattr(options, name)
    flags |= dict(assigned(text) for text in options.set)
    return load_config(options.config, flags)


def assigned(text: str) -> tuple[str, Any]:
    """``tensor=projected`` -> (name, value), the value read as YAML. Raises UsageError for another form."""
    name, equals, value = text.partition("=")
    try:
        if equals and name:
            return name.replace("-", "_"), yaml.safe_load(value)
    except yaml.YAMLError:
        pass
    raise UsageError(f"--set {text!r} is not understood", "write --set option=value, with the value in YAML")


def command_line() -> str:
    """This very command, to be pasted."""
    return shlex.join(["featx", *sys.argv[1:]])


def show_estimate(estimate: Any, options: argparse.Namespace, reads: str) -> int:
    """Print what a dry run found."""
    if options.json:
        print_json(estimate.to_dict())
        return 0
    print(f"{estimate.pictures} {reads}, {estimate.done} of them already in {options.store}")
    print(f"size  about {human_bytes(estimate.bytes)}  ({human_bytes(estimate.bytes_per_record)} a record)")
    each = f"{estimate.seconds_per_picture:.2f} s a {reads[:-1]}, {estimate.tried}"
    print(f"time  about {human_time(estimate.seconds)}  ({each})")
    if estimate.skipped:
        print(f"skipped files: {json.dumps(estimate.skipped)}")
    for line in estimate.refused:
        print(f"would refuse {line}")
    return 0
