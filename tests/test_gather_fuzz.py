"""The compiled reader under AddressSanitizer: whatever a file holds, no byte outside of it is touched.

``FEATX_FUZZ_ROUNDS`` makes it longer: damaged files per case, 300 unless said.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from math import prod
from pathlib import Path

import pytest

from featx.store import open_store
from featx.store.folder import FolderStore
from featx.store.hdf5_sealed import ArraysShard, PlacedShard
from featx.store.lmdb_sealed import SealedShard
from featx.store.words import schema_words
from tests.conftest import absent
from tests.store_oracle import make_store
from tests.test_gather import schema_of
from tests.test_store_damage import data_file

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ["-std=c++17", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-pthread"]
ROWS = 600  # of the batch: more than a harmed record must have to reach beyond its file


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled fuzzer."""
    compiler = os.environ.get("CXX", "c++").split()
    if shutil.which(compiler[0]) is None:
        absent(f"no C++ compiler {compiler[0]}", "FEATX_REQUIRE_NATIVE")
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "probe.cpp").write_text("int main() { return 0; }\n")
    probe = [*compiler, *FLAGS, str(folder / "probe.cpp"), "-o", str(folder / "probe")]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        absent("the compiler has no sanitizers", "FEATX_REQUIRE_NATIVE")
    sources = [path for path in sorted((ROOT / "csrc/store").glob("*.cpp")) if path.name != "module.cpp"]
    made = [*compiler, *FLAGS, "-I", str(ROOT / "csrc/store"), *map(str, sources), str(ROOT / "tests/store_fuzz.cpp")]
    subprocess.run([*made, "-o", str(folder / "store_fuzz")], check=True)
    return folder / "store_fuzz"


def numbers(values: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(values) + 1}q", len(values), *values)


def text(value: bytes) -> bytes:
    return struct.pack("<q", len(value)) + value


def case(store: FolderStore, file: Path) -> bytes:
    """What the fuzzer reads: the store in numbers, with offsets for addresses."""
    (shard,) = store._shards
    whole, told = file.read_bytes(), shard.words()
    assert told is not None
    rest: tuple[int, ...]
    if isinstance(shard, SealedShard):
        (weak, values), rest = in_tree(shard, whole), (0, *told.rest[1:])
    elif isinstance(shard, PlacedShard):
        start, *sizes = told.rest[:4]
        weak, values = in_place(shard, start)
        rest = (0, *sizes, *(address - start for address in told.rest[4:]))
    else:
        assert isinstance(shard, ArraysShard)
        start = shard._whole.ctypes.data
        weak, values = in_arrays(shard, start)
        rest = (*told.rest[:4], *(address - start for address in told.rest[4:]))
    fields = store.schema.fields
    sizes = [prod(f.shape_for(ROWS)) * (4 if f.name == "features" else f.memory_dtype.itemsize) for f in fields]
    rows = (
        schema_words(store.schema, "float32").tolist(),
        (*told.kind, 0, *rest),
        [ROWS] + [0] * (5 + len(fields)),
        sizes,
    )
    keys = [*(key.encode() for key in store), b"nobody", b"x" * 400]
    pieces = [
        *map(numbers, rows),
        struct.pack("<q", len(keys)),
        *map(text, keys),
        numbers(weak),
        numbers(values),
        text(whole),
    ]
    return b"".join(pieces)


def in_tree(shard: SealedShard, whole: bytes) -> tuple[list[int], list[int]]:
    """Where an LMDB file is structure, and where each record says how long it is: in its node, on its page, itself."""
    tree = shard._opened
    page = tree.meta.page_size
    nodes = [p for p in range(2 * page, len(whole), page) if whole[p + 10] in (1, 2)]
    weak = [place for p in nodes for place in (*range(p, p + 80), *range(p + page - 200, p + page))]
    values = []
    for key, value in tree.items():
        weak += range(value.offset - 16, value.offset + 48)
        values += [whole.rindex(key) - 8, value.offset - 4, value.offset]
    return weak, values


def in_place(shard: PlacedShard, start: int) -> tuple[list[int], list[int]]:
    """Where an HDF5 file says where its records are, and their headers; nothing else says how long they are."""
    offsets = shard._arrays["offset"]
    weak = [array.ctypes.data - start + i for array in (shard._keys, offsets, offsets) for i in range(array.nbytes)]
    weak += [place + i for place in offsets.tolist() for i in range(48)]
    return weak, [number for place in offsets.tolist() for number in (100, 100, place)]


def in_arrays(shard: ArraysShard, start: int) -> tuple[list[int], list[int]]:
    """The same of an HDF5 file whose records were taken apart."""
    arrays = [shard._arrays[name] for name in ("keys", "start", "count", "size", "ordinal", "checksum")]
    return [array.ctypes.data - start + i for array in arrays for i in range(array.nbytes)], []


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
@pytest.mark.parametrize(
    ("dtype", "rows"), [("float16", None), ("bfloat16", None), ("int8", None), ("float32", 12), ("int8", 9)]
)
def test_damaged_files_lead_nowhere_outside_of_them(
    fuzz: Path, tmp_path: Path, backend: str, dtype: str, rows: int | None
) -> None:
    path = make_store(tmp_path / "s", backend, 30, schema=schema_of(dtype, rows, 19))
    store = open_store(path)
    assert isinstance(store, FolderStore)
    (tmp_path / "case").write_bytes(case(store, data_file(path)))
    rounds = os.environ.get("FEATX_FUZZ_ROUNDS", "300")
    done = subprocess.run([fuzz, tmp_path / "case", "5", rounds], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert int(done.stdout) > int(rounds)  # most records of a damaged file are sound, and were read
