"""``featx formats [NAME ...]``: the formats that ``featx convert`` knows, and what each of them loses."""

from __future__ import annotations

import argparse

from featx.cli.output import add_json, describe, print_json, table
from featx.formats import Format, get, names

_EPILOG = """\
  featx formats                     # all, a line each
  featx formats oscar-tsv uniter-lmdb   # whose they are, what they need and lose
"""
_TRUST = {"part": "a part of it is pickled: left out without --allow-pickle", "all": "pickled: needs --allow-pickle"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    describe(parser, _EPILOG)
    parser.add_argument("names", nargs="*", metavar="NAME", help="tell everything about these formats")
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """List them."""
    known = [get(name) for name in options.names or names()]
    if options.json:
        print_json([facts(form) for form in known])
    elif options.names:
        print("\n\n".join(map(told, known)))
    else:
        rows = [("name", "reads", "writes", "pickled", "what it is")]
        rows += [(f.name, _yes(f.reads), _yes(f.writes), f.pickled.replace("no", ""), f.title) for f in known]
        print(table(rows))
        print("\n`featx formats NAME` tells what a format needs and what it loses.")


def told(form: Format) -> str:
    """All about one format, for people."""
    lines = [f"{form.name}: {form.title}", f"  source: {form.source}"]
    for what, names_of in (("reading", form.takes), ("writing", form.gives)):
        if names_of:
            lines.append(f"  {what} uses: " + " ".join(f"--{name.replace('_', '-')}" for name in sorted(names_of)))
    if form.writes:
        lines.append(f"  an export that was killed {'goes on' if form.resumes else 'begins anew'}")
    losses = [*form.declared, *([_TRUST[form.pickled]] if form.pickled in _TRUST else [])]
    return "\n".join([*lines, *(f"  - {loss}" for loss in losses)])


def facts(form: Format) -> dict[str, object]:
    """JSON form."""
    return {
        "name": form.name, "title": form.title, "source": form.source, "reads": form.reads, "writes": form.writes,
        "resumes": form.resumes, "pickled": form.pickled, "takes": sorted(form.takes), "gives": sorted(form.gives),
        "losses": list(form.declared),
    }  # fmt: skip


def _yes(value: bool) -> str:
    return "yes" if value else ""
