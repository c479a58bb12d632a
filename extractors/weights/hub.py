"""Finding the file behind a location: ``tiny``, a path, a folder with one, or a hub id ``org/name[@revision]``."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any, NamedTuple

from featx.errors import MissingDependency, WeightsError
from featx_extractors.weights.container import KNOWN

SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".pkl", ".pickle", ".caffemodel")
SHIPPED = {"tiny": Path(__file__).with_name("tiny.safetensors")}  # the detector that comes with the package
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")


class Place(NamedTuple):
    """A weights file on this machine, the folder's ``config.yaml`` if there is one, and the hub id it came from."""

    path: Path
    config: Path | None
    hub_id: str | None = None


def locate(location: str) -> Place:
    """The weights file of a location; one on the hub is downloaded, or taken from the cache.

    Raises WeightsError when there is none or more than one, and MissingDependency (exit code 5) for a hub id
    without the package huggingface_hub.
    """
    path = SHIPPED.get(location, Path(location).expanduser())
    try:
        if path.is_dir():
            path = _only_file(path)
        if path.is_file():
            config = path.with_name("config.yaml")
            return Place(path, config if config.is_file() else None)
    except OSError as error:
        raise WeightsError(f"{location} cannot be read: {error}", "check the path and its permissions") from None
    if _HUB_ID.fullmatch(location) and path.suffix not in SUFFIXES:
        return _download(location)
    raise WeightsError(f"there is no weights file {location}", f"give {KNOWN}, a folder with one, or a hub id org/name")


def _only_file(folder: Path) -> Path:
    for name in _HUB_FILES:
        if (folder / name).is_file():
            return folder / name
    found = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and p.is_file())
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(p.name for p in found)
        raise WeightsError(f"the folder {folder} holds {len(found)} weights files: {names}", "name one of them")
    raise WeightsError(f"the folder {folder} holds no weights", f"expected {' or '.join(_HUB_FILES)}, or {KNOWN}")


def _download(hub_id: str) -> Place:
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError:
        raise MissingDependency(
            f"{hub_id} is no file or folder here; as a hub id it needs the package huggingface_hub",
            "pip install huggingface_hub, or give the path of a local copy",
        ) from None
    failure: Exception | None = None
    for name in _HUB_FILES:
        try:
            path = _fetch(hub, hub_id, name, offline=failure is not None)
        except OSError as error:
            failure = error  # another file may still be in the cache
        else:
            if path is not None:
                return Place(path, _config(hub, hub_id), hub_id)
    if failure is not None:
        reason = str(failure).strip().split("\n")[0][:200]
        raise WeightsError(
            f"the hub id {hub_id} cannot be reached, and is not in the cache: {type(failure).__name__}: {reason}",
            "check the connection and the id, or give the path of a local copy (a folder with "
            f"{' or '.join(_HUB_FILES)} and config.yaml)",
        )
    raise WeightsError(f"the hub id {hub_id} holds no {' or '.join(_HUB_FILES)}", "give another id or a local file")


def _config(hub: Any, hub_id: str) -> Path | None:
    try:
        return _fetch(hub, hub_id, "config.yaml")
    except OSError:
        return None


def _fetch(hub: Any, hub_id: str, name: str, *, offline: bool = False) -> Path | None:
    """The local copy of one file, or None when the hub says that it does not exist; OSError when it cannot say."""
    repository, _, revision = hub_id.partition("@")
    try:
        return Path(hub.hf_hub_download(repository, name, revision=revision or None, local_files_only=offline))
    except Exception as error:  # the hub's errors derive from OSError, ValueError or its HTTP client's, by version
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if "EntryNotFoundError" in kinds and "LocalEntryNotFoundError" not in kinds:
            return None
        if isinstance(error, OSError):
            raise
        raise OSError(f"{type(error).__name__}: {error}") from None
