"""A short mixed load: good clients among those that vanish, read slowly, ask for nonsense or have no token, while the
store is replaced by another with the same records. No wrong byte, and no good request that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from featx.serve import mounted
from featx.serve.mounted import Mounts
from tests.load_clients import BEARER, EXPECTED, MAX_BODY, MAX_KEYS, TOKEN, Good, Rude, Slow, Wrong, rounds
from tests.load_serve import measure
from tests.serving import KEYS, path_of, serving
from tests.store_oracle import make_store

ROUNDS = 25  # of each client


def test_good_requests_are_answered_whatever_others_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounted, "EVERY", 0.01)
    path = make_store(tmp_path / "s", "lmdb", 40)
    others = [make_store(tmp_path / f"n{number}", ("hdf5", "lmdb")[number % 2], 40) for number in range(4)]
    with serving(Mounts.of(s=path), token=TOKEN, max_keys=MAX_KEYS, max_body=MAX_BODY) as server:
        kinds = (Good, Good, Good, Rude, Rude, Wrong, Slow)
        clients = [kind(server, seed, rounds(2 if kind is Slow else ROUNDS)) for seed, kind in enumerate(kinds)]
        for client in clients:
            client.start()
        for number, other in enumerate(others):
            path.rename(tmp_path / f"old{number}")
            other.rename(path)
            assert server.ask("GET", path_of("s", KEYS[number]), headers=BEARER).body == EXPECTED[KEYS[number]]
        for client in clients:
            client.join()
        assert [wrong for client in clients for wrong in client.wrong] == []
        assert [failed for client in clients for failed in client.failed] == []
        counted = server.ask("GET", "/metrics", headers=BEARER).body.decode()
    assert 'status="500"' not in counted


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="workers are found the way Linux tells of them")
def test_two_processes_under_load_lose_no_more_than_one_that_is_killed(tmp_path: Path) -> None:
    """The long form in a few seconds; its latencies and memory are for a quiet machine to tell."""
    seen = measure(tmp_path, quiet=1.0, load=12.0)
    assert seen["good requests"] > 50
    assert seen["kills"] == 1
    assert seen["stores replaced"] >= 1
    assert seen["wrong"] == []
    assert seen["failed beyond the killed"] == []
