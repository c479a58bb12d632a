"""``featx plugins``: what is known, from which package, and what is missing to use it."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from featx.cli.output import add_json, print_json, table
from featx.registry import survey


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """A line for each plug-in."""
    found = survey()
    if options.json:
        print_json([asdict(plugin) for plugin in found])
        return
    rows = [("kind", "name", "from", "state")]
    for plugin in found:
        kind = plugin.group.removeprefix("featx.").removesuffix("s")
        rows.append((kind, plugin.name, plugin.package, plugin.problem.replace("\n", " ") or "ready"))
    print(table(rows))
