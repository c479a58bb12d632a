"""Groups of records on their way to the disk: one is put together while the one before is committed in a thread.

The thread waits for the disk most of the time, so putting records together costs nothing beside it. A group that could
not be committed is kept, and goes with the next attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field


@dataclass
class Group:
    """Records by stored key, the originals of those keys that are shortened, and their size in bytes."""

    records: dict[bytes, bytes] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    size: int = 0

    def add(self, key: bytes, record: bytes, name: str | None) -> None:
        """Add a record, and the original of its key if that is shortened."""
        self.records[key] = record
        self.names += [name] if name is not None else []
        self.size += len(record)


class Groups:
    """The group that is ``open`` and the one that is on its way, if any."""

    def __init__(self, append: Callable[[Group], None]) -> None:
        """``append`` commits a group: durable when it returns, not there when it raises."""
        self.open = Group()
        self._append = append
        self._sent: tuple[Group, Future[None]] | None = None
        self._thread: ThreadPoolExecutor | None = None

    def __contains__(self, key: object) -> bool:
        return key in self.open.records or self.is_sent(key)

    def is_sent(self, key: object) -> bool:
        """Whether the record is on its way."""
        return self._sent is not None and key in self._sent[0].records

    def send(self) -> None:
        """Commit the open group in the background, after waiting for the one before."""
        self.wait()
        self._thread = self._thread or ThreadPoolExecutor(1, "featx-store")
        group, self.open = self.open, Group()
        self._sent = group, self._thread.submit(self._append, group)

    def commit(self) -> None:
        """Commit everything; durable on return."""
        self.wait()
        if self.open.records:
            self._append(self.open)
            self.open = Group()

    def wait(self) -> None:
        """Wait for the group that is on its way. What it failed of is raised, and its records are open again."""
        if self._sent is None:
            return
        group, future = self._sent
        future.exception()  # an interrupt leaves it on its way
        self._sent = None
        if future.exception() is not None:
            for key, record in self.open.records.items():
                group.add(key, record, None)
            group.names += self.open.names
            self.open = group
        future.result()

    def close(self) -> None:
        """Wait for the thread. What it failed of is lost, as what was never committed is."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        self._sent = None
