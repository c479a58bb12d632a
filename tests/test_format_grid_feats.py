"""The folder of torch files of grid-feats-vqa: both layouts of torch's files, tiles in pixels, and back to torch."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featx.errors import UsageError
from featx.formats import Options, Records, get
from featx.formats.importer import import_items
from featx.formats.values.torch_tensor import dump_tensor, load_tensor
from featx.schema import Array
from featx.store import open_store, verify
from tests.foreign import import_tsv
from tests.picture_files import (
    DAMAGES,
    SIZE,
    Damage,
    all_read,
    damaged,
    folder_of,
    read,
    second_is_told,
    sizes_are_needed,
    survives,
    told_sizes,
)

FORM = get("grid-feats-pth")


def grid(seed: int, channels: int = 8, rows: int = 3, columns: int = 4) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((1, channels, rows, columns), np.float32))


def saved(value: Any, **more: Any) -> bytes:
    """As the script's torch.save(outputs.cpu(), path)."""
    out = io.BytesIO()
    torch.save(value, out, **more)
    return out.getvalue()


def old(value: Any) -> bytes:
    """As torch before 1.6, of which the published features are."""
    return saved(value, _use_new_zipfile_serialization=False)


@pytest.fixture
def told(tmp_path: Path) -> Options:
    return Options(sizes=told_sizes(tmp_path))


@pytest.mark.parametrize("layout", [saved, old])
def test_what_the_script_writes_is_read_as_tiles_of_the_picture(
    tmp_path: Path, told: Options, layout: Callable[[Any], bytes]
) -> None:
    path = folder_of(tmp_path / "f", {"10.pth": layout(grid(1)), "9.pth": layout(grid(2, rows=2))})
    record, _ = all_read(FORM, path, told, "10.pth", "9.pth")
    assert record.size == SIZE
    assert len(record) == 12
    for y in range(3):
        for x in range(4):
            assert record.boxes[4 * y + x].tolist() == [30 * x, 30 * y, 30 * x + 30, 30 * y + 30]
            assert np.array_equal(record.features[4 * y + x], grid(1)[0, :, y, x].numpy())
    assert FORM.schema(path, told).boxes == "grid"


def member(count: int = 4, size: bytes = b"K\x01K\x02K\x01K\x02", view: bytes = b"") -> bytes:
    """The pickle of a tensor, protocol 2, written out. view: of the storage, which is told before torch 1.6 only."""
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00((X\x07\x00\x00\x00storageq\x01ctorch\nFloatStorage\nq\x02"
        b"X\x01\x00\x00\x000q\x03X\x03\x00\x00\x00cpuq\x04K"
        + bytes([count])
        + view
        + b"tq\x05QK\x00("
        + size
        + b"tq\x06("
        b"K\x04K\x02K\x02K\x01tq\x07\x89ccollections\nOrderedDict\nq\x08)Rq\ttq\nRq\x0b."
    )


NUMBERS = struct.pack("<4f", 1, 2, 3, 4)


def by_hand(pickled: bytes | None = None, numbers: bytes = NUMBERS, method: int = zipfile.ZIP_STORED) -> bytes:
    """A file of torch 1.6 and later, [1, 2, 1, 2]."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("archive/data.pkl", member() if pickled is None else pickled)
        archive.writestr("archive/data/0", numbers)
        archive.writestr("archive/version", b"3\n")
    return out.getvalue()


def by_hand_old(numbers: bytes = NUMBERS, count: int = 4, view: bytes = b"N") -> bytes:
    """The same file of torch before 1.6."""
    magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
    types = b"\x80\x02}q\x00X\x0d\x00\x00\x00little_endianq\x01\x88s."
    keys = b"\x80\x02]q\x00X\x01\x00\x00\x000q\x01a."
    return magic + b"\x80\x02M\xe9\x03." + types + member(view=view) + keys + struct.pack("<q", count) + numbers


@pytest.mark.parametrize("data", [by_hand(), by_hand_old()])
def test_the_bytes_of_a_file_are_what_torch_documents(tmp_path: Path, told: Options, data: bytes) -> None:
    assert torch.load(io.BytesIO(data), weights_only=True).tolist() == [[[[1, 2]], [[3, 4]]]]
    [item] = read(FORM, folder_of(tmp_path / "f", {"1.pth": data}), told)
    assert item.record is not None, item.problem
    assert item.record.features.tolist() == [[1, 3], [2, 4]]
    assert item.record.boxes.tolist() == [[0, 0, 60, 90], [60, 0, 120, 90]]


@pytest.mark.parametrize("layout", [saved, old])
@pytest.mark.parametrize(
    "change",
    [
        lambda t: t, lambda t: t[:, 1:, :, ::2], lambda t: t.permute(0, 2, 1, 3), lambda t: t.half(),
        lambda t: t.double(), lambda t: t.bfloat16(), lambda t: t.to(memory_format=torch.channels_last),
        lambda t: t[:, :0],
    ],
)  # fmt: skip
def test_every_tensor_of_floats_is_read_as_torch_reads_it(
    layout: Callable[[Any], bytes], change: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    tensor = change(grid(1))
    found = load_tensor(layout(tensor))
    assert found.dtype == (np.float16 if tensor.dtype == torch.float16 else np.float32)
    assert np.array_equal(found, tensor.float().numpy())
    assert np.array_equal(load_tensor(saved(tensor, pickle_protocol=4)), found)


def test_torch_reads_what_is_written() -> None:
    for shape in ((1, 2048, 3, 5), (1, 1, 1, 1), (1, 700, 9, 11)):
        array = np.random.default_rng(1).random(shape, np.float32)
        back = torch.load(io.BytesIO(dump_tensor(array)), weights_only=True)
        assert back.dtype == torch.float32
        assert back.is_contiguous()
        assert np.array_equal(back.numpy(), array)


class Trap:
    def __reduce__(self) -> Any:
        return print, ("it ran",)


DEEP = b"\x80\x02)" + b"q\x00h\x00\x86" * 100 + b"ctorch\nx\nR."
BAD: dict[str, tuple[bytes, str]] = {
    "a dict of tensors": (saved({"res5": grid(1)}), "which no tensor needs"),
    "a call": (saved(Trap()), "asks for"),
    "whole numbers": (saved(torch.ones(1, 4, 2, 2, dtype=torch.int64)), "torch LongStorage"),
    "three axes": (saved(grid(1)[0]), "expected [1, C, H, W]"),
    "two pictures": (saved(torch.cat([grid(1), grid(2)])), "expected [1, C, H, W]"),
    "no places": (saved(grid(1)[:, :, :0]), "expected [1, C, H, W]"),
    "channels at the end": (saved(torch.zeros(1, 2, 3, 64)), "channels seem to come last"),
    "a tensor that is larger than its numbers": (by_hand(member(size=b"K\x01K\x02K\x02K\x02")), "does not lie within"),
    "numbers that are not there": (by_hand(member(count=200)), "needs 800"),
    "tuples without end": (by_hand(DEEP), "asks for"),
    "compressed numbers": (by_hand(method=zipfile.ZIP_DEFLATED), "compressed"),
    "a view of other numbers": (by_hand_old(view=b"K\x01"), "not said of a tensor"),
    "other counts": (by_hand_old(count=5), "5 numbers"),
    "numbers that were cut": (by_hand_old(NUMBERS[:-2]), "does not lie within"),
    "a cut file": (saved(grid(1))[:-60], "zip"),
    "an npz": (b"PK\5\6" + bytes(18), "no data.pkl"),
    "nothing": (b"", "neither as a zip"),
    "text": (b"hello", "neither as a zip"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_told_and_the_rest_is_read(tmp_path: Path, told: Options, case: str, capsys: Any) -> None:
    spoilt, said = BAD[case]
    path = folder_of(tmp_path / "f", {"1.pth": saved(grid(1)), "2.pth": spoilt, "3.pth": saved(grid(3))})
    second_is_told(FORM, path, told, "123", said)
    assert capsys.readouterr().out == ""


def test_without_sizes_nothing_can_be_read(tmp_path: Path, told: Options) -> None:
    path = folder_of(tmp_path / "f", {"1.pth": saved(grid(1)), "99.pth": saved(grid(1))})
    sizes_are_needed(FORM, path, told, "99")


def vqa_reads(path: Path, number: int) -> Array:
    """As MMF's reader of such files: torch.load, and [1, C, H, W] to [H * W, C]."""
    feat = torch.load(path / f"{number}.pth", map_location=torch.device("cpu"), weights_only=True)
    assert feat.dim() == 4
    dim = feat.shape[1]
    found: Array = feat.permute(0, 2, 3, 1).reshape(-1, dim).numpy()
    return found


def test_grids_go_into_a_store_and_back_and_the_peers_reader_finds_them(tmp_path: Path, told: Options) -> None:
    grids = {"10": grid(1, 40, 5, 7), "9": grid(2, 40, 1, 1), "8": grid(3, 40, 9, 2)}
    path = folder_of(tmp_path / "f", {f"{name}.pth": old(tensor) for name, tensor in grids.items()})
    totals = import_items(FORM, path, tmp_path / "store", told)
    assert (totals.records, totals.refused) == (3, 0)
    assert verify(tmp_path / "store").ok
    with open_store(tmp_path / "store") as store:
        assert (store.schema.boxes, store.schema.fields[0].dtype) == ("grid", "float32")
        assert FORM.write(Records(store), tmp_path / "out", Options()) == 3
        for name, tensor in grids.items():
            assert np.array_equal(vqa_reads(tmp_path / "out", int(name)), store[name].features)
            back = torch.load(tmp_path / "out" / f"{name}.pth", weights_only=True)
            assert torch.equal(back, tensor)


def test_regions_that_are_no_grid_are_refused_and_nothing_is_left(shared: Path, tmp_path: Path) -> None:
    import_tsv(shared / "golden" / "train2014_obj36.tsv", tmp_path / "store")
    with open_store(tmp_path / "store") as store:
        options = Options(ids="digits")
        with pytest.raises(UsageError, match="do not tile"):
            FORM.write(Records(store, options), tmp_path / "out", options)
        with pytest.raises(UsageError, match="--ids"):
            FORM.write(Records(store), tmp_path / "out", Options())
    assert {place.name for place in tmp_path.iterdir()} == {"store"}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Options]:
    folder = tmp_path_factory.mktemp("fuzz")
    files = {"1.pth": saved(grid(1)), "2.pth": old(grid(2)), "3.pth": by_hand(), "4.pth": by_hand_old()}
    return folder_of(folder / "f", files), Options(sizes=told_sizes(folder))


@settings(max_examples=200)
@given(damage=DAMAGES, number=st.integers(1, 4))
def test_no_damage_makes_more_than_a_problem(small: tuple[Path, Options], damage: Damage, number: int) -> None:
    survives(FORM, small[0], small[0] / f"{number}.pth", damage, small[1])


@settings(max_examples=300)
@given(damage=DAMAGES)
def test_no_damage_of_the_pickle_is_more_than_a_value_error(damage: Damage) -> None:
    try:
        found = load_tensor(by_hand(damaged(member(), damage)))
    except ValueError:
        return
    assert set(found.ravel().tolist()) <= {1, 2, 3, 4}
