"""Keys: the string a picture is stored under, decided by a named rule before any work starts."""

from __future__ import annotations

import hashlib
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from featx.errors import PictureRefused, UsageError
from featx.images.source import Blob

SHOWN = 3  # collisions named in a message
# Unicode categories Cc, Zl, Zp and Cs: the last are bytes of a file name that are not UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True)
class Found:
    """A picture that has been found and has no key yet.

    ``path`` is relative to the root, folder or tar, with ``/``; ``shard`` is the name of the tar without
    its suffix, empty outside tars; ``listed_id`` is the id a JSON list gives the picture, if it does.
    """

    path: str
    blob: Blob
    shard: str = ""
    listed_id: str = ""


def _path(found: Found) -> str:
    return posixpath.splitext(found.path)[0]


def _name(found: Found) -> str:
    return posixpath.basename(found.path)


def _stem(found: Found) -> str:
    return posixpath.splitext(_name(found))[0]


def _shard(found: Found) -> str:
    return f"{found.shard}/{_path(found)}" if found.shard else _path(found)


def _coco_id(found: Found) -> str:
    digits = re.search(r"[0-9]+$", _stem(found))
    if not digits:
        raise UsageError(
            f"{found.blob.location} has no number at the end of its name; key rule 'coco-id' needs one",
            "choose --key-rule path or stem",
        )
    return str(int(digits[0]))


def _listed_id(found: Found) -> str:
    if not found.listed_id:
        raise UsageError(
            f"{found.blob.location} does not come from a JSON list with ids; key rule 'id' needs one",
            "choose --key-rule path or stem",
        )
    return found.listed_id


def _sha256(found: Found) -> str:
    try:
        return hashlib.sha256(found.blob.read()).hexdigest()
    except PictureRefused as error:
        raise UsageError(
            f"key rule 'sha256' reads every file, and {error.message}", "take it off the list, or choose another rule"
        ) from None


KeyRule = Callable[[Found], str]

KEY_RULES: Mapping[str, KeyRule] = MappingProxyType(
    {
        "path": _path,
        "name": _name,
        "stem": _stem,
        "coco-id": _coco_id,
        "id": _listed_id,
        "shard": _shard,
        "sha256": _sha256,
    }
)
"""The rules. ``path``: relative path without the last extension (``train/a.b.jpg`` gives ``train/a.b``).
``name``: file name. ``stem``: file name without the last extension. ``coco-id``: the integer at the end of
the stem, in decimal without leading zeros. ``id``: the id a JSON list gives. ``shard``: the name of the tar,
then ``path``, for shards that repeat member names. ``sha256``: digest of the file, which reads every file."""


def rule(name: str) -> KeyRule:
    """The rule of that name. Raises UsageError for a name that is none."""
    if name not in KEY_RULES:
        raise UsageError(f"key rule {name!r} is unknown", f"choose one of {', '.join(KEY_RULES)}")
    return KEY_RULES[name]


def assign(found: Sequence[Found], name: str) -> list[str]:
    """Keys of all pictures by the rule ``name``: checked, NFC-normalised, all different.

    Raises UsageError for a key that is not safe, or when two pictures share one.
    """
    make = rule(name)
    keys = [unicodedata.normalize("NFC", make(one)) for one in found]
    for one, key in zip(found, keys, strict=True):
        check_key(key, one.blob.location)
    _check_distinct(found, keys, name)
    return keys


def check_key(key: str, location: str) -> None:
    """Raise UsageError unless ``key`` is safe as a line of text and as a relative path.

    Safe means: valid UTF-8, no control or line-breaking character, not absolute, no backslash, and no
    empty, ``.`` or ``..`` component, so that joining it to a folder stays in the folder.
    """
    if not key:
        fault = "is empty"
    elif _UNPRINTABLE.search(key):
        fault = "holds a control character, a line break or bytes that are not UTF-8"
    elif key.startswith("/") or re.match(r"[A-Za-z]:/", key):
        fault = "is an absolute path"
    elif "\\" in key or not {"", ".", ".."}.isdisjoint(key.split("/")):
        fault = "could leave its folder ('..', '.', '//' or a backslash)"
    else:
        return
    raise UsageError(f"key {key!r} of {location!r} {fault}", "rename the file, or choose --key-rule sha256")


def _check_distinct(found: Sequence[Found], keys: Sequence[str], name: str) -> None:
    if len(set(keys)) == len(keys):
        return
    holders = defaultdict(list)
    for one, key in zip(found, keys, strict=True):
        holders[key].append(one.blob.location)
    shared = {key: at for key, at in holders.items() if len(at) > 1}
    shown = "; ".join(f"{key!r}: {', '.join(map(repr, at[:SHOWN]))}" for key, at in list(shared.items())[:SHOWN])
    more = f" (and {len(shared) - SHOWN} more)" if len(shared) > SHOWN else ""
    raise UsageError(
        f"key rule {name!r} gives {len(shared)} keys to more than one picture: {shown}{more}",
        _advice(found, name),
    )


def _advice(found: Sequence[Found], name: str) -> str:
    others = [r for r in KEY_RULES if r not in (name, "sha256") and _separates(found, r)]
    if others:
        return f"--key-rule {' or '.join(others)} would separate them"
    return "give the folder all paths are relative to (--root), rename the files, or choose --key-rule sha256"


def _separates(found: Sequence[Found], name: str) -> bool:
    try:
        keys = {unicodedata.normalize("NFC", KEY_RULES[name](one)) for one in found}
    except UsageError:
        return False
    return len(keys) == len(found)
