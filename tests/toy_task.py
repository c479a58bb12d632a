"""The smallest task for the training loop, a perceptron with dropout on records of a store; stores and runs of it.

``python -m tests.toy_task CONFIG --out RUN ...`` is ``featx train`` for it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import yaml
from safetensors.torch import save_file

from featx.record import Record, RecordBatch
from featx.schema import region_schema
from featx.store import create_store, open_part
from featx.task import Batch, Split, Task
from featx.train import Outcome, TrainConfig, seed_everything, train
from featx.wants import Wants

DIM, ROWS, PICTURES = 12, 3, 60
CONFIG = {"epochs": 3, "batch": 8, "lr": 0.02, "workers": 1}
PROVENANCE = {"extractor": "toy", "profile": {"hash": "toy-profile"}, "weights": {"sha256": "toy-weights"}}


@dataclass(frozen=True)
class Example:
    """A question about a picture; several share one."""

    picture: str
    number: int


class Toy(Task):
    """Learns the sign of a sum.

    dropout: the model draws; noise: ``prepare`` draws. slow: seconds that ``prepare`` takes. nan: the call of the loss
    that is not a number. scores: what the metric returns, one evaluation after another, instead of the accuracy.
    partial: a part of the model is used by batches with an even sum of labels only. The environment variable
    TOY_SIGNAL, ``55 SIGKILL`` or ``55 SIGKILL 1``, makes the process (of rank 1) send itself a signal at a call of the
    loss; it is no option, because options belong to the configuration of a run. TOY_SLOW, ``1 0.2``: seconds that
    ``prepare`` takes in the process of a rank.
    """

    name = "toy"

    def __init__(
        self, train: int = 50, val: int = 10, dropout: float = 0.0, noise: float = 0.0, slow: float = 0.0,
        wants: Mapping[str, Any] | None = None, nan: int | None = None,
        partial: bool = False, scores: Sequence[float] | None = None, pictures: int = PICTURES,
    ) -> None:  # fmt: skip
        self.counts, self.pictures = {"train": train, "val": val}, pictures
        self.noise, self.slow, self.nan = noise, slow, nan
        at, self.send, *only = os.environ.get("TOY_SIGNAL", "0 SIGKILL").split()
        self.at = int(at) if only in ([], [os.environ.get("RANK")]) else 0
        rank, _, seconds = os.environ.get("TOY_SLOW", "").partition(" ")
        self.slow = float(seconds) if rank == os.environ.get("RANK", "0") else slow
        self.wanted = Wants(**{"dim": DIM, "profile": "toy-profile", "weights": "toy-weights", **(wants or {})})
        layers = (torch.nn.Linear(DIM, 8), torch.nn.ReLU(), torch.nn.Dropout(dropout), torch.nn.Linear(8, 1))
        self.model = torch.nn.ModuleDict({"net": torch.nn.Sequential(*layers)})
        if partial:
            self.partial_graph = True  # type: ignore[misc]
            self.model["extra"] = torch.nn.Linear(DIM, 1)
        self.scores, self.calls = None if scores is None else list(scores), 0

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Toy:
        return cls(**{name: value for name, value in options.items() if name != "store"})

    def wants(self) -> Wants:
        return self.wanted

    def examples(self, split: Split) -> Sequence[Example]:
        first = 0 if split == "train" else self.counts["train"]
        return [Example(f"p{i % self.pictures}", i) for i in range(first, first + self.counts[split])]

    def prepare(
        self, examples: Sequence[Example], records: RecordBatch | None, rngs: Iterable[np.random.Generator] | None
    ) -> dict[str, torch.Tensor]:
        assert records is not None
        time.sleep(self.slow)
        x = records.features[:, :, :DIM].mean(1)
        y = (x.sum(1) > 0).float()
        if rngs is not None and self.noise:
            x = x + self.noise * torch.from_numpy(np.stack([rng.standard_normal(DIM, np.float32) for rng in rngs]))
        return {"x": x, "y": y}

    def loss(self, batch: Batch) -> dict[str, torch.Tensor]:
        out = self.model["net"](batch["x"])[:, 0]
        if self.partial_graph and batch["y"].sum() % 2 == 0:
            out = out + self.model["extra"](batch["x"])[:, 0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(out, batch["y"])
        self.calls += 1
        if self.calls == self.nan:
            loss = loss * float("nan")
        if self.calls == self.at:
            os.kill(os.getpid(), signal.Signals[self.send])
        return {"loss": loss, "size": out.abs().mean()}

    def predict(self, batch: Batch) -> list[Any]:
        found = self.model["net"](batch["x"])[:, 0] > 0
        return list(zip(found.tolist(), (batch["y"] > 0).tolist(), strict=True))

    def metric(self, examples: Sequence[Example], predictions: Sequence[Any]) -> dict[str, float]:
        assert len(examples) == len(predictions)
        if self.scores is not None:
            return {"given": self.scores.pop(0), "other": 0.0}
        return {"accuracy": sum(a == b for a, b in predictions) / len(predictions)}

    def export(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        save_file(self.model.state_dict(), folder / "model.safetensors")
        (folder / "featx.json").write_text(json.dumps(trained_on))


def make_store(
    path: Path, count: int = PICTURES, *, dim: int = DIM, rows: int = ROWS,
    provenance: Mapping[str, Any] = PROVENANCE, backend: str = "lmdb",
) -> Path:  # fmt: skip
    """A store of ``count`` pictures ``p0``, ``p1``, ... with random features."""
    noise = np.random.default_rng(5)
    create_store(
        path, backend, region_schema(dim, "float32", attributes=False, rows=rows), provenance, {"objects": ["thing"]}
    )
    extra = {"object_ids": np.zeros(rows, np.int32), "object_confs": np.ones(rows, np.float32)}
    with open_part(path) as writer:
        for i in range(count):
            features = noise.standard_normal((rows, dim), np.float32)
            writer.put(f"p{i}", Record(features, np.zeros((rows, 4), np.float32), (8, 8), rows, extra), i)
            if i % 64 == 63:
                writer.commit()
        writer.finish()
    return path


def toy(kind: type[Toy] = Toy, **options: Any) -> Toy:
    """A toy with the same weights every time."""
    seed_everything(1)
    return kind(**options)


def trained(store: Any, out: Path, task: Toy | None = None, **settings: Any) -> Outcome:
    """Train a toy in this process, by CONFIG and more settings."""
    return train(task or toy(), store, TrainConfig(**{**CONFIG, **settings}), out)


def kinds(out: Path, kind: str) -> list[dict[str, Any]]:
    """The events of a kind in the log of a run, without times."""
    return [event for event in events(out) if event["event"] == kind]


def write_recipe(path: Path, store: Path, train: Mapping[str, Any], **options: Any) -> Path:
    """A configuration for ``featx train``."""
    path.write_text(yaml.safe_dump({"task": "toy", "store": str(store), "train": dict(train), **options}))
    return path


def start(recipe: Path, out: Path, *words: str, processes: int = 1, **environment: str) -> subprocess.Popen[str]:
    """``featx train`` in a process, or in several under torchrun."""
    several = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    command = [sys.executable, "-m", *(several if processes > 1 else []), "tests.toy_task", str(recipe)]
    return subprocess.Popen(
        [*command, "--out", str(out), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        cwd=Path(__file__).resolve().parent.parent,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(recipe: Path, out: Path, *words: str, processes: int = 1, **environment: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``featx train``."""
    process = start(recipe, out, *words, processes=processes, **environment)
    told, said = process.communicate()
    return process.returncode, told, said


def events(out: Path) -> list[dict[str, Any]]:
    """The log of a run without what differs from run to run: times, and the lines of a process that begins."""
    found = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    for event in found:
        event.pop("time", None)
    return [event for event in found if event["event"] not in ("start", "resume")]


def main() -> int:
    """``featx train``, which finds the toy wherever it looks for a task."""
    from featx.cli import guarded
    from featx.cli.train import configure

    parser = argparse.ArgumentParser(prog="featx train")
    parser.set_defaults(debug=True)
    configure(parser)
    options = parser.parse_args()
    with mock.patch("featx.train.recipe.load", return_value=Toy):
        return guarded(options.run, options)


if __name__ == "__main__":
    sys.exit(main())
