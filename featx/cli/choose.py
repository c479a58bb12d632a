"""``featx choose ITEMS.jsonl --pictures DIR --model DIR``: VCR's answers and rationales, and its leaderboard file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from featx.cli.output import deliver, print_json
from featx.cli.subject import add_model, open_pipeline, tell_notes
from featx.data.vcr import VcrItem, read_vcr
from featx.errors import UsageError

if TYPE_CHECKING:
    from featx.chooser import Chooser


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("items", metavar="ITEMS.jsonl", help="items as VCR has them; labels may be absent")
    parser.add_argument("--pictures", required=True, metavar="DIR", help="folder of pictures and metadata (vcr1images)")
    parser.add_argument("--store", help="the pictures' features; those that are not in it are extracted")
    parser.add_argument("--rationale-model", metavar="DIR", help="model of the rationales, if not that of the answers")
    parser.add_argument("--out", metavar="CSV", help="write the file of the leaderboard: 20 chances for each item")
    parser.add_argument("--image-name", metavar="TEMPLATE", help="of the store's keys, by default {image_id}: the "
                        "name of the picture's file without suffix")  # fmt: skip
    parser.add_argument("--upstream-geometry", action="store_true", default=None,
                        help="objects have the patches that iflytek/VLE gives them, as if pictures were stretched to "
                        "squares; for its published weights")  # fmt: skip
    parser.add_argument("--batch", type=int, default=8, help="items per call of the network (default 8)")
    add_model(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Choose, write the file where one is named, and say how many are right where the items say what is."""
    from featx.chooser import Chooser

    spec = {"vcr": options.items, "pictures": options.pictures, "image_name": options.image_name}
    items = read_vcr({name: value for name, value in spec.items() if value is not None})
    if not items:
        raise UsageError(f"{options.items} has no items", "expected one a line")
    if items[0].answer is None and not options.out:
        raise UsageError(f"{options.items} has no labels, so nothing can be scored", "name a file: --out CSV")
    more = {"batch": options.batch, "upstream_geometry": options.upstream_geometry}
    chooser: Chooser = open_pipeline(Chooser, options, options.store, **more)
    reasons = chooser
    if options.rationale_model:
        own = argparse.Namespace(**{**vars(options), "model": options.rationale_model})
        reasons = open_pipeline(Chooser, own, options.store, **more)
    for one in dict.fromkeys((chooser.sight, reasons.sight)):
        tell_notes(one)
    figures = score(chooser, reasons, items, options.pictures)
    if options.out:
        deliver(options.out, chooser.leaderboard(items, options.pictures, reasons).encode())
    if options.json:
        print_json({"items": len(items), **figures})
    else:
        print("\n".join([f"{len(items)} items", *(f"{name}  {value:.2f} %" for name, value in figures.items())]))


def score(chooser: Chooser, reasons: Chooser, items: Sequence[VcrItem], pictures: str) -> dict[str, float]:
    """Percent of right answers, of right rationales by the right answer, and of both: of what the models choose, where
    all items say what is right.
    """
    found: dict[str, list[bool]] = {}
    if "answer" in chooser.model.chooses and all(one.answer is not None for one in items):
        chosen = chooser.choices(items, "answer", None, pictures)
        found["Q->A"] = [one["pred"] == item.answer for one, item in zip(chosen, items, strict=True)]
    labelled = all(one.answer is not None and one.rationale is not None for one in items)
    if "rationale" in reasons.model.chooses and labelled:
        chosen = reasons.choices(items, "rationale", None, pictures)
        found["QA->R"] = [one["pred"] == item.rationale for one, item in zip(chosen, items, strict=True)]
    if len(found) > 1:
        found["Q->AR"] = [all(pair) for pair in zip(*found.values(), strict=True)]
    return {name: round(100 * sum(hits) / len(hits), 2) for name, hits in found.items()}
