"""``featx scenes OUT --train N --val M --seed S``: a drawn data set for every consumer."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from featx.cli.output import add_json
from featx.errors import Interrupted

if TYPE_CHECKING:
    from featx.scenes import Plan


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("out", help="folder to draw into; made if absent, completed if an earlier run was stopped")
    parser.add_argument("--train", type=int, default=1000, help="pictures to learn from (default 1000)")
    parser.add_argument("--val", type=int, default=200, help="pictures to test on (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other pictures (default 0)")
    parser.add_argument("--languages", default="en,fr,de,es", help="of questions and captions (default en,fr,de,es)")
    parser.add_argument("--vizwiz", action="store_true", help="pictures and questions in the layout of VizWiz, too")
    parser.add_argument("--workers", type=int, help="processes (default: one for each core)")
    parser.add_argument("--quiet", action="store_true", help="no progress; errors stay")
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Draw, and say where to go next."""
    from featx.scenes import write_scenes

    languages = [name.strip() for name in options.languages.split(",") if name.strip()]
    try:
        plan = write_scenes(
            options.out, options.train, options.val, options.seed, languages,
            vizwiz=options.vizwiz, workers=options.workers, quiet=options.quiet, json=options.json,
        )  # fmt: skip
    except KeyboardInterrupt:
        again = shlex.join(["featx", *sys.argv[1:]])
        raise Interrupted("stopped; the pictures drawn so far are kept", f"go on with: {again}") from None
    if options.json:
        print(json.dumps({"event": "done", "folder": options.out, **asdict(plan)}))
    else:
        print(told(options.out.rstrip("/"), plan))


def told(out: str, plan: Plan) -> str:
    """What was drawn and where to go next, for a person."""
    split = "train" if plan.train else "val"
    pictures, store = shlex.quote(f"{out}/{split}"), shlex.quote(f"{out}/{split}.featx")
    return (
        f"{out}: {plan.train:,} + {plan.val:,} pictures of seed {plan.seed}, with questions and captions in "
        f"{', '.join(plan.languages)}; {out}/README.md says what is where\n"
        f"next: featx extract {pictures} {store} --weights tiny --key-rule stem"
    )
