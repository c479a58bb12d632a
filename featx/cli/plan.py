"""``featx plan SOURCE [STORE]``: what an extraction takes and costs, and the command lines that run it."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from typing import TYPE_CHECKING

from featx.cli.extract import OPTIONS, add_settings, settings
from featx.cli.output import add_json, describe, human_bytes, human_time, many, print_json, table
from featx.errors import UsageError

if TYPE_CHECKING:
    from featx.planning import Plan, Sample

JOBS = "1,2,4,8,16,64"
STORE = "STORE"  # stands in the command lines for a store that was not named
BUSY = 0.1  # of the machine, used by others, from which on it is told
SPARE = 2  # times the expected time and memory of a part are asked of Slurm
_SWITCHES = ("boxes_only", "salvage")
_SETTINGS = ("backend", "batch", "workers", "root", "key_rule", "image_name", "max_pixels", "max_refused")
_EPILOG = """\
A few pictures are extracted on this machine, stage by stage, into a temporary folder beside STORE, which is removed;
the store itself is only read. A worker is one process with the cores (and the device) that this was measured with:
eight workers of two cores need sixteen. A machine that is busy with something else measures that, too, and says so.

  featx plan photos photos.featx --weights W.safetensors              all cores of this machine for one worker
  featx plan photos photos.featx --config c.yaml --cores 1            a core for each worker
  featx plan photos photos.featx --weights W --jobs 8,64 --price 0.9  at 0.9 (of whatever) per worker and hour
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    describe(parser, _EPILOG)
    parser.add_argument("source", help="files, a folder, a glob, - (list on stdin), COCO/VQAv2 JSON, tar, URL")
    parser.add_argument("store", nargs="?", default="", help="folder that the store is to be, or is begun")
    parser.add_argument("--sample", type=int, default=16, metavar="N", help="pictures to measure (default 16)")
    parser.add_argument("--jobs", default=JOBS, metavar="A,B,...", help=f"numbers of workers (default {JOBS})")
    parser.add_argument("--cores", type=int, metavar="N", help="cores of a worker (default: all of this machine)")
    parser.add_argument("--parts", type=int, metavar="N", help="parts of the store (default: what suits, or it has)")
    parser.add_argument("--price", type=float, help="of a worker for an hour, in any unit")
    add_settings(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure and tell."""
    counts = numbers(options.jobs)
    for name, value in (("sample", options.sample), ("cores", options.cores), ("parts", options.parts)):
        if value is not None and value < 1:
            raise UsageError(f"--{name} is {value}", "give a whole number of 1 or more")
    if options.price is not None and not 0 <= options.price < float("inf"):
        raise UsageError(f"--price is {options.price:g}", "give what a worker costs for an hour")
    from featx import jobs, planning

    config = settings(options)
    plan = planning.make(
        lambda: jobs.plan(options.source, options.store, config, stdin=sys.stdin),
        counts, parts=options.parts, sample=options.sample, cores=options.cores, price=options.price,
    )  # fmt: skip
    runs = commands(options, plan)
    if options.json:
        print_json(plan.to_dict() | {"commands": runs})
        return
    print("\n".join(lines(options, plan)))
    for name, text in runs.items():
        print(f"\n# {name}\n{text}")


def numbers(text: str) -> list[int]:
    """``1,2,16`` -> [1, 2, 16]. Raises UsageError."""
    try:
        found = [int(word) for word in text.split(",")]
        if min(found) > 0:
            return found
    except ValueError:
        pass
    raise UsageError(f"--jobs {text!r} is not understood", "give numbers of workers, for example 1,8,64")


def lines(options: argparse.Namespace, plan: Plan) -> list[str]:
    """What is told of a plan, for people."""
    one, sample, missing = plan.reads[:-1], plan.sample, plan.pictures - plan.done
    told = [f"{many(plan.pictures, one)} in {options.source}, {plan.done:,} of them done"]
    if plan.skipped:
        told.append(f"skipped files: {json.dumps(plan.skipped)}")
    told += [
        f"size   about {human_bytes(plan.bytes)} more ({human_bytes(sample.bytes)} a {one})",
        f"parts  {plan.parts} of {many(-(-plan.pictures // plan.parts), one)}",
        f"worker {many(sample.cores, 'core')}, {human_bytes(sample.memory)}, {human_time(sample.start)} to begin",
        f"stages {stages(sample, one)}",
    ]
    if sample.busy is not None and sample.busy > BUSY:
        told.append(f"other processes used {sample.busy:.0%} of this machine meanwhile: alone, a worker is faster")
    told += [f"would refuse {line}" for line in sample.refused]
    head = ["workers", "cores", "time", f"{plan.reads}/s", *([] if options.price is None else ["cost"])]
    rows = [
        [f"{crew.jobs:,}", f"{crew.cores:,}", human_time(crew.seconds), f"{crew.rate:,.3g}",
         *([] if crew.cost is None else [f"{crew.cost:,.2f}"])]
        for crew in plan.crews
    ]  # fmt: skip
    told += ["", table([head, *rows])]
    if not missing:
        told.append("nothing is left to do")
    elif plan.parts < max(crew.jobs for crew in plan.crews):
        told.append(f"more than {plan.parts} workers find no part to do: see --parts")
    return told


def stages(sample: Sample, one: str) -> str:
    """Milliseconds of each stage and the one that the others wait for."""
    times = {"decode": sample.decode, "network": sample.network, "write": sample.write, "cpu of all": sample.cpu}
    each = ", ".join(f"{name} {1000 * seconds:,.3g} ms" for name, seconds in times.items())
    why = {
        "decode": "more --workers would help",
        "cores": "more cores would help, more threads would not",
        "write": "a larger --batch or a faster disk would help",
        "network": "the network",
    }[sample.limit]
    what = "limit: network" if sample.limit == "network" else f"limit: {sample.limit} ({why})"
    return f"{each} a {one}, over {many(sample.pictures, one)}; {what}"


def commands(options: argparse.Namespace, plan: Plan) -> dict[str, str]:
    """What to type for each way to distribute; every one of them makes the same store."""
    crew = max((c for c in plan.crews if c.jobs <= plan.parts), key=lambda c: c.jobs, default=plan.crews[0])
    base = shlex.join(["featx", "extract", options.source, options.store or STORE, *flags(options)])
    parts, cores = plan.parts, plan.sample.cores
    seconds = plan.sample.start + -(-(plan.pictures - plan.done) // parts) * plan.sample.seconds
    minutes = max(5, -(-SPARE * seconds // 60))
    megabytes = max(1024, -(-SPARE * plan.sample.memory // 1_000_000))
    gpu = (plan_device(options) or "").startswith("cuda")
    here = "--gpus all" if gpu else f"--jobs {many_here(cores)}"
    return {
        "joblib, on this machine": f"{base} --parts {parts} {here}",
        "Ray, on a cluster that is running": (
            f"{base} --parts {parts} --executor ray --jobs {crew.jobs}{' --gpus all' if gpu else ''}"
        ),
        "Slurm: save as featx.sbatch, run `sbatch featx.sbatch`": "\n".join([
            "#!/bin/sh",
            f"#SBATCH --job-name=featx --array=1-{parts}%{min(crew.jobs, parts)} --cpus-per-task={cores}",
            f"#SBATCH --mem={megabytes:.0f}M --time={minutes:.0f}{' --gres=gpu:1' if gpu else ''} --requeue",
            f"export OMP_NUM_THREADS={cores}",
            f"{base} --part $SLURM_ARRAY_TASK_ID/{parts}",
        ]),
        "any shell, part after part; more shells may begin elsewhere in the row": (
            f"for k in $(seq {parts}); do {base} --part $k/{parts} || break; done"
        ),
    }  # fmt: skip


def many_here(cores: int) -> int:
    """Workers of so many cores that this machine has room for."""
    return max(1, (os.cpu_count() or 1) // cores)


def plan_device(options: argparse.Namespace) -> str | None:
    """The device of the extraction, by flag or configuration file."""
    found = settings(options).options.get("device")
    return None if found is None else str(found)


def flags(options: argparse.Namespace) -> list[str]:
    """The settings as they were given, as words of a command line."""
    words = ["--config", options.config] if options.config else []
    words += ["--extractor", options.extractor] if options.extractor else []
    for name in (*OPTIONS, *_SETTINGS):
        value = getattr(options, name.replace("-", "_"))
        words += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    words += [f"--{name.replace('_', '-')}" for name in _SWITCHES if getattr(options, name)]
    return words + [word for text in options.set for word in ("--set", text)]
