"""``records.log``, byte by byte, and what becomes of it when bytes are changed or missing."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import pytest
import xxhash
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from featx.codec import decode, encode, store_key
from featx.errors import StoreDamaged, UsageError
from featx.store import create_store, disk, open_part, open_store, verify
from featx.store.log import RecordLog
from featx.store.log_index import Index
from featx.store.log_shard import LogShard
from tests.store_oracle import PROVENANCE, SCHEMA, names, record_of, write_missing

PAGE = 2048
KEYS = names(9)
RECORDS = {store_key(key): encode(record_of(key), SCHEMA, store_key(key), n) for n, key in enumerate(KEYS)}
GROUPS = [dict(list(RECORDS.items())[a:b]) for a, b in ((0, 3), (3, 4), (4, 9))]
PREFIXES = [sum(len(group) for group in GROUPS[:n]) for n in range(len(GROUPS) + 1)]


def run(page: int, value: bytes) -> bytes:
    """An overflow run of LMDB 0.9, from the layout of its page header."""
    pages = -(-(16 + len(value)) // PAGE)
    return (struct.pack("<QHHI", page, 0, 4, pages) + value).ljust(pages * PAGE, b"\0")


def group(records: dict[bytes, bytes], page: int, before: int) -> tuple[bytes, int]:
    """A group as FORMAT.md has it, and its checksum."""
    entries = b"".join(struct.pack("<II", len(key), len(value)) + value[40:48] for key, value in records.items())
    keys = b"".join(records)
    front = b"FXG2" + struct.pack("<IIIQ", len(records), len(keys), 0, before)
    own = xxhash.xxh3_64_intdigest(front + entries + keys)
    out = run(page, front + struct.pack("<Q", own) + entries + keys)
    for value in records.values():
        out += run(page + len(out) // PAGE, value)
    return out, own


def whole_log() -> bytes:
    out, before = bytes(2 * PAGE), 0
    for records in GROUPS:
        more, before = group(records, len(out) // PAGE, before)
        out += more
    return out


WHOLE = whole_log()
ENDS = [2 * PAGE]
for records in GROUPS:
    ENDS.append(ENDS[-1] + len(group(records, 0, 0)[0]))


def contents(path: Path) -> dict[bytes, bytes | None]:
    shard = LogShard(path, SCHEMA)
    try:
        return {key: shard.get(key) for key in shard}
    finally:
        shard.close()


def test_a_log_has_the_bytes_that_the_specification_says(tmp_path: Path) -> None:
    log = RecordLog(tmp_path / "records.log")
    for records in GROUPS:
        log.append(records)
    assert (tmp_path / "records.log").read_bytes() == WHOLE
    assert contents(tmp_path / "records.log") == RECORDS


@pytest.mark.parametrize("end", range(len(ENDS)))
@pytest.mark.parametrize("torn", [0, 1, 16, 600, 2047, 2048, 2100, 9000])
def test_behind_the_last_whole_group_a_writer_cuts_and_goes_on(tmp_path: Path, end: int, torn: int) -> None:
    path = tmp_path / "records.log"
    path.write_bytes(WHOLE[: min(ENDS[end] + torn, [*ENDS, ENDS[-1] + 1][end + 1] - 1)])
    log = RecordLog(path)
    assert len(log) == PREFIXES[end]
    assert path.stat().st_size == ENDS[end]
    for records in GROUPS[end:]:
        log.append(records)
    assert path.read_bytes() == WHOLE


def test_what_a_seal_left_behind_is_cut_off_and_its_meta_pages_are_cleared(tmp_path: Path) -> None:
    path = tmp_path / "records.log"
    tree = struct.pack("<QHHHH", len(WHOLE) // PAGE, 0, 2, 16, 2048).ljust(PAGE, b"\0")
    path.write_bytes(b"meta" * (PAGE // 2) + WHOLE[2 * PAGE :] + tree)
    assert contents(path) == RECORDS
    assert len(RecordLog(path)) == 9
    assert path.read_bytes() == WHOLE


def test_a_group_of_a_lost_truncation_is_never_taken_up(tmp_path: Path) -> None:
    """Its index is whole and stands where a group must stand, but it follows on another group than is there now."""
    path = tmp_path / "records.log"
    other = {key: encode(record_of(key.decode()), SCHEMA, key, 77) for key in GROUPS[0]}
    first, _ = group(other, 2, 0)
    stale = WHOLE[ENDS[1] :]
    assert len(first) == ENDS[1] - ENDS[0]
    path.write_bytes(bytes(2 * PAGE) + first + stale)
    with pytest.raises(StoreDamaged, match=r"records\.log is damaged in the group at page"):
        contents(path)


@pytest.mark.parametrize("group_number", [0, 1])
def test_a_damaged_index_before_other_groups_is_damage_and_nothing_is_cut(tmp_path: Path, group_number: int) -> None:
    path = tmp_path / "records.log"
    data = bytearray(WHOLE)
    data[ENDS[group_number] + 60] ^= 1
    path.write_bytes(data)
    for work in (lambda: contents(path), lambda: RecordLog(path)):
        with pytest.raises(StoreDamaged, match=f"in the group at page {ENDS[group_number] // PAGE}.*cannot be read"):
            work()
    assert path.read_bytes() == data


def test_a_damaged_record_in_an_earlier_group_is_found_when_it_is_read(tmp_path: Path) -> None:
    create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        write_missing(writer, list(enumerate(KEYS))[:6])
    file = next((tmp_path / "s").rglob("records.log"))
    data = bytearray(file.read_bytes())
    data[data.index(record_of(KEYS[1]).features.tobytes())] ^= 1
    file.write_bytes(data)
    with open_store(tmp_path / "s", partial=True) as store:
        with pytest.raises(StoreDamaged, match=KEYS[1]):
            store[KEYS[1]]
        assert store[KEYS[0]] == record_of(KEYS[0])
    assert [problem.key for problem in verify(tmp_path / "s").problems] == [KEYS[1]]


def test_a_key_is_taken_once(tmp_path: Path) -> None:
    log = RecordLog(tmp_path / "records.log")
    log.append(GROUPS[0])
    before = (tmp_path / "records.log").read_bytes()
    with pytest.raises(UsageError, match="is in the store already"):
        log.append(GROUPS[0])
    assert (tmp_path / "records.log").read_bytes() == before


def test_an_index_that_holds_a_key_twice_is_damaged(tmp_path: Path) -> None:
    first, own = group(GROUPS[0], 2, 0)
    path = tmp_path / "records.log"
    path.write_bytes(bytes(2 * PAGE) + first + group(GROUPS[0], 2 + len(first) // PAGE, own)[0])
    with pytest.raises(StoreDamaged, match="again"):
        contents(path)


CHANGES = st.lists(
    st.one_of(
        st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=9)),
        # where it matters: the headers and indices of the groups
        st.tuples(
            st.sampled_from(ENDS[:-1]).flatmap(lambda end: st.integers(end, end + 200)),
            st.binary(min_size=1, max_size=9),
        ),
        st.tuples(st.integers(0, len(WHOLE) // 512 - 1).map(lambda n: n * 512), st.just(bytes(512))),
    ),
    max_size=4,
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES, length=st.one_of(st.just(len(WHOLE)), st.integers(0, len(WHOLE))))
@example(changes=[(ENDS[0] + 20, b"\xff\xff\xff\xff")], length=len(WHOLE))  # 4 billion records
@example(changes=[(ENDS[0] + 12, b"\xff\xff\xff\xff")], length=len(WHOLE))  # an index of 8 TB
@example(changes=[(ENDS[2] + 48, b"\xff\xff\xff\xff\xff\xff\xff\xff")], length=len(WHOLE))  # lengths of 4 GB
def test_whatever_happens_to_a_log_it_gives_whole_groups_or_an_error(
    tmp_path: Path, changes: list[tuple[int, bytes]], length: int
) -> None:
    data = bytearray(WHOLE)
    for place, new in changes:
        data[place : place + len(new)] = new[: len(data) - place]
    path = tmp_path / "records.log"
    path.write_bytes(data[:length])
    with path.open("rb") as file:
        index = Index(path)
        try:
            index.follow(file.fileno())
        except StoreDamaged:
            return
    assert len(index.places) in PREFIXES
    assert set(index.places) == set(list(RECORDS)[: len(index.places)])
    last = PREFIXES.index(len(index.places))
    shard = LogShard(path, SCHEMA)
    for key in index.places:
        with suppress(StoreDamaged):  # only the last group is checked when a log is opened
            found = shard.get(key)
            assert found is not None
            decode(found, SCHEMA, key)
            assert found == RECORDS[key]
    shard.close()
    log = RecordLog(path)
    assert len(log) == PREFIXES[last]
    for records in GROUPS[last:]:
        log.append(records)
    assert path.read_bytes()[ENDS[last] :] == WHOLE[ENDS[last] :]


def test_one_commit_is_one_write_and_one_sync(tmp_path: Path) -> None:
    done = []

    class Counting(disk.Disk):
        def write(self, path: Path, pieces: object, at: int) -> None:
            done.append("write")
            super().write(path, pieces, at)  # type: ignore[arg-type]

        def sync(self, path: Path) -> None:
            done.append("sync")
            super().sync(path)

    log = RecordLog(tmp_path / "records.log")
    with disk.using(Counting()):
        log.append(GROUPS[0])
        log.append(GROUPS[1])
    assert done == ["write", "sync"] * 2


def test_a_reader_that_nobody_closes_leaves_no_file_open(tmp_path: Path) -> None:
    (tmp_path / "records.log").write_bytes(WHOLE)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        LogShard(tmp_path / "records.log", SCHEMA)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
