"""Pictures grouped into batches for the network."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator

from featx.runner.decoder import Ready

AHEAD = 4  # decoded pictures waiting per place in a batch: bounds memory, leaves room to group equal sizes


def batches(pictures: Iterable[Ready], size: Callable[[], int]) -> Iterator[list[Ready]]:
    """Batches of one group each, of ``size()`` pictures, which may fall meanwhile; a refused picture comes alone.

    A group that is not full waits until ``AHEAD`` times as many pictures wait in all. Within a group the order is that
    of the pictures.
    """
    waiting: dict[Hashable, list[Ready]] = {}
    for ready in pictures:
        if ready.refused is not None:
            yield [ready]
            continue
        group = waiting.setdefault(ready.group, [])
        group.append(ready)
        if len(group) >= size():
            yield waiting.pop(ready.group)
        elif sum(map(len, waiting.values())) >= AHEAD * size():
            yield waiting.pop(next(iter(waiting)))  # the group that has waited longest
    yield from waiting.values()
