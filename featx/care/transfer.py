"""A store to and from any store of objects: file by file, checked, resumable, the manifest last.

Parts are immutable, so a file that is there and right never has to be copied again. A copy counts as a store only when
its ``manifest.json`` is there, and a part only when its ``part.json`` is: both come behind what they speak of.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

import xxhash

from featx.care.hashing import Hashing
from featx.care.remote import BLOCK, Remote
from featx.errors import Interrupted, StoreDamaged, StoreError, UsageError
from featx.store import Manifest, PartManifest, disk
from featx.store.manifest import part_folder

Tick = Callable[[int], object]
_MARK, _PULLING = ".pushing.json", ".pulling.json"  # whose files are in a folder that has no manifest yet


@dataclass(frozen=True)
class Transfer:
    """What was copied. parts: those that are whole at the target now; bytes: that travelled; complete: whether the
    copy is a complete store."""

    parts: list[int]
    bytes: int
    complete: bool


def pull(
    url: str,
    folder: str | os.PathLike[str],
    *,
    parts: Sequence[int] | None = None,
    jobs: int = 4,
    begin: Tick = lambda total: None,
    tick: Tick = lambda read: None,
    pause: float = 0.2,
) -> Transfer:
    """Copy the store at ``url`` into ``folder``, ``jobs`` files at a time.

    Every file is checked against the size and xxh3_128 in its part.json; one that was cut goes on where it was. With
    ``parts``, or from a store that is unfinished, the copy is an unfinished store of the finished parts. Calling again
    continues, or adds parts. ``begin`` is told how many bytes there are, ``tick`` of those that are done. Raises
    UsageError when ``folder`` holds another store or something else, StoreError for what cannot be read,
    StoreDamaged for a file that arrives wrong twice.
    """
    remote, store = Remote(url, pause=pause), Path(folder)
    with TemporaryDirectory(prefix="featx-pull-") as staging:
        manifest = _remote_manifest(remote, Path(staging))
        said, raw = _remote_parts(remote, Path(staging), manifest, parts)
    _claim(store, manifest, url)
    begin(sum(sum(part.files.values()) for part in said.values()))
    with disk.room(store), disk.Lock(store / ".lock", f"the copy in {store}"):
        moved = _Moved(tick)
        for part in said:
            disk.make_folders(part_folder(store, part, manifest.parts))
        tasks = [(part, name) for part, facts in said.items() for name in facts.files]
        _parallel(jobs, moved, [_fetching(remote, store, manifest, said[part], name, moved) for part, name in tasks])
        for part in said:
            disk.publish(part_folder(store, part, manifest.parts) / "part.json", raw[part])
        here = _finished(store, manifest)
        complete = manifest.complete and len(here) == manifest.parts
        (manifest if complete else replace(manifest, totals=None)).save(store)
        disk.remove(store / _PULLING)
    return Transfer(here, moved.bytes, complete)


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
    store, remote = Path(folder), Remote(url, pause=pause)
    manifest = Manifest.load(store)
    said = {part: _local_part(store, manifest, part) for part in _chosen(manifest, parts, _finished(store, manifest))}
    sizes = {part: sum(facts.files.values()) for part, facts in said.items()}
    begin(sum(sizes.values()))
    _claim_remote(remote, manifest)
    moved = _Moved(tick)
    waiting = []
    for part in said:
        if _same_part(remote, store, manifest, part):
            moved.passed(sizes[part])
        else:
            waiting.append(part)
    tasks = [(part, name) for part in waiting for name in said[part].files]
    _parallel(jobs, moved, [_sending(remote, store, manifest, said[part], name, check, moved) for part, name in tasks])
    for part in waiting:
        _put(
            remote,
            f"{_folder(part, manifest)}/part.json",
            (part_folder(store, part, manifest.parts) / "part.json").read_bytes(),
        )
    there = [
        part for part in range(manifest.parts) if part in said or remote.size(f"{_folder(part, manifest)}/part.json")
    ]
    complete = manifest.complete and len(there) == manifest.parts
    with TemporaryDirectory(prefix="featx-push-") as staging:
        (manifest if complete else replace(manifest, totals=None)).save(Path(staging))
        _put(remote, "manifest.json", (Path(staging) / "manifest.json").read_bytes())
    remote.remove(_MARK)
    return Transfer(there, moved.bytes, complete)


class _Moved:
    """How much was done, and how much of that travelled."""

    def __init__(self, tick: Tick) -> None:
        self._tick, self._lock, self._stopped = tick, Lock(), False
        self.bytes = 0

    def stop(self) -> None:
        """Let every copy that is under way end at its next block."""
        self._stopped = True

    def passed(self, count: int) -> None:
        """So much was there already."""
        self._tick(count)

    def travelled(self, count: int) -> None:
        """So much was copied."""
        if self._stopped:
            raise Interrupted("another file of the copy failed", "run the same command again to go on")
        with self._lock:
            self.bytes += count
        self._tick(count)


def _parallel(jobs: int, moved: _Moved, tasks: Sequence[Callable[[], None]]) -> None:
    """Run all; the first error, or Ctrl-C, stops the others."""
    if jobs < 1:
        raise UsageError(f"{jobs} files at a time cannot be copied", "give --jobs a whole number of 1 or more")
    with ThreadPoolExecutor(jobs) as pool:
        running: list[Future[None]] = [pool.submit(task) for task in tasks]
        try:
            done, waiting = wait(running, return_when=FIRST_EXCEPTION)
        except BaseException:
            moved.stop()
            pool.shutdown(cancel_futures=True)
            raise
        if waiting:
            moved.stop()
            pool.shutdown(cancel_futures=True)
        for one in done:
            one.result()


def _fetching(
    remote: Remote, store: Path, manifest: Manifest, part: PartManifest, name: str, moved: _Moved
) -> Callable[[], None]:
    """A task: one file of a part, whole and right under its name or not at all."""
    target = part_folder(store, part.part, manifest.parts) / name
    size, expected = part.files[name], part.hashes[name]

    def task() -> None:
        if target.exists() and target.stat().st_size == size:
            moved.passed(size)
            return
        for again in (False, True):
            if _fetch(remote, f"{_folder(part.part, manifest)}/{name}", disk.temporary(target), size, expected, moved):
                disk.settle(target)
                return
            disk.remove(disk.temporary(target))
            if again:
                raise StoreDamaged(
                    f"{remote.url}/{_folder(part.part, manifest)}/{name} arrived twice with other bytes than its "
                    "part.json says",
                    "the copy there is damaged: push it again from a sound store",
                )

    return task


def _fetch(remote: Remote, name: str, draft: Path, size: int, expected: str, moved: _Moved) -> bool:
    """Bring ``draft`` to its full length; whether its bytes are right."""
    found = remote.size(name)
    if found != size:
        raise StoreDamaged(
            f"{remote.url}/{name} {'is missing' if found is None else f'has {found} bytes'}, its part.json says {size}",
            "the copy there is not whole: push it again",
        )
    state, begun = Hashing(expected), draft.stat().st_size if draft.exists() else 0
    if begun > size:
        disk.resize(draft, 0)
        begun = 0
    for block in _blocks(draft) if begun else ():
        state.update(block)
    moved.passed(begun)
    with draft.open("ab") as file:
        for block in remote.blocks(name, begun, size):
            file.write(block)
            state.update(block)
            moved.travelled(len(block))
    return state.hexdigest() == expected


def _sending(
    remote: Remote, store: Path, manifest: Manifest, part: PartManifest, name: str, check: bool, moved: _Moved
) -> Callable[[], None]:
    """A task: one file of a part to the target."""
    source = part_folder(store, part.part, manifest.parts) / name
    target, size, expected = f"{_folder(part.part, manifest)}/{name}", part.files[name], part.hashes[name]

    def content() -> Iterator[bytes]:
        state = Hashing(expected)
        for block in _blocks(source):
            state.update(block)
            yield block
        if state.hexdigest() != expected:
            raise StoreDamaged(
                f"{source} is damaged: its bytes are not those of its part.json", "run `featx verify --repair` first"
            )

    def task() -> None:
        if remote.size(target) == size and (not check or remote.hash(target, size, expected) == expected):
            moved.passed(size)
            return
        remote.write(target, content, size)
        moved.travelled(size)
        if check and remote.hash(target, size, expected) != expected:
            raise StoreError(f"{remote.url}/{target} came back with other bytes", "run the same command again")

    return task


@contextmanager
def _called(staging: Path, place: str) -> Iterator[None]:
    """Errors about the file that was read name the place it came from."""
    try:
        yield
    except StoreError as error:
        raise type(error)(error.message.replace(str(staging), place), error.hint) from None


def _remote_manifest(remote: Remote, staging: Path) -> Manifest:
    data = remote.read("manifest.json")
    if data is None:
        mark = remote.size(_MARK) is not None
        raise StoreError(
            f"there is no store at {remote.url}: it has no manifest.json"
            + ("; a push to it was interrupted" if mark else ""),
            "run that `featx push` again" if mark else "check the URL: it names the folder that holds manifest.json",
        )
    (staging / "manifest.json").write_bytes(data)
    with _called(staging, remote.url):
        return Manifest.load(staging)


def _remote_parts(
    remote: Remote, staging: Path, manifest: Manifest, wanted: Sequence[int] | None
) -> tuple[dict[int, PartManifest], dict[int, bytes]]:
    """The manifests of the parts to be copied, and their bytes."""
    found, raw = {}, {}
    for part in _chosen(manifest, wanted, range(manifest.parts)):
        name = f"{_folder(part, manifest)}/part.json"
        data = remote.read(name)
        if data is not None:
            (staging / "part.json").write_bytes(data)
            with _called(staging, f"{remote.url}/{_folder(part, manifest)}"):
                facts = PartManifest.load(staging)
            if facts is not None:
                found[part], raw[part] = facts, data
        elif wanted is not None or manifest.complete:
            state = "damaged" if manifest.complete else "unfinished there"
            raise StoreError(f"{remote.url}/{name} is missing: the part is {state}", "leave it out with --parts")
    return found, raw


def _chosen(manifest: Manifest, wanted: Sequence[int] | None, default: Sequence[int]) -> Sequence[int]:
    """The parts asked for. Raises UsageError for one that cannot be."""
    if wanted is None:
        return default
    for part in wanted:
        if not 0 <= part < manifest.parts:
            raise UsageError(f"there is no part {part}", f"the store has {manifest.parts}, counted from 0")
    return sorted(set(wanted))


def _local_part(store: Path, manifest: Manifest, part: int) -> PartManifest:
    folder = part_folder(store, part, manifest.parts)
    facts = PartManifest.load(folder)
    if facts is None:
        raise StoreError(f"part {part} of {store} is unfinished", "finish it first, or leave it out with --parts")
    facts.check_files(folder)
    return facts


def _finished(store: Path, manifest: Manifest) -> list[int]:
    folders = (part_folder(store, part, manifest.parts) for part in range(manifest.parts))
    return [part for part, folder in enumerate(folders) if (folder / "part.json").exists()]


def _identity(manifest: Manifest) -> str:
    """What stays the same of a store's manifest from its first part to its completion."""
    facts = manifest.to_dict()
    same = {name: facts[name] for name in ("backend", "parts", "sources", "schema", "provenance", "labels")}
    return xxhash.xxh3_128_hexdigest(json.dumps(same, sort_keys=True).encode())


def _claim(store: Path, manifest: Manifest, url: str) -> None:
    """Make ``store`` the place of a copy. Raises UsageError for a folder that is something else."""
    mark = store / _PULLING
    mine = json.dumps({"store": _identity(manifest), "totals": manifest.to_dict()["totals"], "url": url}).encode()
    if (store / "manifest.json").exists():
        here = Manifest.load(store)
        if _identity(here) != _identity(manifest) or (here.complete and here.totals != manifest.totals):
            raise UsageError(f"{store} holds a different store", "pull into another folder")
    elif mark.exists():
        begun = json.loads(mark.read_bytes())
        if {**begun, "url": url} != json.loads(mine):
            raise UsageError(f"{store} holds the begin of a copy of {begun.get('url')}", "pull into another folder")
    elif store.is_file() or (store.is_dir() and any(store.iterdir())):
        raise UsageError(f"{store} is not empty, and no copy of a store", "pull into another folder")
    with disk.room(store):
        disk.make_folders(store)
        disk.publish(mark, mine)


def _claim_remote(remote: Remote, manifest: Manifest) -> None:
    """The same for the other side."""
    mine = json.dumps({"store": _identity(manifest), "totals": manifest.to_dict()["totals"]}).encode()
    data, mark = remote.read("manifest.json"), remote.read(_MARK)
    if data is not None:
        with TemporaryDirectory(prefix="featx-push-") as staging:
            (Path(staging) / "manifest.json").write_bytes(data)
            there = Manifest.load(Path(staging))
        if _identity(there) != _identity(manifest) or (there.complete and there.totals != manifest.totals):
            raise UsageError(f"there is a different store at {remote.url}", "push to another place")
    elif mark is not None:
        if json.loads(mark)["store"] != json.loads(mine)["store"]:
            raise UsageError(f"a push of a different store to {remote.url} was interrupted", "push to another place")
    elif not remote.is_empty():
        raise UsageError(f"{remote.url} is not empty, and no copy of a store", "push to another place")
    if mark is None and data is None:
        _put(remote, _MARK, mine)


def _same_part(remote: Remote, store: Path, manifest: Manifest, part: int) -> bool:
    """Whether the part is whole at the target. Raises UsageError when another one is."""
    data = remote.read(f"{_folder(part, manifest)}/part.json")
    if data is None:
        return False
    if data != (part_folder(store, part, manifest.parts) / "part.json").read_bytes():
        raise UsageError(f"{remote.url} has another part {part}", "push to another place, or remove that part there")
    return True


def _put(remote: Remote, name: str, data: bytes) -> None:
    remote.write(name, lambda: iter([data]), len(data))


def _folder(part: int, manifest: Manifest) -> str:
    return part_folder(Path(), part, manifest.parts).as_posix()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block
