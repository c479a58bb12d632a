"""What a person only wants to look at must not cost the start of torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from featx.record import Record
from featx.schema import region_schema
from featx.store import create_store, open_part


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def loads(code: str) -> list[str]:
    """Heavy packages that are loaded once ``code`` has run."""
    tail = "import sys; print('loaded', *[m for m in ('torch', 'detectron2', 'cv2', 'h5py') if m in sys.modules])"
    done = run(f"{code}\n{tail}")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def test_import_featx_loads_nothing_heavy() -> None:
    assert loads("import featx") == []


def test_help_loads_nothing_heavy() -> None:
    assert loads("from featx.cli import main\nmain([])") == []


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
def test_inspecting_a_store_loads_no_torch(tmp_path: Path, backend: str) -> None:
    store = tmp_path / "store"
    schema = region_schema(8, "float32", attributes=False)
    create_store(store, backend, schema, {})
    with open_part(store) as writer:
        extra = {"object_ids": np.zeros(2, np.int32), "object_confs": np.ones(2, np.float32)}
        writer.put("a", Record(np.ones((2, 8), np.float32), np.zeros((2, 4), np.float32), (5, 6), 2, extra), 0)
        writer.finish()
    for key in ("", ", 'a'"):
        assert "torch" not in loads(f"from featx.cli import main\nassert main(['inspect', {str(store)!r}{key}]) == 0")


def test_every_public_name_resolves() -> None:
    done = run("import featx\nfor name in featx.__all__: getattr(featx, name)")
    assert done.returncode == 0, done.stderr
