"""Whether two manifests are of one make, and what to say when they are not: what matters most comes first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from featx.errors import UsageError

_SHOWN = 8  # differences told per section of a manifest


def agree(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Raise UsageError unless a run with the manifest ``theirs`` would write into the store of ``mine``.

    The error names backend, parts, list of pictures, schema, provenance and labels, in this order, as far as they
    differ; no section buries the next.
    """
    theirs = {**theirs, "provenance": _from_anywhere(mine["provenance"], theirs["provenance"])}
    ahead, schema, provenance = (
        [line for name in names for line in _cut(_differences(name, mine[name], theirs[name]))]
        for names in (("backend", "parts"), ("schema",), ("provenance",))
    )
    lists = list(_other_list(mine["sources"], theirs["sources"]))
    behind = [*schema, *provenance, *_other_names(mine["labels"], theirs["labels"])]
    if ahead or lists or behind:
        wanted = ["run with the store's settings"] if ahead or behind else []
        wanted += ["extract exactly the same list"] if lists else []
        raise UsageError(
            "this run does not match the store:\n  " + "\n  ".join([*ahead, *lists, *behind]),
            f"{' and '.join(wanted)}, or write to another folder",
        )


def _from_anywhere(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The provenance ``theirs``; where equal weights lay is no difference: their hash says that they are equal."""
    left, right = mine.get("weights"), theirs.get("weights")
    if not (isinstance(left, Mapping) and isinstance(right, Mapping) and "source" in left and "source" in right):
        return theirs
    if left.get("sha256") is None or left.get("sha256") != right.get("sha256"):
        return theirs
    return {**theirs, "weights": {**right, "source": left["source"]}}


def differences(
    mine: Mapping[str, Any], theirs: Mapping[str, Any], names: Iterable[str], who: tuple[str, str]
) -> list[str]:
    """A line with both values for every leaf of these sections of two manifests that differs; ``who`` has which."""
    return [line for name in names for line in _differences(name, mine[name], theirs[name], who)]


def _differences(name: str, mine: Any, theirs: Any, who: tuple[str, str] = ("the store", "this run")) -> list[str]:
    """A line for each leaf of nested JSON that differs, in the order of the store."""
    left, right = dict(_flat(mine, name)), dict(_flat(theirs, name))
    return [
        f"{leaf}: {who[0]} has {left.get(leaf, 'nothing')!r}, {who[1]} {right.get(leaf, 'nothing')!r}"
        for leaf in [*left, *(leaf for leaf in right if leaf not in left)]
        if left.get(leaf) != right.get(leaf) or (leaf in left) != (leaf in right)
    ]


def _cut(lines: list[str]) -> list[str]:
    """The first lines of a section, so that it does not bury the next."""
    more = len(lines) - _SHOWN
    return lines if more <= 0 else [*lines[:_SHOWN], f"... and {more} more in {lines[0].split('.')[0]}"]


def _other_list(mine: Mapping[str, Any] | None, theirs: Mapping[str, Any] | None) -> Iterator[str]:
    """What tells two lists of pictures apart."""
    if mine == theirs:
        return
    begun, given = ((sources or {}).get("pictures") for sources in (mine, theirs))
    if mine is None or theirs is None:
        yield f"the store was begun with {_counted(mine, begun)}, this run has {_counted(theirs, given)}"
    elif begun != given:
        yield f"the store was begun with {begun} pictures, this list has {given}"
    else:
        yield f"the store was begun with another list of {begun} pictures"


def _counted(sources: Mapping[str, Any] | None, pictures: Any) -> str:
    return "no list of pictures" if sources is None else f"a list of {pictures} pictures"


def _other_names(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    """One line for each list of names that differs, however many names do."""
    for kind in [*mine, *(kind for kind in theirs if kind not in mine)]:
        left, right = (list(labels.get(kind) or ()) for labels in (mine, theirs))
        if left != right:
            pairs = enumerate(zip(left, right, strict=False))
            first = next((f"; name {n} is {a!r} and {b!r}" for n, (a, b) in pairs if a != b), "")
            yield f"labels.{kind}: the store has {_named(left)}, this run {_named(right)}{first}"


def _named(names: list[Any]) -> str:
    some = f"{names[0]!r}, ..." if len(names) > 1 else "".join(map(repr, names))
    return f"{len(names)} names ({some})" if names else "no names"


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested JSON by dotted name."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = list(enumerate(value))
    if not items:
        yield name, value
    for key, inner in items:
        yield from _flat(inner, f"{name}.{key}" if name else str(key))
