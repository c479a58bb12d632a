"""Looking after stores: find damage and repair it, look at their content, compare, put together and take apart, copy.

Inside, imports go one way: swap, pages, part, cast, hashing, origin < folders, remote, salvage, copying, transfer < one
module for each function (pull < push < publish).
"""

from __future__ import annotations

from featx.care.compact import compact
from featx.care.difference import Diff, Hint, diff
from featx.care.merge import Merged, merge
from featx.care.publish import publish, publishing
from featx.care.pull import pull
from featx.care.push import push
from featx.care.repair import Repair, drop_damaged, repair
from featx.care.rewrite import PartRepair
from featx.care.sample import Sample, check_sample
from featx.care.split import Split, split
from featx.care.statistics import Statistics, stats
from featx.care.transfer import Transfer

__all__ = [
    "Diff", "Hint", "Merged", "PartRepair", "Repair", "Sample", "Split", "Statistics", "Transfer",
    "check_sample", "compact", "diff", "drop_damaged", "merge", "publish", "publishing", "pull", "push", "repair",
    "split", "stats",
]  # fmt: skip
