"""Real runs of one and two workers, and what their stages cost, for the model of workers to be compared with.

Two kinds of workers, both with real pictures, decoding, queues and stores: ``tiny`` computes the tiny network on the
cores; ``device`` waits for each picture as for a GPU, and writes records of the full size.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.worker_model import Stages, Work
from featx import jobs
from featx.config import load_config
from featx.extractor import Extractor, Picture
from featx.images import list_pictures, part
from featx.record import Record
from featx.runner import opened
from featx.schema import region_schema
from featx.store import create_store, open_part

CONFIG = str(Path(__file__).resolve().parent.parent / "configs" / "seeded_tiny.yaml")
DEVICE = 0.06  # seconds that the device takes for a picture


class Measured(NamedTuple):
    """Seconds from the first beginning to the last end, and cores that were left beside other processes meanwhile."""

    seconds: float
    cores: float


class Device(Extractor):
    """Prepares pictures as the full-size network wants them, waits, and gives records of its size."""

    name = "device"

    def __init__(self) -> None:
        self.schema = region_schema(2048, "float16", rows=36)
        draw, ids, sure = np.random.default_rng(0), np.arange(36, dtype=np.int32), np.ones(36, np.float32)
        extra = {"object_ids": ids, "object_confs": sure, "attribute_ids": ids, "attribute_confs": sure}
        boxes = np.sort(draw.random((36, 2, 2), np.float32), axis=1).reshape(36, 4) * 200
        self.record = Record(draw.random((36, 2048), np.float32).astype(np.float16), boxes, (480, 640), 36, extra)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Device:
        return cls()

    def provenance(self) -> dict[str, Any]:
        return {"extractor": self.name}

    def prepare(self, picture: Picture) -> Any:
        from featx_extractors.preprocess import frame_for, to_input
        from featx_extractors.profiles import PROFILES

        profile = PROFILES["lxmert-published"]
        return to_input(picture.pixels, frame_for(*picture.size, profile), profile)

    def __call__(self, batch: Sequence[Any]) -> list[Record]:
        time.sleep(DEVICE * len(batch))
        return [self.record] * len(batch)


def job_of(kind: str, photos: str, store: str, of: tuple[int, int], pictures: int) -> jobs.Job:
    """The job of one worker on the first ``pictures`` of a folder."""
    config = load_config(CONFIG, {"batch": 4, "workers": 2, "key_rule": "path"})
    listing = list_pictures(photos)
    del listing[pictures:]
    extractor = Device() if kind == "device" else jobs.plan(photos, store, config).extractor
    return jobs.Job(store, config, extractor, part(listing, *of), listing, of)


def timed(kind: str, photos: str, store: Path, workers: int, pictures: int) -> Measured:
    """Run so many workers on a part each."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(workers), context.Queue()
    arguments = (kind, photos, str(store), workers, pictures, barrier, results)
    processes = [context.Process(target=_work, args=(k, *arguments)) for k in range(1, workers + 1)]
    for process in processes:
        process.start()
    told = [results.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    wall = max(t[1] for t in told) - min(t[0] for t in told)
    busy = max(t[3] for t in told) - min(t[2] for t in told)  # of the whole machine
    ours = sum(t[4] for t in told)
    return Measured(wall, max(0.0, (os.cpu_count() or 1) - max(0.0, busy - ours) / wall))


def _work(
    k: int, kind: str, photos: str, store: str, workers: int, pictures: int, barrier: Any, results: Any
) -> None:  # fmt: skip
    one_thread()
    job = job_of(kind, photos, store, (k, workers), pictures)
    job.extractor([job.extractor.prepare(opened(job.sources[0], "pictures", job.policy))] * job.config.batch)
    barrier.wait()
    begin, before, own = time.perf_counter(), machine_cpu(), time.process_time()
    jobs.run(job, quiet=True)
    end = time.perf_counter()
    results.put((begin, end, before, machine_cpu(), time.process_time() - own))


def one_thread() -> None:
    """One thread in torch and OpenCV, as a worker with a core of its own has."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def machine_cpu() -> float:
    """Processor seconds that the whole machine has used (0 where it does not tell)."""
    try:
        words = Path("/proc/stat").read_text().split()[1:4]
    except OSError:
        return 0.0
    return sum(map(int, words)) / os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    """What was measured of a picture, and bytes of its record in the store."""

    stages: Stages
    bytes: float


def cost(kind: str, photos: str, store: Path, pictures: int) -> Cost:
    """Measure every stage for itself, one picture or batch after the other.

    Processor time is counted by the system, so a busy machine does not change it much; waiting is the median of what
    is left of the wall's time, and only of stages that wait for something.
    """
    one_thread()
    job = job_of(kind, photos, str(store), (1, 1), pictures)
    size = job.config.batch
    decode, network, put = [], [], []
    waits: dict[str, list[float]] = {"commit": [], "cpu": []}
    prepared = []
    for source in job.sources:
        cpu = time.process_time()
        prepared.append(job.extractor.prepare(opened(source, "pictures", job.policy)))
        decode.append(time.process_time() - cpu)
    create_store(store, "lmdb", job.extractor.schema, job.provenance(), job.extractor.labels)
    job.extractor(prepared[:size])
    with open_part(store) as writer:
        for at in range(0, len(prepared) - size + 1, size):
            cpu = time.process_time()
            records = job.extractor(prepared[at:][:size])
            computed = time.process_time()
            for source, record in zip(job.sources[at:], records, strict=False):
                writer.put(source.key, record, source.ordinal)
            written, wall = time.process_time(), time.perf_counter()
            writer.commit()
            spent = time.process_time() - written
            waits["cpu"].append(spent)
            waits["commit"].append(max(0.0, time.perf_counter() - wall - spent))
            network.append((computed - cpu) / size)
            put.append((written - computed) / size)
        files = writer.finish().files
    waited = DEVICE if kind == "device" else 0.0
    stages = Stages(
        Work(statistics.mean(decode)), Work(statistics.mean(network), waited), Work(statistics.mean(put)),
        Work(statistics.mean(waits["cpu"]), statistics.median(waits["commit"])), job.config.workers, size,
    )  # fmt: skip
    return Cost(stages, sum(files.values()) / (len(prepared) // size * size))
