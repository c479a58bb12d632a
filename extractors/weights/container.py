"""Which container a weights file is, told from its first bytes, and the sha256 of a file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from featx.errors import WeightsError

Container = Literal["safetensors", "torch", "pickle", "protobuf"]

KNOWN = "a .safetensors, .bin or .pth (torch), .pkl (numpy arrays) or .caffemodel file"
INCOMPLETE = "get a complete copy and check its sha256"
_TORCH_LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # the pickled magic number of torch < 1.6
_WEB_PAGE = (b"<!doctype", b"<html", b"<?xml")
_PICKLE_SUFFIXES = (".pkl", ".pickle")


def container(path: Path) -> Container:
    """The container of ``path``. Raises WeightsError for what is no weights file, with the likeliest reason."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise WeightsError(f"{path} is empty", "the download was cut short; get it again")
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path} is a Git LFS pointer, not the weights", "fetch the file itself: git lfs pull")
    if head.lstrip().lower().startswith(_WEB_PAGE):
        raise WeightsError(f"{path} is a web page, not weights", "the download failed; open the address in a browser")
    if path.suffix == ".caffemodel":  # no magic number, and its first bytes could look like any of the others
        return "protobuf"
    if head.startswith((b"PK\x03\x04", _TORCH_LEGACY)):
        return "torch"
    if head[8:9] == b"{":
        if int.from_bytes(head[:8], "little") > size - 8:
            raise WeightsError(f"{path} is cut short inside its header ({size} bytes)", "get a complete copy")
        return "safetensors"
    if head[0] == 0x80 or (path.suffix in _PICKLE_SUFFIXES and head[:1] in b"(]}c"):
        return "pickle"
    raise WeightsError(f"{path} is of no known kind (it starts with {head[:8]!r})", f"expected {KNOWN}")


def file_sha256(path: Path) -> str:
    """sha256 of the bytes of ``path``, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, found: str, expected: str | None) -> None:
    """Raise WeightsError when ``expected`` is given and differs."""
    if expected is not None and found != expected.strip().lower().removeprefix("sha256:"):
        raise WeightsError(
            f"{path} has the sha256 {found}, expected {expected}",
            "it is another file or was damaged on the way: get it again, or state the hash of this one",
        )
