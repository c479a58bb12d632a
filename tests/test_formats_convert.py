"""``featx convert`` over every format that is known: what was found out, told, refused and gone on with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx.cli import main
from featx.errors import UsageError
from featx.formats import FORMATS, Item, Options, Records, detect, get, names
from featx.formats.base import Format, Survey
from featx.formats.importer import import_items
from featx.record import Record
from featx.schema import region_schema
from featx.store import create_store, open_part, open_store, verify

DIM, PICTURES = 8, 12
WRITERS = [name for name in FORMATS if get(name).writes]


def make_store(path: Path, pictures: int = PICTURES, rows: int = 3) -> Path:
    """Records that every format can hold: numbers as keys, all of one length, boxes that are a grid of one row."""
    rng = np.random.default_rng(4)
    create_store(path, "lmdb", region_schema(DIM, "float32", rows=rows), {"extractor": "none"}, {"objects": ["x"] * 9})
    with open_part(path) as writer:
        for number in range(pictures):
            boxes = np.float32([[128 * n / rows, 0, 128 * (n + 1) / rows, 64] for n in range(rows)])
            ids, confs = np.full(rows, number % 9, np.int32), np.full(rows, 0.5, np.float32)
            extra = {"object_ids": ids, "object_confs": confs, "attribute_ids": ids, "attribute_confs": confs}
            features = rng.random((rows, DIM), np.float32).astype(np.float16).astype(np.float32)
            writer.put(str(100 + number), Record(features, boxes, (64, 128), rows, extra), number)
        writer.finish()
    return path


def sizes_of(path: Path, pictures: int = PICTURES) -> Path:
    path.write_text(json.dumps({str(100 + n): [64, 128] for n in range(pictures)}))
    return path


def test_every_name_of_the_table_is_a_format_that_says_what_it_loses() -> None:
    for name in names():
        form = get(name)
        assert (form.name, isinstance(form, Format)) == (name, True)
        assert form.title
        assert form.source
        assert form.declared, name


@pytest.mark.parametrize("name", WRITERS)
def test_a_store_goes_through_every_format_by_the_command(tmp_path: Path, name: str, capsys: Any) -> None:
    store, out = make_store(tmp_path / "store"), tmp_path / "foreign"
    assert main(["convert", str(store), str(out), "--to", name]) == 0
    form = get(name)
    assert detect(out) == [form]
    words = ["convert", str(out), str(tmp_path / "again"), "--json"]
    words += ["--allow-pickle"] if "allow_pickle" in form.takes else []
    words += ["--sizes", str(sizes_of(tmp_path / "sizes.json"))] if "sizes" in form.takes else []
    capsys.readouterr()
    assert main(words) == 0, capsys.readouterr().err
    said = json.loads(capsys.readouterr().out)
    assert (said["format"], said["records"], said["refused"]) == (name, PICTURES, 0)
    first, again = open_store(store), open_store(tmp_path / "again")
    assert sorted(again.keys()) == sorted(first.keys())
    for key in first:
        np.testing.assert_array_equal(again[key].features.astype(np.float32), first[key].features)
        np.testing.assert_allclose(again[key].boxes, first[key].boxes, atol=0.05)  # UNITER's are float16 shares
        assert again[key].size == (64, 128)
    assert verify(tmp_path / "again").ok


def test_no_file_beside_the_target_is_replaced_unasked(tmp_path: Path, capsys: Any) -> None:
    store, ids = make_store(tmp_path / "store"), tmp_path / "y_ids.pkl"
    ids.write_text("mine")
    words = ["convert", str(store), str(tmp_path / "y.h5"), "--to", "vqa-hdf5-fixed"]
    assert main(words) == 2
    assert "y_ids.pkl exists" in capsys.readouterr().err
    assert ids.read_text() == "mine"
    assert main([*words, "--overwrite"]) == 0
    assert ids.read_bytes() != b"mine"


def test_pickles_are_read_on_request_only(tmp_path: Path, capsys: Any) -> None:
    store = make_store(tmp_path / "store")
    assert main(["convert", str(store), str(tmp_path / "mmf"), "--to", "mmf-lmdb"]) == 0
    assert main(["convert", str(tmp_path / "mmf"), str(tmp_path / "again")]) == 2
    said = capsys.readouterr().err
    assert "--allow-pickle" in said
    assert not (tmp_path / "again").exists()


def test_from_one_foreign_format_to_another_there_is_a_store_between(tmp_path: Path, capsys: Any) -> None:
    store = make_store(tmp_path / "store")
    assert main(["convert", str(store), str(tmp_path / "a.tsv")]) == 0
    assert main(["convert", str(tmp_path / "a.tsv"), str(tmp_path / "b"), "--to", "volta-hdf5"]) == 2
    assert "convert to a store first" in capsys.readouterr().err


def test_the_table_of_formats_is_for_people_and_for_programs(capsys: Any) -> None:
    assert main(["formats"]) == 0
    shown = capsys.readouterr().out
    assert main(["formats", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in told] == names()
    assert all(name in shown for name in names())


def test_one_format_is_told_with_its_flags_and_losses(capsys: Any) -> None:
    assert main(["formats", "butd-tsv", "mmf-lmdb"]) == 0
    shown = capsys.readouterr().out
    for words in ("reading uses: --key", "writing uses: --ids", "goes on", "begins anew", "needs --allow-pickle"):
        assert words in shown
    assert all(f"  - {loss}" in shown for name in ("butd-tsv", "mmf-lmdb") for loss in get(name).declared)
    assert "lxmert-tsv" not in shown
    assert main(["formats", "butd"]) == 2
    assert "butd-tsv" in capsys.readouterr().err


class Counted(Format):
    """Items out of nothing; remembers from where it was read."""

    name, title, source = "counted", "items", "this test"
    begun: list[int] = []  # noqa: RUF012

    def detect(self, path: Path) -> bool:
        return False

    def survey(self, path: Path, options: Options) -> Survey:
        return Survey(9, {"sha256": "0"})

    def read(self, path: Path, options: Options, start: int = 0) -> Any:
        self.begun.append(start)
        for number in range(start, 9):
            if number == 4:
                yield Item(number, "place 4", "", None, "it is broken")
            else:
                key = "k1" if number == 6 else f"k{number}"
                yield Item(
                    number,
                    f"place {number}",
                    key,
                    Record(np.ones((1, 4), np.float32), np.zeros((1, 4), np.float32), (9, 9)),
                )


def test_an_import_goes_on_behind_what_is_there_and_still_knows_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form, check, calls = Counted(), Record.check, 0

    def interrupted(record: Record, schema: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:  # items 0 to 3 are stored, 4 is refused
            raise KeyboardInterrupt
        check(record, schema)

    monkeypatch.setattr("featx.store.writer.GROUP_BYTES", 1)
    with monkeypatch.context() as patch:
        patch.setattr(Record, "check", interrupted)
        with pytest.raises(KeyboardInterrupt):
            import_items(form, "x", tmp_path / "s")
    form.begun.clear()
    shown: list[tuple[Any, int]] = []
    totals = import_items(form, "x", tmp_path / "s", begin=lambda total, done: shown.append((total, done)))
    assert form.begun[-1] == shown[0][1] == 4, "what is stored is passed over"
    assert shown[0][0] == 9
    assert (totals.records, totals.reasons) == (7, {"bad-record": 2})
    store = open_store(tmp_path / "s")
    assert list(store.keys("source")) == ["k0", "k1", "k2", "k3", "k5", "k7", "k8"]
    assert [(r.key, r.ordinal, r.source, r.message) for r in store.failures()] == [
        ("record 4", 4, "x, place 4", "it is broken"),
        ("record 6", 6, "x, place 6", "'k1' is in an earlier record too"),
    ]


def test_what_decides_the_keys_is_part_of_the_provenance(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    get("volta-hdf5").write(Records(open_store(store)), tmp_path / "v.h5", Options())
    import_items(get("volta-hdf5"), tmp_path / "v.h5", tmp_path / "s", Options(key="img-{}"))
    assert "img-100" in open_store(tmp_path / "s")
    with pytest.raises(UsageError, match=r"provenance.source.told"):
        import_items(get("volta-hdf5"), tmp_path / "v.h5", tmp_path / "s")


@pytest.mark.parametrize("backend", ["lmdb", "hdf5"])
def test_a_conversion_that_is_killed_goes_on(tmp_path: Path, backend: str) -> None:
    """SIGKILL at whatever moment: the same command ends with what an undisturbed one has."""
    store = make_store(tmp_path / "store", 4000, 36)
    assert main(["convert", str(store), str(tmp_path / "in.tsv"), "--quiet"]) == 0
    words = [sys.executable, "-m", "featx", "convert", str(tmp_path / "in.tsv"), "--quiet", "--backend", backend]
    subprocess.run([*words, str(tmp_path / "whole")], check=True, capture_output=True)
    out = tmp_path / "killed"
    for pause in (0.5, 0.8, 1.1):
        process = subprocess.Popen([*words, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([*words, str(out)], check=True, capture_output=True)
    whole, killed = open_store(tmp_path / "whole"), open_store(out)
    assert killed.manifest.totals == whole.manifest.totals
    assert list(killed.keys("source")) == list(whole.keys("source"))
    shutil.rmtree(out)


def test_a_pipe_is_no_source(tmp_path: Path, capsys: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    for words in ([], ["--from", "lxmert-tsv"]):
        assert main(["convert", str(tmp_path / "pipe"), str(tmp_path / "s"), *words]) == 2
        assert "save it to a file first" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("name", ["lxmert-tsv", "arrow"])
def test_a_source_without_anything_usable_makes_no_store(tmp_path: Path, name: str, capsys: Any) -> None:
    out = tmp_path / "foreign"
    assert main(["convert", str(make_store(tmp_path / "store", 1)), str(out), "--to", name]) == 0
    out.write_bytes(out.read_bytes()[:-900])
    assert main(["convert", str(out), str(tmp_path / "s"), "--from", name]) == 2
    assert "can be read" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_an_export_to_the_standard_output_is_nothing_but_the_export(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    command = [sys.executable, "-m", "featx", "convert", str(store)]
    subprocess.run([*command, str(tmp_path / "out.tsv"), "--quiet"], check=True, capture_output=True)
    done = subprocess.run([*command, "/dev/stdout", "--to", "lxmert-tsv", "--quiet"], check=True, capture_output=True)
    assert done.stdout == (tmp_path / "out.tsv").read_bytes()
    assert b"12 records" in done.stderr


def test_the_kind_of_boxes_is_told_where_the_format_would_take_them_for_others(tmp_path: Path, capsys: Any) -> None:
    store = make_store(tmp_path / "store")
    for name, said in (("volta-hdf5", True), ("lxmert-tsv", False), ("parquet", False)):
        assert main(["convert", str(store), str(tmp_path / name), "--to", name]) == 0
        assert ("--box-kind proposal" in capsys.readouterr().err) == said, name


def test_two_orders_at_once_are_refused(tmp_path: Path, capsys: Any) -> None:
    store, keys = make_store(tmp_path / "store"), tmp_path / "keys"
    keys.write_text("101\n")
    words = ["convert", str(store), str(tmp_path / "out.tsv"), "--keys", str(keys), "--first", str(keys)]
    assert main(words) == 2
    assert "--keys and --first" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["convert", str(store), str(tmp_path / "out"), "--to", "webdataset", "--shard-size", "-5"])
    assert ended.value.code == 2
    assert "no whole number above 0" in capsys.readouterr().err
    for name, suffix in (("webdataset", ".tar"), ("safetensors", ".safetensors")):
        words = ["convert", str(store), str(tmp_path / f"one{suffix}"), "--to", name, "--shard-size", "9999"]
        assert main(words) == 2
        assert f"leave out {suffix}" in capsys.readouterr().err
