"""One record in the forms that people and other tools read: JSON, .npz and safetensors. Decoded, its checksum checked.

The same record always makes the same bytes, so that ranges and ETags of a form are true.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featx.codec import decode, peek
from featx.record import Record
from featx.schema import Array, Schema
from featx.serve.problems import Problem
from featx.serve.spans import Bytes, stored_key

RECORD = "application/vnd.featx.record"
FORMS = {  # the word of ?as=, and what is sent
    "record": RECORD,
    "json": "application/json",
    "npz": "application/x-npz",
    "safetensors": "application/x-safetensors",
}
_TYPES = {media: name for name, media in FORMS.items()} | {"application/octet-stream": "record"}


def chosen_form(asked: str | None, accept: str | None) -> str:
    """The form that ``?as=`` names, or else the one that the header Accept likes best; the stored bytes where it has no
    preference. Raises Problem for what there is not."""
    if asked is not None:
        if asked not in FORMS:
            raise Problem(400, "bad_request", f"there is no form {asked[:40]!r}", f"as= is one of {', '.join(FORMS)}")
        return asked
    if accept is None or accept == "*/*" or accept == RECORD:
        return "record"
    best, quality = "", 0.0
    for media, q in _accepted(accept):
        name = "record" if media in ("*/*", "application/*") else _TYPES.get(media)
        if name is not None and q > quality:
            best, quality = name, q
    if not best:
        raise Problem(406, "not_acceptable", "none of the accepted types can be sent", f"ask for {', '.join(_TYPES)}")
    return best


def _accepted(header: str) -> list[tuple[str, float]]:
    found = []
    for piece in header.split(","):
        media, *parameters = (part.strip().lower() for part in piece.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            found.append((media, min(1.0, float(quality))))
        except ValueError:
            continue
    return found


def written(
    stored: Bytes, key: str, schema: Schema, labels: Mapping[str, Any], form: str, fields: Sequence[str] | None = None
) -> bytes:
    """The stored record in another form, with those ``fields``. Default: all, but for features in JSON.

    Raises Problem for a field that there is not, StoreDamaged.
    """
    name = stored_key(key)
    record = decode(stored, schema, name)
    unknown = sorted(set(fields or ()) - set(schema.names))
    if unknown:
        message, hint = f"records have no field {unknown[0][:40]!r}", f"there are {', '.join(schema.names)}"
        raise Problem(400, "bad_request", message, hint)
    if form == "json":
        return json.dumps(record_form(record, key, peek(stored, name).ordinal, labels, fields)).encode()
    arrays = {name: record.array(name) for name in schema.names if fields is None or name in fields}
    return (_npz if form == "npz" else _safetensors)(key, record, arrays)


def record_form(
    record: Record, key: str, ordinal: int, labels: Mapping[str, Any], fields: Sequence[str] | None = None
) -> dict[str, Any]:
    """A record as JSON: its real rows, and for each of them the names of its object and attribute.

    fields: which; all but features where none are named. A number that JSON has not (infinite, none) is null.
    """
    chosen = [name for name in record.names() if (name != "features" if fields is None else name in fields)]
    names = {
        kind: [_name(labels[kind], i) for i in record.array(field)[: record.count].tolist()]
        for kind, field in (("objects", "object_ids"), ("attributes", "attribute_ids"))
        if labels.get(kind) and field in record.extra
    }
    return {
        "key": key,
        "size": list(record.size),
        "rows": len(record.features),
        "count": record.count,
        "ordinal": ordinal,
        "fields": {name: _listed(record, name) for name in chosen},
        "names": names or None,
    }


def _listed(record: Record, name: str) -> Any:
    array = record.array(name)
    if array.ndim and len(array) == len(record.features):
        array = array[: record.count]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        objects = array.astype(object)
        objects[~np.isfinite(array)] = None
        return objects.tolist()
    return array.tolist()


def _name(names: Sequence[str], number: int) -> str | None:
    """The first of the words for a class."""
    return names[number].partition(",")[0] if 0 <= number < len(names) else None


def _npz(key: str, record: Record, arrays: dict[str, Array]) -> bytes:
    out = io.BytesIO()
    facts = {"key": np.array(key), "size": np.array(record.size), "count": np.array(record.count)}
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, array in {**arrays, **facts}.items():
            piece = io.BytesIO()
            np.lib.format.write_array(piece, np.asanyarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), piece.getvalue())  # whose date is always 1980
    return out.getvalue()


def _safetensors(key: str, record: Record, arrays: dict[str, Array]) -> bytes:
    """Written by hand: the library gives its metadata another order each time."""
    height, width = map(str, record.size)
    facts = {"key": key, "height": height, "width": width, "count": str(record.count)}
    head: dict[str, Any] = {"__metadata__": facts}
    at = 0
    for name, array in arrays.items():
        kind = _SAFE[array.dtype.name]
        head[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    return b"".join(
        (len(text).to_bytes(8, "little"), text, *(np.ascontiguousarray(a).tobytes() for a in arrays.values()))
    )


_SAFE = {"float16": "F16", "float32": "F32", "int32": "I32", "int64": "I64", "uint8": "U8"}
