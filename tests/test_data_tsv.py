"""Tables of captions, separated by tabs."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from featx.data import Caption, read_captions
from featx.errors import UsageError

TABLE = (
    "image_file\tcaption\turl\tlang_id\n"
    "train/0001.jpg\tA dog.\thttp://a\ten\n"
    'train/0001.jpg\t"Ein ""Hund"" und\tmehr."\thttp://a\tde\n'
    "0002.b.png\tUn café à Nîmes\thttp://b\tfr\n"
)
CAPTIONS = [
    Caption(0, "0001", "A dog.", "en"),
    Caption(1, "0001", 'Ein "Hund" und\tmehr.', "de"),
    Caption(2, "0002.b", "Un café à Nîmes", "fr"),
]


def test_a_table_has_a_language_in_every_row(tmp_path: Path) -> None:
    (tmp_path / "c.tsv").write_text(TABLE, encoding="utf-8")
    (tmp_path / "c.tsv.gz").write_bytes(gzip.compress(TABLE.encode()))
    (tmp_path / "windows.tsv").write_bytes(TABLE.replace("\n", "\r\n").encode("utf-8-sig"))
    for name in ("c.tsv", "c.tsv.gz", "windows.tsv"):
        assert read_captions({"captions": str(tmp_path / name)}) == CAPTIONS


def test_pandas_writes_such_a_table(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    rows = [
        {"image_file": f"train/{c.picture}.jpg", "caption": c.text, "url": "u", "lang_id": c.language} for c in CAPTIONS
    ]
    pandas.DataFrame(rows).to_csv(tmp_path / "c.tsv", sep="\t", index=None)
    assert read_captions({"captions": str(tmp_path / "c.tsv")}) == CAPTIONS


def test_a_table_without_languages_is_in_the_one_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("image_file\tcaption\turl\n7.jpg\tUn perro.\thttp://a\n")
    spec = {"captions": str(tmp_path / "c.txt"), "format": "tsv", "image_name": "cc12m_{image_id:06d}"}
    assert read_captions(spec) == [Caption(0, "cc12m_000007", "Un perro.", "en")]
    assert read_captions({**spec, "language": "es"})[0].language == "es"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http://a\tA dog.\n", r"first line is http://a, A dog\.*"),
        ("", "its first line is empty"),
        ("image_file\tcaption\tcaption\n", "expected the columns image_file, caption, once"),
        ("image_file\tcaption\na.jpg\tA dog.\nb.jpg\n", "line 3 has 1 fields, its header 2"),
        ("image_file\tcaption\na.jpg\t \n", "line 2: 'caption' is empty"),
        ("image_file\tcaption\n.jpg\tA dog.\n", "'image_file' is '.jpg'"),
        ('image_file\tcaption\na.jpg\t"A dog.\n', "no table in UTF-8"),
    ],
)
def test_another_file_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.tsv"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as refusal:
        read_captions({"captions": str(path)})
    assert str(path) in str(refusal.value)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "l.tsv").write_bytes("image_file\tcaption\na.jpg\tcafé\n".encode("latin-1"))
    (tmp_path / "z.tsv.gz").write_bytes(gzip.compress(TABLE.encode())[:-9])
    for name in ("absent.tsv", "l.tsv", "z.tsv.gz"):
        with pytest.raises(UsageError, match=name):
            read_captions({"captions": str(tmp_path / name)})
