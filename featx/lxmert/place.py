"""Where the model is that comes with the package."""

from __future__ import annotations

from pathlib import Path

DEFAULT = Path(__file__).parent / "default"


def named(location: str | Path) -> str | Path:
    """The location itself; that of the package's own model for the name ``default``."""
    return DEFAULT if location == "default" else location
