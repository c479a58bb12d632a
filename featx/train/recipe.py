"""A recipe: one YAML file that says which task is trained, on which store, with which settings.

::

    task: lxmert-vqa
    store: scenes.featx            # or {train: ..., val: ...}; a task that reads no store has none
                                   # {path: scenes.featx, boxes: 36} is a view of a superset store (docs/superset.md)
    train: {epochs: 4, lr: 5e-5}   # see TrainConfig
    model: {...}                   # this and every other section goes to the task, and where its store is, if any
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import yaml

from featx.errors import UsageError
from featx.registry import load
from featx.store import Location, is_location, located
from featx.task import Task
from featx.train.config import TrainConfig

Store = Location | Mapping[str, Location] | None
_OWN = ("task", "store", "train")
GROUP = "featx.tasks"


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-4 as text, because it has no point; nobody who writes a rate means that."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


@dataclass(frozen=True)
class Recipe:
    """task: entry point name. store: a location, one for each split, or None. options: what the task is built from."""

    task: str
    store: Store
    train: TrainConfig
    options: Mapping[str, Any]

    def build(self) -> Task:
        """The task, its model seeded by ``train.seed``. Raises UsageError, MissingDependency, ...

        The option ``store`` is the recipe's, for a model that is shaped after its data; where the recipe has none,
        there is no such option.
        """
        from featx.train.seeds import seed_everything

        kind = load(GROUP, self.task)
        seed_everything(self.train.seed)
        store = {} if self.store is None else {"store": self.store}
        return cast(Task, kind.from_options({**self.options, **store}))


def read_recipe(path: str, overrides: Sequence[str] = (), **flags: Any) -> Recipe:
    """The recipe in a file, with overrides like ``train.lr=1e-4`` applied, and then flags that are not None.

    flags: ``store``, and settings of ``train``. Raises UsageError for a file that is absent or no mapping, an override
    that is not NAME=VALUE, and a setting that does not exist or does not fit.
    """
    document = _read(path)
    for text in overrides:
        _apply(document, text)
    store = flags.pop("store", None)
    section = {} if document.get("train") is None else document["train"]
    if not isinstance(section, dict):
        raise UsageError(f"train is {section!r}", "give a mapping of settings for train")
    config = TrainConfig.from_dict({**section, **{k: v for k, v in flags.items() if v is not None}})
    options = {name: value for name, value in document.items() if name not in _OWN}
    for name in options:
        if close := get_close_matches(name, _OWN, 1, cutoff=0.7):
            raise UsageError(f"the configuration has a section {name}; did you mean {close[0]}?", f"write {close[0]}")
    if not isinstance(document.get("task"), str):
        raise UsageError(f"{path} names no task", "add a line `task: NAME`; `featx plugins` lists the names")
    return Recipe(document["task"], _store(store if store is not None else document.get("store")), config, options)


def _store(value: Any) -> Store:
    """A location, or a mapping of splits to locations. Raises UsageError for anything else."""
    named = value if isinstance(value, dict) and not is_location(value) else {"": value}
    for where in [] if value is None else named.values():
        try:
            located(where)
        except UsageError as error:
            raise UsageError(
                f"store is {value!r}: {error.message}",
                "give a path, or a mapping of train and val to paths, for store; "
                "{path: PATH, boxes: 36} in place of a path is a view of a superset store",
            ) from None
    return cast(Store, value)


def _apply(document: dict[str, Any], text: str) -> None:
    """Set ``a.b.c=value`` in nested mappings; the value is read as YAML."""
    name, equals, value = text.partition("=")
    parts = name.strip().split(".")
    if not equals or not all(parts):
        raise UsageError(f"--set {text} is not an override", "write --set NAME=VALUE, for example --set train.lr=1e-4")
    place = document
    for part in parts[:-1]:
        inner = place.get(part)
        if inner is not None and not isinstance(inner, dict):
            raise UsageError(f"--set {text}: {part} is {inner!r}, not a section", "override a setting by its full name")
        place[part] = place = dict(inner or {})  # a copy: aliases of a YAML anchor are one object
    try:
        place[parts[-1]] = yaml.load(value, _Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {text}: the value is not YAML: {error}", "quote it") from None


def _read(path: str) -> dict[str, Any]:
    try:
        data = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the configuration {path} cannot be read: {error}", "see configs/ for examples") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML: {error}", "see configs/ for examples") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path} holds {type(data).__name__}, expected a mapping of settings", "see configs/")
    return {str(name): value for name, value in data.items()}
