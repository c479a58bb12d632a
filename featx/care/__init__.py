"""Looking after stores: find damage and repair it, look at their content, compare, put together and take apart, copy.

Inside, imports go one way: swap, pages, folders < salvage < repair.
"""

from __future__ import annotations

from featx.care.repair import PartRepair, Repair, drop_damaged, repair

__all__ = ["PartRepair", "Repair", "drop_damaged", "repair"]
