"""A job: pictures, an extractor and a store, put together from a configuration; run it, or estimate it."""

from __future__ import annotations

import datetime
import hashlib
import platform
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from featx import __version__
from featx.codec import encode, store_key
from featx.config import ExtractConfig
from featx.decode import Policy
from featx.errors import PictureRefused, StoreError, UsageError
from featx.extractor import Extractor, Reads
from featx.images import Listing, Source, list_pictures
from featx.images import part as part_of_list
from featx.progress import Progress, Summary
from featx.registry import load
from featx.runner import Runner, opened, trying
from featx.runner.network import out_of_memory
from featx.store import create_store, open_part, open_store
from featx.store.pulse import Count
from featx.text_sources import list_texts

LIBRARIES = (
    "torch",
    "numpy",
    "opencv-python",
    "opencv-python-headless",
    "h5py",
    "lmdb",
    "pillow",
    "transformers",
    "tokenizers",
)
SAMPLE = 3  # pictures a dry run really extracts
WORTH_MEASURING = 500  # missing pictures, from which on a part other than the first measures what its extractor offers


@dataclass(frozen=True)
class Job:
    """Everything a run needs. ``sources`` are those of this part; ``of`` is (part counted from 1, parts); ``publish``
    is the URL that a finished part is sent to; ``facts`` are those of the whole list where ``listing`` has not all."""

    store: str
    config: ExtractConfig
    extractor: Extractor
    sources: Sequence[Source]
    listing: Listing
    of: tuple[int, int]
    retry_refused: bool = False
    publish: str | None = None
    facts: Mapping[str, Any] | None = None

    @property
    def policy(self) -> Policy:
        """The decoding policy of the configuration."""
        limit = self.config.max_pixels
        return Policy(**({} if limit is None else {"max_pixels": limit}), salvage_tail=bool(self.config.salvage))

    def list_facts(self) -> Mapping[str, Any]:
        """Number and hash of the whole list's keys: parts of one store must be parts of one list."""
        return self.facts or list_facts(self.listing)

    def provenance(self) -> dict[str, Any]:
        """What decides the content of the store: equal provenance and pictures, equal records."""
        if self.extractor.reads == "texts":
            return {**self.extractor.provenance(), "key_rule": "text"}
        return {
            **self.extractor.provenance(),
            "decoder": self.policy.describe(),
            "key_rule": self.config.key_rule,
        }


def list_facts(listing: Sequence[Source]) -> dict[str, Any]:
    """Number and hash of a whole list's keys."""
    digest = hashlib.sha256()
    for source in listing:
        digest.update(source.key.encode() + b"\n")
    return {"pictures": len(listing), "sha256": digest.hexdigest()}


def plan(
    source: str | Sequence[str],
    store: str,
    config: ExtractConfig,
    *,
    part_of: tuple[int, int] = (1, 1),
    stdin: Iterable[str] | None = None,
    retry_refused: bool = False,
    publish: str | None = None,
) -> Job:
    """List the pictures or texts and build the extractor. Nothing is written. Raises UsageError, WeightsError, ..."""
    kind = cast(type[Extractor], load("featx.extractors", config.extractor))
    listing = listed(source, kind.reads, config, stdin)
    extractor = kind.from_options(config.options)
    return Job(store, config, extractor, part_of_list(listing, *part_of), listing, part_of, retry_refused, publish)


def listed(source: str | Sequence[str], reads: Reads, config: ExtractConfig, stdin: Iterable[str] | None) -> Listing:
    """What the extractor is to read."""
    if reads == "pictures":
        for spec in [source] if isinstance(source, str) else source:
            if spec.lower().endswith(".txt"):
                raise UsageError(
                    f"{spec} is a text file, and the extractor {config.extractor} reads pictures",
                    "texts are read by --extractor clip-text; a list of pictures comes on stdin: featx extract - STORE",
                )
        return list_pictures(
            source, root=config.root, key_rule=config.key_rule, stdin=stdin, image_name=config.image_name
        )
    if config.root or config.image_name or config.key_rule != "path":
        raise UsageError(
            f"the extractor {config.extractor} reads texts, and root, image_name or key_rule is given",
            "a text is its own key, and names no file: leave them out",
        )
    return list_texts(source, stdin=stdin)


def run(
    job: Job,
    *,
    quiet: bool = False,
    json_lines: bool = False,
    on_note: Callable[[str], None] = lambda text: None,
    resume_hint: str = "run the same command again to go on",
) -> Summary:
    """Extract what the part still lacks. Raises Interrupted when stopped, StoreError, UsageError."""
    told = job.extractor.notes()
    for sentence in told:
        on_note(sentence)
    k, n = job.of
    create_store(
        job.store, job.config.backend, job.extractor.schema, job.provenance(), job.extractor.labels,
        parts=n, sources=job.list_facts(),
    )  # fmt: skip
    with _published(job, on_note), open_part(
        job.store, k - 1, retry_refused=job.retry_refused, about=about()
    ) as writer:  # fmt: skip
        done = sum(source.key in writer.done for source in job.sources)
        if writer.finished is None:
            with trying(writer.folder, job.sources[:SAMPLE]) as harmless:
                writer.about |= measured(job, len(job.sources) - done) if harmless else {}
        unit = job.extractor.reads
        progress = Progress(len(job.sources), done_before=done, json=json_lines, quiet=quiet, unit=unit)
        try:
            with writer.beating(len(job.sources), lambda: _count(progress, done)):
                Runner(
                    job.extractor, writer, progress,
                    batch=job.config.batch, workers=job.config.workers, policy=job.policy, on_note=on_note,
                ).run(job.sources, resume_hint)  # fmt: skip
        finally:
            summary = progress.close()
    for sentence in job.extractor.notes():  # what only the run could show
        if sentence not in told:
            on_note(sentence)
    return summary


def _published(job: Job, on_note: Callable[[str], None]) -> AbstractContextManager[None]:
    """What sends the part that is finished in its ``with`` block, if that is asked for."""
    if job.publish is None:
        return nullcontext()
    from featx.care.publish import publishing

    return publishing(job.store, job.publish, job.of[0] - 1, on_note)


def _count(progress: Progress, before: int) -> Count:
    """How a run stands that found ``before`` pictures done."""
    now = progress.summary()
    return Count(before + now.pictures + now.refused, now.refused, now.shares, now.limit)


def measured(job: Job, missing: int) -> dict[str, Any]:
    """What the extractor measures of itself on the first picture that it can read, kept with the part.

    That may cost as much as a few pictures, so small parts leave it to the first. Nothing where there is no picture to
    measure, or no memory for a second network beside the first.
    """
    if job.of[0] != 1 and missing < WORTH_MEASURING:
        return {}

    def first() -> Any:
        for source in job.sources[:SAMPLE]:
            try:
                return job.extractor.prepare(opened(source, job.extractor.reads, job.policy))
            except PictureRefused as refusal:
                last = refusal
        raise last

    try:
        return job.extractor.measured(first) if job.sources else {}
    except PictureRefused:
        return {}
    except Exception as error:
        if not out_of_memory(error):
            raise
        return {}


def about() -> dict[str, Any]:
    """Who wrote a part, with which libraries; kept with the part, compared by nobody."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "featx": __version__,
        "python": platform.python_version(),
        "libraries": versions,
        "host": socket.gethostname(),
        "command": sys.argv[1:] if Path(sys.argv[0]).name == "featx" else [],
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


@dataclass(frozen=True)
class Estimate:
    """What a dry run found. bytes and seconds are for the pictures that are still to be done."""

    pictures: int
    done: int
    tried: str
    bytes_per_record: int
    seconds_per_picture: float
    bytes: int
    seconds: float
    skipped: Mapping[str, int]
    refused: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def estimate(job: Job) -> Estimate:
    """Extract a few pictures, evenly spaced, without writing anything, and extrapolate."""
    step = max(1, len(job.sources) // SAMPLE)
    sizes, times, refused = [], [], []
    for source in list(job.sources[::step])[:SAMPLE]:
        begin = time.perf_counter()
        try:
            prepared = job.extractor.prepare(opened(source, job.extractor.reads, job.policy))
            record = job.extractor([prepared])[0]
        except PictureRefused as refusal:
            refused.append(f"{source.location}: {refusal.reason}")
            continue
        times.append(time.perf_counter() - begin)
        sizes.append(len(encode(record, job.extractor.schema, store_key(source.key), source.ordinal)))
    done, size, seconds = _done(job), _mean(sizes), min(times, default=0.0)  # the first picture warms up
    todo = len(job.sources) - done
    tried = f"{len(times)} {job.extractor.reads[: None if len(times) != 1 else -1]} tried"
    return Estimate(
        len(job.sources), done, tried, int(size), seconds, int(size * todo), seconds * todo,
        job.listing.skipped, refused,
    )  # fmt: skip


def _done(job: Job) -> int:
    try:
        with open_store(job.store, partial=True) as store:
            return sum(source.key in store for source in job.sources)
    except StoreError:
        return 0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
