"""One store as several: in blocks of about equal size, or by lists of keys."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from featx.care.compact import blocks, volume
from featx.care.copying import check_complete, copy_records, copy_refusals, facts, some, told
from featx.care.folders import copy_part
from featx.care.origin import begin_store, check_outside, digest, hash_of
from featx.care.part import Part
from featx.codec import store_key
from featx.errors import UsageError
from featx.progress import Tick
from featx.store import Refusal, StoreReader, open_part, open_store
from featx.store.key_list import read_keys
from featx.store.manifest import part_folder


@dataclass(frozen=True)
class Split:
    """What :func:`split` made. stores: folder -> (records, refused). left: records of the store that are in no list."""

    stores: Mapping[Path, tuple[int, int]]
    left: int = 0


def split(
    store: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    parts: int | None = None,
    lists: Sequence[str | os.PathLike[str]] = (),
    allow_missing: bool = False,
    begin: Tick = lambda total: None,
    tick: Tick = lambda read: None,
) -> Split:
    """Make several complete stores in the folder ``out`` of the records of one, as the bytes they are stored in.

    parts: so many stores, ``out/1-of-3`` and so on, of consecutive keys; a store of that many parts is taken apart by
    its parts, whose files are copied as they are. lists: text files, one key on a line; ``train.txt`` makes
    ``out/train``. A refused picture goes where its key belongs. Killed, the same call goes on. Raises UsageError for
    keys that the store does not know, unless ``allow_missing``, and for a folder that was made of anything else.
    """
    if (parts is None) == (not lists) or (parts is not None and parts < 1):
        raise UsageError(
            "a store is split into a number of parts, or by lists of keys", "give --parts N, or --by LIST ..."
        )
    check_outside(out, store)
    with open_store(store, partial=True) as reader:
        check_complete(str(store), reader)
        if parts is None:
            return _by_lists(reader, Path(out), [Path(name) for name in lists], allow_missing, begin, tick)
        begin(volume(reader))
        folders = [Path(out) / f"{part + 1}-of-{parts}" for part in range(parts)]
        if reader.manifest.parts == parts:
            _by_parts(Path(store), reader, folders, tick)
        else:
            _by_blocks(reader, folders, tick)
        return Split({folder: _counts(folder) for folder in folders})


def _by_parts(store: Path, reader: StoreReader, folders: Sequence[Path], tick: Tick) -> None:
    for number, folder in enumerate(folders):
        with Part(part_folder(store, number, len(folders)), reader.manifest.backend, reader.schema) as held:
            keys = [*held.names(), *(one.key for one in held.refusals())]
        _begin(reader, folder, keys)
        copy_part(part_folder(store, number, len(folders)), folder, 0, 1, tick=tick)
        with open_part(folder) as writer:
            writer.finish()


def _by_blocks(reader: StoreReader, folders: Sequence[Path], tick: Tick) -> None:
    refusals = sorted(reader.failures(), key=lambda one: store_key(one.key))
    for part, (keys, _, size) in enumerate(blocks(reader, len(folders))):
        block = list(keys)
        end = store_key(block[-1]) if block and part + 1 < len(folders) else None
        mine = [one for one in refusals if end is None or store_key(one.key) <= end]
        refusals = refusals[len(mine) :]
        _make(reader, folders[part], block, mine, size, tick)


def _by_lists(
    reader: StoreReader, out: Path, lists: Sequence[Path], allow_missing: bool, begin: Tick, tick: Tick
) -> Split:
    if len({path.stem for path in lists}) < len(lists):
        raise UsageError("two lists have one name", "each list makes a store that is called as the list")
    wanted = {path.stem: read_keys(path) for path in lists}
    refused = {one.key: one for one in reader.failures()}
    listed = {key for keys in wanted.values() for key in keys}
    missing = sorted(key for key in listed if key not in reader and key not in refused)
    if missing and not allow_missing:
        raise UsageError(
            f"the store lacks {len(missing):,} of the keys in the lists: {some(missing)}",
            "`featx inspect STORE --keys` lists what there is; --allow-missing goes on without them",
        )
    held = {name: sorted((key for key in keys if key in reader), key=store_key) for name, keys in wanted.items()}
    sizes = {name: volume(reader) * len(keys) // max(len(reader), 1) for name, keys in held.items()}
    begin(sum(sizes.values()))
    made = {}
    for name, keys in wanted.items():
        _make(reader, out / name, held[name], [refused[key] for key in keys if key in refused], sizes[name], tick)
        made[out / name] = _counts(out / name)
    return Split(made, len(reader) - sum(key in reader for key in listed))


def _begin(reader: StoreReader, folder: Path, keys: Sequence[str]) -> None:
    origin = {"store": digest(reader), "pictures": hash_of(keys)}
    begin_store(folder, facts(reader.manifest, sources={"pictures": len(keys), "split": origin}))


def _make(
    reader: StoreReader, folder: Path, keys: Sequence[str], refused: Sequence[Refusal], size: int, tick: Tick
) -> None:
    """A complete store of these records and refusals; ``tick`` is told of ``size`` bytes."""
    _begin(reader, folder, [*keys, *(one.key for one in refused)])
    with open_part(folder) as writer:
        if writer.finished is None:
            copy_records(reader, told(keys, len(keys), size, tick), writer)
            copy_refusals(refused, writer)
        else:
            tick(size)
        writer.finish()


def _counts(folder: Path) -> tuple[int, int]:
    with open_store(folder) as made:
        totals = made.manifest.totals
        return (totals.records, totals.refused) if totals else (0, 0)
