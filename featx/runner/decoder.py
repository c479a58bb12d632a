"""Pictures that are read, decoded and prepared ahead of the network, in threads.

Threads, not processes: OpenCV and torch release the interpreter while they work, and what they make, megabytes for
each picture, need not be carried from one process to another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from featx.decode import Policy, decode
from featx.errors import FeatxError, PictureRefused
from featx.extractor import Extractor, Picture, Reads, Text
from featx.images import Source
from featx.progress import Progress


@dataclass(frozen=True)
class Ready:
    """A picture that is ready for the network, or the reason why it never will be."""

    source: Source
    prepared: Any = None
    group: Hashable = None
    refused: PictureRefused | None = None


class Decoder:
    """Makes pictures ready, ``workers`` at a time; ``take`` is told of each before anything is done with it."""

    def __init__(
        self, extractor: Extractor, policy: Policy, workers: int, progress: Progress, take: Callable[[Source], None]
    ) -> None:
        self.extractor, self.policy, self.workers, self.progress = extractor, policy, workers, progress
        self.take = take

    def ahead(self, sources: Iterable[Source], most: int) -> Generator[Ready]:
        """Sources in order; at most ``most`` of them are being decoded, or wait to be taken."""
        window: deque[Future[Ready]] = deque()
        with ThreadPoolExecutor(self.workers, "decode") as pool:
            try:
                for source in sources:
                    window.append(pool.submit(self.ready, source))
                    if len(window) >= most:
                        yield window.popleft().result()
                while window:
                    yield window.popleft().result()
            finally:
                for future in window:
                    future.cancel()

    def ready(self, source: Source) -> Ready:
        """Read, decode and prepare one picture."""
        self.take(source)
        try:
            with self.progress.time("decode"):
                prepared = self.extractor.prepare(opened(source, self.extractor.reads, self.policy))
            return Ready(source, prepared, self.extractor.group(prepared))
        except PictureRefused as refusal:
            return Ready(source, refused=refusal)


def opened(source: Source, reads: Reads, policy: Policy) -> Picture | Text:
    """What an extractor that ``reads`` pictures, or texts, is given of a source. Raises PictureRefused."""
    if reads == "texts":
        return Text(source.key)
    return Picture(source.key, decode(_read(source), policy))


def _read(source: Source) -> bytes:
    try:
        return source.read()
    except FeatxError:
        raise
    except Exception as error:  # a file system, an archive or a web server may fail in any way
        raise PictureRefused("unreadable", f"{source.location}: {error}", "check that it still exists") from None
