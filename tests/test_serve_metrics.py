"""What is counted, read back by prometheus-client's own parser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from featx.serve.extension import Extension
from featx.serve.mounted import Mounts
from featx.serve.resident import resident
from tests.serving import KEYS, Server, bytes_of, path_of, serving
from tests.store_oracle import KINDS, make_store

RECORDS, BATCH = "/v1/stores/{store}/records/{key}", "/v1/stores/{store}/records"


def samples(server: Server) -> dict[tuple[str, ...], float]:
    answer = server.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def test_requests_bytes_and_times_are_counted_by_route(tmp_path: Path) -> None:
    length = len(bytes_of(KEYS[0], KINDS["lmdb"].schema))
    with serving(Mounts.of(s=make_store(tmp_path / "s", "lmdb", 40))) as server:
        for _ in range(3):
            server.ask("GET", path_of("s", KEYS[0]))
        server.ask("GET", path_of("s", KEYS[0]), headers={"range": "bytes=0-9"})
        server.ask("GET", path_of("s", "nobody"))
        batch = server.ask("POST", "/v1/stores/s/records", {"keys": KEYS[:5]})
        for number in range(5):
            server.ask("GET", f"/whatever/{number}")
        found = samples(server)
    assert found["featx_requests_total", "GET", RECORDS, "200"] == 3
    assert found["featx_requests_total", "GET", RECORDS, "206"] == 1
    assert found["featx_requests_total", "GET", RECORDS, "404"] == 1
    assert found["featx_requests_total", "POST", BATCH, "200"] == 1
    assert found["featx_requests_total", "GET", "other", "404"] == 5
    assert 3 * length + 10 < found["featx_sent_bytes_total", RECORDS] < 3 * length + 10 + 1000  # and the 404
    assert found["featx_sent_bytes_total", BATCH] == len(batch.body)
    assert found["featx_request_seconds_count", RECORDS] == 5
    assert found["featx_request_seconds_bucket", "+Inf", RECORDS] == 5


def test_stores_are_described(tmp_path: Path) -> None:
    path = make_store(tmp_path / "s", "lmdb", 40)
    size = next(path.rglob("records.lmdb")).stat().st_size
    with serving(Mounts.of(s=path)) as server:
        found = samples(server)
        assert found["featx_store_records", "s"] == len(KEYS)
        assert found["featx_store_open", "s"] == found["featx_store_complete", "s"] == 1
        assert found["featx_store_mapped_bytes", "s"] == size
        assert 0 <= found["featx_store_cached_bytes", "s"] <= size
        shutil.rmtree(path)
        server.mounts.stores["s"].renew()
        assert samples(server)["featx_store_open", "s"] == 0


def test_extensions_add_their_numbers(tmp_path: Path) -> None:
    extension = Extension(figures=lambda: {"featx_answers_total": 5.0, "featx_answers_waiting": 2.0})
    with serving(Mounts.of(s=make_store(tmp_path / "s", "lmdb", 4)), (extension,)) as server:
        found = samples(server)
    assert (found["featx_answers_total",], found["featx_answers_waiting",]) == (5, 2)


def test_pages_that_were_read_are_in_memory(tmp_path: Path) -> None:
    import mmap

    file = tmp_path / "file"
    file.write_bytes(b"x" * 100_000)
    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        assert view[::4096].tobytes()
        mapped_bytes, cached = resident([view])
        view.release()
    assert mapped_bytes == 100_000
    if cached is None:
        pytest.skip("the system does not say what is in memory")
    assert cached == 100_000
