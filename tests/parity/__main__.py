"""The command behind ``make parity``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.parity import box_ops, clip, clip_vision_bert, clip_vision_mbart, lxmert, metrics, networks, vle_vcr
from tests.parity.folder import Folder
from tests.parity.table import Table

# Each kind of subfolder: how it is recognised, and who compares it.
KINDS = {
    "ops": box_ops.compare,
    "hf": networks.compare_hf,
    "full": networks.compare_hf,
    "vg": networks.compare_vg,
    "d2": networks.compare_d2,
    "metrics": metrics.compare,
    "clip": clip.compare,
    "lxmert": lxmert.compare_lxmert,
    "hf_lxmert": lxmert.compare_hf,
    "clip_vision_bert": clip_vision_bert.compare,
    "clip_vision_mbart": clip_vision_mbart.compare,
    "vle": vle_vcr.compare,
}


def compare(folders: list[Path]) -> tuple[Table, list[str]]:
    """Every comparison of the given subfolders, and what went unread."""
    table, missed = Table(), []
    for path in folders:
        folder = Folder(path)
        KINDS[path.name](folder, table)
        missed += folder.unread()
    return table, missed


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="parity", description=__doc__)
    parser.add_argument("fixtures", type=Path, help="folder with the subfolders " + ", ".join(KINDS))
    parser.add_argument("--only", default="", help="comma-separated subfolders")
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    args = parser.parse_args(argv)
    if not args.fixtures.is_dir():
        parser.error(f"{args.fixtures} is not a folder")
    found = sorted(p for p in args.fixtures.iterdir() if p.is_dir())
    only = [name for name in args.only.split(",") if name]
    unknown = [p.name for p in found if p.name not in KINDS and (not only or p.name in only)]
    chosen = [p for p in found if p.name in KINDS and (not only or p.name in only)]
    absent = sorted(set(only) - {p.name for p in found})
    if not chosen or absent or unknown:
        what = f"no subfolder {', '.join(absent)}" if absent else f"nothing known about {', '.join(unknown) or 'it'}"
        parser.error(f"{args.fixtures}: {what}; known are {', '.join(KINDS)}")
    table, missed = compare(chosen)
    print(table)
    for name in missed:
        print(f"not read: {name}", file=sys.stderr)
    if args.json:
        args.json.write_text(json.dumps({"rows": table.as_json(), "unread": missed}, indent=1) + "\n")
    print(f"\n{len(table.rows)} comparisons, {len(table.failed)} failed, {len(missed)} entries not read")
    return 1 if table.failed or missed else 0


if __name__ == "__main__":
    sys.exit(main())
