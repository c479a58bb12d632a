"""Plug-ins by entry point: extractors, tasks and models, of this package or a stranger's.

A package offers an extractor by declaring, in its own metadata::

    [project.entry-points."featx.extractors"]
    my-extractor = "my_package.module:MyExtractor"

Nothing is imported until a plug-in is asked for by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from featx.errors import FeatxError, MissingDependency, UsageError

GROUPS = ("featx.extractors", "featx.tasks", "featx.models")

# Optional packages that are not on the package index, or need more than their name to install.
INSTALL_HINTS = {
    "detectron2": "pip install --no-build-isolation git+https://github.com/facebookresearch/detectron2",
    "huggingface_hub": "pip install huggingface_hub",
    "transformers": "pip install 'featx[lxmert]'",
    "tokenizers": "pip install 'featx[lxmert]'",
    "msgpack": "pip install 'featx[models]'",
    "sentencepiece": "pip install 'featx[models]'",
    "tensorboard": "pip install 'featx[train]'",
    "sacrebleu": "pip install 'featx[metrics]'",
}


@dataclass(frozen=True)
class Plugin:
    """One entry point and whether it can be used: ``problem`` is empty, or what stops it and how to mend that."""

    group: str
    name: str
    package: str
    target: str
    problem: str = ""


def plugins(group: str) -> list[EntryPoint]:
    """All entry points of a group, by name. Raises UsageError when two packages claim one name."""
    found = sorted(entry_points(group=group), key=lambda e: e.name)
    names = [e.name for e in found]
    for e in found:
        if names.count(e.name) > 1:
            packages = ", ".join(_package(x) for x in found if x.name == e.name)
            raise UsageError(f"{group} {e.name!r} is offered by several packages: {packages}", "uninstall one of them")
    return found


def load(group: str, name: str) -> Any:
    """The object behind an entry point.

    Raises UsageError for an unknown name and MissingDependency, with the line that installs it, for an absent package.
    """
    for entry in plugins(group):
        if entry.name == name:
            try:
                return entry.load()
            except ModuleNotFoundError as error:
                missing = (error.name or "?").partition(".")[0]
                raise MissingDependency(
                    f"{name!r} needs the package {missing!r}, which is not installed",
                    INSTALL_HINTS.get(missing, f"pip install {missing}"),
                ) from None
    known = ", ".join(e.name for e in plugins(group)) or "none: is the package installed? (make install)"
    raise UsageError(f"{group} has no {name!r}", f"known: {known}; `featx plugins` tells more")


def survey(*groups: str) -> list[Plugin]:
    """Every plug-in of the groups, or of all, each tried, none fatal."""
    return [_try(group, entry) for group in groups or GROUPS for entry in plugins(group)]


def _try(group: str, entry: EntryPoint) -> Plugin:
    problem = ""
    try:
        check = getattr(load(group, entry.name), "check_available", None)
        if check is not None:
            check()
    except FeatxError as error:
        problem = str(error)
    except Exception as error:  # a stranger's module may fail in any way; the list must still be printed
        problem = f"{type(error).__name__}: {error}"
    return Plugin(group, entry.name, _package(entry), entry.value, problem)


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "?"
