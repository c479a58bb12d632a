"""Where the files of a model are: a folder, one weights file, or a hub id ``[org/]name[@revision]``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from featx.checkpoint.shards import INDEX, is_index, read_index
from featx.errors import MissingDependency, WeightsError

WEIGHTS = ("model.safetensors", "pytorch_model.bin", "flax_model.msgpack")  # each may be an index of several files
_BESIDE = (
    "config.json", "featx.json", "answers.json", "generation_config.json", "preprocessor_config.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.txt", "vocab.json", "merges.txt", "spm.model", "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip
_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".msgpack")
_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*(@[\w./-]+)?")


@dataclass(frozen=True)
class Place:
    """A folder of model files on this machine; ``weights`` is None where there are none, an index where they are in
    several files: :mod:`featx.checkpoint.shards`."""

    folder: Path
    weights: Path | None
    hub_id: str | None = None

    def beside(self, name: str) -> Path | None:
        """The file ``name`` of the folder, None when it does not exist."""
        path = self.folder / name
        return path if path.is_file() else None


def locate(location: str | Path, *, weights: bool = True) -> Place:
    """The files of a location; from the hub, without ``weights``, only what is beside them.

    Raises WeightsError when there is nothing or too much, MissingDependency.
    """
    path = Path(location).expanduser()
    if path.is_dir():
        return Place(path, _weights_in(path))
    if path.is_file():
        if path.suffix not in _SUFFIXES and not is_index(path):
            raise WeightsError(
                f"{path} is no file of weights", f"expected a folder, or a file of {', '.join(_SUFFIXES)}"
            )
        return Place(path.parent, path)
    if isinstance(location, str) and _HUB_ID.fullmatch(location) and path.suffix not in _SUFFIXES:
        folder = _download(location, WEIGHTS if weights else ("",))
        return Place(folder, _weights_in(folder), location)
    raise WeightsError(
        f"there is no model {location}",
        "give a folder, a file of weights (.safetensors, .bin, .pth, .msgpack), or a hub id such as org/name",
    )


def locate_model(location: str | Path) -> Place:
    """:func:`locate` of what must have weights. Raises WeightsError for a folder of something else, a run above all."""
    place = locate(location)
    if place.weights is None:
        best = place.folder / "best"
        raise WeightsError(
            f"there is no model in the folder {location}",
            f"a run keeps its best one in {best}"
            if best.is_dir()
            else "name one that `featx train` exported, RUN/best, or a folder with model.safetensors",
        )
    return place


def _weights_in(folder: Path) -> Path | None:
    for name in (form for whole in WEIGHTS for form in (whole, whole + INDEX)):
        if (folder / name).is_file():
            return folder / name
    found = sorted(p for p in folder.iterdir() if p.suffix in _SUFFIXES and p.is_file())
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        raise WeightsError(f"the folder {folder} holds {len(found)} weights files: {names}", "name one of them")
    return found[0] if found else None


def _download(hub_id: str, weights: tuple[str, ...]) -> Path:
    """The folder of a hub id in the cache, with the first of the ``weights`` that it has."""
    try:
        hub = import_module("huggingface_hub")
    except ImportError:
        raise MissingDependency(
            f"{hub_id} is no file or folder here; as a hub id it needs the package huggingface_hub",
            "pip install huggingface_hub, or give the path of a local copy",
        ) from None
    for name in weights:
        folder = _snapshot(hub, hub_id, (*_BESIDE, name, name + INDEX) if name else _BESIDE)
        if (folder / name).is_file():
            break
        if name and (index := folder / (name + INDEX)).is_file():
            folder = _snapshot(hub, hub_id, (*_BESIDE, index.name, *read_index(index).values()))
            break
    return folder


def _snapshot(hub: Any, hub_id: str, files: tuple[str, ...]) -> Path:
    repository, _, revision = hub_id.partition("@")
    try:
        return Path(hub.snapshot_download(repository, revision=revision or None, allow_patterns=list(files)))
    except Exception as error:  # the hub's errors derive from OSError, ValueError or its HTTP client's, by version
        reason = str(error).strip().split("\n")[0][:200]
        raise WeightsError(
            f"there is no model {hub_id} here, and as a hub id it cannot be reached and is not in the cache: "
            f"{type(error).__name__}: {reason}",
            "check the connection and the id, or give the folder of a local copy",
        ) from None
