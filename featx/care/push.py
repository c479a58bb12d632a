"""A store from a folder to any store of objects: file by file, checked, resumable, the manifest last.

Until the manifest is there a mark lies in its place: whose copy it is, and its manifest but for the totals.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
    said = {part: local_part(store, manifest, part) for part in chosen(manifest, parts, finished(store, manifest))}
    begin(sum(map(size_of, said.values())))
    copy = Copy(store, manifest, remote, check, Moved(tick))
    copy.claim()
    waiting = [part for part, facts in said.items() if not copy.holds(part, facts)]
    tasks = [copy.sending(said[part], name) for part in waiting for name in said[part].files]
    parallel(jobs, copy.moved, tasks)
    for part in waiting:
        copy.finish(part)
    there = [part for part in range(manifest.parts) if part in said or copy.is_finished(part)]
    complete = manifest.complete and len(there) == manifest.parts
    copy.publish(complete=complete)
    return Transfer(there, copy.moved.bytes, complete, manifest.parts)


@dataclass(frozen=True)
class Copy:
    """A store on its way to ``remote``. check: files are read back. sole: nobody else writes there, so that a file in
    its full length was sent by a push of this store, and is right."""

    store: Path
    manifest: Manifest
    remote: Remote
    check: bool
    moved: Moved
    sole: bool = True

    def claim(self) -> Manifest | None:
        """Make ``remote`` the place of the copy; returns the manifest that is there. Raises UsageError when another
        store, a push of one, or something else is there."""
        url, mine = self.remote.url, identity(self.manifest)
        data, mark = self._claims()
        if data is None and mark is None:
            if self.remote.is_empty():
                document = replace(self.manifest, totals=None).document().decode()
                totals = self.manifest.to_dict()["totals"]
                self._put(PUSHING, json.dumps({"store": mine, "totals": totals, "manifest": document}).encode())
            data, mark = self._claims()  # somebody else may have begun, or been through, meanwhile
            if data is not None:
                self.remote.remove(PUSHING)
        there = None if data is None else Manifest.read(data, f"{url}/manifest.json")
        if there is not None:
            differs = there.complete and (self.sole or self.manifest.complete) and there.totals != self.manifest.totals
            if identity(there) != mine or differs:
                raise UsageError(f"there is a different store at {url}", "push to another place")
        elif mark is None:
            raise UsageError(f"{url} is not empty, and no copy of a store", "push to another place")
        elif json.loads(mark)["store"] != mine:
            raise UsageError(f"a push of a different store to {url} was interrupted", "push to another place")
        return there

    def _claims(self) -> tuple[bytes | None, bytes | None]:
        """What says whose place it is. A mark goes when the manifest comes, so that is looked at last."""
        mark = self.remote.read(PUSHING)
        return self.remote.read("manifest.json"), mark

    def holds(self, part: int, facts: PartManifest) -> bool:
        """Whether the part is whole at the target. Raises UsageError when another one is."""
        data = self.remote.read(self.facts_name(part))
        if data is None:
            return False
        if data != self.facts_of(part):
            url = self.remote.url
            raise UsageError(f"{url} has another part {part}", "push to another place, or remove that part there")
        self.moved.passed(size_of(facts))
        return True

    def sending(self, part: PartManifest, name: str) -> Callable[[], None]:
        """A task: one file of a part to the target."""
        remote, moved = self.remote, self.moved
        source = part_folder(self.store, part.part, self.manifest.parts) / name
        target, size, expected = f"{folder_name(part.part, self.manifest)}/{name}", part.files[name], part.hashes[name]
        told = 0

        def content() -> Iterator[bytes]:
            """The file, its last block once its hash is known to be right: what is there in full length is whole."""
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
            trusted = self.sole and not self.check
            if remote.size(target) == size and (trusted or remote.hash(target, size, expected) == expected):
                moved.passed(size)
                return
            remote.write(target, content, size)
            if self.check and remote.hash(target, size, expected) != expected:
                raise StoreError(f"{remote.url}/{target} came back with other bytes", "run the same command again")

        return task

    def finish(self, part: int) -> None:
        """Say that all files of the part are there."""
        self._put(self.facts_name(part), self.facts_of(part))

    def is_finished(self, part: int) -> bool:
        """Whether the target has the part, by this push or another."""
        return bool(self.remote.size(self.facts_name(part)))

    def publish(self, *, complete: bool) -> None:
        """The manifest, which makes the copy a store."""
        self.settle(self.manifest if complete else replace(self.manifest, totals=None))

    def settle(self, manifest: Manifest) -> None:
        """Put the manifest in the place of the mark."""
        self._put("manifest.json", manifest.document())
        self.remote.remove(PUSHING)

    def facts_name(self, part: int) -> str:
        """How ``part.json`` of a part is called there."""
        return f"{folder_name(part, self.manifest)}/part.json"

    def facts_of(self, part: int) -> bytes:
        """The content of the part's own ``part.json``."""
        return (part_folder(self.store, part, self.manifest.parts) / "part.json").read_bytes()

    def _put(self, name: str, data: bytes) -> None:
        self.remote.write(name, lambda: iter([data]), len(data))


def local_part(store: Path, manifest: Manifest, part: int) -> PartManifest:
    """What a finished part of a folder says of itself. Raises StoreError for one that is not finished."""
    folder = part_folder(store, part, manifest.parts)
    facts = PartManifest.load(folder)
    if facts is None:
        raise StoreError(f"part {part} of {store} is unfinished", "finish it first, or leave it out with --parts")
    facts.check_files(folder)
    return facts


def size_of(part: PartManifest) -> int:
    """Bytes of all files of a part."""
    return sum(part.files.values())
