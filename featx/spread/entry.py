"""A whole extraction over several workers: from what a person says to a finished store and one summary."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from featx import jobs as one_part
from featx.config import ExtractConfig, load_config
from featx.errors import FeatxError, UsageError
from featx.extractor import Extractor, Reads
from featx.images import Source, part
from featx.progress import Progress, Summary
from featx.registry import load
from featx.spread.crew import Crew
from featx.spread.parts import Parts
from featx.spread.pool import Pool
from featx.spread.tally import Tally
from featx.spread.task import Build, Task
from featx.status.part import PartStatus
from featx.store import Manifest

MOST_PARTS = 256
PART = 32  # pictures of a part, where there are few
Executor = Literal["joblib", "ray"]


@dataclass(frozen=True)
class Workers:
    """Who is to do it. jobs: how many processes, None: one for each core, or GPU. gpus: their numbers, or "all", for a
    GPU each. executor: "joblib" for this machine, "ray" for the cluster at ``address``."""

    jobs: int | None = None
    gpus: Sequence[int] | Literal["all"] = ()
    executor: Executor = "joblib"
    address: str | None = None

    def crew(self, parts: int) -> Crew:
        """Those who do it, no more than there are parts to do. Raises UsageError, MissingDependency."""
        if self.jobs is not None and self.jobs < 1:
            raise UsageError(f"{self.jobs} jobs cannot be", "give the number of processes, 1 or more")
        if self.executor == "ray":
            if self.gpus and self.gpus != "all":
                raise UsageError("Ray numbers the GPUs itself", "write --gpus all, and --jobs for how many of them")
            from featx.spread.cluster import Cluster

            crew: Crew = Cluster(self.jobs, 1 if self.gpus else 0, self.address)
            crew.size = min(crew.size, parts)
            return crew
        from joblib import cpu_count

        from featx.spread.processes import Processes

        gpus = _all_gpus() if self.gpus == "all" else list(self.gpus)
        most = min(self.jobs or len(gpus) or cpu_count(), parts)
        if self.jobs and gpus and self.jobs > len(gpus):
            raise UsageError(
                f"{self.jobs} jobs and {len(gpus)} GPUs", "a process has a GPU of its own: leave out --jobs"
            )
        return Processes(most, [f"cuda:{number}" for number in gpus[:most]])


def _all_gpus() -> list[int]:
    import torch

    found = list(range(torch.cuda.device_count()))
    if not found:
        raise UsageError("torch finds no GPU", "see `featx doctor`; without --gpus the cores are used")
    return found


def parts_for(pictures: int) -> int:
    """Parts of a new store: by the number of pictures alone, so that more workers never mean another store."""
    return max(1, min(MOST_PARTS, -(-pictures // PART)))


@dataclass(frozen=True)
class Spread:
    """What is to be done: the pictures or texts of a list, for a store of ``parts`` parts."""

    store: str
    config: ExtractConfig
    sources: Sequence[Source]
    reads: Reads
    parts: int
    retry_refused: bool = False
    publish: str | None = None

    def run(
        self,
        workers: Workers,
        *,
        quiet: bool = False,
        json_lines: bool = False,
        on_note: Callable[[str], None] = lambda text: None,
        resume_hint: str = "run the same command again to go on",
    ) -> Summary:
        """Do what is missing. Raises Interrupted when stopped; StoreError, UsageError, ..."""
        tally = Tally(Path(self.store), self.parts)
        found = tally.all()
        todo = [part for part in range(self.parts) if self._open(found.get(part))] or [0]
        first = {part: tally.of(part) for part in todo}
        build = Build(self.config, str(Path.cwd()))
        facts = one_part.list_facts(self.sources)

        def task(number: int) -> Task:
            return Task(
                build, self.store, number, self.parts, part(self.sources, number + 1, self.parts), facts,
                # A second worker must not forget what the first one refused.
                self.retry_refused and tally.of(number) == first[number], self.publish,
            )  # fmt: skip

        with workers.crew(len(todo)) as crew:
            progress = Progress(
                len(self.sources), tally.done(anew=self.retry_refused), json=json_lines, quiet=quiet, unit=self.reads
            )
            progress.lanes(decode=self.config.workers, network=1, write=1)
            tally.begin(progress, anew=self.retry_refused)
            try:
                Pool(crew, build, Parts(todo, crew.size), tally, task, on_note).run(resume_hint)
            finally:
                summary = progress.close()
        return summary

    def _open(self, told: PartStatus | None) -> bool:
        return (
            told is None
            or told.state != "done"
            or self.publish is not None
            or (self.retry_refused and told.refused > 0)
        )


def plan(
    source: str | Sequence[str],
    store: str,
    config: ExtractConfig,
    *,
    parts: int | None = None,
    stdin: Iterable[str] | None = None,
    retry_refused: bool = False,
    publish: str | None = None,
) -> Spread:
    """List the pictures or texts, and divide them. Nothing is written, no network is built. Raises UsageError."""
    kind = cast(type[Extractor], load("featx.extractors", config.extractor))
    listing = one_part.listed(source, kind.reads, config, stdin)
    if parts is not None and parts < 1:
        raise UsageError(f"a store of {parts} parts cannot be", "give at least 1 part")
    try:
        there = Manifest.load(Path(store)).parts
    except FeatxError:  # none yet; what is no store, or cannot be read, is told of by the first worker
        there = None
    if parts and there and parts != there:
        raise UsageError(f"{store} has {there} parts, not {parts}", "leave --parts out: what the store has is kept")
    return Spread(store, config, listing, kind.reads, parts or there or parts_for(len(listing)), retry_refused, publish)


def extract(
    source: str | Sequence[str],
    store: str,
    *,
    config: str | None = None,
    part: tuple[int, int] | None = None,
    jobs: int | None = None,
    gpus: Sequence[int] | Literal["all"] = (),
    parts: int | None = None,
    executor: Executor | None = None,
    ray_address: str | None = None,
    retry_refused: bool = False,
    publish: str | None = None,
    quiet: bool = True,
    **settings: Any,
) -> Summary:
    """Extract pictures into a store from Python; ``settings`` are the keys of a configuration file, and win over it.

    ``featx.extract("photos", "photos.featx", profile="caffe-36", weights="weights.safetensors", jobs=4)``. Without
    ``jobs``, ``gpus`` (numbers, or "all"), ``parts`` and ``executor`` ("joblib" or "ray") this process does it alone,
    or the one ``part``, (k, n) with k counted from 1; with any of them other processes do all parts. ``publish``: a URL
    that finished parts are sent to. What the extractor wants to be read (untrained weights, for one) becomes a warning.
    Returns counts and times. Raises FeatxError: UsageError, WeightsError, StoreError, Interrupted.
    """
    read = load_config(config, settings)
    workers = Workers(jobs, gpus, executor or "joblib", ray_address)
    if workers == Workers() and parts is None and executor is None:
        job = one_part.plan(
            source, store, read, part_of=part or (1, 1), retry_refused=retry_refused, publish=publish
        )  # fmt: skip
        return one_part.run(job, quiet=quiet, on_note=warnings.warn)
    if part is not None:
        raise UsageError("part is for one process, jobs are for all parts", "leave one of them out")
    spread = plan(source, store, read, parts=parts, retry_refused=retry_refused, publish=publish)
    return spread.run(workers, quiet=quiet, on_note=warnings.warn)
