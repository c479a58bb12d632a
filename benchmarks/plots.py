"""Plots in one look: matplotlib (of the extra ``bench``), no window, a title that says what is learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BLUE, ORANGE, GREEN, RED, GREY = "#1f5fa8", "#d9730d", "#2f855a", "#b83232", "#6b7280"
DOCS = Path(__file__).resolve().parent.parent / "docs"


def figure(rows: int, columns: int, size: tuple[float, float], title: str) -> tuple[Any, Any]:
    """A figure and its axes ``[rows, columns]``, without frames above and to the right."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams |= {
        "font.size": 10, "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left",
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e5e7eb",
        "axes.axisbelow": True, "axes.edgecolor": GREY, "legend.frameon": False,
    }  # fmt: skip
    drawn, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    drawn.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
    return drawn, axes


def keep(drawn: Any, path: Path) -> Path:
    """Write the PNG, and close the figure."""
    from matplotlib import pyplot

    drawn.savefig(path, dpi=130)
    pyplot.close(drawn)
    return path
