"""Groups of records on their way to the disk: one is put together while the one before is committed in a thread.

The thread waits for the disk most of the time, so putting records together costs nothing beside it. The memory of two
groups is used again and again: fresh memory costs as much as the copy into it. A group that could not be committed is
kept, and goes with the next attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from featx.store.base import Bytes


class Group:
    """Records by stored key, the originals of those keys that are shortened, and the size of the records in bytes."""

    def __init__(self, memory: bytearray | None = None) -> None:
        self.records: dict[bytes, Bytes] = {}
        self.names: list[str] = []
        self.size = 0
        self._memory = memoryview(memory or b"")
        self._used = 0

    def add(self, key: bytes, record: Bytes, name: str | None = None) -> None:
        """Add a record, and the original of its key if that is shortened."""
        self.records[key] = record
        self.names += [name] if name is not None else []
        self.size += len(record)
        if isinstance(record, memoryview) and record.obj is self._memory.obj:
            self._used += len(record)

    def space(self, length: int) -> memoryview:
        """Memory for the next record, which is to be added once it is there."""
        if self._used + length <= len(self._memory):
            return self._memory[self._used : self._used + length]
        return memoryview(bytearray(length))


class Groups:
    """The group that is ``open`` and the one that is on its way, if any."""

    def __init__(self, append: Callable[[Group], None], limit: int) -> None:
        """``append`` commits a group: durable when it returns, not there when it raises. limit: bytes of a group."""
        self.open = Group()
        self._append, self._limit = append, limit
        self._free: list[bytearray] = []
        self._memory: bytearray | None = None  # of the open group
        self._sent: tuple[Group, bytearray | None, Future[None]] | None = None
        self._thread: ThreadPoolExecutor | None = None

    def __contains__(self, key: object) -> bool:
        return key in self.open.records or self.is_sent(key)

    def is_sent(self, key: object) -> bool:
        """Whether the record is on its way."""
        return self._sent is not None and key in self._sent[0].records

    def space(self, length: int) -> memoryview:
        """Memory for a record that is to be added to the open group, which is sent first if it has become too large."""
        if self.open.size + length > self._limit and self.open.records:
            self.send()
        if not self.open.records and self._memory is None:
            self._memory = self._free.pop() if self._free else bytearray(self._limit)
            self.open = Group(self._memory)
        return self.open.space(length)

    def add(self, key: bytes, record: Bytes, name: str | None) -> None:
        """Add a record to the open group, and the original of its key if that is shortened.

        Raises what the group before failed of; the record was not added then.
        """
        if self.open.size + len(record) >= self._limit:
            self.wait()
        self.open.add(key, record, name)
        if self.open.size >= self._limit:
            self.send()

    def send(self) -> None:
        """Commit the open group in the background, after waiting for the one before."""
        self.wait()
        self._thread = self._thread or ThreadPoolExecutor(1, "featx-store")
        self._sent = self.open, self._memory, self._thread.submit(self._append, self.open)
        self.open, self._memory = Group(), None

    def commit(self) -> None:
        """Commit everything; durable on return."""
        self.wait()
        if self.open.records:
            self._append(self.open)
            self.open = Group(self._memory)

    def wait(self) -> None:
        """Wait for the group that is on its way. What it failed of is raised, and its records are open again."""
        if self._sent is None:
            return
        group, memory, future = self._sent
        failed = future.exception() is not None  # an interrupt leaves it on its way
        self._sent = None
        if failed:
            for key, record in self.open.records.items():
                group.add(key, record)
            group.names += self.open.names
            self.open, self._memory = group, memory
        elif memory is not None:
            self._free.append(memory)
        future.result()

    def close(self) -> None:
        """Wait for the thread, whatever interrupts: who closes gives the part up, and it must not be written to then.

        What the thread failed of is lost, as what was never committed is.
        """
        interrupt: KeyboardInterrupt | None = None
        while self._thread is not None:
            try:
                self._thread.shutdown()
                self._thread = None
            except KeyboardInterrupt as error:
                interrupt = error
        self._sent = None
        if interrupt is not None:
            raise interrupt
