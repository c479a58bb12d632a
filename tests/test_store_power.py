"""Power cuts: whatever was not synced may be gone, in pieces, and nothing that was promised is.

Case 5 of the cases every store must survive: for every operation of a small run the folder is made that a power
cut right after it could leave (``tests.disk_double``), with several choices of what survives, and then opened, verified
and resumed. What was committed before is there, a group that was on its way is there as a whole or not at all,
and no manifest names what is not whole.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from featx.store import create_store, disk, hdf5_store, open_part, open_store, verify
from tests.disk_double import Recorder, Step, image
from tests.store_oracle import KINDS, PROVENANCE, Kind, make_store, names, record_of
from tests.test_store_crash import check_whole

LONG = "deep/" * 100 + "name.jpg"
KEYS = [*names(5), LONG]
GROUPS = [KEYS[:2], KEYS[2:3], KEYS[3:]]
REFUSED = ["no picture.jpg", "empty.jpg"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


class Run:
    """A run on the disk of a recorder.

    promised: (number of steps, records, refusals) whenever something became durable.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.promised: list[tuple[int, frozenset[str], frozenset[str]]] = [(0, frozenset(), frozenset())]

    def promise(self, records: set[str], refused: set[str]) -> None:
        self.promised.append((len(self.recorder.steps), frozenset(records), frozenset(refused)))


def write(path: Path, kind: Kind, promise: Callable[[set[str], set[str]], None] = lambda *_: None) -> None:
    """From nothing, or from wherever it stopped, to a complete store."""
    create_store(path, *kind, PROVENANCE)
    with open_part(path) as writer:
        records = {key for key in KEYS if key in writer.done}
        refused = {key for key in REFUSED if key in writer.done}
        for number, group in enumerate(GROUPS):
            for key in group:
                if key not in writer.done:
                    writer.put(key, record_of(key, kind.schema), KEYS.index(key))
            if number < len(REFUSED) and REFUSED[number] not in refused:
                writer.refuse(REFUSED[number], 10 + number, "x", "empty", "no bytes")
            writer.commit()
            records |= set(group)
            refused |= set(REFUSED[number : number + 1])
            promise(records, refused)
        writer.finish()


def recorded(root: Path, work: Callable[[Run], None]) -> Run:
    run = Run(Recorder(root))
    with disk.using(run.recorder):
        work(run)
    return run


def check(path: Path, run: Run, cut: int) -> None:
    """The folder is the state before or after a commit, and sound."""
    before = max(n for n, (steps, *_) in enumerate(run.promised) if steps <= cut)
    if not (path / "manifest.json").exists():
        assert before == 0
        return
    with open_store(path, partial=True) as store:
        records, refused = frozenset(store), {refusal.key for refusal in store.failures()}
        assert records in [promised[1] for promised in run.promised[before : before + 2]]
        assert refused >= run.promised[before][2]
        assert refused <= set(REFUSED)
        assert all(store[key] == record_of(key, store.schema) for key in store)
        if store.manifest.complete:
            assert open_store(path).manifest == store.manifest
    assert verify(path).problems == []


def images(run: Run, target: Path, rounds: int) -> list[tuple[int, int]]:
    """What to try: (number of steps, seed). Every cut, ``rounds`` times; seed 0 loses all that it may lose."""
    return [(cut, seed) for cut in range(len(run.recorder.steps) + 1) for seed in range(rounds)]


def cut(run: Run, target: Path, steps: int, seed: int) -> Path:
    rng = random.Random(1000 * steps + seed)
    image(run.recorder.steps[:steps], target, rng, 0 if seed == 0 else rng.choice([0.1, 0.5, 0.9, 1]))
    return target / "s"


def test_a_power_cut_at_any_moment_leaves_the_state_before_or_after_a_commit(
    tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5_store, "SEGMENT_BYTES", 16_000)  # seals in the middle
    (tmp_path / "real").mkdir()
    run = recorded(tmp_path / "real", lambda run: write(tmp_path / "real/s", kind, run.promise))
    syncs = sum(step.name == "sync" for step in run.recorder.steps)
    assert syncs > 20
    assert len(run.promised) == 4
    for steps, seed in images(run, tmp_path, 4):
        path = cut(run, tmp_path / "image", steps, seed)
        check(path, run, steps)
        if seed < 2:
            write(path, kind)
            check_whole(path, tmp_path / "real/s")
        shutil.rmtree(tmp_path / "image")


def test_a_power_cut_after_a_kill_and_a_resume_loses_nothing_either(tmp_path: Path, kind: Kind) -> None:
    """What a killed writer left in the memory of the system is not durable until the next one has synced it."""
    (tmp_path / "real").mkdir()
    path = tmp_path / "real/s"

    def work(run: Run) -> None:
        create_store(path, *kind, PROVENANCE)
        with open_part(path) as writer:
            for key in KEYS[:3]:
                writer.put(key, record_of(key, kind.schema), KEYS.index(key))
            writer.refuse(REFUSED[0], 10, "x", "empty", "no bytes")
        with pytest.MonkeyPatch.context() as patch:  # a writer that dies before its sync
            patch.setattr(run.recorder, "sync", lambda path: None)
            with open_part(path) as writer:
                writer.put(KEYS[3], record_of(KEYS[3], kind.schema), 3)
                writer.refuse(REFUSED[1], 11, "x", "empty", "no bytes")
                writer.commit()
        with open_part(path) as writer:
            assert all(key in writer.done for key in (*KEYS[:4], *REFUSED))
            run.promise(set(KEYS[:4]), set(REFUSED))

    run = recorded(tmp_path / "real", work)
    for seed in range(12):
        cut_path = cut(run, tmp_path / "image", len(run.recorder.steps), seed)
        check(cut_path, run, len(run.recorder.steps))
        shutil.rmtree(tmp_path / "image")


def test_a_power_cut_while_refused_pictures_are_retried_loses_nothing(tmp_path: Path, kind: Kind) -> None:
    (tmp_path / "real").mkdir()
    path = tmp_path / "real/s"

    def retry(path: Path) -> None:
        with open_part(path, retry_refused=True) as writer:
            for key in REFUSED:
                if key not in writer.done:
                    writer.put(key, record_of(key, kind.schema), 10 + REFUSED.index(key))
            writer.finish()

    with disk.using(Recorder(tmp_path / "real")) as recorder:
        assert isinstance(recorder, Recorder)
        write(path, kind)
        begin = len(recorder.steps)
        retry(path)
    for steps in range(begin, len(recorder.steps) + 1):
        for seed in range(3):
            cut_path = cut(Run(recorder), tmp_path / "image", steps, seed)
            with open_store(cut_path, partial=True) as store:
                assert {*store} in ({*KEYS}, {*KEYS, *REFUSED})
                assert all(store[key] == record_of(key, store.schema) for key in store)
            assert verify(cut_path).problems == []
            retry(cut_path)
            assert sorted(open_store(cut_path)) == sorted([*KEYS, *REFUSED])
            shutil.rmtree(tmp_path / "image")


def test_the_recorder_sees_every_byte_of_a_store(tmp_path: Path, kind: Kind) -> None:
    """Without this the cuts above would prove nothing: what survives them entirely is the store."""
    (tmp_path / "real").mkdir()
    with disk.using(Recorder(tmp_path / "real")) as recorder:
        assert isinstance(recorder, Recorder)
        make_store(tmp_path / "real/s", kind.backend, 20, parts=2, schema=kind.schema)
    image(recorder.steps, tmp_path / "image", random.Random(0), 1)
    real = {p.relative_to(tmp_path / "real"): p for p in (tmp_path / "real").rglob("*") if p.name != ".lock"}
    made = {p.relative_to(tmp_path / "image"): p for p in (tmp_path / "image").rglob("*")}
    assert set(made) == set(real)
    assert all(made[name].read_bytes() == path.read_bytes() for name, path in real.items() if path.is_file())


def test_the_double_loses_what_was_not_synced_and_keeps_what_was(tmp_path: Path) -> None:
    root, short = tmp_path / "real", Path("a")
    root.mkdir()
    with disk.using(Recorder(root)) as recorder:
        assert isinstance(recorder, Recorder)
        disk.write(root / "a", b"x" * 2000)
        disk.current.write(root / "a", [b"y" * 1000, b"z" * 3000], 1000)
        disk.rename(root / "a", root / "b")
    assert recorder.steps == [
        Step("create", short),
        Step("write", short, (0, b"x" * 2000)),
        Step("sync", short),
        Step("write", short, (1000, b"y" * 1000 + b"z" * 3000)),
        Step("rename", short, Path("b")),
    ]
    steps = [Step("sync", Path(), None), *recorder.steps]
    image(steps, tmp_path / "none", random.Random(0), 0)
    assert list((tmp_path / "none").iterdir()) == []  # its name was not synced
    image([*steps[:-1], Step("sync", Path()), steps[-1]], tmp_path / "name", random.Random(0), 0)
    assert (tmp_path / "name/a").read_bytes() == b"x" * 2000
    torn = set()
    for seed in range(30):
        image([*steps[:-1], Step("sync", Path()), steps[-1]], tmp_path / str(seed), random.Random(seed), 0.5)
        (file,) = (tmp_path / str(seed)).iterdir()
        data = file.read_bytes()
        assert data[:1000] == b"x" * 1000
        assert data[1000:1024] in (b"x" * 24, b"y" * 24)
        assert len(set(data[1024:1536])) == 1
        torn.add((file.name, data[1024:1025], len(data)))
    assert {name for name, *_ in torn} == {"a", "b"}
    assert {byte for _, byte, _ in torn} == {b"x", b"y"}
    assert len({length for *_, length in torn}) > 3
