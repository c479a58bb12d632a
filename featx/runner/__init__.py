"""One partition: pictures are decoded ahead, batched, extracted, checked and committed, until none is missing.

Three stages work at the same time: threads decode (``decoder``, ``batches``), the network computes in the thread that
called (``network``), and a thread writes (``writing``). What waits between them is bounded, so the slowest of them
sets the pace and memory does not grow with the list. ``part`` puts them together.

Killed at any moment, the next run of the same part computes only what is not committed, and treats the pictures that
the last one had in hand with care (``watch``). Nothing here knows which
extractor or which store it drives.
"""

from featx.runner.decoder import opened
from featx.runner.part import Runner
from featx.runner.watch import trying

__all__ = ["Runner", "opened", "trying"]
