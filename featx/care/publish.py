"""Parts of a store to a URL, each when it is finished, by any number of processes and machines at once.

Whoever publishes a part looks whether all are there now, and if so writes the manifest: the last one, who sees its own
part and those of all others. Two who are the last at the same time write the same bytes. Until then there is no
manifest, but a mark that says what is to come: nobody takes the copy for a store, and ``featx status`` tells how it
stands. A part exists there from the instant its ``part.json`` does, which comes behind its files.

A part may be made twice, on two machines of which one was taken for dead. Its content is the same then, its bytes need
not be (groups of another size), and what one sent must not be mixed with what the other says of it. So a file that is
there already is believed by its hash only, and who finds, behind its last step, that another wrote meanwhile reads the
part back. What escapes that, a race within milliseconds, is found by ``featx pull``: it checks every hash.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from featx.care.origin import check_outside
from featx.care.push import Copy, local_part, size_of
from featx.care.remote import Remote
from featx.care.transfer import Moved, Transfer, folder_name, parallel
from featx.errors import StoreError, UsageError
from featx.progress import Tick
from featx.store import Manifest, PartManifest, Totals
from featx.store.manifest import part_folder
from featx.store.pulse import FILE, Pulse, ended, read_pulse

EVERY = 30.0  # seconds between two pulses that are sent
_JOBS = 4  # files of a part at a time
_ASKED = 16  # small files that are asked for at a time
_TRIES = 4  # while others write the same part


def publish(
    folder: str | os.PathLike[str],
    url: str,
    part: int,
    *,
    begin: Tick = lambda total: None,
    tick: Tick = lambda read: None,
    pause: float = 0.2,
) -> Transfer:
    """Copy the finished part ``part`` (from 0) of the store in ``folder`` to ``url``; calling again continues.

    The copy is completed when all parts are there, whoever sent them. ``begin`` is told how many bytes the part has,
    ``tick`` of those that are done. Raises UsageError when another store, another part or something else is there;
    StoreError for a part that is unfinished, and for what cannot be written.
    """
    copy = _copy(folder, url, pause, Moved(tick))
    there = copy.claim()
    facts = local_part(copy.store, copy.manifest, part)
    begin(size_of(facts))
    _send(copy, part, facts)
    parts = _parts_there(copy)
    complete = there is not None and there.complete
    if not complete and len(parts) == copy.manifest.parts:
        _complete(copy)
        complete = True
    return Transfer(parts, copy.moved.bytes, complete, copy.manifest.parts)


@contextmanager
def publishing(
    folder: str | os.PathLike[str], url: str, part: int, on_note: Callable[[str], None] = lambda text: None
) -> Iterator[None]:
    """Publish the part that the body finishes. While it runs, its pulse is sent, too, for ``featx status URL``.

    Whether ``url`` can be written to, and is the place of this store, is found out before the body begins.
    """
    copy = _copy(folder, url, 0.2, Moved(lambda count: None))
    copy.claim()
    relay = _Relay(part_folder(copy.store, part, copy.manifest.parts), url, folder_name(part, copy.manifest))
    with relay:
        yield
        done = publish(folder, url, part)
    state = "the store is complete there" if done.complete else f"{len(done.parts)} of {done.total} parts are there"
    on_note(f"part {part + 1}/{done.total} is published at {url} ({done.bytes:,} bytes sent); {state}")


def _copy(folder: str | os.PathLike[str], url: str, pause: float, moved: Moved) -> Copy:
    store, remote = Path(folder), Remote(url, pause=pause)
    if remote.folder is not None:
        check_outside(remote.folder, store)
    return Copy(store, Manifest.load(store), remote, False, moved, sole=False)


def _send(copy: Copy, part: int, facts: PartManifest) -> None:
    """Bring the part there, unless it is."""
    if _holds(copy, part, facts):
        copy.moved.passed(size_of(facts))
        return
    for attempt in range(_TRIES):
        parallel(_JOBS, copy.moved, [copy.sending(facts, name) for name in facts.files])
        sent = _versions(copy, facts)
        if attempt or copy.remote.read(copy.facts_name(part)) is None:
            copy.finish(part)
            if _versions(copy, facts) == sent and copy.remote.read(copy.facts_name(part)) == copy.facts_of(part):
                return
        if _is_whole(copy, part, facts):
            return
        copy.moved.undone(size_of(facts))
    raise StoreError(
        f"somebody else publishes part {part + 1}/{copy.manifest.parts} to {copy.remote.url}, again and again",
        "let only one process make a part, and run this command again",
    )


def _holds(copy: Copy, part: int, facts: PartManifest) -> bool:
    """Whether the part is there, from here or with the same content. Raises UsageError when another one is."""
    data = copy.remote.read(copy.facts_name(part))
    if data is None:
        return False
    if data != copy.facts_of(part):
        _same(copy, facts, PartManifest.read(data, f"{copy.remote.url}/{copy.facts_name(part)}"))
    return True


def _same(copy: Copy, facts: PartManifest, other: PartManifest) -> None:
    if other.totals != facts.totals:
        raise UsageError(
            f"{copy.remote.url} has another part {facts.part + 1}/{facts.parts}: {other.totals}, not {facts.totals}",
            "publish to another place, or remove the folder of that part there",
        )


def _versions(copy: Copy, facts: PartManifest) -> list[str]:
    return [copy.remote.version(f"{folder_name(facts.part, copy.manifest)}/{name}") for name in facts.files]


def _is_whole(copy: Copy, part: int, facts: PartManifest) -> bool:
    """Whether the files of the part, read back, are those that its ``part.json`` there speaks of."""
    data = copy.remote.read(copy.facts_name(part))
    if data is None:
        return False
    said = PartManifest.read(data, f"{copy.remote.url}/{copy.facts_name(part)}")
    _same(copy, facts, said)
    for name, size in said.files.items():
        place = f"{folder_name(part, copy.manifest)}/{name}"
        if copy.remote.size(place) != size or copy.remote.hash(place, size, said.hashes[name]) != said.hashes[name]:
            return False
    return True


def _parts_there(copy: Copy) -> list[int]:
    """The parts that are whole at the target. A listing may overlook some, so the last few are asked for one by one."""
    parts, files = range(copy.manifest.parts), copy.remote.files("parts")
    lacking = [part for part in parts if files is None or copy.facts_name(part) not in files]
    if files is None or len(lacking) <= _ASKED:
        lacking = [part for part in lacking if not copy.is_finished(part)]
    return [part for part in parts if part not in set(lacking)]


def _complete(copy: Copy) -> None:
    """Write the manifest: what all parts there say together. Raises StoreError when they do not make the list."""

    def said(part: int) -> Totals:
        where = f"{copy.remote.url}/{copy.facts_name(part)}"
        data = copy.remote.read(copy.facts_name(part))
        if data is None:
            raise StoreError(f"{where} was removed while it was read", "run the same command again")
        return PartManifest.read(data, where).totals

    with ThreadPoolExecutor(_ASKED) as pool:
        totals = sum(pool.map(said, range(copy.manifest.parts)), Totals())
    copy.manifest.check_complete(totals)
    copy.settle(replace(copy.manifest, totals=totals))


class _Relay:
    """Sends the pulse of a part now and then, while its ``with`` block runs; of a finished part, which has none, its
    last one, until the part is there. What remains says why the block failed, or nothing does.

    Nothing waits for it and nothing depends on it: each is tried once.
    """

    def __init__(self, folder: Path, url: str, name: str) -> None:
        self._folder, self._remote, self._name = folder, Remote(url, tries=1), f"{name}/{FILE}"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="featx-relay", daemon=True)
        self._last: Pulse | None = None

    def __enter__(self) -> _Relay:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        self._stopping.set()
        self._thread.join(1.0)  # it may hang in the network
        if self._last is None:
            return
        if error is None:
            self._remote.remove(self._name)
        else:
            last = threading.Thread(target=self._send, args=ended(error), daemon=True)
            last.start()
            last.join(2.0)

    def _run(self) -> None:
        wait = min(EVERY, 1.0)  # the first one comes as soon as there is one
        while not self._stopping.wait(wait):
            self._send("running")
            wait = min(EVERY, 2 * wait) if self._last else wait

    def _send(self, state: str, why: str = "") -> None:
        with suppress(Exception):
            pulse = read_pulse(self._folder)
            if pulse is None and self._last is not None:
                pulse = replace(self._last, state=state, error=why, done=self._last.total, rate=0.0, time=time.time())
            if pulse is not None and pulse != self._last:
                data = pulse.document()
                self._remote.write(self._name, lambda: iter([data]), len(data))
                self._last = pulse
