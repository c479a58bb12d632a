"""Merge, split and compact: the same bytes in other stores, every duplicate accounted for, resumable."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx.care import compact, merge, split
from featx.cli import main
from featx.errors import RecordError, StoreDamaged, StoreError, UsageError
from featx.record import Record
from featx.schema import Field, Schema
from featx.store import create_store, open_part, open_store, verify
from tests.store_oracle import PROVENANCE, SCHEMA, make_store, names, record_of


@pytest.fixture(params=["lmdb", "hdf5"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def store_of(
    path: Path, backend: str, keys: list[str], refused: tuple[str, ...] = (), salt: str = "", first: int = 0,
    provenance: dict[str, Any] | None = None,
) -> Path:  # fmt: skip
    """A complete store; ``salt`` makes other records for the same keys, ``first`` is where its list begins."""
    create_store(path, backend, SCHEMA, PROVENANCE if provenance is None else provenance, {"objects": ["a", "b"]})
    with open_part(path) as writer:
        for ordinal, key in enumerate(keys, first):
            writer.put(key, record_of(key + salt), ordinal)
        for key in refused:
            writer.refuse(key, 0, f"/photos/{key}", "empty", "the file has no bytes")
        writer.finish()
    return path


def stored(path: Path) -> dict[str, bytes]:
    with open_store(path) as reader:
        return {key: reader.stored_bytes(key) for key in reader}


def test_disjoint_stores_are_merged_by_copying_their_files(tmp_path: Path, backend: str) -> None:
    a = make_store(tmp_path / "a", backend, 20, parts=2)
    b = store_of(tmp_path / "b", backend, ["x", "y"])
    with pytest.raises(UsageError, match=r"labels.*objects"):
        merge(tmp_path / "no", [a, b])
    a2 = store_of(tmp_path / "a2", backend, names(9), ("r1",))
    done = merge(tmp_path / "out", [a2, b])
    assert (done.copied, done.twice, done.manifest.parts) == (2, 0, 2)
    assert stored(tmp_path / "out") == stored(a2) | stored(b)
    assert verify(tmp_path / "out").ok
    for number, source in enumerate((a2, b)):
        old = next(path for path in source.glob("parts/*/*") if path.suffix in (".lmdb", ".h5"))
        new = tmp_path / "out" / "parts" / f"0000{number}-of-00002" / old.name
        assert new.read_bytes() == old.read_bytes()
    with open_store(tmp_path / "out") as reader:
        assert [one.key for one in reader.failures()] == ["r1"]
        assert reader.manifest.sources is not None
        assert reader.manifest.sources["pictures"] == 12


def test_equal_duplicates_are_kept_once_wherever_they_stood_in_their_lists(tmp_path: Path, backend: str) -> None:
    a = store_of(tmp_path / "a", backend, names(6), ("r", names(9)[8]))
    b = store_of(tmp_path / "b", backend, names(9)[4:], ("r", names(2)[0]), first=100)
    done = merge(tmp_path / "out", [a, b])
    assert done.twice == 2
    assert stored(tmp_path / "out") == stored(b) | stored(a)
    assert verify(tmp_path / "out").ok
    with open_store(tmp_path / "out") as reader:
        assert [one.key for one in reader.failures()] == ["r"], "a recorded picture is no refused one"


def test_different_records_under_one_key_are_an_error_that_names_them(tmp_path: Path, backend: str) -> None:
    a = store_of(tmp_path / "a", backend, names(6))
    b = store_of(tmp_path / "b", backend, names(8)[5:], salt="!")
    with pytest.raises(UsageError, match=names(6)[5]):
        merge(tmp_path / "out", [a, b])
    assert not (tmp_path / "out").exists()
    merge(tmp_path / "first", [a, b], prefer="first")
    merge(tmp_path / "last", [a, b], prefer="last")
    assert stored(tmp_path / "first") == stored(b) | stored(a)
    assert stored(tmp_path / "last") == stored(a) | stored(b)


def test_stores_of_another_make_are_refused_with_every_difference(tmp_path: Path) -> None:
    a = store_of(tmp_path / "a", "lmdb", ["a"], provenance={"weights": "w1", "profile": {"name": "p", "boxes": 36}})
    b = store_of(tmp_path / "b", "lmdb", ["b"], provenance={"weights": "w2", "profile": {"name": "p", "boxes": 20}})
    with pytest.raises(UsageError) as caught:
        merge(tmp_path / "out", [a, b])
    assert f"provenance.weights: {a} has 'w1', {b} 'w2'" in caught.value.message
    assert f"provenance.profile.boxes: {a} has 36, {b} 20" in caught.value.message


def test_a_merge_may_change_the_backend(tmp_path: Path) -> None:
    a, b = store_of(tmp_path / "a", "lmdb", names(5)), store_of(tmp_path / "b", "hdf5", ["x"])
    done = merge(tmp_path / "out", [a, b])
    assert (done.copied, done.manifest.backend) == (1, "lmdb")
    assert stored(tmp_path / "out") == stored(a) | stored(b)


def test_a_damaged_part_is_not_copied(tmp_path: Path, backend: str) -> None:
    a, b = store_of(tmp_path / "a", backend, names(5)), store_of(tmp_path / "b", backend, ["x"])
    file = next(path for path in b.glob("parts/*/*") if path.suffix in (".lmdb", ".h5"))
    content = bytearray(file.read_bytes())
    content[content.index(record_of("x").features.tobytes()) + 5] ^= 1
    file.write_bytes(content)
    with pytest.raises(StoreDamaged, match=r"part.*records"):
        merge(tmp_path / "out", [a, b])


class Killed(BaseException):
    """The process ends."""


def cut(after: int) -> Any:
    """A ``tick`` that ends the work at its call number ``after``."""
    left = [after]

    def tick(read: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    return tick


@pytest.mark.parametrize("after", [0, 1, 3, 7])
def test_killed_each_of_them_goes_on(tmp_path: Path, backend: str, after: int) -> None:
    a, b = store_of(tmp_path / "a", backend, names(9), ("r",)), store_of(tmp_path / "b", backend, names(14)[7:])
    for run in (
        lambda **more: merge(tmp_path / "m", [a, b], **more),
        lambda **more: split(a, tmp_path / "p", parts=2, **more),
        lambda **more: compact(a, tmp_path / "c", parts=2, **more),
    ):
        with contextlib.suppress(Killed):
            run(tick=cut(after))
        run()
    assert stored(tmp_path / "m") == stored(b) | stored(a)
    assert stored(tmp_path / "p" / "1-of-2") | stored(tmp_path / "p" / "2-of-2") == stored(a)
    assert stored(tmp_path / "c") == stored(a)
    for path in (tmp_path / "m", tmp_path / "p" / "1-of-2", tmp_path / "p" / "2-of-2", tmp_path / "c"):
        assert verify(path).ok


class Meter:
    """A bar: of how much, and how much of that was done."""

    def __init__(self, after: int = 1 << 40) -> None:
        self.total, self.done, self._left = None, 0, after

    def begin(self, total: int) -> None:
        assert self.total is None, "a bar has one length"
        self.total = total

    def tick(self, size: int) -> None:
        self._left -= 1
        if self._left < 0:
            raise Killed
        assert size >= 0
        self.done += size


@pytest.mark.parametrize("after", [1, 3, 8, 21])
def test_every_bar_ends_full_also_of_work_that_goes_on_or_is_done(tmp_path: Path, backend: str, after: int) -> None:
    a = store_of(tmp_path / "a", backend, names(9), ("r", names(14)[12]))
    b = store_of(tmp_path / "b", backend, names(14)[7:])
    many, empty = make_store(tmp_path / "many", backend, 30, parts=3), store_of(tmp_path / "e", backend, [], ("x",))
    (tmp_path / "t.txt").write_text("\n".join([*names(4), "r"]))
    (tmp_path / "v.txt").write_text("\n".join(names(7)[2:]))
    other = "hdf5" if backend == "lmdb" else "lmdb"
    works: dict[str, Callable[..., Any]] = {
        "merge": lambda **more: merge(tmp_path / "m", [a, b], **more),
        "merge into another backend": lambda **more: merge(tmp_path / "n", [a, b], backend=other, **more),
        "split by lists": lambda **more: split(
            a, tmp_path / "l", lists=[tmp_path / "t.txt", tmp_path / "v.txt"], **more
        ),
        "split in blocks": lambda **more: split(many, tmp_path / "p", parts=2, **more),
        "split in more blocks than keys": lambda **more: split(a, tmp_path / "q", parts=11, **more),
        "split by parts": lambda **more: split(many, tmp_path / "r", parts=3, **more),
        "compact": lambda **more: compact(many, tmp_path / "c", **more),
        "compact in parts": lambda **more: compact(many, tmp_path / "d", parts=4, dtype="float32", **more),
        "compact one part": lambda **more: compact(a, tmp_path / "f", **more),
        "compact one part without refusals": lambda **more: compact(a, tmp_path / "g", drop_refused=True, **more),
        "compact nothing": lambda **more: compact(empty, tmp_path / "h", parts=2, **more),
    }
    for name, work in works.items():
        first = Meter(after)
        with contextlib.suppress(Killed):
            work(begin=first.begin, tick=first.tick)
        for meter in (Meter(), Meter()):
            work(begin=meter.begin, tick=meter.tick)
            assert meter.total, name
            assert meter.done == meter.total, name


def test_two_processes_never_write_one_part(tmp_path: Path, backend: str) -> None:
    a, b = store_of(tmp_path / "a", backend, names(9)), store_of(tmp_path / "b", backend, names(14)[9:])
    many = make_store(tmp_path / "many", backend, 12, parts=2)
    tries: list[str] = []

    def meanwhile(work: Callable[..., Any]) -> None:
        def tick(size: int) -> None:
            if not tries:
                tries.append("begun")
                with pytest.raises(StoreError, match="is being written by process"):
                    work()
                tries.append("refused")

        tries.clear()
        work(tick=tick)
        assert tries == ["begun", "refused"]

    meanwhile(lambda **more: merge(tmp_path / "m", [a, b], **more))
    meanwhile(lambda **more: split(many, tmp_path / "p", parts=2, **more))
    meanwhile(lambda **more: split(many, tmp_path / "q", parts=3, **more))
    meanwhile(lambda **more: compact(a, tmp_path / "c", **more))
    meanwhile(lambda **more: compact(many, tmp_path / "d", **more))
    assert stored(tmp_path / "m") == stored(b) | stored(a)
    assert stored(tmp_path / "d") == stored(many)


def test_split_in_blocks_loses_nothing_and_each_is_complete(tmp_path: Path, backend: str) -> None:
    a = make_store(tmp_path / "a", backend, 30)
    done = split(a, tmp_path / "out", parts=3)
    assert list(done.stores) == [tmp_path / "out" / f"{n}-of-3" for n in (1, 2, 3)]
    assert [records for records, _ in done.stores.values()] == [9, 9, 8]
    assert sum(refused for _, refused in done.stores.values()) == 4
    together = {}
    for path in done.stores:
        assert verify(path).ok
        together |= stored(path)
    assert together == stored(a)
    digest = sum(int(verify(path).totals.digest, 16) for path in done.stores) % 2**128
    assert f"{digest:032x}" == verify(a).totals.digest


def test_a_store_of_n_parts_is_split_into_n_by_its_files(tmp_path: Path, backend: str) -> None:
    a = make_store(tmp_path / "a", backend, 20, parts=2)
    split(a, tmp_path / "out", parts=2)
    for number in range(2):
        old = next(p for p in (a / "parts" / f"0000{number}-of-00002").iterdir() if p.suffix in (".lmdb", ".h5"))
        new = tmp_path / "out" / f"{number + 1}-of-2" / "parts" / "00000-of-00001" / old.name
        assert new.read_bytes() == old.read_bytes()
        assert verify(tmp_path / "out" / f"{number + 1}-of-2").ok


def test_split_by_lists_takes_refusals_along_and_tells_what_is_in_no_list(tmp_path: Path, backend: str) -> None:
    a = store_of(tmp_path / "a", backend, names(9), ("gone.jpg",))
    (tmp_path / "train.txt").write_text("\n".join([*names(5), "gone.jpg", ""]))
    (tmp_path / "val.txt").write_text("\ufeff" + "\r\n".join(names(7)[4:]), encoding="utf-8")
    done = split(a, tmp_path / "out", lists=[tmp_path / "train.txt", tmp_path / "val.txt"])
    assert done.stores == {tmp_path / "out" / "train": (5, 1), tmp_path / "out" / "val": (3, 0)}
    assert done.left == 2
    assert set(stored(tmp_path / "out" / "train")) == set(names(5))
    (tmp_path / "bad.txt").write_text("nothing\n")
    with pytest.raises(UsageError, match="'nothing'"):
        split(a, tmp_path / "out", lists=[tmp_path / "bad.txt"])
    done = split(a, tmp_path / "out", lists=[tmp_path / "bad.txt"], allow_missing=True)
    assert done.stores == {tmp_path / "out" / "bad": (0, 0)}


def test_a_split_goes_on_only_with_the_store_and_the_keys_it_was_begun_with(tmp_path: Path, backend: str) -> None:
    a, b = store_of(tmp_path / "a", backend, names(8)), store_of(tmp_path / "b", backend, names(8), salt="!")
    chosen = tmp_path / "t.txt"
    chosen.write_text("\n".join(names(2)))
    split(a, tmp_path / "by", lists=[chosen])
    chosen.write_text("\n".join(names(4)[2:]))
    with pytest.raises(UsageError, match="was made of other pictures"):
        split(a, tmp_path / "by", lists=[chosen])
    chosen.write_text("\n".join(reversed(names(2))))
    assert split(a, tmp_path / "by", lists=[chosen]).stores == {tmp_path / "by" / "t": (2, 0)}
    assert set(stored(tmp_path / "by" / "t")) == set(names(2))
    split(a, tmp_path / "halves", parts=2)
    with pytest.raises(UsageError, match="was made of another store"):
        split(b, tmp_path / "halves", parts=2)
    many = make_store(tmp_path / "many", backend, 20, parts=2)
    create_store(tmp_path / "other", backend, SCHEMA, PROVENANCE, parts=2)
    for part in range(2):
        with open_part(tmp_path / "other", part) as writer:
            for ordinal, key in enumerate(list(stored(many))[part::2]):
                writer.put(key, record_of(key), ordinal)
            writer.finish()
    split(many, tmp_path / "parts", parts=2)
    with pytest.raises(UsageError, match="was made of another store"):
        split(tmp_path / "other", tmp_path / "parts", parts=2)
    assert sum(len(stored(tmp_path / "parts" / f"{n}-of-2")) for n in (1, 2)) == len(stored(many))


def test_a_compact_goes_on_only_with_the_store_it_was_begun_with(tmp_path: Path, backend: str) -> None:
    a = store_of(tmp_path / "a", backend, names(6), ("r",))
    b = store_of(tmp_path / "b", backend, names(6), ("r",), salt="!")
    c = store_of(tmp_path / "c", backend, names(6), ("s",))
    for number, options in enumerate(({}, {"drop_refused": True}, {"dtype": "float32"}, {"parts": 3})):
        out = tmp_path / f"whole {number}"
        compact(a, out, **options)
        for other, what in ((b, "another store"), (c, "other refusals")):
            if other == b or options not in ({"drop_refused": True},):
                with pytest.raises(UsageError, match=f"was made of ({what}|something else)"):
                    compact(other, out, **options)
        compact(a, out, **options)
        with contextlib.suppress(Killed):
            compact(a, tmp_path / f"begun {number}", tick=cut(2), **options)
        with pytest.raises(UsageError, match=r"was made of (another store|something else)"):
            compact(b, tmp_path / f"begun {number}", **options)
        compact(a, tmp_path / f"begun {number}", **options)
        assert set(stored(tmp_path / f"begun {number}")) == set(names(6))


def test_a_compacted_store_is_of_the_list_that_it_was(tmp_path: Path, backend: str) -> None:
    sources = {"pictures": 3, "sha256": "ab" * 32}
    create_store(tmp_path / "a", backend, SCHEMA, PROVENANCE, sources=sources)
    with open_part(tmp_path / "a") as writer:
        for ordinal, key in enumerate("xy"):
            writer.put(key, record_of(key), ordinal)
        writer.refuse("z", 2, "/photos/z", "empty", "the file has no bytes")
        writer.finish()
    for _ in range(2):
        assert compact(tmp_path / "a", tmp_path / "out").sources == sources
    assert create_store(tmp_path / "out", backend, SCHEMA, PROVENANCE, sources=sources).complete, (
        "extract goes on with it"
    )
    dropped = compact(tmp_path / "a", tmp_path / "dropped", drop_refused=True).sources
    assert dropped is not None
    assert dropped["pictures"] == 2
    assert "sha256" not in dropped


def test_a_merge_goes_on_only_with_what_it_was_begun_with(tmp_path: Path, backend: str) -> None:
    a, b = store_of(tmp_path / "a", backend, names(6)), store_of(tmp_path / "b", backend, names(8)[5:], salt="!")
    c = store_of(tmp_path / "c", backend, names(6), salt="?")
    for after in (2, 1000):
        out = tmp_path / f"out {after}"
        with contextlib.suppress(Killed):
            merge(out, [a, b], prefer="first", tick=cut(after))
        for stores, prefer, what in (
            ([a, b], "last", "another --prefer"), ([c, b], "first", "other stores"), ([b, a], "first", "other stores"),
        ):  # fmt: skip
            with pytest.raises(UsageError, match=f"was made of {what}"):
                merge(out, stores, prefer=prefer)
        merge(out, [a, b], prefer="first")
        assert stored(out) == stored(b) | stored(a)


def test_compact_makes_one_part_of_many_with_the_same_content(tmp_path: Path, backend: str) -> None:
    a = make_store(tmp_path / "a", backend, 30, parts=4)
    made = compact(a, tmp_path / "out")
    assert made.parts == 1
    assert made.sources == open_store(a).manifest.sources
    assert stored(tmp_path / "out") == stored(a)
    assert verify(tmp_path / "out").totals == verify(a).totals
    other = "hdf5" if backend == "lmdb" else "lmdb"
    made = compact(a, tmp_path / "other", backend=other, parts=3, drop_refused=True)
    assert (made.backend, made.parts) == (other, 3)
    assert stored(tmp_path / "other") == stored(a)
    assert not list(open_store(tmp_path / "other").failures())


def test_compact_to_another_dtype_says_so_and_rounds_to_nearest(tmp_path: Path) -> None:
    schema = replace(SCHEMA, fields=(Field("features", "float32", (96,)), *SCHEMA.fields[1:]))
    create_store(tmp_path / "a", "lmdb", schema, PROVENANCE)
    with open_part(tmp_path / "a") as writer:
        for ordinal, key in enumerate(names(4)):
            writer.put(key, record_of(key, schema), ordinal)
        writer.finish()
    made = compact(tmp_path / "a", tmp_path / "out", dtype="float16")
    assert made.provenance["recoded"] == {"features": "float32 to float16"}
    with open_store(tmp_path / "out") as reader:
        for key in names(4):
            assert np.array_equal(reader[key].features, record_of(key, schema).features.astype(np.float16))
            assert np.array_equal(reader[key].boxes, record_of(key, schema).boxes)
    assert verify(tmp_path / "out").ok


def test_compact_refuses_a_value_beyond_the_range_of_the_dtype(tmp_path: Path) -> None:
    schema = Schema((Field("features", "float32", (2,)), Field("boxes", "float32", (4,))))
    create_store(tmp_path / "a", "lmdb", schema, {})
    with open_part(tmp_path / "a") as writer:
        writer.put("big", Record(np.full((1, 2), 70000, np.float32), np.zeros((1, 4), np.float32), (5, 6)), 0)
        writer.finish()
    with pytest.raises(RecordError, match=r"70000.*float16"):
        compact(tmp_path / "a", tmp_path / "out", dtype="float16")


def test_compact_drops_padding(tmp_path: Path, backend: str) -> None:
    schema = Schema((Field("features", "float16", (8,)), Field("boxes", "float32", (4,))), rows=6)
    create_store(tmp_path / "a", backend, schema, {})
    with open_part(tmp_path / "a") as writer:
        for ordinal, count in enumerate((6, 2, 0)):
            features, boxes = np.zeros((6, 8), np.float16), np.zeros((6, 4), np.float32)
            features[:count], boxes[:count] = ordinal + 1, (1, 2, 3, 4)
            writer.put(f"k{count}", Record(features, boxes, (9, 9), count), ordinal)
        writer.finish()
    made = compact(tmp_path / "a", tmp_path / "out", drop_padding=True)
    assert made.schema.rows is None
    with open_store(tmp_path / "out") as reader:
        assert [len(reader[f"k{count}"].features) for count in (6, 2, 0)] == [6, 2, 0]
        assert reader["k2"].features.tolist() == [[2.0] * 8] * 2
    assert verify(tmp_path / "out").ok


def test_an_unfinished_store_is_not_copied_as_if_it_were_whole(tmp_path: Path) -> None:
    create_store(tmp_path / "a", "lmdb", SCHEMA, PROVENANCE, {"objects": ["a", "b"]})
    b = store_of(tmp_path / "b", "lmdb", ["x"])
    for run in (
        lambda: merge(tmp_path / "o", [b, tmp_path / "a"]),
        lambda: split(tmp_path / "a", tmp_path / "o", parts=2),
        lambda: compact(tmp_path / "a", tmp_path / "o"),
    ):
        with pytest.raises(StoreError, match="unfinished"):
            run()


def test_the_commands_do_it_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = store_of(tmp_path / "a", "lmdb", names(6), ("r",))
    b = store_of(tmp_path / "b", "lmdb", ["x", "y"])
    assert main(["merge", str(tmp_path / "m"), str(a), str(b), "--quiet"]) == 0
    assert "8 records, 1 picture refused, in 2 parts" in capsys.readouterr().out
    assert main(["compact", str(tmp_path / "m"), str(tmp_path / "c"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["records"], facts["digest"]) == (8, verify(tmp_path / "m").totals.digest)
    assert main(["split", str(tmp_path / "c"), str(tmp_path / "s"), "--parts", "2", "--json"]) == 0
    assert [one["records"] for one in json.loads(capsys.readouterr().out)["stores"]] == [4, 4]
    assert main(["merge", str(tmp_path / "n"), str(a)]) == 2
    assert main(["compact", str(a), str(a)]) == 2
    assert main(["split", str(a), str(tmp_path / "s"), "--by", str(tmp_path / "none.txt")]) == 2
