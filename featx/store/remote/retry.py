"""Which failures deserve another try, and when: a growing wait with chance in it, and an end to it all."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from featx.errors import StoreError

T = TypeVar("T")

FIRST, MOST = 0.1, 5.0  # seconds that are waited after the first failure, and at most
RATE = 1 << 18  # bytes a second: what is slower than this runs out of time
STATUSES = (408, 429, 502, 503, 504)  # of answers: busy, or not there for the moment


class Transient(Exception):
    """A failure that another try may not meet.

    wait: seconds that the server asked to wait, None: it did not say. once: one more try is enough to tell. stale: a
    kept connection was closed by the other side; a fresh one is tried at once, and nobody waits.
    """

    def __init__(self, what: str, *, wait: float | None = None, once: bool = False, stale: bool = False) -> None:
        super().__init__(what)
        self.what, self.wait, self.once, self.stale = what, wait, once, stale


class Deadline:
    """The time that is left for one answer, with all its tries. Its bytes have theirs once, however often they come."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._end = seconds, time.monotonic() + seconds
        self._size = self._most = 0  # bytes of this try, and of the longest

    @property
    def left(self) -> float:
        """Seconds, not below 0."""
        return max(0.0, self._end + self._most / RATE - time.monotonic())

    def allow(self, size: int) -> None:
        """So many more bytes of this try are about to come: they have their time."""
        self._size += size
        self._most = max(self._most, self._size)

    def again(self) -> None:
        """Another try begins."""
        self._size = 0


def persist(attempt: Callable[[Deadline], T], url: str, seconds: float) -> T:
    """What ``attempt`` returns, tried again while it raises Transient and time is left; then StoreError names ``url``.

    A wait is drawn between a half and the whole of a span that doubles from try to try, and is never shorter than the
    server asked for: many clients that failed together do not come back together.
    """
    deadline, tries, span, once = Deadline(seconds), 0, FIRST, False
    before: Transient | None = None
    while True:
        tries += 1
        deadline.again()
        try:
            return attempt(deadline)
        except Transient as error:
            wait = 0.0 if error.stale else max(random.uniform(span / 2, span), error.wait or 0.0)
            if (error.once and once) or wait >= deadline.left:
                cause = before if deadline.left == 0 and before is not None else error  # not that time was up, but why
                raise _given_up(url, cause, tries, seconds) from cause.__cause__
            before = error
            once, span = once or error.once, span if error.stale else min(2 * span, MOST)
            time.sleep(wait)


def _given_up(url: str, error: Transient, tries: int, seconds: float) -> StoreError:
    times = "once" if tries == 1 else f"{tries} times"
    if error.wait and error.wait >= seconds:
        hint = f"the server asks to wait {error.wait:g} s; try again then, or give a longer timeout than {seconds:g} s"
    elif error.once:
        hint = "something between here and the server changes what it sends; `featx verify` there checks the store"
    else:
        hint = "check that `featx serve` runs there and can be reached (its /readyz); timeout=... gives it longer"
    return StoreError(f"{url} could not be read, tried {times}: {error.what}", hint)
