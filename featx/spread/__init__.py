"""All parts of a store by many workers: processes of this machine (joblib's loky), or actors on a Ray cluster.

A worker does a part as ``--part k/n`` does, so the store has the same content whoever does what, in whatever order, and
how often. Parts are the only thing that is handed out. How far they are is read from what lies in their folders.

``entry`` is the way in. ``pool`` gives parts (``parts``) to the workers of a crew (``crew``: ``processes``,
``cluster``) and counts (``tally``); ``worker`` is what runs in another process, and ``task`` what goes there and back.
"""

from featx.spread.entry import Spread, Workers, extract, parts_for, plan

__all__ = ["Spread", "Workers", "extract", "parts_for", "plan"]
