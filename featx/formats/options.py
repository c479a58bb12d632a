"""What a foreign file cannot say about itself and must be told, each with its flag of the command line."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from featx.schema import BoxKind


def _positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    if not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"{text} is no whole number above 0")
    return int(text)


@dataclass(frozen=True)
class Options:
    """One set for all formats; ``Format.takes`` and ``Format.gives`` name those that a format uses.

    The metadata of a field make its flag: ``help``, and what argparse takes. The flag of ``allow_pickle`` is
    ``--allow-pickle``, and so for each; ``labels`` has two, ``--objects FILE`` and ``--attributes FILE``. Give every
    new field a default that changes nothing.
    """

    # reading
    dtype: str = field(
        default="",
        metadata={"help": "of the features in the store; '' as the source says, else float32, which is exact"},
    )
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    box_kind: BoxKind | None = field(
        default=None,
        metadata={
            "help": "which boxes the source holds, where that is known better than from the format",
            "choices": ("proposal", "regressed", "given", "grid"),
        },
    )
    key: str = field(
        default="{}",
        metadata={"help": "how an id becomes a key: COCO_val2014_{:012d}, or img-{}", "metavar": "TEMPLATE"},
    )
    sizes: str = field(
        default="",
        metadata={
            "help": "where the sizes of the pictures are, when the source has none: lines `key,height,width`, "
            "JSON {key: [height, width]}, or COCO's annotations",
            "metavar": "PATH",
        },
    )
    background: str = field(
        default="",
        metadata={
            "help": "where the background class is among the source's ids and scores",
            "choices": ("first", "last", "none"),
        },
    )
    allow_pickle: bool = field(
        default=False,
        metadata={
            "help": "read pickles in the source, with an unpickler that makes numpy arrays and plain containers only",
            "action": "store_true",
        },
    )
    # writing
    keys: str = field(
        default="",
        metadata={"help": "write these records only, in this order: a file of one key per line", "metavar": "FILE"},
    )
    first: str = field(
        default="",
        metadata={"help": "write these records before all others, as minival in val2014", "metavar": "FILE"},
    )
    ids: str = field(
        default="key",
        metadata={
            "help": "how a key becomes the number that the format wants: `key` is a number itself, `digits` takes its "
            "last ones, FILE is JSON {key: number}",
            "metavar": "RULE",
        },
    )
    shard_size: int = field(
        default=0,
        metadata={
            "help": "most bytes of a file, where a format is written as several",
            "type": _positive,
            "metavar": "BYTES",
        },
    )
