"""How others read: the same float16 records in each peer's own files, and the quickest careful way into a batch.

Every reader is a function of row numbers that fills ``batch`` (float32 ``[B, N, D]``, in memory that is used again), or
returns a fresh one where that is how it is usually done. What is not installed, or does not start here, is left out and
named.
"""

from __future__ import annotations

import base64
import io
import json
import pickle
import tarfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import torch

Reader = Callable[[Sequence[int]], Any]
Array = np.ndarray[Any, np.dtype[Any]]


def readers(work: Path, features: Array, batch: torch.Tensor, store: Path) -> tuple[dict[str, Reader], dict[str, str]]:
    """Write every peer's files below ``work`` and open them. Returns the readers, and why others are missing."""
    warnings.filterwarnings("ignore", message="The given (buffer|NumPy array) is not writable")
    made: dict[str, Reader] = dict(_lmdb(store, features.shape, batch))
    absent: dict[str, str] = {}
    for name, make in PEERS.items():
        folder = work / name.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        try:
            made[name] = make(folder, features, batch)
        except (ImportError, RuntimeError, OSError) as error:
            absent[name] = str(error).splitlines()[0]
    return made, absent


def key_of(row: int) -> str:
    """The key of a record."""
    return f"p{row:06d}"


def _into(batch: torch.Tensor, view: Callable[[int], torch.Tensor]) -> Reader:
    """Copy, and convert by torch, one record after another."""

    def read(rows: Sequence[int]) -> torch.Tensor:
        for place, row in enumerate(rows):
            batch[place].copy_(view(row))
        return batch

    return read


def _lmdb(store: Path, shape: tuple[int, ...], batch: torch.Tensor) -> Iterator[tuple[str, Reader]]:
    """The very LMDB file of the featx store, by py-lmdb: its values hold the features 48 bytes in."""
    env = lmdb.open(str(next(store.rglob("records.lmdb"))), subdir=False, readonly=True, lock=False, readahead=False)
    txn, numbers = env.begin(buffers=True), shape[1] * shape[2]

    def view(row: int) -> torch.Tensor:
        value = txn.get(key_of(row).encode())
        return torch.frombuffer(value, dtype=torch.float16, count=numbers, offset=48).view(shape[1:])

    def usual(rows: Sequence[int]) -> Any:
        return torch.utils.data.default_collate([view(row).float() for row in rows])

    yield "LMDB, torch views into the batch", _into(batch, view)
    yield "LMDB, views, default collate", usual


def _vilbert(folder: Path, features: Array, batch: torch.Tensor) -> Reader:
    env = lmdb.open(str(folder), map_size=2**36, writemap=False)
    with env.begin(write=True) as txn:
        for row, one in enumerate(features):
            text = base64.b64encode(one.astype(np.float32).tobytes()).decode()
            txn.put(key_of(row).encode(), pickle.dumps({"image_id": key_of(row), "features": text}))
    txn, shape = env.begin(), features.shape[1:]

    def view(row: int) -> torch.Tensor:
        item = pickle.loads(txn.get(key_of(row).encode()))
        return torch.frombuffer(bytearray(base64.b64decode(item["features"])), dtype=torch.float32).view(shape)

    return _into(batch, view)


def _tsv(folder: Path, features: Array, batch: torch.Tensor) -> Reader:
    places, path = [], folder / "features.tsv"
    with path.open("wb") as out:
        for row, one in enumerate(features):
            places.append(out.tell())
            out.write(key_of(row).encode() + b"\t" + base64.b64encode(one.astype(np.float32).tobytes()) + b"\n")
    file, shape = path.open("rb"), features.shape[1:]

    def view(row: int) -> torch.Tensor:
        file.seek(places[row])
        column = file.readline().split(b"\t")[1]
        return torch.frombuffer(bytearray(base64.b64decode(column)), dtype=torch.float32).view(shape)

    return _into(batch, view)


def _safetensors(folder: Path, features: Array, batch: torch.Tensor) -> Reader:
    from safetensors import safe_open
    from safetensors.numpy import save_file

    save_file({"features": features}, folder / "features.safetensors")
    part = safe_open(folder / "features.safetensors", "pt").get_slice("features")
    return _into(batch, lambda row: part[row])


def _arrow(folder: Path, features: Array, batch: torch.Tensor) -> Reader:
    import pyarrow as pa

    kind = pa.list_(pa.float16(), features[0].size)
    with (
        pa.OSFile(str(folder / "features.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, pa.schema([("f", kind)])) as out,
    ):
        for first in range(0, len(features), 256):
            values = pa.array(features[first : first + 256].reshape(-1))
            out.write_batch(pa.record_batch([pa.FixedSizeListArray.from_arrays(values, features[0].size)], ["f"]))
    column = pa.ipc.open_file(pa.memory_map(str(folder / "features.arrow"))).read_all().column(0)
    chunks = [torch.from_numpy(chunk.values.to_numpy()) for chunk in column.chunks]
    return _into(batch, lambda row: chunks[row // 256].view(-1, *features.shape[1:])[row % 256])


def _lance(folder: Path, features: Array, batch: torch.Tensor) -> Reader:
    import lance
    import pyarrow as pa

    values = pa.FixedSizeListArray.from_arrays(pa.array(features.reshape(-1)), features[0].size)
    lance.write_dataset(pa.table({"f": values}), str(folder / "features.lance"), mode="overwrite")
    dataset, shape = lance.dataset(str(folder / "features.lance")), features.shape[1:]

    def read(rows: Sequence[int]) -> torch.Tensor:
        column = dataset.take(list(rows)).column(0).combine_chunks()
        return batch.copy_(torch.from_numpy(column.values.to_numpy()).view(-1, *shape))

    return read


def _mosaic(folder: Path, features: Array, batch: torch.Tensor) -> Reader:
    from streaming import MDSWriter, StreamingDataset

    shape = ",".join(map(str, features.shape[1:]))
    with MDSWriter(out=str(folder / "mds"), columns={"f": f"ndarray:float16:{shape}"}, exist_ok=True) as out:
        for one in features:
            out.write({"f": one})
    dataset = StreamingDataset(local=str(folder / "mds"), shuffle=False, batch_size=1)
    return _into(batch, lambda row: torch.from_numpy(dataset[row]["f"]))


def _litdata(folder: Path, features: Array, batch: torch.Tensor) -> Reader:
    from litdata import StreamingDataset
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(folder / "lit"), chunk_bytes="64MB")
    for row, one in enumerate(features):
        writer[row] = torch.from_numpy(one)
    writer.done()
    writer.merge()
    dataset = StreamingDataset(str(folder / "lit"))
    return _into(batch, lambda row: dataset[row])


def _zarr(folder: Path, features: Array, batch: torch.Tensor) -> Reader:
    import zarr

    chunk = (1, *features.shape[1:])
    array = zarr.create_array(
        str(folder / "features.zarr"), shape=features.shape, chunks=chunk, shards=features.shape, dtype="float16",
        compressors=None, overwrite=True,
    )  # fmt: skip
    array[:] = features
    return _into(batch, lambda row: torch.from_numpy(array[row]))


def _tensorstore(folder: Path, features: Array, batch: torch.Tensor) -> Reader:
    import tensorstore as ts

    inner = {
        "chunk_shape": [1, *features.shape[1:]],
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    }
    metadata = {
        "shape": list(features.shape), "data_type": "float16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(features.shape)}},
        "codecs": [{"name": "sharding_indexed", "configuration": inner}],
    }  # fmt: skip
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(folder / "ts")}, "metadata": metadata}
    array = ts.open(spec, create=True, delete_existing=True).result()
    array.write(features).result()

    def read(rows: Sequence[int]) -> torch.Tensor:
        waiting = [array[row].read() for row in rows]
        for place, one in enumerate(waiting):
            batch[place].copy_(torch.from_numpy(one.result()))
        return batch

    return read


def _webdataset(folder: Path, features: Array, batch: torch.Tensor) -> Reader:
    """A tar can only be read in its own order: the row numbers count, not which they are."""
    import webdataset

    with tarfile.open(folder / "features.tar", "w") as tar:
        for row, one in enumerate(features):
            for suffix, data in (("bin", one.tobytes()), ("json", json.dumps({"row": row}).encode())):
                info = tarfile.TarInfo(f"{key_of(row)}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))

    def endless() -> Iterator[bytes]:
        while True:
            dataset = webdataset.WebDataset(str(folder / "features.tar"), shardshuffle=False)
            yield from (sample["bin"] for sample in dataset)

    samples, shape = endless(), features.shape[1:]

    def read(rows: Sequence[int]) -> torch.Tensor:
        for place in range(len(rows)):
            batch[place].copy_(torch.frombuffer(next(samples), dtype=torch.float16).view(shape))
        return batch

    return read


PEERS: dict[str, Callable[[Path, Array, torch.Tensor], Reader]] = {
    "ViLBERT's LMDB": _vilbert, "LXMERT TSV by byte offset": _tsv, "safetensors": _safetensors, "Arrow IPC": _arrow,
    "Lance": _lance, "MosaicML streaming": _mosaic, "litdata": _litdata, "zarr 3, one shard": _zarr,
    "tensorstore": _tensorstore, "webdataset (in order)": _webdataset,
}  # fmt: skip
