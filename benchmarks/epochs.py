"""Steps of an epoch on a cache beside the same steps with the tower run in front: each consumer at its real size.

Both sides go through the loop's own supply and learner, turn by turn in one process: once with records out of a store,
once with records that the extractor makes of decoded JPEG files. Multiply-adds of tower and trunk are counted in the
same run: they bound what a cache can save, whatever the machine. ``forward`` is the loss without its gradient (of
captions: all tokens at once). ``ONLY=text`` measures those whose names have the text; ``TURNS``, ``STEPS`` and
``BATCH`` are for machines that have less time or more; ``SMALL=1`` tries it on tiny networks and writes nothing.
"""

from __future__ import annotations

import gc
import os
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.consumers import CASES, SMALL, Case, extractor_of, pictures, text_store, texts
from benchmarks.timing import save, table
from featx.decode import Policy, decode
from featx.extractor import Picture
from featx.record import RecordBatch
from featx.store import create_store, open_part, open_store
from featx.store.batch import collate
from featx.train import TrainConfig
from featx.train.distributed import World
from featx.train.learner import Learner
from featx.train.supply import Made, Supply
from featx_extractors.clip import CLIP

WORK = Path(__file__).resolve().parent.parent / "build" / "epochs"
BATCH, STEPS, TURNS = (int(os.environ.get(name) or usual) for name, usual in (("BATCH", 4), ("STEPS", 2), ("TURNS", 5)))
COUNT = BATCH * STEPS  # pictures, with a text about each


class Looked:
    """Records that were made just now; nobody waits for their memory."""

    def __init__(self, records: RecordBatch) -> None:
        self.records = records

    def release(self) -> None:
        pass

    def copied(self) -> None:
        pass


class Live:
    """In place of the buffers of a store: records of pictures that are decoded and shown to the tower when asked for.

    decoding, tower: seconds so far.
    """

    def __init__(self, extractor: CLIP, files: dict[str, Path]) -> None:
        self.extractor, self.files = extractor, files
        self.decoding = self.tower = 0.0

    def read(self, keys: Sequence[str]) -> Looked:
        """The records of ``keys``."""
        begin = time.perf_counter()
        seen = [Picture(key, decode(self.files[key].read_bytes(), Policy())) for key in keys]
        between = time.perf_counter()
        records = self.extractor([self.extractor.prepare(one) for one in seen])
        found = collate(keys, records, self.extractor.schema)
        self.decoding, self.tower = self.decoding + between - begin, self.tower + time.perf_counter() - between
        return Looked(found)

    def embed(self, asked: Sequence[str]) -> None:
        """Run the text tower, where the consumer reads embeddings of texts."""
        begin = time.perf_counter()
        self.extractor.texts(asked)
        self.tower += time.perf_counter() - begin


class Bench:
    """A consumer with its store, files, supply and learner."""

    def __init__(self, name: str, case: Case) -> None:
        where = WORK / ("small" if SMALL else "real")
        folder = where / "".join(c if c.isalnum() else "-" for c in name.lower())
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        tower = "-".join(str(n) for n in case.tower.values()) + ("-whole" if case.whole else "")
        extractor = extractor_of(case, where / f"tower-{tower}")
        files = {path.stem: path for path in pictures(where / "pictures", COUNT)}
        self.case, self.live, self.texts = case, Live(extractor, files), texts(COUNT, case.words - 2)
        self.store = open_store(self._fill(folder / "store"))
        if case.whole:
            text_store(folder / "texts", extractor, self.texts)
        self.task = case.make(folder, COUNT, case.words, folder / "store")
        config = TrainConfig(epochs=1, batch=BATCH)
        world = World(0, 1, torch.device("cpu"))
        examples = {split: self.task.examples(split) for split in ("train", "val")}
        self.supply = Supply.of(self.task, config, world, {"train": self.store, "val": self.store}, examples)
        self.learner = Learner(self.task, config, 1000, world)
        self.update = 0.0
        self._time_updates()

    def _fill(self, path: Path) -> Path:
        create_store(path, "lmdb", self.live.extractor.schema, self.live.extractor.provenance(), {})
        with open_part(path) as writer:
            for i, key in enumerate(self.live.files):
                seen = Picture(key, decode(self.live.files[key].read_bytes(), Policy()))
                writer.put(key, self.live.extractor([self.live.extractor.prepare(seen)])[0], i)
            writer.finish()
        return path

    def _time_updates(self) -> None:
        """Add up the seconds of the optimiser, which are no multiply-adds."""
        update: Any = self.learner.optimiser.step

        def timed(*words: Any, **named: Any) -> Any:
            begin = time.perf_counter()
            found = update(*words, **named)
            self.update += time.perf_counter() - begin
            return found

        self.learner.optimiser.step = timed  # type: ignore[method-assign]

    def step(self, made: Made) -> None:
        """One step of training."""
        self.learner.step([self.supply.place(made)], 0)
        made.release()

    def forward(self, made: Made) -> None:
        """The same batch, forward alone."""
        self.task.model.eval()
        with torch.no_grad():
            self.task.loss(self.supply.place(made))
        self.task.model.train()
        made.release()

    def cached(self, work: Callable[[Made], None]) -> None:
        """The steps of an epoch, out of the store."""
        with self.supply.training(0, 0) as feed:
            for _ in range(STEPS):
                work(next(feed))

    def end_to_end(self, work: Callable[[Made], None]) -> None:
        """The same steps, on the same examples in the same order, with the towers run in front."""
        live: Any = self.live
        for step in range(STEPS):
            if self.case.whole:
                live.embed([self.supply.examples["train"][i].text for i in self.supply.sampler.rows(0, step, 0)])
            work(self.supply._piece(live, (0, step, 0)))

    def counted(self) -> dict[str, float]:
        """Giga multiply-adds of a batch: of the towers, of the trunk forward and in training, of what could be kept."""
        made = self.supply._piece(self.supply._ring("train", BATCH), (0, 0, 0))
        found = {}
        with counting() as counter:
            self.live.read(list(self.live.files)[:BATCH])
            if self.case.whole:
                self.live.extractor.texts(self.texts[:BATCH])
        found["tower"] = counter.get_total_flops()
        with counting() as counter, self._kept(counter) as kept:
            self.forward(made)
        found |= {"forward": counter.get_total_flops(), "kept": kept[0]}
        with counting() as counter:
            self.step(made)
        found["training"] = counter.get_total_flops()
        return {name: flops / 2e9 for name, flops in found.items()}

    @contextmanager
    def _kept(self, counter: FlopCounterMode) -> Any:
        """Count what is done within the modules of ``deep``."""
        total, begun, hooks = [0], [], []
        for name, module in self.task.model.named_modules():
            if any(name.endswith(part) for part in self.case.deep):
                hooks.append(module.register_forward_pre_hook(lambda *_: begun.append(counter.get_total_flops())))

                def end(*_: Any) -> None:
                    total[0] += counter.get_total_flops() - begun.pop()

                hooks.append(module.register_forward_hook(end))
        yield total
        for hook in hooks:
            hook.remove()

    def measured(self) -> dict[str, Any]:
        """Seconds of each way in each turn, and how they were spent."""
        ways = {
            "training": {"cached": self.cached, "end to end": self.end_to_end},
            "forward": {"cached": self.cached, "end to end": self.end_to_end},
        }
        works = {"training": self.step, "forward": self.forward}
        spent: dict[str, dict[str, list[float]]] = {kind: {} for kind in ways}
        for turn in range(TURNS + 1):  # the first does not count
            for kind, both in ways.items():
                for name, way in both.items():
                    self.live.decoding = self.live.tower = self.update = 0.0
                    begin = time.perf_counter()
                    way(works[kind])
                    parts = {name: time.perf_counter() - begin, f"{name}: update": self.update}
                    if name != "cached":
                        parts |= {"decoding": self.live.decoding, "tower": self.live.tower}
                    for part, seconds in parts.items() if turn else ():
                        spent[kind].setdefault(part, []).append(seconds)
        return {kind: summary(parts) for kind, parts in spent.items()}


@contextmanager
def counting() -> Any:
    """A counter of multiplications; attention is done by matrix products meanwhile, which are counted."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


def summary(parts: dict[str, list[float]]) -> dict[str, Any]:
    """Medians, least and most: seconds a step, how many times faster, shares of the way end to end."""
    whole, cached = parts["end to end"], parts["cached"]
    named = {
        "cached": [t / STEPS for t in cached], "end to end": [t / STEPS for t in whole],
        "times": [b / a for a, b in zip(cached, whole, strict=True)],
        "tower": [t / a for t, a in zip(parts["tower"], whole, strict=True)],
        "decoding": [t / a for t, a in zip(parts["decoding"], whole, strict=True)],
        "update": [t / a for t, a in zip(parts["cached: update"], cached, strict=True)],
    }  # fmt: skip
    return {n: {"median": statistics.median(v), "least": min(v), "most": max(v)} for n, v in named.items()}


def bound(work: dict[str, float], kind: str) -> float:
    """By how much a cache can be faster when only multiply-adds count."""
    return (work["tower"] + work[kind]) / work[kind]


def main() -> None:
    """Print the tables and write ``results/epochs.json``."""
    only, results = os.environ.get("ONLY", ""), {}
    for name, case in CASES.items():
        if only.lower() in name.lower():
            bench = Bench(name, case)
            work = bench.counted()
            results[name] = {**bench.measured(), "giga multiply-adds": work,
                             "bound": {kind: bound(work, kind) for kind in ("training", "forward")}}  # fmt: skip
            bench.store.close()
            del bench
            gc.collect()
            print(table([HEAD, line(name, results[name], "training")]), flush=True)
    for kind in ("training", "forward"):
        print(f"\n{kind}, batches of {BATCH}\n")
        print(table([HEAD, *(line(name, found, kind) for name, found in results.items())]))
    print("\ngiga multiply-adds of a batch\n")
    print(table([WORK_HEAD, *(work_line(name, found) for name, found in results.items())]))
    if not SMALL:
        stem = "epochs" + (f"-{only.lower().replace(' ', '-')}" if only else "")
        print("\nwrote", save(stem, {"batch": BATCH, "steps": STEPS, "turns": TURNS, "rows": results}))


HEAD = ["", "cached s/step", "end to end s/step", "times faster", "by multiply-adds", "tower", "decoding", "update"]
WORK_HEAD = ["", "tower", "trunk, training", "trunk, forward", "of it kept deeper", "forward, by multiply-adds"]


def line(name: str, found: dict[str, Any], kind: str) -> list[str]:
    """A row of the table of one kind of epoch; shares of the way end to end, update of the cached one."""
    own = found[kind]
    spread = [
        f"{own[k]['median']:.3g} ({own[k]['least']:.3g} to {own[k]['most']:.3g})"
        for k in ("cached", "end to end", "times")
    ]
    shares = [f"{own[part]['median']:.1%}" for part in ("tower", "decoding", "update")]
    return [name, *spread, f"{found['bound'][kind]:.3g}", *shares]


def work_line(name: str, found: dict[str, Any]) -> list[str]:
    """A row of the table of work; last, the bound of a forward pass if all that can be kept were kept."""
    work = found["giga multiply-adds"]
    left = work["forward"] - work["kept"]
    cells = [f"{work[part]:.4g}" for part in ("tower", "training", "forward", "kept")]
    return [name, *cells, f"{(work['tower'] + work['forward']) / left:.3g}"]
