"""Tables of others for tests, made by pyarrow: the same two pictures as an Arrow stream and as a Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

BOXES = [[1, 2, 30, 40], [0, 0, 5.5, 6]]
ROWS = {
    "image_id": [42, 7],
    "features": [[[1.5, -2.0, 0.25], [0, 3, 65504]], [[1, 2, 3]]],
    "boxes": [BOXES, BOXES[:1]],
    "image_h": [60, 61],
    "image_w": [50, 51],
    "objects_id": [[7, 8], [9]],
    "caption": ["not", "read"],
}


def table(**changes: Any) -> Any:
    """The two pictures, with other columns in the place of some; None leaves one out. Skips where pyarrow is absent."""
    pa = pytest.importorskip("pyarrow")
    return pa.table({name: column for name, column in {**ROWS, **changes}.items() if column is not None})


def stream(path: Path, *tables: Any) -> Path:
    """An Arrow stream of a batch for each table."""
    pa = pytest.importorskip("pyarrow")
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, tables[0].schema) as out:
        for one in tables:
            out.write_table(one)
    return path


def several(path: Path, batches: int = 3) -> Path:
    """An Arrow stream of ``batches`` batches of two rows, keys 0, 1, 2, ..."""
    return stream(path, *(table(image_id=[2 * number, 2 * number + 1]) for number in range(batches)))


def groups(path: Path, count: int = 3, **options: Any) -> Path:
    """A Parquet file of ``count`` row groups of two rows, keys 0, 1, 2, ..."""
    pq, plain = pytest.importorskip("pyarrow.parquet"), {"compression": "none", "use_dictionary": False}
    with pq.ParquetWriter(path, table().schema, **{**plain, **options}) as out:
        for number in range(count):
            out.write_table(table(image_id=[2 * number, 2 * number + 1]))
    return path


def check(items: list[Any]) -> None:
    """The items are the two pictures."""
    assert [item.key for item in items] == ["42", "7"]
    first, second = (item.record for item in items)
    assert (first.size, second.size) == ((60, 50), (61, 51))
    np.testing.assert_array_equal(first.features, np.float32(ROWS["features"][0]))
    np.testing.assert_array_equal(second.boxes, np.float32(BOXES[:1]))
    assert second.object_ids.tolist() == [9]
