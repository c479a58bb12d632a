"""Opening never guesses, and a store is made one way only: manifests, ledgers, agreement."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import xxhash

from featx.errors import MissingDependency, StoreDamaged, StoreError, UsageError
from featx.schema import Field, Schema, region_schema
from featx.store import base as store_base
from featx.store import create_store, open_part, open_store, verify
from featx.store.ledger import mend, read_ledger
from tests.store_oracle import PROVENANCE, SCHEMA, make_store, names, record_of


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path / "store", "lmdb", 10, parts=2)


def rewrite(path: Path, **changes: Any) -> None:
    """Change a manifest and give it a fitting checksum, as a malicious or careless hand would."""
    data = {**json.loads(path.read_text()), **changes}
    del data["checksum"]
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
    path.write_text(json.dumps({**data, "checksum": xxhash.xxh3_64_hexdigest(canonical)}))


def test_what_is_not_there_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store at"):
        open_store(tmp_path / "nothing")


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "features.tsv").write_text("x")
    with pytest.raises(StoreError, match="is a file") as caught:
        open_store(tmp_path / "features.tsv")
    assert "featx convert" in caught.value.hint
    with pytest.raises(StoreError, match="is a file"):
        create_store(tmp_path / "features.tsv", "lmdb", SCHEMA, {})


def test_a_folder_without_manifest_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a featx store: it has no manifest"):
        open_store(tmp_path)


def test_a_folder_of_other_files_is_not_moved_into(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("x")
    with pytest.raises(StoreError, match="not a featx store"):
        create_store(tmp_path, "lmdb", SCHEMA, {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]


def test_a_manifest_cut_anywhere_is_damaged(store: Path) -> None:
    path = store / "manifest.json"
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(StoreDamaged, match=r"manifest\.json is damaged"):
            open_store(store)


def test_a_changed_byte_in_a_manifest_is_found(store: Path) -> None:
    for path in [store / "manifest.json", *store.rglob("part.json")]:
        whole = path.read_bytes()
        for place in range(0, len(whole), 11):
            if whole[place : place + 1] in b" \n":  # blanks between the words may change freely
                continue
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(StoreError, match=r"manifest\.json|part\.json"):
                open_store(store)
        path.write_bytes(whole)
    assert len(open_store(store)) == 9


def test_a_newer_format_asks_for_an_upgrade(store: Path) -> None:
    rewrite(store / "manifest.json", format=3)
    with pytest.raises(StoreError, match="store format 3, this featx reads up to 2") as caught:
        open_store(store)
    assert "upgrade" in caught.value.hint


@pytest.mark.parametrize(
    "changes",
    [{"schema": {}}, {"schema": None}, {"totals": {"a": 1}}, {"totals": None}, {"format": "x"}, {"format": 0}],
)
def test_a_manifest_that_does_not_make_sense_is_damaged(store: Path, changes: dict[str, Any]) -> None:
    rewrite(store / "manifest.json", **changes)
    with pytest.raises(StoreDamaged, match=r"manifest\.json"):
        open_store(store)


def test_an_unknown_backend_is_named(store: Path) -> None:
    rewrite(store / "manifest.json", backend="papyrus")
    with pytest.raises(StoreError, match="no store backend 'papyrus'") as caught:
        open_store(store)
    assert "lmdb, hdf5" in caught.value.hint


def test_an_absent_package_is_told_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    monkeypatch.setitem(store_base.BACKENDS, "lmdb", "package_that_is_not_there")
    with pytest.raises(MissingDependency) as caught:
        open_store(store)
    assert caught.value.hint == "pip install package_that_is_not_there"


def test_an_unfinished_store_says_how_far_it_is(tmp_path: Path) -> None:
    create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE, parts=16)
    for part in (0, 7, 15):
        with open_part(tmp_path / "s", part) as writer:
            writer.finish()
    with pytest.raises(StoreError, match="3 of 16 parts"):
        open_store(tmp_path / "s")
    assert len(open_store(tmp_path / "s", partial=True)) == 0


def test_a_store_whose_last_writer_died_before_saying_so_can_be_completed(store: Path) -> None:
    rewrite(store / "manifest.json", complete=False, totals=None)
    with pytest.raises(StoreError, match=r"all 2 parts of .* are finished, but"):
        open_store(store)
    with open_part(store, 0) as writer:
        writer.finish()
    assert len(open_store(store)) == 9


def test_a_lost_part_is_noticed(store: Path) -> None:
    shutil.rmtree(store / "parts" / "00001-of-00002")
    with pytest.raises(StoreDamaged, match="does not hold what its manifest says"):
        open_store(store)
    assert not verify(store).ok


def test_a_replaced_part_is_noticed(store: Path, tmp_path: Path) -> None:
    other = make_store(tmp_path / "other", "lmdb", 12, parts=2)
    part = Path("parts") / "00000-of-00002"
    shutil.rmtree(store / part)
    shutil.copytree(other / part, store / part)
    with pytest.raises(StoreDamaged, match="does not hold what its manifest says"):
        open_store(store)


@pytest.mark.parametrize("size", [None, 0, 5000, 100_000_000])
def test_a_file_of_another_size_than_its_part_says_is_damaged(store: Path, size: int | None) -> None:
    file = next(store.rglob("records.lmdb"))
    expected = file.stat().st_size
    if size is None:
        file.unlink()
    else:
        with file.open("r+b") as handle:
            handle.truncate(size)
    with pytest.raises(StoreDamaged, match=str(expected)) as caught:
        open_store(store)
    assert str(file) in str(caught.value)
    assert any(problem.message for problem in verify(store).problems)


def test_a_manifest_of_another_schema_than_its_records_is_noticed_with_both_values(store: Path) -> None:
    schema = json.loads((store / "manifest.json").read_text())["schema"]
    schema["fields"][0]["shape"] = [97]
    rewrite(store / "manifest.json", schema=schema)
    key = next(iter(open_store(store)))
    with pytest.raises(StoreDamaged, match=rf"{key}.* is \d+ bytes long, its \d+ rows make \d+"):
        open_store(store)[key]
    assert len([problem for problem in verify(store).problems if problem.key is not None]) == 9


def test_a_moved_store_is_the_same_store(store: Path, tmp_path: Path) -> None:
    before = open_store(store).manifest
    store.rename(tmp_path / "moved")
    assert open_store(tmp_path / "moved").manifest == before


def test_the_first_writer_decides_and_the_next_may_join(tmp_path: Path) -> None:
    first = create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE, {"objects": ["a"]}, parts=3)
    again = create_store(tmp_path / "s", "lmdb", SCHEMA, {**PROVENANCE}, {"objects": ("a",)}, parts=3)
    assert again.to_dict() == first.to_dict()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"backend_name": "hdf5"}, "backend: the store has 'lmdb', this run 'hdf5'"),
        ({"parts": 4}, "parts: the store has 3, this run 4"),
        (
            {"provenance": {**PROVENANCE, "weights": "sha256:11"}},
            "weights: the store has 'sha256:00', this run 'sha256:11'",
        ),
        ({"provenance": {"weights": "sha256:00"}}, "profile.name: the store has 'oracle', this run 'nothing'"),
        ({"provenance": {**PROVENANCE, "new": None}}, "new: the store has 'nothing', this run None"),
        (
            {"labels": {"objects": ["a", "c", "d"]}},
            "labels.objects: the store has 2 names ('a', ...), this run 3 names ('a', ...); name 1 is 'b' and 'c'",
        ),
        ({"labels": {}}, "labels.objects: the store has 2 names ('a', ...), this run no names"),
        ({"sources": {"pictures": 12, "sha256": "00"}}, "the store was begun with 10 pictures, this list has 12"),
        ({"sources": {"pictures": 10, "sha256": "11"}}, "the store was begun with another list of 10 pictures"),
        ({"sources": None}, "the store was begun with a list of 10 pictures, this run has no list of pictures"),
        ({"schema": region_schema(96)}, "schema.fields.3.name: the store has 'pooled', this run 'object_confs'"),
        ({"schema": Schema(SCHEMA.fields, rows=36)}, "schema.rows: the store has None, this run 36"),
    ],
)
def test_a_writer_of_another_kind_is_told_every_difference(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    asked: dict[str, Any] = {"backend_name": "lmdb", "schema": SCHEMA, "provenance": PROVENANCE, "parts": 3}
    asked |= {"labels": {"objects": ["a", "b"]}, "sources": {"pictures": 10, "sha256": "00"}}
    create_store(tmp_path / "s", **asked)
    with pytest.raises(UsageError) as caught:
        create_store(tmp_path / "s", **{**asked, **change})
    assert said in caught.value.message
    assert ("extract exactly the same list" in caught.value.hint) == ("sources" in change)
    assert "write to another folder" in caught.value.hint


def test_differences_come_in_the_order_in_which_they_matter(tmp_path: Path) -> None:
    many = {"objects": [f"name {n}" for n in range(1600)]}
    sources = {"pictures": 10, "sha256": "00"}
    create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE, many, parts=3, sources=sources)
    few = {"objects": [f"object {n}" for n in range(40)]}
    with pytest.raises(UsageError) as caught:
        create_store(
            tmp_path / "s", "hdf5", region_schema(96, "float32"), {"weights": "sha256:11"}, few,
            parts=4, sources={"pictures": 11, "sha256": "11"},
        )  # fmt: skip
    lines = [line.strip() for line in caught.value.message.splitlines()[1:]]
    starts = ["backend:", "parts:", "the store was begun", "schema.", "provenance.", "labels."]
    places = [next(n for n, line in enumerate(lines) if line.startswith(start)) for start in starts]
    assert places == sorted(places)
    assert any(line.startswith("provenance.weights: the store has 'sha256:00'") for line in lines)
    assert "... and" in caught.value.message  # the schema has more differences than are worth a line
    assert lines[-1].startswith(
        "labels.objects: the store has 1600 names ('name 0', ...), this run 40 names ('object 0', ...)"
    )
    assert len([line for line in lines if line.startswith("labels")]) == 1


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        (([0, 1], [2]), "hold 3 pictures .2 records, 1 refused., the list has 4: some are in no part"),
        (([0, 1, 3], [2, 3]), "hold 5 pictures .4 records, 1 refused., the list has 4: some are in two parts"),
    ],
)
def test_parts_that_do_not_make_the_whole_list_do_not_make_a_store(
    tmp_path: Path, taken: tuple[list[int], list[int]], said: str
) -> None:
    store, keys = tmp_path / "s", [*"abcd"]
    create_store(store, "lmdb", SCHEMA, PROVENANCE, parts=2, sources={"pictures": 4, "sha256": "00"})

    def finish(part: int) -> None:
        with open_part(store, part) as writer:
            for ordinal in taken[part] if writer.finished is None else []:
                if ordinal == 0:
                    writer.refuse("a", 0, "a.jpg", "empty", "no bytes")
                else:
                    writer.put(keys[ordinal], record_of(keys[ordinal]), ordinal)
            writer.finish()

    finish(0)
    for _ in range(2):  # asking again does not make it whole
        with pytest.raises(StoreError, match=said) as caught:
            finish(1)
        assert "the store stays unfinished" in caught.value.hint
    with pytest.raises(StoreError):
        open_store(store)
    shutil.rmtree(store / "parts/00001-of-00002")  # what the hint says
    taken[1][:] = [2] if len(taken[0]) == 3 else [2, 3]
    finish(1)
    assert len(open_store(store)) == 3


def test_a_part_tells_who_wrote_it(tmp_path: Path) -> None:
    create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE, parts=2)
    with open_part(tmp_path / "s", 1, about={"libraries": {"numpy": "2.0"}}) as writer:
        writer.put("a", record_of("a"), 0)
        writer.finish()
    (part,) = open_store(tmp_path / "s", partial=True).parts
    assert (part.part, part.totals.records, part.about) == (1, 1, {"libraries": {"numpy": "2.0"}})


def test_a_store_without_parts_or_with_a_reserved_field_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="0 parts"):
        create_store(tmp_path / "s", "lmdb", SCHEMA, {}, parts=0)
    with pytest.raises(UsageError, match="called count"):
        create_store(tmp_path / "s", "hdf5", Schema((*SCHEMA.fields, Field("count", "int32"))), {})
    with pytest.raises(UsageError, match="there is no part 5"):
        open_part(make_store(tmp_path / "t", "lmdb", 1), 5)


def test_a_torn_ledger_line_is_as_if_it_had_not_been_written(tmp_path: Path) -> None:
    create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE)
    with open_part(tmp_path / "s") as writer:
        writer.refuse("a", 0, "a.jpg", "empty", "no bytes")
        writer.refuse("b", 1, "b.jpg", "empty", "no bytes")
        writer.commit()
    ledger = next((tmp_path / "s").rglob("ledger.jsonl"))
    whole = ledger.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(first, len(whole)):
        ledger.write_bytes(whole[:length])
        assert [refusal.key for refusal in open_store(tmp_path / "s", partial=True).failures()] == ["a"]
    with open_part(tmp_path / "s") as writer:
        assert "b" not in writer.done
        writer.refuse("b", 1, "b.jpg", "empty", "no bytes")
    assert ledger.read_bytes() == whole


def test_a_bad_ledger_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"key": "a"\n{"key": "b"}\n')
    with pytest.raises(StoreDamaged, match=r"ledger\.jsonl, line 1,"):
        read_ledger(path)
    path.write_text('{"key": "a"}\n')
    with pytest.raises(StoreDamaged, match="no refusal"):
        read_ledger(path)


def test_mending_leaves_whole_lines_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    mend(path)
    assert not path.exists()
    path.write_bytes(b'{"key": 1}\n')
    mend(path)
    assert path.read_bytes() == b'{"key": 1}\n'


def test_verification_reports_a_key_in_two_parts_and_one_refused_and_stored(tmp_path: Path) -> None:
    create_store(tmp_path / "s", "lmdb", SCHEMA, PROVENANCE, parts=2)
    for part in range(2):
        with open_part(tmp_path / "s", part) as writer:
            writer.put("twice", record_of("twice"), part)
            writer.refuse("other", 5, "o.jpg", "empty", "no bytes")
            writer.finish()
    ledger = tmp_path / "s/parts/00000-of-00002/ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b"other", b"twice"))
    found = [(problem.key, problem.message) for problem in verify(tmp_path / "s").problems]
    assert any(key == "twice" and "00000-of-00002" in message and "too" in message for key, message in found)
    assert ("twice", "was refused, and has a record") in found


def test_two_stores_with_the_same_content_have_manifests_that_differ_in_nothing(tmp_path: Path) -> None:
    paths = [make_store(tmp_path / name, "lmdb", 10) for name in "ab"]
    assert (paths[0] / "manifest.json").read_bytes() == (paths[1] / "manifest.json").read_bytes()
    assert names(3)[0] in open_store(paths[0])
