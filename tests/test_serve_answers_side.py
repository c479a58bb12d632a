"""What was extracted on a miss is kept beside the store, which itself stays as it is."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

import featx.live
from featx.care.merge import merge
from featx.serve import mounted
from featx.serve.answers import Limits, ModelSpec
from featx.serve.answers.extraction import Seen
from featx.serve.answers.side import Side, finish, side_of
from featx.serve.mounted import Mounts
from featx.store import Manifest, open_part, open_store, verify
from tests import answers_toys as toys
from tests import fake
from tests.answers_toys import TEXTS, Eye, client

LIMITS = Limits(wait=0.0)


@pytest.fixture(autouse=True)
def eye(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    Eye.reset()
    monkeypatch.setattr(featx.live, "load", lambda group, name: {"fake": Eye}[name])
    yield
    Eye.gate.set()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return toys.make_store(tmp_path / "s.featx")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return toys.save(tmp_path / "model")


def seen(number: int, **changes: Any) -> Seen:
    eye = Eye()
    return Seen(fake.expected(toys.pixels(number)), eye.schema, {**toys.MADE, **changes}, eye.labels)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class Known:
    def __init__(self, numbers: dict[str, int]) -> None:
        self.numbers = numbers

    def find(self, key: str) -> tuple[bytes, int] | None:
        return (toys.png(self.numbers[key]), 1000 + self.numbers[key]) if key in self.numbers else None


def session(store: Path, model: Path, asked: list[Any], **options: Any) -> list[httpx.Response]:
    """Everything that is asked of a server which is then drained."""

    async def main() -> list[httpx.Response]:
        pictures = {"s": Known({"new": 7, "newer": 8})}
        app, _ = toys.make_app(Mounts.of(s=store), [ModelSpec("toy", str(model))], pictures, LIMITS, **options)
        async with app.router.lifespan_context(app), client(app) as http:
            return list(await asyncio.gather(*(http.post("/v1/answer", **one) for one in asked)))

    return asyncio.run(main())


def about(key: str) -> dict[str, Any]:
    return {"json": {"store": "s", "key": key, "question": TEXTS[0]}}


def test_what_was_extracted_is_there_for_the_next_server_and_the_store_is_untouched(store: Path, model: Path) -> None:
    before = content(store)
    picture = {"data": {"question": TEXTS[0], "store": "s"}, "files": {"picture": ("a.png", toys.png(9))}}
    first = session(store, model, [about("new"), about("new"), about("newer"), picture], write=True)
    assert [a.status_code for a in first] == [200] * 4
    assert sum(Eye.looked) == 3
    Eye.reset()
    second = session(store, model, [about("new"), about("newer")], write=True)
    assert sum(Eye.looked) == 0
    for again, one in zip(second, (first[0], first[2]), strict=True):
        assert again.json()["boxes"] == one.json()["boxes"]
        scores = [{a["answer"]: a["score"] for a in r.json()["answers"]} for r in (again, one)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert content(store) == before
    with open_store(store.parent / "s.cached.featx", partial=True) as kept:
        import hashlib

        assert set(kept) == {"new", "newer", hashlib.sha256(toys.png(9)).hexdigest()}
        assert kept["new"] == fake.expected(toys.pixels(7))


def test_nothing_is_written_unless_it_is_allowed(store: Path, model: Path) -> None:
    assert [a.status_code for a in session(store, model, [about("new")])] == [200]
    assert not (store.parent / "s.cached.featx").exists()


def test_a_folder_that_cannot_be_written_to_costs_no_answer(
    store: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (store.parent / "s.cached.featx").write_text("in the way")
    with caplog.at_level(logging.WARNING, "featx.serve"):
        answers = session(store, model, [about("new"), about("newer")], write=True)
    assert [a.status_code for a in answers] == [200, 200]
    assert sum("not kept any more" in record.message for record in caplog.records) == 1
    assert (store.parent / "s.cached.featx").read_text() == "in the way"


def test_only_what_an_extraction_into_the_store_would_have_made_is_taken(store: Path) -> None:
    side = side_of(store, "s", Manifest.load(store))
    good = seen(1)
    assert side.takes(good.schema, good.provenance)
    assert not side.takes(good.schema, {**good.provenance, "weights": {"sha256": "weights-2"}})
    assert not side.takes(good.schema, {**good.provenance, "precision": "float32"})
    assert not side.takes(Eye.from_options({}).schema.__class__.from_dict(
        {**good.schema.to_dict(), "fields": good.schema.to_dict()["fields"][:2]}), good.provenance)  # fmt: skip


def test_several_processes_write_and_each_finds_what_the_others_have(store: Path) -> None:
    manifest, path = Manifest.load(store), store.parent / "s.cached.featx"
    first, second = (Side(path, manifest) for _ in range(2))
    assert first.find("a") is None
    first.put([("a", 5, seen(1)), ("b", 6, seen(2))])
    assert second.find("a") == seen(1).record
    second.put([("a", 5, seen(1)), ("c", 7, seen(3))])  # a is there, and not written again
    first._looked = second._looked = 0.0
    assert first.find("c") == seen(3).record
    first.put([("d", 8, seen(4))])
    assert second.find("d") == seen(4).record  # in a part that it knows, at once
    first.close()
    second.close()
    with open_store(path, partial=True) as kept:
        assert len(kept) == 4


CHILD = """
import sys
from pathlib import Path
from featx.serve.answers.side import Side
from featx.store import Manifest
from featx.serve.answers.extraction import Seen
from tests.fake import Fake, expected
import numpy as np
store, eye = Path(sys.argv[1]), Fake()

def seen(number):
    pixels = np.random.default_rng(number).integers(0, 256, (40, 60, 3), np.uint8)
    return Seen(expected(pixels), eye.schema, {}, {})

side = Side(store.parent / "s.cached.featx", Manifest.load(store))
side.put([(f"k{i}", i, seen(i)) for i in range(5)])
print("kept", flush=True)
sys.stdin.read()
"""


def test_a_server_that_is_killed_loses_nothing_that_it_had_committed(store: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[1], env={**os.environ, "PYTHONPATH": "."},
    )  # fmt: skip
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "kept\n"
        side = side_of(store, "s", Manifest.load(store))
        side.put([("mine", 9, seen(9))])  # beside a process that holds the first part
        child.kill()
    finally:
        child.kill()
        child.communicate()
    side.close()
    with open_store(side.path, partial=True) as kept:
        assert set(kept) == {"mine", *(f"k{i}" for i in range(5))}
        assert kept["k3"] == seen(3).record
    again = side_of(store, "s", Manifest.load(store))
    again.put([("more", 10, seen(10))])
    again.close()
    assert len(list((side.path / "parts").iterdir())) == 2  # the part of the dead one is taken up


def test_what_was_kept_beside_another_store_of_that_name_is_not_taken_for_this_one(store: Path) -> None:
    manifest = Manifest.load(store)
    former = side_of(store, "s", manifest)
    former.put([("a", 5, seen(1))])
    former.close()
    other = side_of(store, "s", replace(manifest, provenance={**manifest.provenance, "precision": "bfloat16"}))
    assert other.find("a") is None
    other.put([("b", 6, seen(2))])
    assert "precision" in str(other.trouble)
    assert side_of(store, "s", manifest).find("a") == seen(1).record


def test_what_comes_twice_at_once_is_written_once(store: Path) -> None:
    side = side_of(store, "s", Manifest.load(store))
    side.put([("a", 5, seen(1)), ("a", 5, seen(1)), ("\u00e9", 6, seen(2)), ("e\u0301", 6, seen(2)), ("b", 6, seen(2))])
    side.put([("b", 6, seen(2)), ("c", 7, seen(3))])
    side.close()
    assert side.trouble is None
    with open_store(side.path, partial=True) as kept:
        assert sorted(kept) == ["a", "b", "c", "\u00e9"]


def test_it_stops_where_it_is_told_to(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    side = Side(store.parent / "s.cached.featx", Manifest.load(store), largest=1)
    side.put([("a", 0, seen(0)), ("b", 1, seen(1))])
    assert side.trouble is not None
    assert side.find("a") == seen(0).record
    assert side.find("b") is None


def test_what_was_kept_before_counts_against_what_may_be_kept(store: Path) -> None:
    """A process that is started again does not begin to fill the disk anew."""
    manifest = Manifest.load(store)
    before = Side(store.parent / "s.cached.featx", manifest)
    before.put([("a", 0, seen(0))])
    before.close()
    size = sum(file.stat().st_size for file in before.path.glob("parts/*/records.log"))
    assert size > seen(0).bytes
    full, roomy = (Side(before.path, manifest, largest=most) for most in (size, size + 1))
    full.put([("b", 1, seen(1))])
    assert (full.trouble is None, full.find("b")) == (False, None)
    roomy.put([("c", 2, seen(2))])
    assert (roomy.trouble, roomy.find("c")) == (None, seen(2).record)
    roomy.close()


def test_a_store_that_was_replaced_leaves_nothing_open_beside_it(
    store: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each state of the store would else hold a part, of which there are 16."""
    monkeypatch.setattr(mounted, "EVERY", 0.0)
    monkeypatch.setattr(mounted, "_SHARE", 0)

    async def main() -> None:
        numbers = {f"new{number}": number for number in range(20, 24)}
        app, _ = toys.make_app(Mounts.of(s=store), [ModelSpec("toy", str(model))], {"s": Known(numbers)}, LIMITS,
                               write=True)  # fmt: skip
        async with app.router.lifespan_context(app), client(app) as http:
            for place, key in enumerate(numbers):
                assert (await http.post("/v1/answer", **about(key))).status_code == 200
                await toys.until(lambda key=key: key in kept())
                store.rename(store.with_name(f"old{place}"))
                toys.make_store(store, range(4 + place))

    def kept() -> list[str]:
        path = store.parent / "s.cached.featx"
        if not (path / "manifest.json").exists():
            return []
        with open_store(path, partial=True) as reader:
            return list(reader)

    asyncio.run(main())
    assert kept() == ["new20", "new21", "new22", "new23"]
    assert len(list((store.parent / "s.cached.featx/parts").iterdir())) == 1


def test_what_is_damaged_is_made_again(store: Path) -> None:
    side = side_of(store, "s", Manifest.load(store))
    side.put([("a", 0, seen(0))])
    side.close()
    log = next(side.path.glob("parts/*/records.log"))
    raw = bytearray(log.read_bytes())
    place = raw.index(seen(0).record.features.tobytes())
    raw[place] ^= 1
    log.write_bytes(raw)
    assert side_of(store, "s", Manifest.load(store)).find("a") is None


def test_a_whole_store_can_be_made_of_it_and_merged(store: Path, tmp_path: Path) -> None:
    side = side_of(store, "s", Manifest.load(store))
    side.put([("a", 5, seen(7)), ("b", 6, seen(8))])
    with pytest.raises(Exception, match="being written"):
        finish(side.path)
    side.close()
    finish(side.path)
    assert not list(verify(side.path).problems)
    with open_store(side.path) as kept:
        assert set(kept) == {"a", "b"}
    merge(tmp_path / "all.featx", [str(store), str(side.path)])
    with open_store(tmp_path / "all.featx") as whole:
        assert set(whole) == {"a", "b", "p0", "p1", "p2"}
    after = side_of(store, "s", Manifest.load(store))
    after.put([("c", 7, seen(9))])  # a finished store takes nothing more
    assert after.trouble is not None
    assert after.find("a") == seen(7).record
    with pytest.raises(Exception, match="finished"):
        open_part(side.path, 0).put("d", seen(1).record, 1)
