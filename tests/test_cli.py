"""The command line as a stranger uses it: what works, what is mistyped, what is interrupted."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from featx import __version__, cli, errors, open_store
from featx.cli import COMMANDS, main
from featx.formats import Records
from featx.formats.lines.lxmert import LxmertTsv
from featx.labels import untrained_note
from featx.record import Record

TINY = str(Path(__file__).resolve().parent.parent / "configs" / "seeded_tiny.yaml")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures and one file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    noise = np.random.default_rng(5)
    for name in ("a", "b", "sub/c", "d.e"):
        path = folder / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), cv2.resize(noise.integers(0, 255, (9, 12, 3), np.uint8), (160, 120)))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    return folder


@pytest.fixture(scope="module")
def store(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished store of them."""
    path = tmp_path_factory.mktemp("stores") / "store"
    assert main(["extract", str(photos), str(path), "--config", TINY, "--quiet"]) == 0
    return path


def output(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    """stdout of a command that ends with ``code``."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == code
    return capsys.readouterr().out


def report(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> Any:
    return json.loads(output(capsys, *words, "--json", code=code))


def test_extract_stores_every_picture_and_names_what_it_refused(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = report(capsys, "inspect", store)
    assert (facts["state"], facts["records"], facts["backend"]) == ("complete", 4, "lmdb")
    assert facts["keys"] == ["a", "b", "d.e", "sub/c"]
    assert sum(facts["refused"].values()) == 1
    assert facts["provenance"]["profile"]["name"] == "seeded-tiny"
    refusals = report(capsys, "inspect", store, "--failures")
    assert [r["key"] for r in refusals] == ["broken"]
    assert refusals[0]["message"]


def test_inspect_prints_for_people_too(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "4" in output(capsys, "inspect", store)
    text = output(capsys, "inspect", store, "sub/c")
    assert "160 x 120 pixels, 36 regions" in text
    assert re.search(r"features +float16 +\[36, 256\]", text)


def test_both_backends_hold_the_same_content(store: Path, photos: Path, tmp_path: Path, capsys: Any) -> None:
    other = tmp_path / "hdf5"
    output(capsys, "extract", photos, other, "--config", TINY, "--backend", "hdf5", "--quiet")
    first, second = report(capsys, "verify", store), report(capsys, "verify", other)
    assert first["totals"] == second["totals"]
    assert first["ok"]
    assert second["ok"]


def test_parts_in_any_order_make_the_same_store(store: Path, photos: Path, tmp_path: Path, capsys: Any) -> None:
    parts = tmp_path / "parts"
    for k in (2, 3, 1):
        output(capsys, "extract", photos, parts, "--config", TINY, "--quiet", "--part", f"{k}/3")
    assert report(capsys, "verify", parts)["totals"] == report(capsys, "verify", store)["totals"]


def test_the_same_command_again_does_nothing(store: Path, photos: Path, capsys: Any) -> None:
    lines = output(capsys, "extract", photos, store, "--config", TINY, "--json").splitlines()
    assert json.loads(lines[-1])["pictures"] == 0


def test_another_configuration_is_refused_with_both_values(store: Path, photos: Path, capsys: Any) -> None:
    assert main(["extract", str(photos), str(store), "--config", TINY, "--boxes", "20", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "schema.rows: the store has 36, this run 20" in said
    assert "provenance.profile.min_boxes: the store has 36, this run 20" in said


def test_new_pictures_for_a_finished_store_are_not_passed_over_in_silence(
    store: Path, photos: Path, tmp_path: Path, capsys: Any
) -> None:
    more = tmp_path / "photos"
    shutil.copytree(photos, more)
    shutil.copy(photos / "a.png", more / "new.png")
    assert main(["extract", str(more), str(store), "--config", TINY, "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "5 pictures" in said
    assert "6" in said


def test_get_writes_plain_numpy(store: Path, tmp_path: Path, capsys: Any) -> None:
    output(capsys, "get", store, "a", "-o", tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert arrays["features"].shape == (36, 256)
        assert arrays["size"].tolist() == [120, 160]
    assert len(report(capsys, "get", store, "a")["boxes"]) == 36


def test_draw_makes_a_picture_that_says_it_is_untrained(store: Path, photos: Path, tmp_path: Path, capsys: Any) -> None:
    output(capsys, "draw", store, "sub/c", "--images", photos, "-o", tmp_path / "c.png")
    drawn = cv2.imread(str(tmp_path / "c.png"))
    assert drawn.shape[0] >= 240, "a small photo is enlarged"
    assert drawn.std() > 10


def test_convert_writes_and_reads_the_tsv_of_lxmert(store: Path, tmp_path: Path, capsys: Any) -> None:
    output(capsys, "convert", store, tmp_path / "s.tsv")
    output(capsys, "convert", tmp_path / "s.tsv", tmp_path / "again", "--backend", "hdf5")
    output(capsys, "convert", tmp_path / "again", tmp_path / "t.tsv")
    assert (tmp_path / "s.tsv").read_bytes() == (tmp_path / "t.tsv").read_bytes()
    assert main(["convert", str(store), str(tmp_path / "s.tsv")]) == 2, "it must not overwrite unasked"


def test_the_golden_file_of_lxmert_comes_back_byte_for_byte(shared: Path, tmp_path: Path, capsys: Any) -> None:
    golden = shared / "golden/train2014_obj36.tsv"
    for backend in ("lmdb", "hdf5"):
        output(capsys, "convert", golden, tmp_path / backend, "--backend", backend)
        output(capsys, "convert", tmp_path / backend, tmp_path / f"{backend}.tsv")
        assert (tmp_path / f"{backend}.tsv").read_bytes() == golden.read_bytes()


def test_dry_run_estimates_and_writes_nothing(photos: Path, tmp_path: Path, capsys: Any) -> None:
    store = tmp_path / "store"
    facts = report(capsys, "extract", photos, store, "--config", TINY, "--dry-run")
    assert facts["pictures"] == 5
    assert 15_000 < facts["bytes_per_record"] < 25_000
    assert not store.exists()


def test_verify_finds_a_flipped_bit_and_exits_with_4(store: Path, tmp_path: Path, capsys: Any) -> None:
    damaged = tmp_path / "store"
    shutil.copytree(store, damaged)
    data = next(p for p in damaged.rglob("*") if p.is_file() and p.stat().st_size > 50_000)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    facts = report(capsys, "verify", damaged, code=4)
    assert not facts["ok"]
    assert facts["problems"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["extract", "{photos}/nothing", "{out}"], 2, "nothing"),
        (["extract", "{photos}", "{out}", "--config", TINY, "--profile", "lxmrt"], 2, "lxmert-published"),
        (["extract", "{photos}", "{out}", "--config", "/nowhere.yaml"], 2, "/nowhere.yaml"),
        (["extract", "{photos}", "{out}", "--config", TINY, "--part", "5/4"], 2, "5/4"),
        (["extract", "{photos}", "{out}", "--config", TINY, "--weights", "/no/w.bin"], 2, "/no/w.bin"),
        (["extract", "{photos}", "{out}", "--config", TINY, "--boxes", "x"], 2, "--boxes 36"),
        (["extract", "{photos}", "{out}", "--config", TINY, "--batch", "0"], 2, "batch"),
        (["extract", "{photos}", "{out}", "--extractor", "clipp"], 2, "frcnn"),
        (["extract", "{photos}", "{photos}", "--config", TINY], 4, "not a featx store"),
        (["inspect", "/nowhere"], 4, "/nowhere"),
        (["inspect", "{photos}"], 4, "manifest"),
        (["inspect", "{store}", "aa"], 2, "aa"),
        (["get", "{store}", "sub/d", "-o", "{out}"], 2, "sub/c"),
        (["draw", "{store}", "a", "--images", "{photos}/sub", "-o", "{out}"], 2, "key"),
        (["draw", "{store}", "a", "--images", "{photos}", "-o", "{out}", "--top", "0"], 2, "--top"),
        (["draw", "{store}", "a", "--images", "{photos}", "-o", "{photos}"], 2, "is a folder"),
        (["draw", "{store}", "a", "--images", "{photos}", "-o", "{out}/c.png"], 2, "no folder"),
        (["get", "{store}", "a", "-o", "{photos}"], 2, "is a folder"),
        (["get", "{store}", "a", "-o", "{out}/a.npz"], 2, "no folder"),
        (["get", "{store}", "a", "-o", "{photos}/a.png/a.npz"], 2, "no folder"),
        (["convert", "{store}", "{out}/s.tsv"], 2, "no folder"),
        (["convert", "/nowhere.tsv", "{out}"], 2, "/nowhere.tsv"),
        (["convert", "{store}", "{out}"], 2, "--to names one: lxmert-tsv, butd-tsv"),
        (["convert", "{store}", "{out}", "--to", "tsv"], 2, "there is no format 'tsv'"),
        (["convert", "{out}", "b", "--from", "lxmert-tsv"], 2, "does not exist"),
        (["convert", "{photos}", "{out}"], 2, "has the structure of no format"),
        (["convert", "a.tsv", "b.tsv"], 2, "a.tsv does not exist"),
        (["convert", "{store}", "{out}.tsv", "--dtype", "float32"], 2, "--dtype does not apply"),
        (["convert", "{store}", "{out}.tsv", "--backend", "lmdb", "--objects", "o"], 2, "--backend, --objects"),
        (["extract", "{photos}/a.png", "{photos}/b.png", "--config", TINY], 2, "the last word is the store"),
        (["weights", "inspect", "{photos}/a.png"], 2, "a.png"),
    ],
)
def test_mistakes_get_a_sentence_and_a_code_never_a_traceback(
    words: list[str], code: int, said: str, store: Path, photos: Path, tmp_path: Path, capsys: Any
) -> None:
    filled = [w.format(store=store, photos=photos, out=tmp_path / "out") for w in words]
    assert main(filled) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert "->" in captured.err, "no advice"
    assert captured.out == ""


def test_more_refusals_than_allowed_end_with_3(photos: Path, tmp_path: Path, capsys: Any) -> None:
    words = ["extract", photos, tmp_path / "s", "--config", TINY, "--quiet", "--max-refused"]
    for _ in range(2):  # the second run refuses nothing itself, but the ledger remembers
        capsys.readouterr()
        assert main([*map(str, words), "0"]) == 3
        assert f"featx inspect {tmp_path / 's'} --failures" in capsys.readouterr().err
    output(capsys, *words, "1", code=0)


def test_json_errors_are_json(capsys: Any) -> None:
    capsys.readouterr()
    assert main(["verify", "/nowhere", "--json"]) == 4
    error = json.loads(capsys.readouterr().out)
    assert error["error"] == "StoreError"
    assert error["exit_code"] == 4


@pytest.mark.parametrize("command", [*COMMANDS, "weights"])
def test_every_command_explains_itself(command: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert "usage: featx " + command in capsys.readouterr().out


def test_version_and_unknown_commands(capsys: Any) -> None:
    assert output(capsys, "--version").strip() == f"featx {__version__}"
    with pytest.raises(SystemExit) as stop:
        main(["exctract"])
    assert stop.value.code == 2
    assert "extract" in capsys.readouterr().err


def test_doctor_and_plugins_report(capsys: Any) -> None:
    findings = {f["part"]: f for f in report(capsys, "doctor")}
    assert findings["opencv"]["state"] == "ok"
    assert "compiled operators" in findings
    names = {p["name"]: p["problem"] for p in report(capsys, "plugins")}
    assert names["frcnn"] == ""
    assert "detectron2" in names


def test_weights_are_imported_and_used(photos: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "objects.txt").write_text("".join(f"thing{i},alias\n" for i in range(40)))
    out = tmp_path / "w.safetensors"
    output(capsys, "weights", "import", "seeded-tiny:3", out, "--objects", tmp_path / "objects.txt")
    assert report(capsys, "weights", "inspect", out)["labels"]["objects"][7] == "thing7"
    store = tmp_path / "store"
    output(capsys, "extract", photos / "a.png", store, "--config", TINY, "--weights", out, "--quiet")
    assert "thing" in output(capsys, "inspect", store, "a")


def test_an_unexpected_error_is_one_line_unless_debugging(monkeypatch: Any, store: Path, capsys: Any) -> None:
    def broken(path: str) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr("featx.cli.verify.verify", broken)
    assert main(["verify", str(store)]) == 1
    assert "Traceback" not in (text := capsys.readouterr().err)
    assert "--debug" in text
    assert main(["verify", str(store), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_finishes_the_batch_and_says_how_to_resume(tmp_path: Path) -> None:
    photos, store = tmp_path / "photos", tmp_path / "store"
    photos.mkdir()
    for i in range(60):
        noise = np.random.default_rng(i).integers(0, 255, (9, 12, 3), np.uint8)
        cv2.imwrite(str(photos / f"{i}.png"), cv2.resize(noise, (160, 120)))
    command = [sys.executable, "-m", "featx", "extract", str(photos), str(store), "--config", TINY]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for _ in range(600):
        if list(store.glob("parts/*/records.log")):
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "resume with: featx extract" in said
    assert "Traceback" not in said
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    done = subprocess.run(
        [sys.executable, "-m", "featx", "verify", str(store)], capture_output=True, text=True, check=False
    )
    assert "60 records sound" in done.stdout


def test_pictures_can_come_from_a_pipe(photos: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "featx",
        "extract",
        "-",
        str(tmp_path / "s"),
        "--config",
        TINY,
        "--root",
        str(photos),
    ]
    done = subprocess.run([*command, "--json"], input="a.png\nsub/c.png\n", text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["pictures"] == 2


def test_every_place_that_shows_labels_says_that_they_are_of_an_untrained_network(store: Path, capsys: Any) -> None:
    for words in (["inspect", store], ["inspect", store, "a"]):
        assert "untrained" in output(capsys, *words)
        assert "untrained" in report(capsys, *words)["note"]


def test_a_trained_network_gets_no_note(store: Path) -> None:
    with open_store(store) as opened:
        manifest = opened.manifest
    assert untrained_note(manifest)
    assert not untrained_note(replace(manifest, provenance={"weights": {"trained": True}}))
    assert not untrained_note(replace(manifest, provenance={"source": {"format": "lxmert-tsv"}}))


def test_quiet_silences_the_progress_but_not_the_notes(photos: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["extract", str(photos / "b.png"), str(tmp_path / "s"), "--config", TINY]) == 0
    assert "1 picture in" in capsys.readouterr().err
    assert main(["extract", str(photos / "b.png"), str(tmp_path / "t"), "--config", TINY, "--quiet"]) == 0
    said = capsys.readouterr().err
    assert "not trained" in said
    assert "picture" not in said


def test_an_output_that_is_no_regular_file_is_written_to_and_stays(store: Path, tmp_path: Path, capsys: Any) -> None:
    pipe, read = tmp_path / "pipe.tsv", list[bytes]()
    os.mkfifo(pipe)
    for words in (["get", store, "a", "-o", pipe], ["convert", store, pipe]):
        reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
        reader.start()
        output(capsys, *words)
        reader.join(timeout=30)
        assert pipe.is_fifo()
    assert read[0].startswith(b"PK")
    assert read[1].count(b"\r\n") == 4
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    output(capsys, "get", store, "a", "-o", link)
    assert link.is_symlink()
    assert Path("/dev/null").is_char_device()


def test_what_a_link_points_to_is_replaced_and_the_link_stays(store: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "link.npz").symlink_to("deep/a.npz")
    output(capsys, "get", store, "a", "-o", tmp_path / "link.npz")
    assert (tmp_path / "link.npz").is_symlink()
    assert (tmp_path / "deep/a.npz").read_bytes().startswith(b"PK")


def test_an_export_that_fails_keeps_the_old_file_and_goes_on_when_there_is_room(
    store: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    target = tmp_path / "s.tsv"
    target.write_text("old")
    line = LxmertTsv.line

    def torn(self: LxmertTsv, key: str, record: Record, records: Records) -> bytes:
        if key != next(records.keys()):
            raise OSError(28, "No space left on device")
        return line(self, key, record, records)

    with monkeypatch.context() as patch:
        patch.setattr(LxmertTsv, "line", torn)
        assert main(["convert", str(store), str(target), "--overwrite"]) == 1
    assert "run the same command again" in capsys.readouterr().err
    assert target.read_text() == "old"
    assert main(["convert", str(store), str(target), "--overwrite"]) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["s.tsv"]
    with open_store(store) as reader:
        assert [row.split(b"\t")[0].decode() for row in target.read_bytes().splitlines()] == list(reader.keys("source"))


@pytest.mark.parametrize("kind", [PermissionError, FileNotFoundError, IsADirectoryError])
def test_what_the_system_refuses_is_the_users_to_mend(kind: Any, monkeypatch: Any, store: Path, capsys: Any) -> None:
    number = {PermissionError: errno.EACCES, FileNotFoundError: errno.ENOENT, IsADirectoryError: errno.EISDIR}[kind]

    def refuse(path: str, **_: object) -> None:
        raise OSError(number, os.strerror(number), "/some/file")

    monkeypatch.setattr("featx.cli.verify.verify", refuse)
    assert main(["verify", str(store)]) == 2
    said = capsys.readouterr().err
    assert f"cannot use /some/file: {os.strerror(number)}" in said
    assert "->" in said
    assert "please report" not in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_a_sentence(store: Path) -> None:
    for words in (["--version"], ["inspect", str(store), "--keys"]):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [sys.executable, "-m", "featx", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("featx: cannot use the output: No space left on device\n  ->")


def test_keys_are_listed_one_on_a_line_and_a_reader_may_leave(store: Path, capsys: Any) -> None:
    assert output(capsys, "inspect", store, "--keys").splitlines() == ["a", "b", "d.e", "sub/c"]
    assert report(capsys, "inspect", store, "--keys") == ["a", "b", "d.e", "sub/c"]
    read, write = os.pipe()
    os.close(read)  # as `head` does when it has enough
    command = [sys.executable, "-m", "featx", "inspect", str(store), "--keys"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_inspect_says_which_versions_wrote_each_part(store: Path, monkeypatch: Any, capsys: Any) -> None:
    class Part:
        def __init__(self, part: int, featx: str) -> None:
            self.part = part
            self.about = {"featx": featx, "python": "3.11.8", "libraries": {"torch": "2.13"}, "finished": "today"}

    parts = [Part(0, "1.0"), Part(1, "1.0"), Part(2, "1.1")]
    monkeypatch.setattr("featx.store.folder.FolderStore.parts", parts, raising=False)
    lines = [line.split(None, 2)[2] for line in output(capsys, "inspect", store).splitlines() if "written by" in line]
    assert lines == ["featx 1.0, Python 3.11.8, torch 2.13", "featx 1.1, Python 3.11.8, torch 2.13"]
    assert [(p["part"], p["featx"]) for p in report(capsys, "inspect", store)["parts"]] == [
        (0, "1.0"),
        (1, "1.0"),
        (2, "1.1"),
    ]


def test_draw_finds_a_key_in_either_spelling(photos: Path, tmp_path: Path, capsys: Any) -> None:
    composed, decomposed = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    assert composed != decomposed
    (tmp_path / "in").mkdir()
    shutil.copy(photos / "a.png", tmp_path / "in" / f"{decomposed}.png")
    output(capsys, "extract", tmp_path / "in", tmp_path / "s", "--config", TINY, "--quiet")
    for key in (composed, decomposed):
        output(capsys, "draw", tmp_path / "s", key, "--images", tmp_path / "in", "-o", tmp_path / "c.png")


def test_a_run_with_nothing_to_do_says_so(photos: Path, tmp_path: Path, capsys: Any) -> None:
    words = ["extract", str(photos / "sub"), str(tmp_path / "s"), "--config", TINY]
    assert main(words) == 0
    assert "nothing to do" not in capsys.readouterr().err
    assert main(words) == 0
    assert "nothing to do: all 1 pictures are in the store" in capsys.readouterr().err
    words[1:3] = [str(photos), str(tmp_path / "t")]
    assert main(words) == 0
    capsys.readouterr()
    assert main(words) == 0
    assert "nothing to do: of 5 pictures 4 are in the store and 1 were refused" in capsys.readouterr().err


@pytest.mark.parametrize(("flag", "value"), [("--dtype", "float8"), ("--precision", "float8")])
def test_choices_are_named_when_a_value_is_none_of_them(flag: str, value: str, photos: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["extract", str(photos), "/nowhere/s", flag, value])
    assert stop.value.code == 2
    assert "float32" in capsys.readouterr().err


def test_exit_codes_read_the_same_everywhere() -> None:
    readme = (Path(TINY).parent.parent / "README.md").read_text()
    table = dict(re.findall(r"^\| (\d+) \| (.+) \|$", readme.replace("`", ""), re.MULTILINE))
    assert sorted(map(int, table)) == [0, 1, 2, 3, 4, 5, 130]
    for module in (cli, errors):
        assert dict(re.findall(r"^    (\d+) +(.+)$", module.__doc__ or "", re.MULTILINE)) == table
