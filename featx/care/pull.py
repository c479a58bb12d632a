"""A store from any store of objects into a folder: file by file, checked, resumable, the manifest last."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from featx.care.hashing import Hashing, blocks_of
from featx.care.origin import check_outside
from featx.care.remote import Remote
from featx.care.transfer import Moved, Transfer, check_jobs, chosen, finished, folder_name, identity, parallel
from featx.errors import StoreDamaged, StoreError, UsageError
from featx.progress import Tick
from featx.store import Manifest, PartManifest, disk
from featx.store.manifest import part_folder

PUSHING = ".pushing.json"  # lies beside the parts while a push is not through
_PULLING = ".pulling.json"  # says whose files are in a folder that has no manifest yet
_BEGUN = {"..pulling.json.tmp"}  # all there may be of a copy that died early


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
    check_jobs(jobs)
    remote, store = Remote(url, pause=pause), Path(folder)
    if remote.folder is not None:
        check_outside(store, remote.folder)
    with TemporaryDirectory(prefix="featx-pull-") as staging:
        manifest = _remote_manifest(remote, Path(staging))
        said, raw = _remote_parts(remote, Path(staging), manifest, parts)
    _claim(store, manifest, url)
    begin(sum(sum(part.files.values()) for part in said.values()))
    with disk.room(store), disk.Lock(store / ".lock", f"the copy in {store}"):
        moved = Moved(tick)
        for part in said:
            disk.make_folders(part_folder(store, part, manifest.parts))
        tasks = [(part, name) for part, facts in said.items() for name in facts.files]
        parallel(jobs, moved, [_fetching(remote, store, manifest, said[part], name, moved) for part, name in tasks])
        for part in said:
            disk.publish(part_folder(store, part, manifest.parts) / "part.json", raw[part])
        here = finished(store, manifest)
        complete = manifest.complete and len(here) == manifest.parts
        (manifest if complete else replace(manifest, totals=None)).save(store)
        disk.remove(store / _PULLING)
    return Transfer(here, moved.bytes, complete, manifest.parts)


def _fetching(
    remote: Remote, store: Path, manifest: Manifest, part: PartManifest, name: str, moved: Moved
) -> Callable[[], None]:
    """A task: one file of a part, whole and right under its name or not at all."""
    target = part_folder(store, part.part, manifest.parts) / name
    size, expected = part.files[name], part.hashes[name]

    def task() -> None:
        if target.exists() and target.stat().st_size == size:
            moved.passed(size)
            return
        for again in (False, True):
            if _fetch(
                remote, f"{folder_name(part.part, manifest)}/{name}", disk.temporary(target), size, expected, moved
            ):
                disk.settle(target)
                return
            disk.remove(disk.temporary(target))
            moved.undone(size)
            if again:
                raise StoreDamaged(
                    f"{remote.url}/{folder_name(part.part, manifest)}/{name} arrived twice with other bytes than its "
                    "part.json says",
                    "the copy there is damaged: push it again from a sound store",
                )

    return task


def _fetch(remote: Remote, name: str, draft: Path, size: int, expected: str, moved: Moved) -> bool:
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
    for block in blocks_of(draft) if begun else ():
        state.update(block)
    moved.passed(begun)
    if not begun:
        disk.create(draft)
    for block in remote.blocks(name, begun, size):
        disk.put(draft, block, begun)
        state.update(block)
        begun += len(block)
        moved.travelled(len(block))
    return state.hexdigest() == expected


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
        mark = remote.size(PUSHING) is not None
        raise StoreError(
            f"there is no store at {remote.url}: it has no manifest.json"
            + ("; a push to it was interrupted, or is not through" if mark else ""),
            "`featx status` of it tells what is there; run that `featx push` or `featx extract --publish` again"
            if mark
            else "check the URL: it names the folder that holds manifest.json",
        )
    (staging / "manifest.json").write_bytes(data)
    with _called(staging, remote.url):
        return Manifest.load(staging)


def _remote_parts(
    remote: Remote, staging: Path, manifest: Manifest, wanted: Sequence[int] | None
) -> tuple[dict[int, PartManifest], dict[int, bytes]]:
    """The manifests of the parts to be copied, and their bytes."""
    found, raw = {}, {}
    for part in chosen(manifest, wanted, range(manifest.parts)):
        name = f"{folder_name(part, manifest)}/part.json"
        data = remote.read(name)
        if data is not None:
            (staging / "part.json").write_bytes(data)
            with _called(staging, f"{remote.url}/{folder_name(part, manifest)}"):
                facts = PartManifest.load(staging)
            if facts is not None:
                found[part], raw[part] = facts, data
        elif wanted is not None or manifest.complete:
            state = "damaged" if manifest.complete else "unfinished there"
            raise StoreError(f"{remote.url}/{name} is missing: the part is {state}", "leave it out with --parts")
    return found, raw


def _claim(store: Path, manifest: Manifest, url: str) -> None:
    """Make ``store`` the place of a copy. Raises UsageError for a folder that is something else."""
    mark = store / _PULLING
    mine = json.dumps({"store": identity(manifest), "totals": manifest.to_dict()["totals"], "url": url}).encode()
    if (store / "manifest.json").exists():
        here = Manifest.load(store)
        if identity(here) != identity(manifest) or (here.complete and here.totals != manifest.totals):
            raise UsageError(f"{store} holds a different store", "pull into another folder")
    elif mark.exists():
        begun = json.loads(mark.read_bytes())
        if {**begun, "url": url} != json.loads(mine):
            raise UsageError(f"{store} holds the begin of a copy of {begun.get('url')}", "pull into another folder")
    elif store.is_file() or (store.is_dir() and not {path.name for path in store.iterdir()} <= _BEGUN):
        raise UsageError(f"{store} is not empty, and no copy of a store", "pull into another folder")
    with disk.room(store):
        disk.make_folders(store)
        disk.publish(mark, mine)
