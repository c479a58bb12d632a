"""A file with texts to translate, and the same file with others in their place.

Questions of VQAv2 and captions of COCO are JSON; tables, separated by tabs, have a column ``question`` or ``caption``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from featx.data import captions, read_captions, read_questions, vqa
from featx.data.document import Document, load_document
from featx.data.names import SPLITS
from featx.data.tsv import SUFFIXES, Line, read_tsv
from featx.delivery import delivery
from featx.errors import UsageError
from featx.translation.table import Row

Column = Literal["question", "caption"]
Lookup = Callable[[str], str]  # a text -> its translation
_ENDS = (".json.gz", ".json", ".zip", *sorted(SUFFIXES, key=len, reverse=True))


@dataclass(frozen=True)
class Source:
    """A file that was read. ``column``: what its texts are. ``content``: of a JSON file, else None."""

    path: str
    column: Column
    texts: Sequence[str]
    content: Any = None
    lines: Sequence[Line] = ()

    @property
    def is_table(self) -> bool:
        return self.content is None

    def stem(self, language: str) -> str:
        """What the names of the files made of it begin with: its own, without suffix and language."""
        member = self.path.rpartition(".zip:")[2]
        name = Path(member).name
        end = next((end for end in _ENDS if name.endswith(end)), "")
        return name.removesuffix(end).removesuffix(f"_{language}")

    def write(self, target: Path, lookup: Lookup) -> None:
        """The JSON file again, each text by ``lookup``."""
        name = "questions" if self.column == "question" else "annotations"
        rows = [{**row, self.column: lookup(text)} for row, text in zip(self.content[name], self.texts, strict=True)]
        with delivery(str(target)) as out:
            out.write(json.dumps({**self.content, name: rows}, ensure_ascii=False).encode())

    def rows(self, annotations: str | None, image_name: str | None, label: Callable[[str], int] | None) -> list[Row]:
        """What the published table says of each text besides itself: columns in their order."""
        if self.is_table:
            return [{n: v for n, v in line.fields.items() if n not in (self.column, "lang_id")} for line in self.lines]
        spec = {"image_name": image_name, f"{self.column}s": self.path}
        if self.column == "caption":
            return [{"image_file": f"{c.picture}.jpg"} for c in read_captions(spec)]
        folder = SPLITS.get(str(self.content.get("data_subtype")), "")
        found = read_questions({**spec, "annotations": annotations} if annotations else spec)
        rows: list[Row] = [{"image_file": f"{folder}/{q.picture}.jpg".lstrip("/")} for q in found]
        if label is not None:
            for row, q in zip(rows, found, strict=True):
                row |= {"answer_label": str(label(q.answer)), "question_type": q.question_type}
        return rows


def read_source(path: str, language: str) -> Source:
    """Read a file in ``language``. Raises UsageError for another layout, and for a table of several languages."""
    if path.endswith(SUFFIXES):
        return _table(path, language)
    file = load_document(path)
    if vqa.fits(file.content):
        return Source(path, "question", _texts(file, "questions", "question"), file.content)
    if captions.fits(file.content):
        return Source(path, "caption", _texts(file, "annotations", "caption"), file.content)
    return file.refuse("it holds neither questions nor captions", "expected the layout of VQAv2 or of COCO, or a table")


def _texts(file: Document, rows: str, field: str) -> list[str]:
    return [row.text(field) for row in file.rows(file.content[rows], rows)]


def _table(path: str, language: str) -> Source:
    lines = list(read_tsv(path, ("image_file",)))
    fields = lines[0].fields if lines else {}
    columns: list[Column] = [name for name in ("question", "caption") if name in fields]
    if len(columns) != 1:
        raise UsageError(f"{path} has {len(columns)} of the columns question and caption", "expected one, and rows")
    for line in lines:
        if line.fields.get("lang_id", language) != language:
            line.refuse(f"its language is {line.fields['lang_id']}", f"expected {language} in all rows")
    return Source(path, columns[0], [line.text(columns[0]) for line in lines], None, lines)
