"""Lists of keys are read in one way, whoever asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from featx.care import split
from featx.errors import UsageError
from featx.formats.options import Options
from featx.formats.records import Records
from featx.store import open_store
from featx.store.key_list import read_keys
from tests.store_oracle import make_store, names

KEYS = names(5)


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        (b"a\nb\n", ["a", "b"]),
        (b"b\na", ["b", "a"]),
        (b"\xef\xbb\xbfa\r\n\r\n  \nb\r\n", ["a", "b"]),
        (b"a\nb\na\n", ["a", "b"]),
        (b" a\na \n", [" a", "a "]),
        ("cafe\u0301\ncaf\u00e9\n".encode(), ["caf\u00e9"]),
        ("a\u2028b\n".encode(), ["a\u2028b"]),
    ],
    ids=["two", "their order", "Windows", "a key twice", "blanks around keys", "two spellings", "no line break"],
)
def test_keys_are_lines_each_once(tmp_path: Path, content: bytes, keys: list[str]) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    assert read_keys(tmp_path / "list.txt") == keys
    assert read_keys(str(tmp_path / "list.txt")) == keys


@pytest.mark.parametrize(("content", "what"), [(b"", "empty"), (b"\n \n", "empty"), (b"\xff\xfe", "cannot be read")])
def test_what_is_no_list_is_told(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(UsageError, match=what):
        read_keys(tmp_path / "list.txt")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_keys(tmp_path)
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_keys(tmp_path / "none.txt")


def test_split_and_convert_take_the_same_list(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", "lmdb", 9)
    chosen = tmp_path / "some.txt"
    chosen.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([KEYS[3], KEYS[0], KEYS[3], ""]).encode())
    split(store, tmp_path / "parts", lists=[chosen])
    with open_store(tmp_path / "parts" / "some") as made:
        assert set(made) == {KEYS[0], KEYS[3]}
    with open_store(store) as reader:
        assert list(Records(reader, Options(keys=str(chosen))).keys()) == [KEYS[3], KEYS[0]]
        assert list(Records(reader, Options(first=str(chosen))).keys())[:3] == [KEYS[3], KEYS[0], KEYS[1]]
