"""What each dtype of features costs and keeps, and whether lossless compression behind it pays.

Records lie in RAM, more of them than the caches hold; a batch of shuffled ones is decoded into one float32 batch that
is used again, on one thread. dtypes and the zero mask are decoded by plain native loops (``codecs.cpp``), compressors
by their own libraries into a scratch record that stays in the cache, then by the same loop. Everything is timed turn by
turn with the plain float16 loop. The features: ten published pictures (the shared reference data, where they are),
synthetic numbers like them, and signed ones such as a vision transformer gives. Needs lz4, zstandard, blosc2 and g++.
"""

from __future__ import annotations

import base64
import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import interleaved, save, table
from featx.rounding import from_bfloat16, from_int8, to_bfloat16, to_int8
from featx.schema import Array

ROOT = Path(__file__).resolve().parent.parent
POOL, BATCH, RUNS = 1024, 256, 9
DTYPES = ("float32", "float16", "bfloat16", "int8")
MASKED = {"float16": (4, 6), "int8": (5, 7)}  # numbers of the decoders in codecs.cpp: AVX2, AVX-512


Expand = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Coding:
    """One way to hold features: the bytes of some records, ``length`` without compression, and how to decode them.

    That is a decoder of codecs.cpp or, behind ``expand``, the one of the dtype.
    """

    dtype: str
    name: str
    payloads: list[bytes]
    length: int
    native: int | None = None
    expand: Expand | None = None


def main() -> None:
    """Print the tables and write ``results/codecs.json``."""
    native = library()
    results: dict[str, Any] = {"pool": POOL, "batch": BATCH, "avx512": bool(native.wide())}
    for name, features in data_sets():
        results[name] = {"records": list(features.shape), "zeros": float((features == 0).mean())}
        shape, zeros = list(features.shape), results[name]["zeros"]
        print(f"\n{name}: {shape}, {zeros:.1%} zeros, largest {np.abs(features).max():.1f}")
        results[name]["errors"] = errors(features)
        results[name]["codings"] = speeds(features, native)
    print("\nwrote", save("codecs", results))


def data_sets() -> Iterator[tuple[str, Array]]:
    """Names and float32 features ``[records, rows, D]``."""
    published = Path(os.environ.get("FEATX_SHARED", ROOT.parent / "shared")) / "golden" / "train2014_obj36.tsv"
    if published.exists():
        lines = published.read_text().splitlines()
        rows = [np.frombuffer(base64.b64decode(line.split("\t")[-1]), "<f4").reshape(-1, 2048) for line in lines]
        yield "published", np.stack(rows)
    else:
        print(f"no published features at {published}: only synthetic ones")
    random = np.random.default_rng(0)
    # Zeros, mean and variance of the published ones.
    positive = np.exp(random.normal(-0.826, 1.227, (10, 36, 2048))) * (random.random((10, 36, 2048)) > 0.34)
    yield "synthetic", positive.astype(np.float32)
    # Channels of different width, and one in a hundred that is large everywhere.
    width = np.exp(random.normal(0, 0.5, 768)) * np.where(random.random(768) < 0.01, 15, 1)
    yield "signed", (random.normal(random.normal(0, 0.3, 768), 1, (10, 50, 768)) * width).astype(np.float32)


def stored(features: Array, dtype: str) -> bytes:
    """One record's features ``[rows, D]`` as a store holds them, without padding."""
    if dtype == "int8":
        return b"".join(array.tobytes() for array in to_int8(features, "features"))
    return (to_bfloat16(features, "features") if dtype == "bfloat16" else features.astype(dtype)).tobytes()


def read(features: Array, dtype: str) -> Array:
    """The features of one record after they were stored."""
    if dtype == "int8":
        return from_int8(*to_int8(features, "features"))
    if dtype == "bfloat16":
        return from_bfloat16(to_bfloat16(features, "features"))
    return features.astype(dtype).astype(np.float32)


def errors(features: Array) -> dict[str, dict[str, float]]:
    """What each dtype loses. Relative errors and cosines are of rows; the worst error over the row's largest value."""
    found, rows = {}, [("dtype", "worst error", "mean error", "worst of row's largest", "least cosine")]
    flat = features.reshape(-1, features.shape[-1]).astype(np.float64)
    for dtype in DTYPES:
        back = np.stack([read(record, dtype) for record in features]).reshape(flat.shape).astype(np.float64)
        off, norms = np.abs(back - flat), np.linalg.norm(flat, axis=1) * np.linalg.norm(back, axis=1)
        relative = (off.max(1) / np.abs(flat).max(1)).max()
        cosine = ((back * flat).sum(1) / norms).min()
        found[dtype] = {"worst": off.max(), "mean": off.mean(), "relative": relative, "cosine_distance": 1 - cosine}
        rows.append((dtype, f"{off.max():.2g}", f"{off.mean():.2g}", f"{relative:.2g}", f"1 - {1 - cosine:.1g}"))
    print(table(rows))
    return {dtype: {k: float(f"{v:.4g}") for k, v in values.items()} for dtype, values in found.items()}


def speeds(features: Array, native: ctypes.CDLL) -> dict[str, dict[str, Any]]:
    """Bytes and decoding speed of every coding, timed turn by turn, and the encoding speed of featx's own."""
    every = {
        f"{coding.dtype} {coding.name}": (coding, copies(coding))
        for dtype in DTYPES
        for coding in codings(features, dtype, bool(native.wide()))
    }
    batch, random, pieces = aligned(BATCH, *features.shape[1:]), np.random.default_rng(0), {}
    for name, (coding, pool) in every.items():
        decode(coding, pool[: len(features)], batch, native)
        expected = np.stack([read(record, coding.dtype) for record in features])
        assert np.array_equal(batch[: len(features)], expected), f"{name} decodes to something else"
        pieces[name] = partial(shuffled_batch, coding, pool, batch, native, random)
    times = interleaved(pieces, RUNS)
    encoding = interleaved({d: lambda d=d: [stored(record, d) for record in features] for d in DTYPES}, RUNS)
    limit, flat = times["float16 plain"], features[0].size * 2
    found, rows = {}, [("features", "bytes of float16", "records/s", "best", "worst", "of plain float16")]
    for name, t in times.items():
        bytes_ = sum(map(len, every[name][0].payloads)) / len(features)
        found[name] = {"bytes": bytes_ / flat, "decode": t, "of_float16": limit.median / t.median}
        if every[name][0].name == "plain":
            found[name]["encode"] = encoding[every[name][0].dtype]
            found[name]["encoded_records_per_s"] = len(features) / encoding[every[name][0].dtype].median
        speeds = [f"{BATCH / seconds:,.0f}" for seconds in (t.median, t.best, t.worst)]
        rows.append((name, f"{bytes_ / flat:.3f}", *speeds, f"{limit.median / t.median:.2f}"))
    print(table(rows))
    print("encoded by featx, records/s:", {d: round(len(features) / t.median) for d, t in encoding.items()})
    return found


def aligned(*shape: int) -> Array:
    """A float32 array at a multiple of 64 bytes, every page of it there."""
    space = np.zeros(int(np.prod(shape)) * 4 + 64, np.uint8)
    start = -space.ctypes.data % 64
    out: Array = space[start : start + space.size - 64].view(np.float32).reshape(shape)
    return out


def copies(coding: Coding) -> list[Array]:
    """``POOL`` records, each in memory of its own; a loop may read some bytes too far."""
    return [np.frombuffer(coding.payloads[i % len(coding.payloads)] + bytes(64), np.uint8) for i in range(POOL)]


def codings(features: Array, dtype: str, wide: bool) -> Iterator[Coding]:
    """All ways to hold records of ``dtype``."""
    plain = [stored(record, dtype) for record in features]
    length = len(plain[0])
    yield Coding(dtype, "plain", plain, length, DTYPES.index(dtype))
    for name, (compress, expand) in compressors({"float32": 4, "int8": 1}.get(dtype, 2)).items():
        yield Coding(dtype, name, [compress(payload) for payload in plain], length, None, expand)
    if dtype in MASKED:
        masked = [zero_masked(record, dtype) for record in features]
        for name, decoder in list(zip(("AVX2", "AVX-512"), MASKED[dtype], strict=True))[: 2 if wide else 1]:
            yield Coding(dtype, f"zero mask, {name}", masked, length, decoder)


def zero_masked(features: Array, dtype: str) -> bytes:
    """Scales where there are any, one bit a value (the lowest is the first), then the values that are not zero."""
    if dtype == "int8":
        scales, codes = to_int8(features, "features")
        full = codes != scales[:, 1:]
        return scales.tobytes() + np.packbits(full, bitorder="little").tobytes() + codes[full].tobytes()
    bits = features.astype(dtype).view(np.uint16)  # a minus zero is kept
    return np.packbits(bits != 0, bitorder="little").tobytes() + bits[bits != 0].tobytes()


def compressors(width: int) -> dict[str, tuple[Callable[[bytes], bytes], Expand]]:
    """Compress, and expand with the help of a scratch array; ``width`` is that of a value in bytes."""
    try:
        import blosc2
        import lz4.block
        import zstandard
    except ModuleNotFoundError as error:
        sys.exit(f"{error.name} is missing: pip install featx[bench]")
    out = zstandard.ZstdDecompressor()

    def unlz4(data: Array, scratch: Array) -> Array:
        return np.frombuffer(lz4.block.decompress(data, scratch.nbytes), np.uint8)

    def unzstd(data: Array, scratch: Array) -> Array:
        with out.stream_reader(data) as reader:
            reader.readinto(scratch)
        return scratch

    def unblosc(data: Array, scratch: Array) -> Array:
        blosc2.decompress2(data, dst=scratch, nthreads=1)
        return scratch

    def shuffled(codec: Any, level: int) -> Callable[[bytes], bytes]:
        options = {"filters": [blosc2.Filter.BITSHUFFLE], "filters_meta": [0], "nthreads": 1}
        return lambda data: bytes(blosc2.compress2(data, typesize=width, codec=codec, clevel=level, **options))

    return {
        "lz4": (lambda data: bytes(lz4.block.compress(data, store_size=False)), unlz4),
        "zstd 1": (zstandard.ZstdCompressor(1).compress, unzstd),
        "zstd 3": (zstandard.ZstdCompressor(3).compress, unzstd),
        "bitshuffle lz4": (shuffled(blosc2.Codec.LZ4, 5), unblosc),
        "bitshuffle zstd": (shuffled(blosc2.Codec.ZSTD, 1), unblosc),
    }


def shuffled_batch(
    coding: Coding, pool: list[Array], batch: Array, native: ctypes.CDLL, random: np.random.Generator
) -> None:
    """A batch of records chosen at random."""
    decode(coding, [pool[i] for i in random.permutation(len(pool))[:BATCH]], batch, native)


def decode(coding: Coding, records: list[Array], batch: Array, native: ctypes.CDLL) -> None:
    """``records`` into the first rows of ``batch``."""
    rows, dim = batch.shape[1:]
    if coding.native is not None:
        addresses = np.array([record.ctypes.data for record in records], np.uint64)
        native.decode(coding.native, addresses.ctypes, batch.ctypes, len(records), rows, dim)
        return
    assert coding.expand is not None
    scratch = np.empty(coding.length, np.uint8)
    which, base, step = DTYPES.index(coding.dtype), batch.ctypes.data, batch[0].nbytes
    for place, record in enumerate(records):
        expanded = coding.expand(record[:-64], scratch)
        address = ctypes.c_uint64(expanded.ctypes.data)
        native.decode(which, ctypes.byref(address), ctypes.c_void_p(base + place * step), 1, rows, dim)


def library() -> ctypes.CDLL:
    """``codecs.cpp``, compiled for this processor."""
    out = ROOT / "build" / "bench" / "codecs.so"
    out.parent.mkdir(parents=True, exist_ok=True)
    source = Path(__file__).with_suffix(".cpp")
    compiler = [os.environ.get("CXX", "g++"), "-O3", "-march=native", "-std=c++17", "-shared", "-fPIC"]
    subprocess.run([*compiler, str(source), "-o", str(out)], check=True)
    native = ctypes.CDLL(str(out))
    pointers = [ctypes.c_void_p] * 2
    native.decode.argtypes, native.decode.restype = [ctypes.c_int, *pointers, *[ctypes.c_int64] * 3], None
    return native
