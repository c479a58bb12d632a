"""One damaged part written anew: its sound records, and a ledger of those that are lost."""

from __future__ import annotations

import datetime
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from featx.care.copying import told
from featx.care.folders import LEDGER
from featx.care.salvage import Salvage
from featx.codec import text
from featx.progress import Tick
from featx.store import Manifest, Refusal, open_part
from featx.store.writer import PartWriter

REASON = "damaged"  # of the refusal of a record that is lost
State = Literal["rewritten", "left open", "missing"]


@dataclass(frozen=True)
class PartRepair:
    """What became of one damaged part.

    state: rewritten and finished; left open, because pictures are missing whose keys stand nowhere; or missing, because
    nothing of it was there. kept: records. lost: key -> what is wrong with its record. unnamed: how many more are lost.
    aside: where the old part is kept.
    """

    part: int
    state: State
    kept: int = 0
    lost: Mapping[str, str] = field(default_factory=dict)
    unnamed: int = 0
    aside: Path | None = None


def rewrite(
    old: Path, target: Path, manifest: Manifest, part: int, expected: int | None, twice: Container[str], tick: Tick
) -> PartRepair:
    """The sound records of the folder ``old`` as a part of the store ``target``; finished when none is missing.

    expected: how many pictures the part has, None when nobody knows. twice: keys that are left to another part.
    ``tick`` is told of :func:`part_size` bytes in all.
    """
    salvage = Salvage(old, manifest.backend, manifest.schema)
    about = {**(salvage.manifest.about if salvage.manifest else {}), "repaired": _now()}
    names, kept_names, dropped = salvage.names(), set(), 0
    with open_part(target, part, about=about) as writer:
        for key, stored in told(salvage.records(), expected or 1, part_size(old), tick):
            name = names.get(key, text(key))
            if name in twice:
                dropped += 1
                continue
            kept_names.add(name)
            if not writer.finished and name not in writer.done:
                writer.put_stored(name, stored)
        lost = {names.get(key, text(key)): why for key, why in salvage.lost.items()}
        refused = [one for one in _refusals(salvage, lost) if one.key not in kept_names]
        _refuse(writer, refused)
        missing = None if expected is None else expected - dropped - len(kept_names) - len(refused)
        if missing == 0:
            writer.finish()
    state: State = "rewritten" if missing == 0 else "left open"
    return PartRepair(part, state, len(kept_names), lost, salvage.unnamed if missing is None else max(0, missing))


def part_size(folder: Path) -> int:
    """Bytes of the files of a part that count."""
    counted = (path for path in folder.glob("*") if path.suffix in (".lmdb", ".h5", ".log") or path.name == LEDGER)
    return sum(path.stat().st_size for path in counted)


def _refusals(salvage: Salvage, lost: Mapping[str, str]) -> list[Refusal]:
    """The ledger of the part, and the lost records."""
    added = (Refusal(key, 0, "", REASON, why) for key, why in lost.items())
    return list({one.key: one for one in (*salvage.refusals(), *added)}.values())


def _refuse(writer: PartWriter, refusals: list[Refusal]) -> None:
    if writer.finished is None:
        for one in refusals:
            if one.key not in writer.done:
                writer.refuse(*one)
        writer.commit()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
