"""``featx inspect STORE [KEY]``: what a store, or one record, holds. Loads no torch."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import numpy as np

from featx.cli.output import add_json, human_bytes, print_json, table
from featx.cli.viewing import add_view, view_asked
from featx.labels import region_name, untrained_note
from featx.record import Record
from featx.schema import Array
from featx.store import StoreReader, open_store
from featx.store.view import kept

SHOWN = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("store", help="folder or URL of the store, finished or not")
    parser.add_argument("key", nargs="?", help="one picture")
    lists = parser.add_mutually_exclusive_group()
    lists.add_argument("--failures", action="store_true", help="list every refused picture with its reason")
    lists.add_argument("--keys", action="store_true", help="list every key, one on a line")
    add_view(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print facts about the store or the record."""
    with open_store(options.store, partial=True, view=view_asked(options)) as store:
        if options.key is not None:
            show_record(store, options)
        elif options.failures:
            show_failures(store, options)
        elif options.keys:
            show_keys(store, options)
        else:
            show_store(store, options)


def show_store(store: StoreReader, options: argparse.Namespace) -> None:
    """Manifest, counts, fields, a few keys."""
    manifest = store.manifest
    reasons: dict[str, int] = {}
    for refusal in store.failures():
        reasons[refusal.reason] = reasons.get(refusal.reason, 0) + 1
    facts = {
        "store": options.store,
        "state": "complete" if manifest.complete else "unfinished",
        "backend": manifest.backend,
        "records": len(store),
        "refused": reasons,
        "digest": manifest.totals.digest if manifest.totals else None,
        "schema": manifest.schema.to_dict(),
        "provenance": manifest.provenance,
        "labels": {name: len(names) if names else 0 for name, names in manifest.labels.items()},
        "keys": list(islice(store.keys(), 5)),
        "part_count": manifest.parts,
        "parts": [{"part": part.part, **part.about} for part in store.parts],
    }
    if note := untrained_note(manifest):
        facts["note"] = note
    if options.json:
        print_json(facts)
        return
    print_store(facts, store)


def print_store(facts: dict[str, Any], store: StoreReader) -> None:
    """The same for people. The switches of the profile are many: --json shows them."""
    schema, provenance = store.schema, dict(store.manifest.provenance)
    profile = provenance.pop("profile", None)
    refused = ", ".join(f"{n} {reason}" for reason, n in sorted(facts["refused"].items())) or "none"
    rows: list[tuple[str, ...]] = [
        ("store", f"{facts['store']}  ({facts['state']}, {facts['backend']}, parts: {facts['part_count']})"),
        ("records", str(facts["records"])),
        ("refused", refused),
        ("first keys", ", ".join(facts["keys"])),
        ("boxes", f"{schema.boxes}; features pooled from {schema.pooled}"),
        ("rows", "varying" if schema.rows is None else f"{schema.rows} each"),
        ("digest", str(facts["digest"])),
    ]
    rows += [("written by", line) for line in writers(facts["parts"])]
    rows += [("precision", line) for line in deviations(facts["parts"])]
    if "note" in facts:
        rows.append(("note", facts["note"]))
    if number := kept(store.manifest):
        rows.append(
            ("superset", f"decides every choice of up to {number} boxes: read it with --boxes 36 or 10..{number}")
        )
    if isinstance(profile, dict):
        rows.append(("profile", f"{profile.get('name')}  (hash {profile.get('hash')}; --json shows every switch)"))
    print(table(rows))
    print("\nfields")
    shapes = [(f"  {f.name}", f.dtype, "x".join(map(str, f.shape)) or "scalar", f"per {f.per}") for f in schema.fields]
    print(table(shapes))
    print("\nprovenance")
    print(table([(f"  {name}", short(value)) for name, value in flat(provenance)]))


def writers(parts: Iterable[Mapping[str, Any]]) -> list[str]:
    """The versions that wrote the finished parts, each distinct set once."""
    lines = []
    for part in parts:
        known = {"featx": part.get("featx"), "Python": part.get("python"), **part.get("libraries", {})}
        lines.append(", ".join(f"{name} {version}" for name, version in known.items() if version) or "unknown versions")
    return list(dict.fromkeys(lines))


def deviations(parts: Iterable[Mapping[str, Any]]) -> list[str]:
    """How far features are from those of float32, for each precision and device the worst that a part measured."""
    worst: dict[tuple[str, str], Mapping[str, Any]] = {}
    for found in (part["deviation"] for part in parts if part.get("deviation", {}).get("regions")):
        kind = (found["precision"], found["device"])
        if kind not in worst or worst[kind]["largest_error"] < found["largest_error"]:
            worst[kind] = found
    return [
        f"{precision} on {device}: features of mean {found['mean_feature']:.3g} are off by {found['mean_error']:.2g}, "
        f"at most {found['largest_error']:.2g}; least cosine {found['least_cosine']:.6f}"
        for (precision, device), found in sorted(worst.items())
    ]


def flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Leaves of nested mappings by dotted name."""
    if not isinstance(value, dict):
        return [(prefix, value)]
    return [leaf for k, v in value.items() for leaf in flat(v, f"{prefix}.{k}" if prefix else str(k))]


def short(value: Any, width: int = 80) -> str:
    """One line, cut."""
    text = str(value)
    return text if len(text) <= width else text[: width - 3] + "..."


def show_failures(store: StoreReader, options: argparse.Namespace) -> None:
    """Every line of the ledger."""
    refusals = [r._asdict() for r in store.failures()]
    if options.json:
        print_json(refusals)
    else:
        print(table([(r["reason"], r["source"], r["message"]) for r in refusals]) or "no picture was refused")


def show_keys(store: StoreReader, options: argparse.Namespace) -> None:
    """Every key, as it comes: a store may have millions."""
    if options.json:
        print_json(list(store.keys()))
        return
    for key in store:
        print(key)


def show_record(store: StoreReader, options: argparse.Namespace) -> None:
    """Shapes, ranges and the regions with their names."""
    record = store[options.key]
    regions = [region(record, i, store.labels) for i in range(len(record))]
    note = untrained_note(store.manifest)
    if options.json:
        fields = {name: facts(record.array(name)) for name in record.names()}
        known = {"key": options.key, "size": record.size, "count": record.count}
        print_json({**known, **({"note": note} if note else {}), "fields": fields, "regions": regions})
        return
    print(f"{options.key}  {record.size[1]} x {record.size[0]} pixels, {record.count} regions, "
          f"{human_bytes(len(store.stored_bytes(options.key)))}")  # fmt: skip
    if note:
        print(f"note: {note}")
    for name in record.names():
        f = facts(record.array(name))
        values = f"{f['min']:.4g} to {f['max']:.4g}, {f['zeros']:.0%} zeros"
        print(f"  {name:<16} {f['dtype']:<8} {f['shape']!s:<12} {values}")
    rows = [("row", "name", "conf", "x0", "y0", "x1", "y1")]
    for i, r in enumerate(regions[:SHOWN]):
        rows.append((str(i), r["name"], f"{r['conf']:.2f}", *(f"{v:.1f}" for v in r["box"])))
    print(table(rows))
    if len(regions) > SHOWN:
        print(f"... and {len(regions) - SHOWN} more (--json lists all)")


def facts(array: Array) -> dict[str, Any]:
    """dtype, shape and range of one array."""
    values = array.astype(np.float64) if array.size else np.zeros(1)
    return {
        "dtype": str(array.dtype), "shape": list(array.shape), "min": float(values.min()), "max": float(values.max()),
        "mean": float(values.mean()), "zeros": float((values == 0).mean()),
    }  # fmt: skip


def region(record: Record, i: int, labels: Any) -> dict[str, Any]:
    """One row for people: name, confidence, box."""
    conf = float(record.object_confs[i]) if "object_confs" in record.extra else 0.0
    return {"name": region_name(record, i, labels), "conf": conf, "box": [float(v) for v in record.boxes[i]]}
