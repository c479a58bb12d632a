"""The JSON files that stand beside weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from featx.errors import WeightsError


def read_config(path: Path | None) -> dict[str, Any]:
    """The mapping in a ``config.json``, empty without one. Raises WeightsError for another file."""
    if path is None:
        return {}
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}", "get a complete copy") from None
    if not isinstance(data, dict):
        raise WeightsError(f"{path} holds {type(data).__name__}, expected a mapping", "get a complete copy")
    return data
