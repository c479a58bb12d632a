"""A store from a folder to any store of objects: file by file, checked, resumable, the manifest last."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from featx.care.hashing import Hashing, blocks_of
from featx.care.origin import check_outside
from featx.care.pull import PUSHING
from featx.care.remote import Remote
from featx.care.transfer import Moved, Transfer, check_jobs, chosen, finished, folder_name, identity, parallel
from featx.errors import StoreDamaged, StoreError, UsageError
from featx.progress import Tick
from featx.store import Manifest, PartManifest
from featx.store.manifest import part_folder


def push(
    folder: str | os.PathLike[str],
    url: str,
    *,
    parts: Sequence[int] | None = None,
    jobs: int = 4,
    check: bool = False,
    begin: Tick = lambda total: None,
    tick: Tick = lambda read: None,
    pause: float = 0.2,
) -> Transfer:
    """Copy the store in ``folder`` to ``url``, ``jobs`` files at a time; calling again continues.

    Every file is checked against its hash while it is read, and by its length at the target; ``check`` reads it back.
    The rest as in :func:`pull`. Raises UsageError when another store, or something else, is at ``url``.
    """
    check_jobs(jobs)
    store, remote = Path(folder), Remote(url, pause=pause)
    if remote.folder is not None:
        check_outside(remote.folder, store)
    manifest = Manifest.load(store)
    said = {part: _local_part(store, manifest, part) for part in chosen(manifest, parts, finished(store, manifest))}
    sizes = {part: sum(facts.files.values()) for part, facts in said.items()}
    begin(sum(sizes.values()))
    _claim_remote(remote, manifest)
    moved = Moved(tick)
    waiting = []
    for part in said:
        if _same_part(remote, store, manifest, part):
            moved.passed(sizes[part])
        else:
            waiting.append(part)
    tasks = [(part, name) for part in waiting for name in said[part].files]
    parallel(jobs, moved, [_sending(remote, store, manifest, said[part], name, check, moved) for part, name in tasks])
    for part in waiting:
        _put(
            remote,
            f"{folder_name(part, manifest)}/part.json",
            (part_folder(store, part, manifest.parts) / "part.json").read_bytes(),
        )
    there = [
        part
        for part in range(manifest.parts)
        if part in said or remote.size(f"{folder_name(part, manifest)}/part.json")
    ]
    complete = manifest.complete and len(there) == manifest.parts
    with TemporaryDirectory(prefix="featx-push-") as staging:
        (manifest if complete else replace(manifest, totals=None)).save(Path(staging))
        _put(remote, "manifest.json", (Path(staging) / "manifest.json").read_bytes())
    remote.remove(PUSHING)
    return Transfer(there, moved.bytes, complete, manifest.parts)


def _sending(
    remote: Remote, store: Path, manifest: Manifest, part: PartManifest, name: str, check: bool, moved: Moved
) -> Callable[[], None]:
    """A task: one file of a part to the target."""
    source = part_folder(store, part.part, manifest.parts) / name
    target, size, expected = f"{folder_name(part.part, manifest)}/{name}", part.files[name], part.hashes[name]

    told = 0

    def content() -> Iterator[bytes]:
        """The file. Its last block comes when its hash is known to be right: what is there in full length is whole."""
        nonlocal told
        moved.undone(told)  # of a try that failed
        state, told, last = Hashing(expected), 0, b""
        for block in blocks_of(source):
            if last:
                yield last
                told += len(last)
                moved.travelled(len(last))
            last = block
            state.update(block)
        if state.hexdigest() != expected:
            raise StoreDamaged(
                f"{source} is damaged: its bytes are not those of its part.json",
                "run `featx verify --repair` on the store first",
            )
        yield last
        told += len(last)
        moved.travelled(len(last))

    def task() -> None:
        if remote.size(target) == size and (not check or remote.hash(target, size, expected) == expected):
            moved.passed(size)
            return
        remote.write(target, content, size)
        if check and remote.hash(target, size, expected) != expected:
            raise StoreError(f"{remote.url}/{target} came back with other bytes", "run the same command again")

    return task


def _local_part(store: Path, manifest: Manifest, part: int) -> PartManifest:
    folder = part_folder(store, part, manifest.parts)
    facts = PartManifest.load(folder)
    if facts is None:
        raise StoreError(f"part {part} of {store} is unfinished", "finish it first, or leave it out with --parts")
    facts.check_files(folder)
    return facts


def _claim_remote(remote: Remote, manifest: Manifest) -> None:
    """Make ``remote`` the place of a copy. Raises UsageError when another store, a push of one, or something else is
    there."""
    mine = json.dumps({"store": identity(manifest), "totals": manifest.to_dict()["totals"]}).encode()
    data, mark = remote.read("manifest.json"), remote.read(PUSHING)
    if data is not None:
        with TemporaryDirectory(prefix="featx-push-") as staging:
            (Path(staging) / "manifest.json").write_bytes(data)
            there = Manifest.load(Path(staging))
        if identity(there) != identity(manifest) or (there.complete and there.totals != manifest.totals):
            raise UsageError(f"there is a different store at {remote.url}", "push to another place")
    elif mark is not None:
        if json.loads(mark)["store"] != json.loads(mine)["store"]:
            raise UsageError(f"a push of a different store to {remote.url} was interrupted", "push to another place")
    elif not remote.is_empty():
        raise UsageError(f"{remote.url} is not empty, and no copy of a store", "push to another place")
    if mark is None and data is None:
        _put(remote, PUSHING, mine)


def _same_part(remote: Remote, store: Path, manifest: Manifest, part: int) -> bool:
    """Whether the part is whole at the target. Raises UsageError when another one is."""
    data = remote.read(f"{folder_name(part, manifest)}/part.json")
    if data is None:
        return False
    if data != (part_folder(store, part, manifest.parts) / "part.json").read_bytes():
        raise UsageError(f"{remote.url} has another part {part}", "push to another place, or remove that part there")
    return True


def _put(remote: Remote, name: str, data: bytes) -> None:
    remote.write(name, lambda: iter([data]), len(data))
