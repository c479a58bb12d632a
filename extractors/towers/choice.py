"""Names of the tensors of a tower that may be asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from featx.errors import UsageError

GRIDS = ("last_hidden_state", "post_layernorm", "embeddings", "hidden_K")
POOLED = ("pooled", "projected")


@dataclass(frozen=True)
class Choice:
    """name: as asked for. grid: a row for each token; else one vector a picture. blocks: how many of them must run.

    tensor: the one name of what may be asked for under several, ``last_hidden_state`` for ``hidden_-1``.
    """

    name: str
    grid: bool
    blocks: int
    tensor: str


def choice(name: str, blocks: int, projects: bool) -> Choice:
    """The tensor called ``name`` of a tower of so many blocks.

    ``last_hidden_state``: output of the last block. ``post_layernorm``: all its rows after the last layer norm.
    ``hidden_K``: output of block K, counted from 0 or, negative, from the end. ``embeddings``: input of block 0.
    ``pooled``: one vector behind the last layer norm; ``projected``: that in the space shared with texts.
    Raises UsageError for another name, or what the tower has not.
    """
    if name == "projected" and not projects:
        raise UsageError(
            "the tensor 'projected' is asked for, and these weights have no projection (visual_projection.weight)",
            "give the whole CLIP checkpoint, or ask for pooled",
        )
    if name in POOLED or name in ("last_hidden_state", "post_layernorm"):
        return Choice(name, name not in POOLED, blocks, name)
    if name == "embeddings":
        return Choice(name, True, 0, name)
    match = re.fullmatch(r"hidden_(-?\d+)", name)
    if match is None:
        raise UsageError(f"there is no tensor {name!r}", f"known are {', '.join((*GRIDS, *POOLED))}")
    block = int(match[1])
    place = block + blocks if block < 0 else block
    if not 0 <= place < blocks:
        raise UsageError(
            f"the tensor {name!r} is asked for, and the tower has {blocks} blocks",
            f"hidden_0 to hidden_{blocks - 1}, or hidden_-{blocks} to hidden_-1",
        )
    same = "last_hidden_state" if place + 1 == blocks else f"hidden_{place}"
    return Choice(name, True, place + 1, same)
