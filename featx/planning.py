"""What an extraction will cost: a sample measured stage by stage on this machine, and what follows for any number of
workers.

A worker is one process with the cores (and the device) that the sample was measured with. Its stages work side by side,
so a picture costs it what the slowest of them takes: the threads that decode, the network, the thread that writes, or
the cores that all of them share.
"""

from __future__ import annotations

import math
import os
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from featx.errors import FeatxError, PictureRefused, UsageError
from featx.images import Source
from featx.jobs import Job, about
from featx.record import Record
from featx.runner import opened
from featx.status import status
from featx.store import create_store, open_part

SAMPLE = 16  # pictures
PARTS, LEAST = 256, 32  # the most parts of a store, and the fewest pictures that make one more of them worth it
AT_WORK = 8  # parts for each worker: simulated (benchmarks/scale.py), 4 leave 15 % of their time idle, 8 leave 9 %


@dataclass(frozen=True)
class Sample:
    """What was measured. decode, network, write: wall seconds a picture, each stage for itself, one thread of it; cpu:
    seconds of processor time a picture, of all stages; threads: that decode; cores: of the worker; start: seconds until
    the extractor was there; bytes: in the store, a picture; memory: bytes, the most that the process had; busy: share
    of the machine's cores that other processes used meanwhile, None where nobody tells."""

    pictures: int
    refused: Sequence[str]
    decode: float
    network: float
    write: float
    cpu: float
    threads: int
    cores: int
    batch: int
    start: float
    bytes: float
    memory: int
    busy: float | None = None
    host: str = ""

    def bounds(self) -> dict[str, float]:
        """Seconds that a worker needs for a picture, were it for one stage alone."""
        return {
            "decode": self.decode / self.threads,
            "network": self.network,
            "write": self.write,
            "cores": self.cpu / self.cores,
        }

    @property
    def limit(self) -> str:
        """The stage that the others wait for; ``cores`` when it is none of them, but what they share."""
        bounds = self.bounds()
        return max(bounds, key=bounds.__getitem__)

    @property
    def seconds(self) -> float:
        """Seconds a picture of one worker."""
        return max(self.bounds().values())


@dataclass(frozen=True)
class Crew:
    """So many workers: wall seconds of the whole job, pictures a second, and what that costs; cost is None without a
    price. Workers that have no part left are paid until the last is done."""

    jobs: int
    cores: int
    seconds: float
    rate: float
    cost: float | None


@dataclass(frozen=True)
class Plan:
    """pictures: of the list; done: in the store already; bytes: of what is missing."""

    pictures: int
    done: int
    skipped: Mapping[str, int]
    reads: str
    parts: int
    bytes: float
    sample: Sample
    crews: Sequence[Crew]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        rates = {"limit": self.sample.limit, "seconds_per_picture": self.sample.seconds}
        return {**asdict(self), "sample": asdict(self.sample) | rates}


def make(
    build: Callable[[], Job], jobs: Sequence[int], *, parts: int | None = None, sample: int = SAMPLE,
    cores: int | None = None, price: float | None = None,
) -> Plan:  # fmt: skip
    """List, measure, extrapolate; nothing is written into the store.

    build: makes the job of the whole list. jobs: numbers of workers. parts: None is what the store has, or what suits
    the list and the largest number of workers. cores: of a worker; None is all of this machine. price: of a worker for
    an hour, in any unit. Raises UsageError when nothing of the sample can be read.
    """
    with _cores(cores) as had:
        begin = time.perf_counter()
        job = build()
        measured = measure(job, sample, had, time.perf_counter() - begin)
    has, done = _begun(job.store)
    missing = max(0, len(job.sources) - done)
    number = has or parts or suitable(len(job.sources), max(jobs))
    crews = [crew(measured, missing, number, count, price) for count in jobs]
    return Plan(
        len(job.sources), done, job.listing.skipped, job.extractor.reads, number, measured.bytes * missing, measured,
        crews,
    )  # fmt: skip


def suitable(pictures: int, jobs: int) -> int:
    """How many parts a list is cut into."""
    return max(1, min(max(PARTS, AT_WORK * jobs), math.ceil(pictures / LEAST)))


def crew(sample: Sample, pictures: int, parts: int, jobs: int, price: float | None) -> Crew:
    """What ``jobs`` workers need: each is built once and does part after part, and a part is never shared."""
    busy = min(jobs, parts)
    each = math.ceil(pictures / parts) * sample.seconds  # seconds of a part
    seconds = (sample.start + math.ceil(parts / busy) * each) if pictures else 0.0
    cost = None if price is None else price * jobs * seconds / 3600
    return Crew(jobs, jobs * sample.cores, seconds, pictures / seconds if seconds else 0.0, cost)


def _begun(store: str) -> tuple[int, int]:
    """Parts that a store has, and pictures that are done there, refused ones included; nothing, where there is none."""
    try:
        now = status(store) if store else None
    except FeatxError:
        now = None
    return (len(now.parts), now.done) if now else (0, 0)


@contextmanager
def _cores(cores: int | None) -> Iterator[int]:
    """So many threads in torch and OpenCV; yields how many that are."""
    if cores is None:
        here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        yield here or 1
        return
    import cv2
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(cores)
    cv2.setNumThreads(cores)
    try:
        yield cores
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def measure(job: Job, pictures: int, cores: int, start: float = 0.0) -> Sample:
    """Time ``pictures`` of the job, evenly spaced, one stage after the other. Raises UsageError."""
    chosen = spread(job.sources, pictures)
    refused: list[str] = []
    _network(job, [_first(job, chosen)])  # what a first call costs, a run pays once
    others, cpu, begin = _others(), time.process_time(), time.perf_counter()
    ready: list[tuple[Source, Any]] = []
    for source in chosen:
        try:
            ready.append((source, job.extractor.prepare(opened(source, job.extractor.reads, job.policy))))
        except PictureRefused as refusal:
            refused.append(f"{source.location}: {refusal.reason}")
    decoded = time.perf_counter()
    records: list[tuple[Source, Record]] = []
    for batch in _batches(job, ready):
        records += zip([source for source, _ in batch], _network(job, [x for _, x in batch]), strict=True)
    computed = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix=".featx-plan-", dir=_beside(job.store)) as folder:
        write, size = _written(job, records, Path(folder) / "store")
        cpu = time.process_time() - cpu
    wall = time.perf_counter() - begin
    busy = None if others is None else max(0.0, min(1.0, ((_others() or 0.0) - others) / wall / (os.cpu_count() or 1)))
    count = len(records)
    return Sample(
        count, refused, (decoded - begin) / len(chosen), (computed - decoded) / count, write / count,
        cpu / count, job.config.workers, cores, job.config.batch, start, size / count, _peak(), busy,
        socket.gethostname(),
    )  # fmt: skip


def spread(sources: Sequence[Source], count: int) -> list[Source]:
    """``count`` of them from the first to the last, evenly; all, when there are fewer."""
    if count >= len(sources):
        return list(sources)
    return [sources[index * len(sources) // count] for index in range(count)]


def _first(job: Job, sources: Sequence[Source]) -> Any:
    last: PictureRefused | None = None
    for source in sources:
        try:
            return job.extractor.prepare(opened(source, job.extractor.reads, job.policy))
        except PictureRefused as refusal:
            last = refusal
    why = f"; the last of them: {last.message}" if last else ""
    raise UsageError(
        f"none of the {len(sources)} {job.extractor.reads} that were tried can be used{why}",
        "look at the files; --sample tries more of them",
    )


def _network(job: Job, batch: Sequence[Any]) -> list[Record]:
    return job.extractor.begin(batch)()


def _batches(job: Job, ready: Sequence[tuple[Source, Any]]) -> list[list[tuple[Source, Any]]]:
    """Batches of one group each, as large as the configuration says."""
    groups: dict[Hashable, list[tuple[Source, Any]]] = {}
    for one in ready:
        groups.setdefault(job.extractor.group(one[1]), []).append(one)
    size = job.config.batch
    return [group[at:][:size] for group in groups.values() for at in range(0, len(group), size)]


def _beside(store: str) -> str | None:
    """The folder that the store is to lie in, whose disk is to be measured; None, the system's, if it is not there."""
    above = Path(store).absolute().parent if store else None
    return str(above) if above is not None and above.is_dir() and os.access(above, os.W_OK) else None


def _written(job: Job, records: Sequence[tuple[Source, Record]], store: Path) -> tuple[float, int]:
    """Seconds that putting and committing take, batch by batch, and bytes of the finished part."""
    create_store(store, job.config.backend, job.extractor.schema, job.provenance(), job.extractor.labels)
    with open_part(store, about=about()) as writer:
        begin = time.perf_counter()
        for at in range(0, len(records), job.config.batch):
            for source, record in records[at:][: job.config.batch]:
                writer.put(source.key, record, source.ordinal)
            writer.commit()
        seconds = time.perf_counter() - begin
        return seconds, sum(writer.finish().files.values())


def _others() -> float | None:
    """CPU seconds that all processes but this one have used since the machine started; None where nobody tells."""
    try:
        words = Path("/proc/stat").read_text().split()[1:4]
    except OSError:
        return None
    return sum(map(int, words)) / os.sysconf("SC_CLK_TCK") - time.process_time()


def _peak() -> int:
    """The most memory that this process has had, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
