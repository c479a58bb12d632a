"""``featx serve --flight`` from its start to its end, and views of what it serves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from featx.store import open_store
from tests.flight_calls import served
from tests.store_oracle import make_store, names, record_of
from tests.test_gather import assert_same
from tests.test_view import extractor, stored


@pytest.mark.parametrize("server", ["uvicorn", "granian"])
def test_the_command_serves_by_flight_too_and_ends_when_told(tmp_path: Path, server: str) -> None:
    path = make_store(tmp_path / "one.featx", "lmdb", 8)
    line = [sys.executable, "-m", "featx", "serve", str(path), "--port", "0", "--flight", "--json", "--server", server]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        with open_store(f"{said['flight']}/one") as by_flight, open_store(f"{said['url']}/one") as by_http:
            keys = list(open_store(path))
            assert_same(by_flight.get_batch(keys), open_store(path).get_batch(keys))
            assert_same(by_http.get_batch(keys), by_flight.get_batch(keys))
            assert by_flight[names(1)[0]] == record_of(names(1)[0])
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_a_view_behind_a_url_is_that_of_the_folder_whoever_makes_it(tmp_path: Path) -> None:
    path = stored(tmp_path / "super", extractor("caffe-36", superset=60))
    with (
        open_store(path, view={"boxes": "10..40"}) as view,
        served(whole=path, less={"path": path, "boxes": "10..40"}) as s,
    ):
        keys = list(view)
        for url, asked in ((f"{s.location}/whole", {"boxes": "10..40"}), (f"{s.location}/less", {})):
            with open_store(url, view=asked) as store:
                assert (store.schema, store.manifest.provenance) == (view.schema, view.manifest.provenance)
                assert_same(store.get_batch(keys), view.get_batch(keys))
                assert store.row_counts(keys).tolist() == view.row_counts(keys).tolist()
                for key in keys:
                    assert store.stored_bytes(key) == view.stored_bytes(key)
