"""``featx translate FILE... --to LANG,... --out FOLDER``: a data set in more languages, through MarianMT models."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from featx.cli.bar import add_quiet, bar
from featx.cli.output import add_json, describe, print_json
from featx.errors import UsageError

_HELP = """\
Of questions.json, FOLDER/questions_en.json, FOLDER/questions_fr.json, ... are made, with the ids and pictures of the
source, so that annotations of VQAv2 fit each of them; of captions the like. With --tsv, and of a table, all languages
are in FOLDER/questions_en-fr-....tsv, as the multilingual data sets are published.

Every different text is translated once and kept in FOLDER/translations: the same command goes on where it was stopped.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    describe(parser, _HELP)
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="questions (VQAv2), captions (COCO), or a table (.tsv)"
    )
    parser.add_argument("--to", required=True, metavar="LANG[,LANG]", help="languages to translate into: fr,de,es")
    parser.add_argument("--from", dest="source", default="en", metavar="LANG", help="their own language (default en)")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where the files are written")
    parser.add_argument("--model", action="append", default=[], metavar="LANG=MODEL",
                        help="folder or hub id of a model (default Helsinki-NLP/opus-mt-FROM-LANG)")  # fmt: skip
    parser.add_argument("--tsv", action="store_true", help="of JSON, too, write the table of all languages")
    parser.add_argument("--annotations", nargs="+", default=[], metavar="JSON",
                        help="with --tsv: annotations of VQAv2, one for each file, in their order")  # fmt: skip
    parser.add_argument("--vocabulary", metavar="FILE",
                        help="with --annotations: the answers that classes are counted in, with <unk>")  # fmt: skip
    parser.add_argument("--image-name", help="with --tsv: template of the pictures' names: 'scene_{image_id:012d}'")
    parser.add_argument("--batch", type=int, default=64, help="texts at a time (default 64)")
    parser.add_argument("--beams", type=int, default=4, help="of the search (default 4)")
    parser.add_argument("--max-length", type=int, default=64, help="word pieces of a translation (default 64)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")
    add_quiet(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Translate, and say what was made."""
    from featx.translate import Marian
    from featx.translation import Job, translate

    for name in ("beams", "max_length"):
        if getattr(options, name) < 1:
            raise UsageError(
                f"--{name.replace('_', '-')} is {getattr(options, name)}", "give a whole number of 1 or more"
            )
    targets = [name.strip() for name in options.to.split(",") if name.strip()]
    job = Job(
        options.files, Path(options.out), targets, options.source, options.tsv, options.annotations,
        options.vocabulary, options.image_name, options.batch,
    )  # fmt: skip
    names = models(options.model, options.source, targets)
    translator = Marian(names, options.device, beams=options.beams, longest=options.max_length)
    with bar(options, "texts", kept="translated") as shown:
        done = translate(job, translator, shown)
    if options.json:
        print_json(asdict(done))
        return
    print("\n".join(done.files))
    print(f"{done.texts:,} different texts in {len(targets) + 1} languages, {done.translated:,} translated in this run")
    if done.left:
        print(f"{done.left:,} stay as they are: their model made nothing of them")


def models(given: Sequence[str], source: str, targets: Sequence[str]) -> dict[str, str]:
    """Direction -> model, of ``fr=FOLDER`` and the like."""
    found = {}
    for text in given:
        language, equals, model = text.partition("=")
        if not equals or not model or language not in targets:
            raise UsageError(
                f"--model {text} names no model of a language of --to", "write, for example, --model fr=FOLDER"
            )
        found[f"{source}>{language}"] = model
    return found
