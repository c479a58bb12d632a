"""The ``featx`` command: one module per subcommand, imported only when it is the one asked for.

Results go to stdout, talk to stderr. Exit codes::

    0    done
    1    unexpected error, a comparison that failed, or a training loss that is no longer a number
    2    wrong usage or input, or a file that cannot be read or written
    3    finished, but refused more pictures than --max-refused
    4    store damaged, unfinished, locked by another process, or not a store
    5    an optional package is missing; the message has the line that installs it
    130  interrupted; the state is kept and the message says how to resume
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from featx import __version__
from featx.cli.output import fail
from featx.errors import FeatxError, UsageError

# name -> one line of help. Kept here so that `featx --help` imports none of the modules behind it.
COMMANDS = {
    "extract": "turn pictures into a store of region features",
    "plan": "measure a sample; say what an extraction takes and costs, and how to run it",
    "status": "say how an extraction stands: parts, rate, time left",
    "inspect": "say what a store, or one record of it, holds",
    "get": "read one record into an .npz file",
    "draw": "draw a record's boxes and names on its picture",
    "verify": "check every byte of a store, or a sample; repair it",
    "stats": "say what the records of a store are like; a picture",
    "diff": "compare two stores, and say which step of the pipeline differs",
    "merge": "put several stores together",
    "split": "take a store apart",
    "compact": "write a store anew: few files, another backend or dtype",
    "pull": "copy a store from S3, GCS, the Hub, ... or go on with it",
    "push": "copy a store to S3, GCS, ... or go on with it",
    "convert": "read or write other people's formats",
    "formats": "list those formats, and what each of them loses",
    "scenes": "draw pictures with boxes, questions and captions to learn from",
    "translate": "put the questions or captions of a data set into other languages",
    "train": "train a model on a store, or a detector on boxes",
    "predict": "answer the questions of a whole split",
    "evaluate": "score a file of answers",
    "ask": "ask a question about a picture",
    "caption": "describe a picture, or all of a store, in several languages",
    "match": "say which texts are about a picture",
    "ground": "find what a text is about in a picture, and darken the rest",
    "choose": "choose among the answers and rationales of VCR, and write its leaderboard's file",
    "serve": "serve stores over HTTP and Arrow Flight, with a page to look at them and ask",
    "models": "list kinds of models: what they read, what they do, what they were verified against",
    "plugins": "list extractors, tasks and models, and what is missing to use them",
    "doctor": "say what is installed, compiled and missing",
}
COMMAND_GROUP = "featx.commands"  # entry points through which another package adds a command


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    chosen = next((a for a in args if not a.startswith("-")), None)
    try:
        parser = build_parser(chosen)
    except KeyboardInterrupt:  # while the command's module was imported
        return interrupted()
    options = parser.parse_args(args)
    if options.version:
        return guarded(lambda _: print(f"featx {__version__}"), options)
    if not hasattr(options, "run"):
        return guarded(lambda _: parser.print_help(), options)
    return guarded(options.run, options)


def build_parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser; only the ``chosen`` command's module is imported, the others show their one line."""
    parser = argparse.ArgumentParser(
        prog="featx",
        description="Region features of photos: extract, store, read back.",
        epilog="`featx COMMAND --help` tells more about a command. Exit codes:" + (__doc__ or "").split("codes::")[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.set_defaults(debug=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, text, configure in available():
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == chosen:
            sub.add_argument("--debug", action="store_true", help="show the traceback of an unexpected error")
            configure()(sub)
    return parser


def available() -> list[tuple[str, str, Callable[[], Callable[[argparse.ArgumentParser], None]]]]:
    """(name, help, loader of its ``configure``) of our own commands and those of other packages."""

    def own(name: str) -> Callable[[], Callable[[argparse.ArgumentParser], None]]:
        return lambda: import_module(f"featx.cli.{name}").configure

    ours = [(name, text, own(name)) for name, text in COMMANDS.items()]
    others = [(e.name, summary(e), e.load) for e in entry_points(group=COMMAND_GROUP)]
    return ours + others


def summary(entry: EntryPoint) -> str:
    """First line of the docstring of another package's ``configure``; a door that jams must not hide the house."""
    try:
        return (entry.load().__doc__ or "").strip().partition("\n")[0].rstrip(".")
    except Exception as error:
        return f"cannot be loaded: {type(error).__name__}: {error}"


def guarded(run: Callable[[argparse.Namespace], int | None], options: argparse.Namespace) -> int:
    """Run a command; every error a user can cause becomes a message and its exit code, never a traceback."""
    try:
        code = run(options) or 0
        sys.stdout.flush()  # a reader that left, or a full disk, shows here and not when the interpreter ends
        return code
    except FeatxError as error:
        return fail(error, options)
    except KeyboardInterrupt:
        return interrupted()
    except BrokenPipeError:
        hush()
        return 0
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if error.filename is None and not full:
            return unexpected(error, options)
        if options.debug:
            traceback.print_exc()
        if error.filename is None:
            hush()
        return fail(unusable(error), options)
    except Exception as error:
        return unexpected(error, options)


def interrupted() -> int:
    """A word about Ctrl-C, and its exit code."""
    print("\ninterrupted", file=sys.stderr)
    return 130


def hush() -> None:
    """Turn stdout away, so that what is left in its buffer cannot fail once more when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def unusable(error: OSError) -> UsageError:
    """What the system refused, as a sentence with advice."""
    advice = {
        errno.ENOENT: "check the spelling, and that its folder exists",
        errno.EACCES: "check its permissions",
        errno.EPERM: "check its permissions",
        errno.EROFS: "choose a place that can be written",
        errno.EISDIR: "give a file, not a folder",
        errno.ENOTDIR: "one of its folders is a file: check the spelling",
        errno.ENOSPC: "make room, or choose another disk",
        errno.EDQUOT: "make room, or choose another disk",
    }.get(error.errno or 0, "check that it exists, and may be read or written")
    what = "the output" if error.filename is None else str(error.filename)
    return UsageError(f"cannot use {what}: {error.strerror}", advice)


def unexpected(error: Exception, options: argparse.Namespace) -> int:
    """One line about an error nobody foresaw; its traceback when debugging."""
    if options.debug:
        traceback.print_exc()
    print(f"featx: unexpected {type(error).__name__}: {error}", file=sys.stderr)
    print("  -> run it again with --debug, and please report what it prints", file=sys.stderr)
    return 1
