"""``featx models [NAME]``: every kind of model, what it wants from a store, and whether it can be used here."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, cast

from featx.cli.output import add_json, print_json, table
from featx.errors import UsageError
from featx.registry import Plugin, load, survey

if TYPE_CHECKING:
    from featx.models import Kind

_COLUMNS = {"kind": 20, "wants from a store": 28, "checkpoints": 32, "verified against": 28, "state": 24}  # and widths
_WIDTH = 88  # of a text in the description of one kind
_ENTRIES = ("does", "reads", "checkpoints", "verified", "tasks", "recipes")


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("name", nargs="?", help="one of them, described in full")
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """A line for each kind, or all about one."""
    from featx.models import GROUP

    found = [described(plugin) for plugin in survey(GROUP)]
    if options.name is not None:
        found = [one for one in found if one["name"] == options.name]
        if not found:
            known = ", ".join(plugin.name for plugin in survey(GROUP))
            raise UsageError(f"there is no kind of model {options.name!r}", f"known are {known}")
    if options.json:
        print_json(found if options.name is None else found[0])
    elif options.name is None:
        print(overview(found))
    else:
        print(whole(found[0]))


def described(plugin: Plugin) -> dict[str, Any]:
    """JSON form of a kind: its card, what it does, and what stops it, empty when nothing does."""
    from featx.models import abilities

    about: dict[str, Any] = {"name": plugin.name, "package": plugin.package, "problem": plugin.problem, "does": []}
    try:
        kind = cast("Kind", load(plugin.group, plugin.name))
    except Exception:  # a stranger's module may fail in any way, which the survey has told already
        return {**about, "title": "", "reads": "", "checkpoints": [], "verified": "", "tasks": [], "recipes": []}
    return {**about, "does": abilities(kind), **asdict(kind.card)}


def overview(found: Sequence[dict[str, Any]]) -> str:
    """A table, several lines for each kind, with an empty one between two."""
    rows: list[Sequence[str]] = [tuple(_COLUMNS)]
    for one in found:
        cells = [[one["name"], *one["does"]], [one["reads"]], one["checkpoints"], [one["verified"]], [_state(one)]]
        columns = [_wrapped(texts, width) for texts, width in zip(cells, _COLUMNS.values(), strict=True)]
        rows += [("",) * len(_COLUMNS), *zip_longest(*columns, fillvalue="")]
    return table(rows)


def whole(one: dict[str, Any]) -> str:
    """All about one kind, a line for each entry of its card."""
    rows = [("name", [one["name"]]), ("what", [one["title"]]), ("package", [one["package"]])]
    rows += [(name, [one[name]] if isinstance(one[name], str) else list(one[name])) for name in _ENTRIES]
    rows.append(("state", [_state(one)]))
    lines = [(name if not i else "", text) for name, texts in rows for i, text in enumerate(_wrapped(texts, _WIDTH))]
    return table(lines)


def _wrapped(texts: Sequence[str], width: int) -> list[str]:
    return [line for text in texts for line in textwrap.wrap(text, width, subsequent_indent="  ")] or ["-"]


def _state(one: dict[str, Any]) -> str:
    return str(one["problem"]).replace("\n", " ") or "ready"
