"""A check in a forked child: a signal that ends it is then a failure of one test, and not the end of all."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

SECONDS = 120


def in_child(check: Callable[[], object]) -> int:
    """Run ``check`` in a forked child; 0 when it returned, 1 when it raised, -n when signal n killed it."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        if "torch" in sys.modules:  # whose own threads do not survive a fork, and would be waited for for ever
            sys.modules["torch"].set_num_threads(1)
        try:
            check()
        except BaseException as error:
            print(f"in the child: {error!r}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
