"""``featx formats``: the formats that ``featx convert`` knows, and what each of them loses."""

from __future__ import annotations

import argparse

from featx.cli.output import add_json, print_json, table
from featx.formats import Format, get, names


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """List them."""
    known = [get(name) for name in names()]
    if options.json:
        print_json([facts(form) for form in known])
        return
    rows = [("name", "reads", "writes", "what it is")]
    rows += [(f.name, "yes" if f.reads else "", "yes" if f.writes else "", f"{f.title}: {f.source}") for f in known]
    print(table(rows))
    for form in known:
        trust = {"no": "", "part": "a part of it is pickled", "all": "all of it is pickled: --allow-pickle"}[
            form.pickled
        ]
        for line in (*form.losses, *([trust] if trust else [])):
            print(f"{form.name}: {line}")


def facts(form: Format) -> dict[str, object]:
    """JSON form."""
    return {
        "name": form.name, "title": form.title, "source": form.source, "reads": form.reads, "writes": form.writes,
        "pickled": form.pickled, "losses": list(form.losses),
    }  # fmt: skip
