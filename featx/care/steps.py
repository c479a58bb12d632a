"""The steps of the pipeline in which extractors are known to differ, and what to say about each.

Every way in which two records were found to differ has a short name here. ``{a}`` and ``{b}`` are the two stores, the
second being the one whose values follow from the first's.
"""

from __future__ import annotations

from typing import NamedTuple


class Reason(NamedTuple):
    """Why something differs: the name of a step below, whether A follows from B instead of B from A, and a number."""

    step: str
    backwards: bool = False
    number: float = 0.0


STEPS = {
    # Boxes.
    "box noise": "boxes: equal up to rounding errors ({n:.1g} pixels): another device, library or order of operations",
    "box order": (
        "selection: the same regions in another order: the sort key (confidence, or the order of the "
        "proposals) or the rule for ties"
    ),
    "fewer boxes": (
        "selection: {b} has only some of the regions of {a}: number of boxes, score threshold, or a view of a superset"
    ),
    "plus one": (
        "box convention: boxes of {b} end one pixel later than those of {a}: the end inclusive (x1 = x0 + w - 1) or not"
    ),
    "shifted": (
        "box convention: every coordinate of {b} is {n:g} larger than that of {a}: counted from 1 or 0, or "
        "from the middle of pixels"
    ),
    "clip": (
        "clipping: boxes differ at the border of the picture alone, by one pixel: clipped to W - 1 and H - 1,"
        " or to W and H"
    ),
    "unclipped": "clipping: boxes of {b} are those of {a} clipped to the picture",
    "whole numbers": "box dtype: boxes of {b} are those of {a} as whole numbers",
    "half boxes": (
        "box dtype: boxes of {b} are those of {a} after float16, which cannot hold pixels beyond 2048 or "
        "fractions beyond 512"
    ),
    "transposed": "box format: x and y are exchanged (y0 x0 y1 x1 in {b})",
    "corner and size": "box format: {b} has x, y, width, height where {a} has corners",
    "centre and size": "box format: {b} has centre, width, height where {a} has corners",
    "normalised": "box frame: boxes of {b} are those of {a} divided by width and height: a store holds pixels",
    "normalised askew": "box frame: boxes of {b} are those of {a} divided by height and width, the wrong way round",
    "resized frame": (
        "box frame: boxes of {b} are pixels of a resized picture ({n:.4g} times those of {a}): not scaled back"
    ),
    "mirrored": "decoding: boxes of {b} are mirrored left to right",
    "turned": (
        "decoding: boxes of {b} are those of {a} turned by 90 degrees: only one of them was made upright (EXIF)"
    ),
    "other box": "box written: boxes of {b} are the other kind of box of {a}: proposal and regressed boxes",
    "moved": (
        "box written: nearly the same regions, moved a little: regressed and proposal boxes, or the weights "
        "of the deltas"
    ),
    "other boxes": "proposals or selection: other regions: anchors, NMS, min size, or what the network saw",
    # Features of regions that are the same.
    "codec float16": "feature dtype: features of {b} are exactly those of {a} rounded to float16",
    "codec bfloat16": "feature dtype: features of {b} are exactly those of {a} rounded to bfloat16",
    "codec int8": "feature dtype: features differ by no more than the step of int8 with a scale per box",
    "feature noise": (
        "precision: features differ by rounding errors of float32 (relative {n:.1g}): device, library, or batch size"
    ),
    "feature precision": (
        "precision: features differ as by TF32, float16 or bfloat16 arithmetic (relative {n:.1g}): same "
        "network, same pixels"
    ),
    "feature rows": (
        "rows: the features of the regions are exchanged among them: rows of boxes and features were shifted "
        "against each other (empty boxes dropped from one only)"
    ),
    "feature norm": "post-processing: features of {b} are those of {a} divided by their norm",
    "feature factor": "post-processing: features of {b} are {n:.4g} times those of {a}",
    "feature relu": "layer: features of {b} are those of {a} without what is negative: before and after a ReLU",
    "feature offset": (
        "input statistics: features differ by the same vector everywhere ({n:.0%} of the difference): the "
        "mean or the scale of the pixels"
    ),
    "channels": (
        "channel order: features agree for {n:.0%} of the pictures, as for grey ones, and not for the others:"
        " BGR and RGB"
    ),
    "other input": (
        "input: the same boxes, features that are alike but not equal: channel order (BGR and RGB), mean, "
        "resize, or slightly other weights"
    ),
    "other network": (
        "weights: the same boxes, features that have nothing in common: other weights, another layer, or "
        "another network"
    ),
    # Ids and what else is in a record.
    "ids from one": "classes: ids of {b} are those of {a} + 1: the background counted first",
    "other ids": "classes: object ids differ: class order, or the scores behind them",
    "no attributes": "attributes: all attribute ids and confidences of {b} are 0: its script never wrote them",
    "other attributes": (
        "attributes: attribute ids differ: softmax with or without the background, or the class they are conditioned on"
    ),
    "size": "size: height and width of {b} are exchanged",
    "other size": "decoding: the pictures have different sizes: another file, or a resized copy",
    "confidences": "scores: confidences differ by up to {n:.2g}",
    "fewer fields": "fields: {b} lacks fields that {a} has",
    "other fields": "fields: what else the records hold (probabilities, other boxes and the like) differs",
    # Of whole stores.
    "keys": (
        "keys: pictures are named by another rule; without folders, prefixes and endings, {n:.0%} of the names agree"
    ),
}

# What no tolerance forgives: there is no number by which it could be small.
FINAL = frozenset(
    (
        "box order", "feature rows", "other network", "ids from one", "other ids", "no attributes", "other attributes",
        "size", "other size", "fewer fields",
    )
)  # fmt: skip


def sentence(reason: Reason, a: str = "A", b: str = "B") -> str:
    """What to say about a reason."""
    names = {"a": b, "b": a} if reason.backwards else {"a": a, "b": b}
    return STEPS[reason.step].format(**names, n=reason.number)
