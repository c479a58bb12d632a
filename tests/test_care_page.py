"""The examples of docs/care.md print what the page says."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from featx.cli import main
from featx.record import Record
from featx.schema import region_schema
from featx.store import create_store, open_part

PAGE = Path(__file__).resolve().parent.parent / "docs" / "care.md"
LABELS = {"objects": ["person", "tree", "car", "dog"], "attributes": ["red", "wet", "old"]}
SCHEMA = region_schema(64, "float32")


def record(number: int) -> Record:
    """Twelve regions of a picture of 640 x 480 pixels."""
    rng = np.random.default_rng(number)
    corners = np.sort(rng.random((12, 2, 2)), axis=1) * [640, 480]
    extra = {}
    for field in SCHEMA.extras:
        most = len(LABELS["objects" if field.name.startswith("object") else "attributes"])
        values = rng.random(12) if field.memory_dtype.kind == "f" else rng.integers(0, most, 12)
        extra[field.name] = values.astype(field.memory_dtype)
    features = np.maximum(rng.normal(size=(12, 64)), 0).astype(np.float32)
    return Record(features, corners.reshape(12, 4).astype(np.float32), (480, 640), extra=extra)


def make(path: Path, numbers: range, parts: int = 1) -> None:
    create_store(path, "lmdb", SCHEMA, {"profile": {"name": "demo"}}, LABELS, parts=parts)
    for part in range(parts):
        with open_part(path, part) as writer:
            for number in numbers[part::parts]:
                if number % 50 == 49:
                    writer.refuse(str(number), number, f"photos/{number}.jpg", "truncated", "the file ends early")
                else:
                    writer.put(str(number), record(number), number)
            writer.finish()


def damage(store: Path, number: int) -> None:
    """Flip a bit of the features of one record."""
    features = record(number).features.tobytes()
    for file in store.glob("parts/0*/records.lmdb"):
        content = bytearray(file.read_bytes())
        at = content.find(features)
        if at >= 0:
            content[at + 7] ^= 1
            file.write_bytes(content)


def printed(command: str) -> str:
    """What a command prints, on either stream, and its exit code when it is not 0."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([*shlex.split(command)[1:], *([] if "--drop" in command else ["--quiet"])])
    lines = [*said.getvalue().splitlines(), *([f"(exit code {code})"] if code else [])]
    return "\n".join(lines)


def test_the_examples_print_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "train.featx", range(400), parts=4)
    make(tmp_path / "val.featx", range(400, 500))
    (tmp_path / "mini.txt").write_text("\n".join(map(str, range(10, 30))))
    text = PAGE.read_text()
    found = 0
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = example.partition("\n")
            if "# one bit" in command:
                damage(tmp_path / "coco.featx", 17)
            assert printed(command.partition("#")[0]) == output.rstrip("\n"), command
            found += 1
    assert found > 8
