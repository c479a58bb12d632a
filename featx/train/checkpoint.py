"""The state of a run on disk: tensors as safetensors, the rest as JSON, nothing pickled.

A checkpoint is a folder, written under a temporary name, synced and renamed; then the pointer ``latest.json`` is
replaced. So a process that dies at any moment leaves the last whole checkpoint and, at worst, a temporary folder::

    checkpoints/latest.json                          {"checkpoint": "step-000000120-epoch-0003"}
    checkpoints/step-000000120-epoch-0003/model.safetensors   the model's state_dict
                                          state.safetensors   optimiser.N.NAME, random.RANK.NAME
                                          state.json          everything else, see State; sums of all three

A name gives steps and epochs done: at the end of an epoch there can be one checkpoint before its evaluation and one
behind, of the same step; the first goes when the second is there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from featx.errors import StoreDamaged
from featx.store import disk

FORMAT = 2
_TENSORS = ("model.safetensors", "state.safetensors")
Tensors = dict[str, torch.Tensor]


@dataclass
class State:
    """Where a run stands, besides its tensors.

    step: steps done. epoch: epochs done. position: steps done of the epoch that is open. best: the best evaluation (see
    ``Outcome``); stale: evaluations since. figures: the last evaluation. data, work: seconds that steps waited for data
    and took to work. log: length of log.jsonl in bytes. meter, scaler: their own states. config: what the run was begun
    with, as in config.json.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    best: dict[str, Any] | None = None
    stale: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    data: float = 0.0
    work: float = 0.0
    log: int = 0
    meter: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


@contextmanager
def room(folder: Path) -> Iterator[None]:
    """:func:`featx.store.disk.room`, also for what safetensors writes: a full disk is a SafetensorError there."""
    with disk.room(folder):
        try:
            yield
        except SafetensorError as error:
            raise OSError(str(error)) from error


class Checkpoints:
    """The folder of checkpoints of a run; those of the last ``keep`` steps that have one are kept."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def latest(self) -> Path | None:
        """The newest whole checkpoint: the one the pointer names, or the last one if either cannot be found."""
        try:
            named = self.folder / str(json.loads((self.folder / "latest.json").read_bytes())["checkpoint"])
        except (OSError, ValueError, LookupError, TypeError):
            named = self.folder / "none"
        return named if named.is_dir() else next(reversed(self._all()), None)

    def write(self, state: State, model: Tensors, tensors: Tensors) -> Path:
        """Write a checkpoint of ``state.step``; when this returns it is durable. Raises FeatxError for a full disk."""
        target = self.folder / f"step-{state.step:09d}-epoch-{state.epoch:04d}"
        if target.exists():  # of the same step, and so of the same content
            return target
        draft = disk.temporary(target)
        with room(self.folder):
            draft.mkdir(parents=True)
            for name, part in zip(_TENSORS, (model, tensors), strict=True):
                save_file(part, draft / name)
            content = {"format": FORMAT, "sums": _sums(draft, asdict(state)), "state": asdict(state)}
            disk.write(draft / "state.json", json.dumps(content).encode())
            for path in (*draft.glob("*.safetensors"), draft):
                disk.sync(path)
            disk.rename(draft, target)
            disk.sync(self.folder)
            disk.publish(self.folder / "latest.json", json.dumps({"checkpoint": target.name}).encode())
            for old in self._superseded():
                shutil.rmtree(old)
        return target

    def clean(self) -> None:
        """Remove what a writer that died left behind: drafts, and a folder that the pointer did not reach."""
        for left in self.folder.glob(".step-*.tmp"):
            shutil.rmtree(left)
        newest = self.latest()
        for path in self._all():
            if newest is not None and path.name > newest.name:
                shutil.rmtree(path)

    def _all(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step-*-epoch-*") if path.is_dir())

    def _superseded(self) -> list[Path]:
        """All but the newest of each of the last ``keep`` steps."""
        newest = {path.name.partition("-epoch-")[0]: path for path in self._all()}
        kept = list(newest.values())[-self.keep :]
        return [path for path in self._all() if path not in kept]


def read(folder: Path) -> tuple[State, Tensors, Tensors]:
    """State, model and other tensors of a checkpoint. Raises StoreDamaged for one that is not as it was written."""
    try:
        content = json.loads((folder / "state.json").read_bytes())
        if content["format"] != FORMAT:
            raise ValueError(f"it is of the format {content['format']}, expected {FORMAT}")
        found = _sums(folder, content["state"])
        if changed := [name for name, value in found.items() if value != content["sums"][name]]:
            raise ValueError(f"{' and '.join(changed)}: not the bytes that were written")
        model, tensors = (load_file(folder / name) for name in _TENSORS)
        return State(**content["state"]), model, tensors
    except Exception as error:  # safetensors has an error class of its own
        raise StoreDamaged(
            f"the checkpoint {folder} cannot be read: {error}",
            "delete it to go on from the one before, or begin anew with --fresh",
        ) from error


def _sums(folder: Path, state: Mapping[str, Any]) -> dict[str, str]:
    """xxh3_128 of each file; of state.json that of the state as JSON, for it holds the sums."""
    sums = {"state.json": xxhash.xxh3_128_hexdigest(json.dumps(state).encode())}
    for name in _TENSORS:
        with (folder / name).open("rb") as file:
            sums[name] = hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()
    return sums


def model_tensors(model: torch.nn.Module) -> Tensors:
    """The state_dict in CPU memory."""
    return _apart(model.state_dict())


def load_model(model: torch.nn.Module, tensors: Tensors) -> None:
    """Inverse of :func:`model_tensors`, into the model's own memory."""
    model.load_state_dict(tensors)


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> Tensors:
    """The optimiser's state by ``optimiser.PARAMETER.NAME``; its settings follow from configuration and step."""
    state: Mapping[int, Mapping[str, torch.Tensor | None]] = optimiser.state_dict()["state"]
    return _apart(
        {
            f"optimiser.{number}.{name}": value
            for number, values in state.items()
            for name, value in values.items()
            if value is not None
        }
    )


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Inverse of :func:`optimiser_tensors`."""
    found: dict[int, Tensors] = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimiser":
            number, _, entry = rest.partition(".")
            found.setdefault(int(number), {})[entry] = value.clone()  # into memory that is aligned like all other
    optimiser.load_state_dict({**optimiser.state_dict(), "state": found})


def _apart(tensors: Tensors) -> Tensors:
    """Tensors that share no memory, as safetensors wants them: one with several names (tied) is written under each."""
    seen: set[int] = set()
    apart = {}
    for name, value in tensors.items():
        value = value.detach().cpu().contiguous()
        place = value.untyped_storage().data_ptr()
        apart[name] = value.clone() if place in seen else value
        seen.add(place)
    return apart
