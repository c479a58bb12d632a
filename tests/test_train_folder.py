"""The folder of a run: checkpoints that are whole or not there, exports likewise, a log without a line twice."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from featx.errors import FeatxError, StoreDamaged, StoreError, UsageError
from featx.store import disk
from featx.train import checkpoint
from featx.train.checkpoint import Checkpoints, State
from featx.train.distributed import World
from featx.train.journal import Journal, last_event, plain
from featx.train.run import Run

ALONE = World(0, 1, torch.device("cpu"))
TENSORS = {"a": torch.arange(3.0)}
FACTS = {
    "task": "t", "options": {}, "train": {"device": "cpu"}, "stores": {}, "examples": {"train": 5},
    "contents": {"train": "aa"}, "threads": 1,
}  # fmt: skip


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Died(Exception):
    """What a test throws where a process could die."""


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    state = State(7, 1, 2, {"name": "f", "value": 0.1}, 3, {"f": 0.1 + 0.2}, 99, {"waiting": []}, {}, {"task": "t"})
    more = {"half": torch.rand(4).half(), "bytes": torch.arange(5, dtype=torch.uint8), "scalar": torch.tensor(2.5)}
    folder = Checkpoints(tmp_path, 2).write(state, TENSORS, more)
    found, model, tensors = checkpoint.read(folder)
    assert found == state
    assert model.keys() == TENSORS.keys()
    assert torch.equal(model["a"], TENSORS["a"])
    assert all(torch.equal(tensors[n], more[n]) and tensors[n].dtype == more[n].dtype for n in more)


def test_the_last_ones_are_kept_and_the_pointer_names_the_newest(tmp_path: Path) -> None:
    made = Checkpoints(tmp_path / "c", 2)
    assert made.latest() is None
    for step, epoch in ((5, 0), (10, 0), (10, 1), (200, 1)):
        made.write(State(step, epoch), TENSORS, {})
    assert names(tmp_path / "c") == ["latest.json", "step-000000010-epoch-0001", "step-000000200-epoch-0001"]
    assert made.latest() == tmp_path / "c/step-000000200-epoch-0001"


@pytest.mark.parametrize("call", range(13))
def test_wherever_a_writer_dies_the_newest_whole_checkpoint_is_found(
    call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, calls = Checkpoints(tmp_path, 1), iter(range(100))
    made.write(State(5), TENSORS, {})

    def dying(function: Any) -> Any:
        def stand_in(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == call:
                raise Died
            return function(*args, **kwargs)

        return stand_in

    with monkeypatch.context() as patch:
        for module, name in ((disk, "write"), (disk, "sync"), (disk, "rename"), (checkpoint, "save_file")):
            patch.setattr(module, name, dying(getattr(module, name)))
        patch.setattr(checkpoint.shutil, "rmtree", dying(checkpoint.shutil.rmtree))
        try:
            made.write(State(9), TENSORS, {})
            died = False
        except Died:
            died = True
    assert died == (call < 12), "a write takes 12 steps, and each was tried"
    made.clean()
    found = made.latest()
    assert found is not None
    state, model, _ = checkpoint.read(found)
    assert state.step in (5, 9)
    assert torch.equal(model["a"], TENSORS["a"])
    made.write(State(11), TENSORS, {})
    assert names(tmp_path) == ["latest.json", "step-000000011-epoch-0000"]


def test_what_a_dead_writer_left_is_ignored_and_removed(tmp_path: Path) -> None:
    made = Checkpoints(tmp_path, 3)
    for step in (5, 7):
        made.write(State(step), TENSORS, {})
    (tmp_path / ".step-000000009-epoch-0000.tmp").mkdir()
    (tmp_path / "latest.json").write_text(json.dumps({"checkpoint": "step-000000005-epoch-0000"}))
    assert made.latest() == tmp_path / "step-000000005-epoch-0000"
    made.clean()
    assert names(tmp_path) == ["latest.json", "step-000000005-epoch-0000"], "the pointer had not reached step 7"


def test_without_the_one_the_pointer_names_the_newest_is_taken(tmp_path: Path) -> None:
    made = Checkpoints(tmp_path, 3)
    for step in (5, 7, 9):
        made.write(State(step), TENSORS, {})
    checkpoint.shutil.rmtree(tmp_path / "step-000000009-epoch-0000")
    assert made.latest() == tmp_path / "step-000000007-epoch-0000"


def test_two_checkpoints_of_a_step_count_as_one(tmp_path: Path) -> None:
    made = Checkpoints(tmp_path, 2)
    (tmp_path / "step-notes.txt").write_text("mine")
    for step, epoch in ((5, 0), (10, 0), (10, 1)):
        made.write(State(step, epoch), TENSORS, {})
    kept = ["step-000000005-epoch-0000", "step-000000010-epoch-0001"]
    assert names(tmp_path) == ["latest.json", *kept, "step-notes.txt"]


@pytest.mark.parametrize("content", ["", '{"checkp', "[]", "{}", "null"])
def test_a_pointer_that_cannot_be_read_means_the_newest(content: str, tmp_path: Path) -> None:
    made = Checkpoints(tmp_path, 3)
    for step in (5, 7):
        made.write(State(step), TENSORS, {})
    (tmp_path / "latest.json").write_text(content)
    made.clean()
    assert made.latest() == tmp_path / "step-000000007-epoch-0000"


@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors"])
def test_bytes_that_changed_within_a_checkpoint_are_found(name: str, tmp_path: Path) -> None:
    folder = Checkpoints(tmp_path, 1).write(State(5), {"a": torch.ones(5000)}, {"b": torch.ones(5000)})
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-9000] + bytes(5000) + content[-4000:])
    with pytest.raises(StoreDamaged, match=f"{name}: not the bytes that were written"):
        checkpoint.read(folder)


def test_a_file_of_a_checkpoint_in_place_of_another_is_found(tmp_path: Path) -> None:
    """It is whole, and it is none of the optimiser's: the run went on without a state of it."""
    folder = Checkpoints(tmp_path, 1).write(State(5), TENSORS, {"optimiser.0.step": torch.ones(1)})
    (folder / "state.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(StoreDamaged, match=r"state\.safetensors: not the bytes"):
        checkpoint.read(folder)


def test_a_figure_of_a_state_that_changed_is_found(tmp_path: Path) -> None:
    folder = Checkpoints(tmp_path, 1).write(State(5), TENSORS, {})
    state = folder / "state.json"
    state.write_text(state.read_text().replace('"step": 5', '"step": 6'))
    with pytest.raises(StoreDamaged, match=r"state\.json: not the bytes"):
        checkpoint.read(folder)


@pytest.mark.parametrize("name", ["state.json", "model.safetensors", "state.safetensors"])
@pytest.mark.parametrize("cut", [0, 9])
def test_a_damaged_checkpoint_is_named(name: str, cut: int, tmp_path: Path) -> None:
    folder = Checkpoints(tmp_path, 1).write(State(5), TENSORS, TENSORS)
    disk.resize(folder / name, cut)
    with pytest.raises(StoreDamaged, match=f"{folder.name} cannot be read"):
        checkpoint.read(folder)


def test_tied_weights_and_frozen_ones_come_back(tmp_path: Path) -> None:
    def build() -> torch.nn.Module:
        model = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False))
        model[1].weight = model[0].weight
        model.register_buffer("seen", torch.zeros(2).t())
        return model

    first, second = build(), build()
    folder = Checkpoints(tmp_path, 1).write(State(), checkpoint.model_tensors(first), {})
    checkpoint.load_model(second, checkpoint.read(folder)[1])
    assert torch.equal(second[0].weight, first[0].weight)  # type: ignore[index]
    assert second[0].weight is second[1].weight  # type: ignore[index]


def test_a_run_of_another_configuration_is_refused_with_every_difference(tmp_path: Path) -> None:
    run = Run(tmp_path, 1)
    first = {
        "task": "t", "options": {"model": {"layers": 2}, "names": ["a", "b"], "old": 1},
        "train": {"lr": 0.1, "workers": 2, "device": "cpu"}, "stores": {"train": {"digest": "aa"}},
        "examples": {"train": 5}, "contents": {"train": "aa", "val": "cc"}, "threads": 1,
    }  # fmt: skip
    assert run.enter(first, ALONE) == []
    assert run.enter(json.loads(json.dumps(first)), ALONE) == []
    second = {
        "task": "t", "options": {"model": {"layers": 3}, "names": ["a", "c"], "new": None},
        "train": {"lr": 0.2, "workers": 3, "device": "cpu"}, "stores": {"train": {"digest": "bb"}},
        "examples": {"train": 6}, "contents": {"train": "bb", "val": "cc"}, "threads": 1,
    }  # fmt: skip
    with pytest.raises(UsageError) as caught:
        run.enter(second, ALONE)
    assert caught.value.message.splitlines()[1:] == [
        "  options.model.layers: begun with 2, now 3",
        '  options.names.1: begun with "b", now "c"',
        "  options.old: begun with 1, now nothing",
        "  options.new: begun with nothing, now null",
        "  train.lr: begun with 0.1, now 0.2",
        '  stores.train.digest: begun with "aa", now "bb"',
        "  examples.train: begun with 5, now 6",
        '  contents.train: begun with "aa", now "bb"',
    ]


def test_a_run_begun_before_contents_were_kept_is_still_one(tmp_path: Path) -> None:
    early = {name: value for name, value in FACTS.items() if name != "contents"}
    (tmp_path / "config.json").write_text(json.dumps(early))
    run = Run(tmp_path, 1)
    run.lock().release()
    assert run.enter(FACTS, ALONE) == []


@pytest.mark.parametrize("content", ["", "[]", '{"task": "t"}'])
def test_a_run_with_a_damaged_config_is_refused_and_can_be_begun_anew(content: str, tmp_path: Path) -> None:
    run = Run(tmp_path, 1)
    run.enter(FACTS, ALONE)
    run.checkpoints.write(State(3), TENSORS, {})
    run.log.write_text("{}\n")
    run.config.write_text(content)
    run.lock().release()
    with pytest.raises(UsageError, match=r"config\.json is not that of a run any more") as caught:
        run.enter(FACTS, ALONE)
    assert "--fresh" in caught.value.hint
    run.prepare(fresh=True)
    assert run.enter(FACTS, ALONE) == []


def test_another_device_or_number_of_threads_is_allowed_and_noted(tmp_path: Path) -> None:
    run = Run(tmp_path, 1)
    run.enter(FACTS, ALONE)
    notes = run.enter({**FACTS, "train": {"device": "cuda"}, "threads": 4}, ALONE)
    assert [note.partition(":")[0] for note in notes] == [
        "threads was 1 when this run was begun and is 4", "train.device was cpu when this run was begun and is cuda",
    ]  # fmt: skip


def test_a_folder_of_something_else_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"not the folder of a run: it holds thesis\.tex"):
        Run(tmp_path, 1).lock()
    with pytest.raises(UsageError, match="is a file"):
        Run(tmp_path / "thesis.tex", 1).lock()
    assert names(tmp_path) == ["thesis.tex"]


def test_fresh_empties_a_run_and_nothing_else(tmp_path: Path) -> None:
    run = Run(tmp_path, 1)
    run.enter(FACTS, ALONE)
    run.checkpoints.write(State(3), TENSORS, {})
    run.export(run.best, lambda folder: None)
    run.log.write_text("{}\n")
    (tmp_path / "notes.txt").write_text("mine")
    run.prepare(fresh=True)
    assert names(tmp_path) == ["notes.txt"]
    assert run.checkpoints.latest() is None


def test_two_processes_cannot_have_one_run(tmp_path: Path) -> None:
    with Run(tmp_path / "run", 1).lock(), pytest.raises(StoreError, match="is being written by process"):
        Run(tmp_path / "run", 1).lock()


@pytest.mark.parametrize("call", range(8))
def test_an_export_that_dies_leaves_the_one_before_it(
    call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, calls = Run(tmp_path, 1), iter(range(100))

    def write(text: str) -> Any:
        return lambda folder: (folder / "inner").mkdir() or (folder / "inner/model").write_text(text)

    run.export(run.best, write("old"))

    def dying(function: Any) -> Any:
        def stand_in(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == call:
                raise Died
            return function(*args, **kwargs)

        return stand_in

    with monkeypatch.context() as patch:
        for name in ("sync", "rename"):
            patch.setattr(disk, name, dying(getattr(disk, name)))
        try:
            run.export(run.best, write("new"))
            died = False
        except Died:
            died = True
    (tmp_path / "config.json").write_text("{}")
    run.prepare(fresh=False)
    content = (tmp_path / "best/inner/model").read_text()
    assert content == "new" if not died else content in ("old", "new")
    run.export(run.best, write("newer"))
    assert (tmp_path / "best/inner/model").read_text() == "newer"
    assert names(tmp_path) == ["best", "config.json"]


def test_a_log_is_cut_to_where_the_checkpoint_was(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    journal = Journal(log, 0)
    journal.write({"event": "train", "step": 1})
    at = journal.sync()
    journal.write({"event": "train", "step": 2})
    journal.close()
    with log.open("a") as file:
        file.write('{"event": "tr')  # the process died here
    again = Journal(log, at)
    assert again.sync() == at
    again.write({"event": "end", "step": 2})
    again.close()
    assert [json.loads(line)["event"] for line in log.read_text().splitlines()] == ["train", "end"]
    assert last_event(log, "train") == {"event": "train", "step": 1}


def test_a_line_of_a_log_that_was_cut_is_passed_over(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"event": "end", "step": 2}\n7\n{"event": "en')
    assert last_event(log, "end") == {"event": "end", "step": 2}
    log.write_text('{"event": "en')
    with pytest.raises(UsageError, match="has no event 'end'"):
        last_event(log, "end")


def test_a_log_that_somebody_cut_is_told(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("{}\n")
    with pytest.raises(UsageError, match="has 3 bytes, fewer than the 10"):
        Journal(tmp_path / "log.jsonl", 10)
    with pytest.raises(UsageError, match="has no event 'end'"):
        last_event(tmp_path / "absent.jsonl", "end")


def test_what_is_not_finite_is_null_in_json() -> None:
    value = {"a": float("nan"), "b": [1.5, float("inf")], "c": {"d": (-float("inf"), "x", None, True)}}
    assert plain(value) == {"a": None, "b": [1.5, None], "c": {"d": [None, "x", None, True]}}


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """What a process writes behind the limit fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    large, run = {"a": torch.zeros(1 << 20)}, Run(tmp_path, 1)
    kept = run.checkpoints.write(State(1), TENSORS, {})
    with files_of_at_most(1 << 20):
        with pytest.raises(FeatxError, match=r"could not write to .*bytes are free") as caught:
            run.checkpoints.write(State(2), large, {})
        with pytest.raises(FeatxError, match="could not write to"):
            run.export(run.best, lambda folder: save_file(large, folder / "model.safetensors"))
    assert "make room" in caught.value.hint
    assert run.checkpoints.latest() == kept
    assert not run.best.exists()


def test_the_folder_of_a_model_is_not_taken_for_a_run(tmp_path: Path) -> None:
    """A model folder has a config.json as well; --fresh once emptied its best/ and overwrote that file."""
    (tmp_path / "config.json").write_text('{"model_type": "lxmert"}')
    (tmp_path / "best").mkdir()
    with pytest.raises(UsageError, match="not the folder of a run"):
        Run(tmp_path, 2).lock()
    assert names(tmp_path) == ["best", "config.json"]
