"""The table of the published multilingual data sets: tab-separated, with a header, in blocks of all languages.

The first 512 texts in the first language, then the same in the second, ...; then the next 512
(gchhablani/multilingual-vqa and multilingual-image-captioning). Fields are quoted as pandas quotes them.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from featx.delivery import delivery

Row = dict[str, str]
BLOCK = 512


def write_table(
    target: Path, rows: Sequence[Row], column: str, texts: Sequence[str], lookups: Mapping[str, Callable[[str], str]]
) -> None:
    """Write ``rows`` with their ``texts``, once for each language.

    column: of the texts; it is the second, as published, behind the picture. lookups: language -> what a text is in it;
    the languages are in this order in every block, and in the column ``lang_id``, the last.
    """
    header = _header(rows, column)
    with delivery(str(target)) as out:
        writer = csv.writer(codecs.getwriter("utf-8")(out), delimiter="\t", lineterminator="\n")
        writer.writerow(header)
        for begin in range(0, len(rows), BLOCK):
            for language, lookup in lookups.items():
                for row, own in zip(rows[begin : begin + BLOCK], texts[begin : begin + BLOCK], strict=True):
                    full = {**row, column: lookup(own), "lang_id": language}
                    writer.writerow([full[name] for name in header])


def _header(rows: Sequence[Row], column: str) -> list[str]:
    first, *others = list(rows[0]) if rows else ["image_file"]
    return [first, column, *others, "lang_id"]
