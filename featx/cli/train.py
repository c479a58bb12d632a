"""``featx train``: train a task; stopped at any moment, the same command goes on."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import warnings
from pathlib import Path
from typing import Any

from featx.cli.output import add_json
from featx.errors import Interrupted
from featx.train.recipe import read_recipe

EPILOG = """The folder holds config.json, log.jsonl, checkpoints/, best/ (the best evaluation), final/ and tensorboard/.
Run the same command again to go on after Ctrl-C, SIGTERM, a kill or a crash; torchrun starts several processes.

Exit codes: 0 trained; 1 the loss is no longer a number, or an unexpected error; 2 a setting, the store or the folder
does not fit; 4 a store or checkpoint is damaged, or another process has the folder; 5 a package is missing;
130 stopped, with a checkpoint and the line that resumes. torchrun ends with 1 for all of them, behind a traceback of
its own: look above that."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("config", help="YAML file: task, store, train, and the task's own sections; see configs/")
    parser.add_argument("--out", required=True, help="folder of the run; made if absent, gone on with if present")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="overrides",
        help="override a setting, for example train.lr=1e-4; may be repeated",
    )  # fmt: skip
    parser.add_argument("--store", help="the store to read, a folder or URL, instead of the configuration's")
    parser.add_argument("--device", help="cpu, cuda or cuda:N, instead of train.device")
    parser.add_argument(
        "--allow-mismatch", action="store_true", help="train on a store that is not what the task wants"
    )
    parser.add_argument("--fresh", action="store_true", help="delete a former run in the folder and begin anew")
    parser.add_argument("--quiet", action="store_true", help="no progress; notes and errors stay")
    add_json(parser)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train. A second interrupt, which is not waited for, also says how to go on."""
    recipe = read_recipe(options.config, options.overrides, store=options.store, device=options.device)
    resume = "resume with the same torchrun command" if "RANK" in os.environ else f"resume with: {command_line()}"
    from featx.train.distributed import ToldByFirst  # torch, which takes seconds, comes after the cheap mistakes
    from featx.train.loop import train

    def note(text: str) -> None:
        print(f"featx: {text}", file=sys.stderr)

    def warned(message: Warning | str, *where: Any, **more: Any) -> None:
        note(str(message))  # the line of our code that noticed it helps nobody

    try:
        with warnings.catch_warnings():
            warnings.showwarning = warned
            outcome = train(
                recipe.build(), recipe.store, recipe.train, Path(options.out),
                options=recipe.options, allow_mismatch=options.allow_mismatch, fresh=options.fresh, quiet=options.quiet,
                json_lines=options.json, on_note=note, resume_hint=resume,
            )  # fmt: skip
    except ToldByFirst as error:
        return error.exit_code
    except KeyboardInterrupt:
        raise Interrupted("stopped at once; what was saved is kept", resume) from None
    if not options.quiet and not options.json and os.environ.get("RANK", "0") == "0":
        print(outcome, file=sys.stderr)
    return 0


def command_line() -> str:
    """This very command, to be pasted; what was deleted once need not be deleted again."""
    return shlex.join(["featx", *(word for word in sys.argv[1:] if word != "--fresh")])
