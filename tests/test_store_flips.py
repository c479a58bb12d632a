"""Case 12: single flipped bits in a finished store. The long form is ``python -m tests.flip_store --flips 10000``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flip_store import loop
from tests.store_oracle import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_bit_is_reported_and_none_is_fatal_or_read_as_truth(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("torch")
    seen = loop(tmp_path, kind, flips=120, seed=11)
    assert seen.bad == []
    assert seen.within > 50
    assert seen.elsewhere > 5
