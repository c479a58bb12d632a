"""Cases 1 and 2 at the store: SIGKILL at random moments. Long form: ``python -m tests.kill_store --times 200``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kill_store import loop
from tests.store_oracle import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random_moments_a_store_loses_nothing_and_holds_nothing_wrong(tmp_path: Path, kind: str) -> None:
    seen = loop(tmp_path, kind, times=8, seed=4, longest=0.1)
    assert seen.kills == 8
    assert "ledger.jsonl" in seen.files
