"""The rule by which a profile chooses the regions of a picture, replayed on what a superset kept of each candidate.

A superset store keeps more candidates than a profile asks for, and with each the numbers its rule looks at. They lie
in the order of the rule: by falling ``selection_confs``, equals by rising ``proposal_ranks`` (then by class). What a
smaller number of boxes, or another score threshold, would have kept is then a choice among the rows; docs/superset.md
gives the argument for each rule. Pure numpy on float32: the comparisons are those that the extractor makes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from featx.errors import StoreError, UsageError
from featx.schema import Array, Field

LEVELS = 31  # thresholds whose survivors fit the bits of nms_levels
_COMMON = (Field("proposal_ranks", "int32"), Field("selection_confs", "float32"))
_OWN = {
    "classwise": (Field("next_conf", "float32", (), "picture"),),
    "maxnms": (Field("nms_levels", "int32"),),
    "multilabel": (Field("nms_levels", "int32"),),
}
Boxes = str | int | None


def superset_fields(select: str) -> tuple[Field, ...]:
    """The fields that a superset has besides those of a plain store, by the selection rule of its profile.

    ``proposal_ranks``: place of the region among the proposals, 0 the best. ``selection_confs``: what the rule ranks
    by. classwise: ``next_conf``, once per picture, the best ``selection_confs`` among the proposals that were left out,
    -1 when there are none. maxnms, multilabel: ``nms_levels``, bit i set when the region survives the NMS at the
    profile's i-th threshold.
    """
    return (*_COMMON, *_OWN[select])


def fingerprint(switches: Mapping[str, Any]) -> str:
    """First 16 hex digits of the sha256 over the switches of a profile, its name apart: equal hash, equal behaviour."""
    plain = {name: value for name, value in switches.items() if name != "name"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def parse_boxes(boxes: str | int) -> tuple[int, int]:
    """(least, most) of ``36`` (fixed) or ``10..100`` (adaptive). Raises UsageError for anything else."""
    match = re.fullmatch(r"\s*(\d+)\s*(?:(?:\.\.|-)\s*(\d+)\s*)?", str(boxes))
    if match is None:
        raise UsageError(f"--boxes {boxes!r} is not understood", "write --boxes 36 or --boxes 10..100")
    low, high = int(match[1]), int(match[2] or match[1])
    if not 1 <= low <= high:
        raise UsageError(
            f"{low} to {high} boxes are asked for", "give 1 <= min <= max, for example --boxes 36 or --boxes 10..100"
        )
    return low, high


def parse_threshold(value: str | float) -> float:
    """A score threshold, from 0 to 1. Raises UsageError for anything else."""
    try:
        threshold = float(value)
    except (TypeError, ValueError):
        threshold = -1.0
    if isinstance(value, bool) or not 0 <= threshold <= 1:
        raise UsageError(f"the score threshold is {value!r}", "give a number from 0 to 1, for example 0.2")
    return threshold


@dataclass(frozen=True)
class Rule:
    """What decides which candidates are kept: the switches of a profile, with the numbers that a reader asks for.

    select: classwise, maxnms or multilabel. levels: thresholds of the final NMS, in bits of ``nms_levels``. drop_empty:
    regions whose regressed box has no area are dropped at the end.
    """

    select: str
    levels: int
    score_threshold: float
    least: int
    most: int
    drop_empty: bool

    @classmethod
    def of(cls, switches: Mapping[str, Any]) -> Rule:
        """The rule of a profile as it stands in a manifest. Raises StoreError for one that this featx does not know."""
        try:
            rule = cls(
                switches["select"], len(switches["thresholds"]), float(switches["score_threshold"]),
                int(switches["min_boxes"]), int(switches["max_boxes"]), bool(switches["drop_empty"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"the profile of the store lacks or misuses {error}", "was it made by featx?") from None
        if rule.select not in _OWN:
            raise StoreError(f"the store was selected by the rule {rule.select!r}", f"known are {', '.join(_OWN)}")
        return rule

    def rows(self, arrays: Mapping[str, Array], regressed: Array) -> Array:
        """The kept rows of one record, int64 ``[n]``, in the order in which an extraction by this rule has them.

        arrays: the fields of :func:`superset_fields`, without padding. regressed: its regressed boxes ``[N, 4]``.
        """
        together = {name: np.asarray(array)[None] for name, array in arrays.items()}
        rows, counts = self.choose(together, regressed[None], np.array([len(regressed)]))
        kept: Array = rows[0, : counts[0]]
        return kept

    def choose(self, arrays: Mapping[str, Array], regressed: Array, real: Array) -> tuple[Array, Array]:
        """The kept rows of many records: of record i, in their order, the first ``counts[i]`` of ``rows[i]``.

        arrays: the fields of :func:`superset_fields`, ``[B, N]``, or ``[B]`` once per picture. regressed: boxes
        ``[B, N, 4]`` float32. real: how many rows of each are no padding, int64 ``[B]``. Returns rows, int64
        ``[B, N]``, and counts, int64 ``[B]``.
        """
        there = np.arange(regressed.shape[1]) < real[:, None]
        rows, counts = (self._classwise if self.select == "classwise" else self._by_level)(arrays, there)
        if self.drop_empty:
            sides = regressed[..., 2:] - regressed[..., :2]
            solid = np.take_along_axis((sides > 0).all(-1), rows, 1) & (np.arange(rows.shape[1]) < counts[:, None])
            rows, counts = np.take_along_axis(rows, _first(solid), 1), solid.sum(1)
        return rows, counts

    def _classwise(self, arrays: Mapping[str, Array], there: Array) -> tuple[Array, Array]:
        """All that reach the threshold, by rank; where those are too few or too many, the best, by confidence."""
        threshold = np.float32(self.score_threshold)
        passing = there & (arrays["selection_confs"] >= threshold)
        kept = passing.sum(1)
        # Whoever was left out passes only if all that were kept do; one more then tells apart "all" and "too many".
        count = kept + (arrays["next_conf"] >= threshold)
        all_passing = (self.least <= count) & (count <= self.most)
        ranks = np.where(passing, arrays["proposal_ranks"].astype(np.int64), np.iinfo(np.int64).max)
        by_rank, by_conf = np.argsort(ranks, axis=1, kind="stable"), np.arange(there.shape[1])
        wanted = np.minimum(there.sum(1), np.where(count < self.least, self.least, self.most))
        return np.where(all_passing[:, None], by_rank, by_conf), np.where(all_passing, kept, wanted)

    def _by_level(self, arrays: Mapping[str, Array], there: Array) -> tuple[Array, Array]:
        """The survivors of the first NMS that leaves enough, of the last where none does."""
        alive = there
        if self.select == "multilabel":
            alive = there & (arrays["selection_confs"] > np.float32(self.score_threshold))
        levels = np.arange(self.levels)[:, None, None]
        survive = alive & (arrays["nms_levels"] >> levels & 1).astype(bool)  # [levels, B, N]
        enough = survive.sum(2) >= self.least
        level = np.where(enough.any(0), enough.argmax(0), self.levels - 1)
        mask = survive[level, np.arange(len(there))]
        return _first(mask), np.minimum(mask.sum(1), self.most)


def _first(mask: Array) -> Array:
    """Indices along the second axis that bring what is true to the front, all in their order: int64 ``[B, N]``."""
    return np.argsort(~mask, axis=1, kind="stable")
